//! The attribute, failures, and a task's world in a test.

use std::time::Duration;

use log::Level;
use serde::{Deserialize, Serialize};
use serde_json::json;
use wasq_task::http::{self, ErrorKind};
use wasq_task::testing::World;
use wasq_task::{Failure, context, queue, step, task};

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

#[derive(Deserialize, Serialize)]
struct Receipt {
    receipt: String,
}

#[task]
fn order(_: serde_json::Value) -> Result<Receipt, Failure> {
    let receipt: Receipt =
        step("charge", || Ok(http::post("https://pay.example/charges").send()?.success()?.json()?))?;
    step("mail", || {
        http::post("https://mail.example/").send()?.success()?;
        Ok(())
    })?;
    Ok(receipt)
}

#[test]
fn a_step_that_was_saved_is_not_executed_again() {
    let charge = |world: World| world.answer("https://pay.example/charges", 200, r#"{"receipt": "r-1"}"#);
    let mail = |world: World, status| world.answer("https://mail.example/", status, "");
    // The mail fails: the step is not saved.
    let (failed, world) = mail(charge(World::new()), 500).run(order, json!({}));
    assert!(matches!(failed, Err(Failure::Retry(_))), "{failed:?}");
    assert_eq!(world.steps, [("charge".to_owned(), json!({"receipt": "r-1"}))].into());
    // The next attempt sends the mail only.
    let world = World::new().attempt(2).step("charge", json!({"receipt": "r-1"}));
    let (result, world) = mail(world, 204).run(order, json!({}));
    assert_eq!(result, Ok(json!({"receipt": "r-1"})));
    assert_eq!(world.requests, ["POST https://mail.example/"]);
    // A value of another version of the task.
    let (result, _) = World::new().step("charge", json!(7)).run(order, json!({}));
    assert!(
        matches!(&result, Err(Failure::Reject(why)) if why.contains("step \"charge\": the saved value")),
        "{result:?}"
    );
}

#[task]
fn nested(_: serde_json::Value) -> Result<u8, Failure> {
    step("outer", || step("inner", || Ok(1)))
}

#[task]
fn twice(_: serde_json::Value) -> Result<u8, Failure> {
    step("one", || Ok(1))?;
    step("one", || Ok(2))
}

#[test]
fn a_step_in_a_step_and_a_name_twice_are_rejected() {
    let rejected = |(result, _): (Result<_, _>, World), expected: &str| {
        assert!(matches!(&result, Err(Failure::Reject(why)) if why.contains(expected)), "{result:?}");
    };
    rejected(World::new().run(nested, json!({})), "one step runs at a time");
    rejected(World::new().run(twice, json!({})), "had a step with this name before");
}
