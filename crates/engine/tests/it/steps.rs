//! Steps: what a task is told, and what is stored.

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use wasq_engine::{Engine, Module, NotStored, Report, Run, SaveStep, StepValues, Steps};
use wasq_protocol::{FailureKind, SecretValue, Settings};

use crate::http::server;
use crate::{context, failure, guest, output, verbs};

/// The steps of an earlier attempt.
fn known(steps: &[(&str, &str)]) -> StepValues {
    let raw = |text: &str| RawValue::from_string(text.to_owned()).expect("JSON");
    steps.iter().map(|(name, value)| ((*name).to_owned(), raw(value))).collect()
}

async fn run_with_steps(calls: Value, settings: &Settings, steps: Steps) -> Report {
    let ((engine, module), deadline) = (verbs(), Instant::now() + settings.timeout);
    let params = json!({ "verb": "steps", "calls": calls }).to_string();
    let secrets = [("TOKEN".to_owned(), SecretValue::new("t0p-secret-value".to_owned()))].into();
    let run = Run {
        context: context(),
        params: &params,
        settings,
        secrets: &secrets,
        steps,
        deadline,
        child_checks: None,
    };
    engine.run(module, run).await
}

/// The answers to calls in a run whose message has these steps.
async fn answers(calls: Value, steps: &[(&str, &str)]) -> Value {
    output(&run_with_steps(calls, &Settings::default(), Steps::Reported(known(steps))).await)
}

/// Makes a call that must be refused, and checks the reason.
#[track_caller]
fn refused(answer: &Value, kind: &str, why: &str) {
    let error = answer["error"].as_str().unwrap_or_else(|| panic!("{answer} is no error"));
    assert!(error.contains(kind) && error.contains(why), "{error}: expected {kind} and {why}");
}

