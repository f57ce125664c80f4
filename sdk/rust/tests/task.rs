//! The attribute, failures, and a task's world in a test.

use std::time::Duration;

use log::Level;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wasq_task::http::{self, ErrorKind};
use wasq_task::testing::World;
use wasq_task::{Failure, context, queue, task};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Params {
    user: String,
}

#[derive(Serialize)]
struct Output {
    repositories: u64,
}

#[derive(Deserialize)]
struct User {
    public_repos: u64,
}

#[task]
fn repositories(params: Params) -> Result<Output, Failure> {
    if params.user.is_empty() {
        return Err(Failure::reject("params.user is empty"));
    }
    let response = http::get(format!("https://api.github.com/users/{}", params.user)).send()?;
    if let Some(busy) = response.busy() {
        return Err(busy);
    }
    let user: User = response.success()?.json()?;
    log::info!("{} has {}", params.user, user.public_repos);
    if context::attempt() == 1 {
        queue::enqueue("notify", &json!({ "user": params.user }))?;
    }
    Ok(Output { repositories: user.public_repos })
}

const URL: &str = "https://api.github.com/users/javimb";

fn failure(world: World) -> Failure {
    world.run(repositories, json!({"user": "javimb"})).0.expect_err("a failure")
}

#[test]
fn a_success_with_its_request_child_and_log() {
    let world = World::new().answer(URL, 200, r#"{"public_repos": 5, "login": "javimb"}"#);
    let (result, world) = world.run(repositories, json!({"user": "javimb"}));
    assert_eq!(result, Ok(json!({"repositories": 5})));
    assert_eq!(world.requests, [format!("GET {URL}")]);
    assert_eq!(
        (world.children[0].task.as_str(), &world.children[0].params),
        ("notify", &json!({"user": "javimb"}))
    );
    assert_eq!(world.log, [(Level::Info, "javimb has 5".to_owned())]);
    let world = World::new().attempt(2).answer(URL, 200, r#"{"public_repos": 5}"#);
    assert!(world.run(repositories, json!({"user": "javimb"})).1.children.is_empty());
}

#[test]
fn params_that_do_not_fit_are_rejected_with_their_path() {
    let (result, _) = World::new().run(repositories, json!({"user": 7}));
    let expected = "params.user: invalid type: integer `7`, expected a string at line 1 column 9";
    assert_eq!(result, Err(Failure::reject(expected)));
    let (result, _) = World::new().run(repositories, json!({}));
    assert_eq!(result, Err(Failure::reject("params: missing field `user` at line 1 column 2")));
}

#[test]
fn any_error_is_another_attempt() {
    assert_eq!(
        failure(World::new().fail(URL, ErrorKind::Timeout)),
        Failure::retry(format!("{URL}: no answer in time"))
    );
    assert_eq!(
        failure(World::new().answer(URL, 500, "Server Error")),
        Failure::retry(format!("{URL}: status 500: Server Error"))
    );
    let Failure::Retry(reason) = failure(World::new().answer(URL, 200, r#"{"public_repos": "many"}"#)) else {
        panic!("not another attempt")
    };
    assert!(
        reason.starts_with(&format!("{URL}: the answer: public_repos: invalid type: string")),
        "{reason}"
    );
}

#[test]
fn what_a_task_says_itself_is_kept() {
    let busy = World::new().answer_with(URL, 429, &[("Retry-After", "7")], "");
    assert_eq!(failure(busy), Failure::retry_after(Duration::from_secs(7), format!("{URL}: status 429")));
    let (result, _) = World::new().run(repositories, json!({"user": ""}));
    assert_eq!(result, Err(Failure::reject("params.user is empty")));
}

#[test]
fn an_error_is_told_with_its_causes() {
    #[derive(Debug)]
    struct Outer(std::num::ParseIntError);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("read the count")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    let error = Outer("x".parse::<u32>().expect_err("no number"));
    assert_eq!(Failure::from(error), Failure::retry("read the count: invalid digit found in string"));
}
