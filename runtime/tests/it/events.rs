//! The events that invoke the worker, and the worker's answers.

use std::time::Duration;

use serde_json::{Value, json};
use wasq_protocol::{BatchResponse, Clock, FailureKind, Invoke, Outcome, Settings, SystemClock, WorkerEvent};
use wasq_runtime::Answer;

use crate::{TestWorker, worker};

async fn answer(worker: &TestWorker, event: Value) -> Answer {
    let ends = SystemClock.now().plus(Duration::from_secs(60));
    worker.handle(&event.to_string(), Invoke::until(ends)).await.expect("an event")
}

#[tokio::test]
async fn a_plain_message_is_answered_with_its_outcome() {
    let (worker, queue, _folder) = worker(Settings::default());
    let params = json!({"verb": "enqueue", "task": "verbs", "count": 1, "fail": false});
    let Answer::Outcome(outcome) = answer(&worker, json!({"task": "verbs", "params": params})).await else {
        panic!("not an outcome")
    };
    assert!(matches!(outcome, Outcome::Success { .. }), "{outcome:?}");
    assert_eq!(
        queue.calls(),
        [r#"send {"value":0,"verb":"echo"}"#],
        "its children are sent, and there is nothing to delete"
    );
    let Answer::Outcome(Outcome::Failure(failure)) = answer(&worker, json!({"task": "missing"})).await else {
        panic!("not a failure")
    };
    assert_eq!(failure.kind, FailureKind::UnknownTask);
}

#[tokio::test]
async fn an_event_source_mapping_learns_what_comes_again() {
    let (worker, queue, _folder) = worker(Settings::default());
    let now = SystemClock.now().ms().to_string();
    let record = |id: &str, body: Value| {
        json!({
            "messageId": id, "receiptHandle": id, "body": body.to_string(), "eventSource": "aws:sqs",
            "attributes": {
                "ApproximateReceiveCount": "1", "ApproximateFirstReceiveTimestamp": now, "SentTimestamp": now,
            },
        })
    };
    let echo = json!({"task": "verbs", "params": {"verb": "echo", "value": 1}});
    let unreachable = json!({"task": "unreachable"});
    let event =
        json!({"Records": [record("good", echo), record("bad", json!(5)), record("later", unreachable)]});
    let Answer::EventSource(BatchResponse { failures }) = answer(&worker, event).await else {
        panic!("not an event source's answer")
    };
    let again: Vec<_> = failures.iter().map(|failure| failure.message_id.as_str()).collect();
    assert_eq!(again, ["later"]);
    assert!(queue.calls().contains(&"dead bad malformed 1".to_owned()), "{:?}", queue.calls());
}

#[tokio::test]
async fn a_repeated_delivery_of_a_mapping_runs_only_with_a_new_lease() {
    let (worker, queue, _folder) = worker(Settings::default());
    let now = SystemClock.now();
    let record = |id: &str, receives: u32, ago: Duration| {
        let first = now.minus(ago).ms().to_string();
        json!({
            "messageId": id, "receiptHandle": id, "eventSource": "aws:sqs",
            "body": json!({"task": "verbs", "params": {"verb": "echo", "value": 1}}).to_string(),
            "attributes": {
                "ApproximateReceiveCount": receives.to_string(),
                "ApproximateFirstReceiveTimestamp": first, "SentTimestamp": first,
            },
        })
    };
    let day = Duration::from_secs(24 * 3600);
    // The third was received once, and Lambda handed it over when its lease was over.
    let records = [record("new", 1, Duration::ZERO), record("again", 2, day), record("late", 1, day)];
    let answer = answer(&worker, json!({"Records": records})).await;
    let Answer::EventSource(BatchResponse { failures }) = answer else {
        panic!("no answer of an event source")
    };
    let left: Vec<_> = failures.iter().map(|failure| failure.message_id.as_str()).collect();
    assert_eq!(left, ["late"]);
    let calls = queue.calls();
    assert_eq!(
        calls.first().map(String::as_str),
        Some("visible again 30"),
        "before anything runs: {calls:?}"
    );
    assert_eq!(calls.iter().filter(|call| call.starts_with("visible")).count(), 1, "{calls:?}");
}

#[tokio::test]
async fn a_ping_is_answered() {
    let (worker, queue, _folder) = worker(Settings::default());
    let ping: Value = serde_json::from_str(WorkerEvent::PING).expect("JSON");
    let Answer::Pong(pong) = answer(&worker, ping).await else { panic!("no pong") };
    assert_eq!(pong.fingerprint, wasq_engine::fingerprint());
    assert!(queue.calls().is_empty());
}

#[tokio::test]
async fn anything_else_is_refused() {
    let (worker, _queue, _folder) = worker(Settings::default());
    let error = worker.handle("{}", Invoke::until(SystemClock.now())).await.expect_err("no event");
    assert!(error.to_string().contains("expected an object with \"task\""), "{error}");
}
