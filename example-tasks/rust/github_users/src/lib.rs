//! How many GitHub users say that they live in a city: `{"city": "Madrid"}` -> `{"city": "Madrid", "users": 1493}`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use wasq_task::{Failure, http, task};

#[derive(Deserialize)]
struct Params {
    city: String,
}

#[derive(Serialize)]
struct Output {
    city: String,
    users: u64,
}

/// GitHub's answer to a search; we need one number of it.
#[derive(Deserialize)]
struct Found {
    total_count: u64,
}

#[task]
fn users(Params { city }: Params) -> Result<Output, Failure> {
    if city.trim().is_empty() {
        return Err(Failure::reject("params.city: must not be empty"));
    }
    let api = std::env::var("GITHUB_API").unwrap_or_else(|_| "https://api.github.com".to_owned());
    let query = encode(&format!("location:\"{city}\""));
    let search = http::get(format!("{api}/search/users?q={query}&per_page=1"));
    let response = search.timeout(Duration::from_secs(10)).send()?;
    if let Some(busy) = response.busy() {
        return Err(busy);
    }
    let Found { total_count } = response.success()?.json()?;
    println!("there are {total_count} users in {city}");
    Ok(Output { city, users: total_count })
}

/// Percent-encodes every byte that a query may not contain.
fn encode(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
