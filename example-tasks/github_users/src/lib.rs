//! How many GitHub users say that they live in a city: `{"city": "Madrid"}` -> `{"city": "Madrid", "users": 1493}`.

wit_bindgen::generate!({ path: "../../tasks-wit/wit", world: "task" });

use serde::{Deserialize, Serialize};
use wasq::task::http::{self, Request};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
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

struct Task;
export!(Task);

impl Guest for Task {
    fn run(params: String) -> Result<String, Failure> {
        let Params { city } = serde_json::from_str(&params)
            .map_err(|e| Failure::Reject(format!("params: {e}; expected {{\"city\": \"NAME\"}}")))?;
        if city.trim().is_empty() {
            return Err(Failure::Reject("params.city: must not be empty".to_owned()));
        }
        let api = std::env::var("GITHUB_API").unwrap_or_else(|_| "https://api.github.com".to_owned());
        let query = encode(&format!("location:\"{city}\""));
        let response = http::send(&Request {
            method: "GET".to_owned(),
            url: format!("{api}/search/users?q={query}&per_page=1"),
            headers: Vec::new(),
            body: None,
            timeout_ms: Some(10_000),
        })
        .map_err(|e| Failure::Retry(format!("ask GitHub: {e:?}")))?;
        if response.status != 200 {
            let status = response.status;
            return Err(Failure::Retry(format!("GitHub answered with status {status}")));
        }
        let Found { total_count } = serde_json::from_slice(&response.body)
            .map_err(|e| Failure::Retry(format!("read GitHub's answer: {e}")))?;
        println!("there are {total_count} users in {city}");
        let output = Output { city, users: total_count };
        Ok(serde_json::to_string(&output).expect("plain data"))
    }
}

/// Percent-encodes everything that may not stand in a query.
fn encode(text: &str) -> String {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| if unreserved(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}
