//! The log record of each delivery, and the trace that its children continue.

use std::time::Duration;

use serde_json::json;
use wasq_protocol::{
    Backoff, Batch, Clock, FailureKind, Invoke, Message, RecordLevel, RunOutcome, Settings, SystemClock, Then,
};

use crate::{delivery, hand_over, verb, worker};

const HEADER: &str = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
const TRACEPARENT: &str = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";

fn once() -> Settings {
    Settings {
        max_attempts: 2,
        backoff: Backoff { base: Duration::ZERO, cap: Duration::ZERO },
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_success_is_one_record() {
    let (worker, queue, _folder) = worker(once());
    let delivery = verb("a", json!({"verb": "echo", "value": 1}));
    let event = serde_json::to_string(&Batch { deliveries: vec![delivery] }).expect("JSON");
    let ends = SystemClock.now().plus(Duration::from_secs(60));
    let invoke = Invoke { request_id: Some("r-1".to_owned()), ..Invoke::until(ends) };
    worker.handle(&event, invoke).await.expect("a batch");
    let [record] = <[_; 1]>::try_from(queue.told()).expect("one");
    assert_eq!((record.level, record.message.as_str()), (RecordLevel::Info, "done"));
    assert_eq!((record.outcome, record.then, record.kind), (RunOutcome::Success, Then::Done, None));
    assert_eq!(record.task.as_ref().map(|task| task.as_str()), Some("verbs"));
    assert_eq!((record.id.as_str(), record.message_id.as_deref(), record.attempt), ("a", Some("a"), 1));
    assert_eq!(record.request_id.as_deref(), Some("r-1"));
    assert!(record.digest.is_some() && record.queued_ms.is_some() && record.traceparent.is_none());
    assert!(
        record.run_ms > 0.0 && record.load_ms > 0.0 && record.peak_memory_bytes >= 64 << 10,
        "{record:?}"
    );
}

#[tokio::test]
async fn a_failure_says_its_kind_and_what_follows() {
    let (worker, queue, _folder) = worker(once());
    let retry = json!({"verb": "retry", "reason": "not today"});
    hand_over(&worker, vec![verb("a", retry.clone())]).await;
    let mut last = verb("a", retry);
    last.receive_count = 2;
    hand_over(&worker, vec![last]).await;
    hand_over(&worker, vec![delivery("b", json!("no message"))]).await;
    let told: Vec<_> = queue
        .told()
        .into_iter()
        .map(|r| (r.kind.expect("a failure"), r.then, r.attempt, r.message))
        .collect();
    assert_eq!(told[0], (FailureKind::Retry, Then::Retry, 1, "not today; next attempt in 0.0 s".to_owned()));
    let moved = "not today; moved to the dead-letter queue".to_owned();
    assert_eq!(told[1], (FailureKind::Retry, Then::DeadLetter, 2, moved));
    assert_eq!((told[2].0, told[2].1), (FailureKind::Malformed, Then::DeadLetter));
}

#[tokio::test]
async fn what_could_not_be_acknowledged_is_told_as_such() {
    let (worker, queue, _folder) = worker(once());
    queue.break_on("send");
    let params = json!({"verb": "enqueue", "task": "verbs", "count": 1, "fail": false});
    hand_over(&worker, vec![verb("a", params)]).await;
    let [record] = <[_; 1]>::try_from(queue.told()).expect("one");
    assert_eq!((record.kind, record.then), (Some(FailureKind::Unavailable), Then::Release));
}

/// The X-Ray header goes to the children outside their messages, and to tasks as a W3C `traceparent`.
#[tokio::test]
async fn a_trace_goes_on_in_the_children() {
    let (worker, queue, _folder) = worker(once());
    let params = json!({"verb": "enqueue", "task": "verbs", "count": 1, "fail": false});
    let mut delivery = verb("a", params);
    delivery.trace_header = Some(HEADER.to_owned());
    hand_over(&worker, vec![delivery]).await;
    let [child] = <[_; 1]>::try_from(queue.children()).expect("one");
    assert_eq!(child.trace_header.as_deref(), Some(HEADER));
    assert_eq!(child.message.traceparent.as_deref(), Some(TRACEPARENT));
    assert_eq!(queue.told()[0].traceparent.as_deref(), Some(TRACEPARENT));
}

#[tokio::test]
async fn a_message_s_own_trace_is_not_replaced() {
    let (worker, queue, _folder) = worker(once());
    let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let params = json!({"verb": "enqueue", "task": "verbs", "count": 1, "fail": false});
    let body = json!({"task": "verbs", "params": params, "traceparent": own});
    let mut delivery = delivery("a", body);
    delivery.trace_header = Some(HEADER.to_owned());
    hand_over(&worker, vec![delivery]).await;
    assert_eq!(queue.children()[0].message.traceparent.as_deref(), Some(own));
}

#[tokio::test]
async fn a_direct_invoke_is_told_without_a_queue() {
    let (worker, queue, _folder) = worker(once());
    let message = Message::new(
        "verbs".parse().expect("a name"),
        serde_json::from_str(r#"{"verb": "echo", "value": 1}"#).expect("JSON"),
    );
    let ends = SystemClock.now().plus(Duration::from_secs(60));
    worker.handle(&message.to_json(), Invoke::until(ends)).await.expect("a message");
    let [record] = <[_; 1]>::try_from(queue.told()).expect("one");
    assert_eq!((record.message_id, record.queued_ms, record.outcome), (None, None, RunOutcome::Success));
}
