//! How many public repositories a GitHub user has: `{"user": "javimb"}` -> `{"user": "javimb", "repositories": 5}`.

wit_bindgen::generate!({ path: "../../tasks-wit/wit", world: "task" });

use serde::{Deserialize, Serialize};
use wasq::task::http::{self, Request};
use wasq::task::log::{self, Level};
use wasq::task::outcome::RetryAfter;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    user: String,
}

#[derive(Serialize)]
struct Output {
    user: String,
    repositories: u64,
}

/// What GitHub says of a user; we need one number of it.
#[derive(Deserialize)]
struct User {
    public_repos: u64,
}

struct Task;
export!(Task);

impl Guest for Task {
    fn run(params: String) -> Result<String, Failure> {
        let Params { user } = serde_json::from_str(&params)
            .map_err(|e| Failure::Reject(format!("params: {e}; expected {{\"user\": \"NAME\"}}")))?;
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if user.is_empty() || !user.chars().all(valid) {
            return Err(Failure::Reject(format!("params.user: {user:?} is no GitHub user name")));
        }
        let User { public_repos } = get(&format!("/users/{user}"))?;
        log::log(Level::Info, &format!("{user} has {public_repos} public repositories"));
        let output = Output { user, repositories: public_repos };
        Ok(serde_json::to_string(&output).expect("plain data"))
    }
}

/// Asks GitHub, and sorts its refusals into those that pass and those that do not.
fn get<T: for<'de> Deserialize<'de>>(path: &str) -> Result<T, Failure> {
    let api = std::env::var("GITHUB_API").unwrap_or_else(|_| "https://api.github.com".to_owned());
    let response = http::send(&Request {
        method: "GET".to_owned(),
        url: format!("{api}{path}"),
        headers: Vec::new(),
        body: None,
        timeout_ms: Some(10_000),
    })
    .map_err(|e| Failure::Retry(format!("ask GitHub: {e:?}")))?;
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name == name);
        found.and_then(|header| header.value.parse::<u32>().ok())
    };
    match response.status {
        200 => serde_json::from_slice(&response.body)
            .map_err(|e| Failure::Retry(format!("read GitHub's answer: {e}"))),
        404 => Err(Failure::Reject(format!("GitHub does not know {path}"))),
        403 | 429 => Err(Failure::RetryAfter(RetryAfter {
            seconds: header("retry-after").unwrap_or(60),
            reason: format!("GitHub's rate limit (status {})", response.status),
        })),
        status => Err(Failure::Retry(format!("GitHub answered with status {status}"))),
    }
}
