//! How many public repositories a GitHub user has.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasq_task::{Failure, http, queue, task};

#[derive(Deserialize, JsonSchema)]
struct Params {
    /// A user of GitHub.
    user: String,
    /// A task that gets the result as its params.
    then: Option<String>,
}

#[derive(Serialize, JsonSchema)]
struct Output {
    user: String,
    repositories: i64,
}

/// GitHub's answer about a user; we need one number of it.
#[derive(Deserialize)]
struct User {
    public_repos: i64,
}

#[task]
fn repositories(Params { user, then }: Params) -> Result<Output, Failure> {
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-';
    if user.is_empty() || !user.chars().all(valid) {
        let shown: String = user.chars().take(100).collect();
        return Err(Failure::reject(format!("params.user: {shown:?} is no GitHub user name")));
    }
    let api = std::env::var("GITHUB_API").unwrap_or_else(|_| "https://api.github.com".to_owned());
    let response = http::get(format!("{api}/users/{user}")).timeout(Duration::from_secs(10)).send()?;
    if let Some(busy) = response.busy() {
        return Err(busy);
    }
    match response.status {
        404 => return Err(Failure::reject(format!("GitHub does not know the user {user}"))),
        // GitHub reports its rate limit by this status as well.
        403 => return Err(Failure::retry_after(Duration::from_secs(60), "GitHub's rate limit (status 403)")),
        _ => {}
    }
    let User { public_repos } = response.success()?.json()?;
    assert!(public_repos >= 0, "GitHub counts {public_repos} repositories");
    log::info!("{user} has {public_repos} public repositories");
    let output = Output { user, repositories: public_repos };
    if let Some(then) = then {
        queue::enqueue(then, &output).map_err(|e| Failure::reject(format!("params.then: {e}")))?;
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use wasq_task::testing::World;

    use super::*;

    const URL: &str = "https://api.github.com/users/javimb";

    fn run(world: World) -> Result<Value, Failure> {
        world.run(repositories, json!({"user": "javimb"})).0
    }

    #[test]
    fn counts_repositories() {
        let answer = r#"{"login": "javimb", "public_repos": 5}"#;
        let result = run(World::new().answer(URL, 200, answer));
        assert_eq!(result, Ok(json!({"user": "javimb", "repositories": 5})));
    }

    #[test]
    fn sorts_refusals_into_those_that_pass_and_those_that_do_not() {
        let limited = World::new().answer_with(URL, 429, &[("retry-after", "7")], "");
        let expected = Failure::retry_after(Duration::from_secs(7), format!("{URL}: status 429"));
        assert_eq!(run(limited), Err(expected));
        let unknown = World::new().answer(URL, 404, "{}");
        assert_eq!(run(unknown), Err(Failure::reject("GitHub does not know the user javimb")));
        assert!(matches!(run(World::new().answer(URL, 500, "")), Err(Failure::Retry(_))));
    }
}