#[tokio::test]
async fn a_step_of_an_earlier_attempt_has_its_value() {
    let calls =
        json!([{"load": "charge"}, {"load": "mail"}, {"save": ["mail", "[1, 12345678901234567890123]"]}]);
    let report =
        run_with_steps(calls, &Settings::default(), Steps::Reported(known(&[("charge", r#"{"id":7}"#)])))
            .await;
    assert_eq!(output(&report), json!([r#"{"id":7}"#, null, "saved"]));
    // Only the new one, with every digit.
    let saved: Vec<_> = report.steps.iter().map(|(name, value)| (name.as_str(), value.get())).collect();
    assert_eq!(saved, [("mail", "[1, 12345678901234567890123]")]);
}

#[tokio::test]
async fn steps_run_one_after_the_other_and_names_are_used_once() {
    let got = answers(
        json!([
            {"load": "a"}, {"load": "b"}, {"load": "a"}, {"save": ["b", "1"]}, {"save": ["a", "1"]}, {"load": "a"},
            {"save": ["a", "2"]}, {"load": "old"}, {"load": "old"}
        ]),
        &[("old", "1")],
    )
    .await;
    assert_eq!((&got[0], &got[4], &got[7]), (&Value::Null, &json!("saved"), &json!("1")));
    refused(&got[1], "Invalid", r#"step \"b\": step \"a\" has not ended"#);
    refused(&got[2], "Invalid", r#"step \"a\": step \"a\" has not ended"#);
    refused(&got[3], "Invalid", r#"step \"b\": it has not begun"#);
    refused(&got[5], "Invalid", "had a step with this name before");
    refused(&got[6], "Invalid", "it has not begun");
    refused(&got[8], "Invalid", "had a step with this name before");
}

#[tokio::test]
async fn a_step_that_failed_may_begin_again() {
    let got =
        answers(json!([{"load": "a"}, {"abandon": "a"}, {"load": "a"}, {"save": ["a", "1"]}]), &[]).await;
    assert_eq!(got, json!([null, "abandoned", null, "saved"]));
}

#[tokio::test]
async fn names_and_values_are_bounded() {
    let got = answers(
        json!([
            {"load": ""}, {"load": "x".repeat(101)}, {"load": "a\nb"}, {"load": "\u{1b}[31m"},
            {"load": "a"}, {"save": ["a", "{no JSON"]}, {"save-bytes": ["a", (64 << 10) + 1]}, {"save-bytes": ["a", 64 << 10]},
            {"load": "b"}, {"save-bytes": ["b", 64 << 10]},
        ]),
        &[],
    )
    .await;
    refused(&got[0], "Invalid", "1 to 100 bytes; this one has 0");
    refused(&got[1], "Invalid", "1 to 100 bytes; this one has 101");
    refused(&got[2], "Invalid", "no control characters");
    refused(&got[3], "Invalid", "no control characters");
    refused(&got[5], "Invalid", "is not JSON");
    refused(&got[6], "Invalid", "has 65537 bytes; the most is 65536");
    assert_eq!(got[7], "saved");
    refused(&got[9], "Invalid", "all steps of a message together have at most 131072 bytes");
}

#[tokio::test]
async fn a_message_has_a_hundred_steps_at_most() {
    let got = answers(json!([{"many": 1000}]), &[("old", "1")]).await;
    assert_eq!(got, json!([{"saved": 99, "error": "StepError::TooMany(100)"}]));
}

#[tokio::test]
async fn a_secret_is_not_stored() {
    let settings = Settings::from_toml("[secrets]\nTOKEN = { from = \"ssm:/wasq/token\", expose = true }\n");
    let calls = json!([{"load": "a"}, {"save-env": ["a", "TOKEN"]}]);
    let report = run_with_steps(calls.clone(), &settings.expect("settings"), Steps::default()).await;
    refused(&output(&report)[1], "Invalid", "contains a secret");
    assert!(report.steps.is_empty());
    // The placeholder of a hidden secret means nothing to a later attempt.
    let hidden = Settings::from_toml("[secrets]\nTOKEN = \"ssm:/wasq/token\"\n").expect("settings");
    let report = run_with_steps(calls, &hidden, Steps::default()).await;
    refused(&output(&report)[1], "Invalid", "or the placeholder of one");
    let named = json!([{"load-env": "TOKEN"}]);
    refused(
        &output(&run_with_steps(named, &hidden, Steps::default()).await)[0],
        "Invalid",
        "the name of a step contains a secret",
    );
}

#[tokio::test]
async fn the_levels_of_a_value_are_bounded() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let calls = json!([{"load": "a"}, {"save": ["a", nested(101)]}, {"save": ["a", nested(100)]}]);
    let got = answers(calls, &[]).await;
    refused(&got[1], "Invalid", "more than 100 levels");
    assert_eq!(got[2], "saved");
}

/// The time of the run ends while a step is being stored.
#[tokio::test]
async fn a_step_that_is_not_stored_in_time_costs_no_attempt() {
    let settings = Settings { timeout: std::time::Duration::from_millis(300), ..Settings::default() };
    let (store, _saves) = mpsc::channel(1);
    let calls = json!([{"load": "a"}, {"save": ["a", "1"]}]);
    let report = run_with_steps(calls, &settings, Steps::Stored(StepValues::new(), store)).await;
    assert_eq!(failure(&report).kind, FailureKind::Unavailable);
    assert!(failure(&report).message.contains("has not answered in time"), "{}", failure(&report));
}

#[tokio::test]
async fn without_a_memory_the_message_waits_whatever_the_task_makes_of_it() {
    let steps = || Steps::Unavailable("there is no table".into());
    let report = run_with_steps(json!([{"step": ["a", "http://x/"]}]), &Settings::default(), steps()).await;
    let found = failure(&report);
    assert_eq!((found.kind, found.message.as_str()), (FailureKind::Unavailable, "there is no table"));
    // A result without the step is none.
    let report = run_with_steps(json!([{"load": "a"}]), &Settings::default(), steps()).await;
    assert_eq!(failure(&report).kind, FailureKind::Unavailable);
    // A task that asks for no step has its own end.
    let report = run_with_steps(json!([{"retry-before": 9}]), &Settings::default(), steps()).await;
    assert_eq!(failure(&report).kind, FailureKind::Retry);
}

/// Runs calls while a table answers to each step.
async fn with_table(
    calls: Value,
    answer: impl Fn(&str) -> Result<(), NotStored> + Send + 'static,
) -> (Report, Vec<String>) {
    let (store, mut saves) = mpsc::channel(1);
    let stored = Arc::new(Mutex::new(Vec::new()));
    let table = tokio::spawn({
        let stored = stored.clone();
        async move {
            while let Some(SaveStep { name, value, stored: answered }) = saves.recv().await {
                let answer = answer(&name);
                stored.lock().await.push(format!("{name}={}", value.get()));
                answered.send(answer).expect("the run waits");
            }
        }
    });
    let report = run_with_steps(calls, &Settings::default(), Steps::Stored(StepValues::new(), store)).await;
    table.await.expect("it ends with the run");
    let stored = stored.lock().await.clone();
    (report, stored)
}

#[tokio::test]
async fn a_run_goes_on_when_its_step_is_stored() {
    let calls = json!([{"load": "a"}, {"save": ["a", "1"]}, {"load": "b"}, {"save": ["b", "2"]}]);
    let (report, stored) = with_table(calls, |_| Ok(())).await;
    assert_eq!(output(&report), json!([null, "saved", null, "saved"]));
    assert_eq!(stored, ["a=1", "b=2"]);
}

#[tokio::test]
async fn after_a_step_that_could_not_be_stored_there_is_no_other() {
    let down = |_: &str| Err(NotStored::Unavailable("the table is down".to_owned()));
    // It has had its effect, and the task ends well: that is the end.
    let (report, _) = with_table(json!([{"load": "a"}, {"save": ["a", "1"]}]), down).await;
    refused(&output(&report)[1], "Unavailable", r#"step \"a\" could not be stored: the table is down"#);
    // It asks for another step, which it does not get.
    for name in ["a", "b"] {
        let calls = json!([{"load": "a"}, {"save": ["a", "1"]}, {"abandon": "a"}, {"load": name}]);
        let (report, stored) = with_table(calls, down).await;
        assert_eq!((failure(&report).kind, stored.len()), (FailureKind::Unavailable, 1));
    }
    let calls = json!([{"load": "a"}, {"save": ["a", "1"]}, {"retry-before": 9}]);
    let (report, _) = with_table(calls, down).await;
    assert_eq!(failure(&report).kind, FailureKind::Unavailable, "{}", failure(&report));
}

#[tokio::test]
async fn a_run_ends_if_another_delivery_has_its_message() {
    let calls = json!([{"load": "a"}, {"save": ["a", "1"]}, "spin"]);
    let (report, _) = with_table(calls, |_| Err(NotStored::Lost)).await;
    assert_eq!(failure(&report).kind, FailureKind::Trap);
    assert!(failure(&report).message.contains("has taken the run over"), "{}", failure(&report));
}

#[tokio::test]
async fn the_key_of_a_request_in_a_step_is_the_same_in_every_attempt() {
    let address = server().await;
    let settings = Settings {
        allow_hosts: vec![format!("http://{address}").parse().expect("an entry")],
        ..Settings::default()
    };
    let url = format!("http://{address}/key");
    let calls = json!([
        {"post": url}, {"step": ["charge", url]}, {"post": url}, {"step": ["refund", url]},
        // A step that fails and is executed again.
        {"load": "mail"}, {"post": url}, {"abandon": "mail"}, {"load": "mail"}, {"post": url}, {"post": url},
    ]);
    let mut keys = Vec::new();
    for attempt in [1, 2] {
        let ((engine, module), deadline) = (verbs(), Instant::now() + settings.timeout);
        // The body of each request has the number of the attempt in it.
        let context = wasq_engine::RunContext { attempt, ..context() };
        let params = json!({ "verb": "steps", "calls": calls }).to_string();
        let (secrets, steps) = (Default::default(), Steps::default());
        let run = Run {
            context,
            params: &params,
            settings: &settings,
            secrets: &secrets,
            steps,
            deadline,
            child_checks: None,
        };
        keys.push(output(&engine.run(module, run).await));
    }
    let [first, second] = &keys[..] else { panic!("two attempts") };
    assert_eq!((&first[1], &first[3]), (&second[1], &second[3]), "in a step");
    assert_ne!(first[0], second[0], "outside of a step, the body counts");
    assert_eq!(first[5], first[8], "the same step again");
    assert_ne!(first[5], first[9], "its second request");
    let different: std::collections::BTreeSet<_> =
        (0..4).chain([5]).map(|at| first[at].to_string()).collect();
    assert_eq!(different.len(), 5, "{first}");
}

/// The guest was built for 0.1.0, and imports each interface of that version.
#[tokio::test]
async fn a_task_of_the_first_version_runs_unchanged() {
    let address = server().await;
    let (engine, _): &(Engine, Module) = verbs();
    let artifact = engine.compile(&guest("veteran")).expect("it fits the world");
    // Safety: compiled by this very engine.
    let module = unsafe { engine.load_bytes(&artifact) }.expect("it loads");
    let settings = Settings {
        allow_hosts: vec![format!("http://{address}").parse().expect("an entry")],
        ..Settings::default()
    };
    let (secrets, deadline) = (Default::default(), Instant::now() + settings.timeout);
    let params = json!(format!("http://{address}/echo")).to_string();
    let steps = Steps::default();
    let run = Run {
        context: context(),
        params: &params,
        settings: &settings,
        secrets: &secrets,
        steps,
        deadline,
        child_checks: None,
    };
    let report = engine.run(&module, run).await;
    let got = output(&report);
    assert_eq!((&got["id"], &got["status"]), (&json!("m-1"), &json!(200)));
    assert_eq!(report.children[0].message.id.as_deref(), got["child"].as_str());
    assert_eq!(report.children[0].delay.as_secs(), 5);
    assert_eq!(report.log[0].text, "hello from 0.1.0");
}
