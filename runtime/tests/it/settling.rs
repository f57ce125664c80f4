//! From outcomes to queue calls: their order, and what happens when one of them fails.

use std::time::Duration;

use serde_json::json;
use wasq_protocol::{Backoff, ByteCount, Clock, Settings, SystemClock};

use crate::{delivery, hand_over, verb, worker, worker_with_memory};

/// No waiting between attempts, so that the calls do not depend on chance.
pub(crate) fn at_once() -> Settings {
    let backoff = Backoff { base: Duration::ZERO, cap: Duration::ZERO };
    Settings { backoff, max_attempts: 3, ..Settings::default() }
}

#[tokio::test]
async fn success_is_deleted() {
    let (worker, queue, _folder) = worker(at_once());
    assert!(hand_over(&worker, vec![verb("a", json!({"verb": "echo", "value": 1}))]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a"]);
}

#[tokio::test]
async fn children_are_sent_before_their_parent_is_deleted() {
    let (worker, queue, _folder) = worker(at_once());
    let params = json!({"verb": "enqueue", "task": "verbs", "count": 2, "fail": false});
    hand_over(&worker, vec![verb("a", params)]).await;
    assert_eq!(
        queue.calls(),
        [r#"send {"value":0,"verb":"echo"}"#, r#"send {"value":1,"verb":"echo"}"#, "delete a"]
    );
}

#[tokio::test]
async fn a_parent_whose_child_could_not_be_sent_is_not_deleted() {
    let (worker, queue, _folder) = worker(at_once());
    queue.break_on(r#""value":1"#);
    let params = json!({"verb": "enqueue", "task": "verbs", "count": 2, "fail": false});
    assert!(hand_over(&worker, vec![verb("a", params)]).await.contains("a"));
    assert_eq!(queue.calls().last().map(String::as_str), Some("visible a 5"));
}

#[tokio::test]
async fn a_dead_letter_is_copied_before_it_is_deleted() {
    let (worker, queue, _folder) = worker(at_once());
    hand_over(&worker, vec![verb("a", json!({"verb": "reject", "reason": "no"}))]).await;
    assert_eq!(queue.calls(), ["dead a reject 1", "delete a"]);
}

#[tokio::test]
async fn what_could_not_be_copied_is_not_deleted() {
    let (worker, queue, _folder) = worker(at_once());
    queue.break_on("dead");
    assert!(hand_over(&worker, vec![delivery("a", json!("no message"))]).await.contains("a"));
    assert_eq!(queue.calls(), ["dead a malformed 1", "visible a 5"]);
}

#[tokio::test]
async fn retries_until_the_attempts_are_used_up() {
    let (worker, queue, _folder) = worker(at_once());
    let mut retried = verb("a", json!({"verb": "retry", "reason": "later"}));
    retried.receive_count = 2;
    assert!(hand_over(&worker, vec![retried.clone()]).await.contains("a"));
    retried.receive_count = 3;
    assert!(hand_over(&worker, vec![retried]).await.is_empty());
    assert_eq!(queue.calls(), ["visible a 0", "dead a retry 3", "delete a"]);
}

#[tokio::test]
async fn a_task_may_ask_for_a_longer_wait() {
    let (worker, queue, _folder) = worker(at_once());
    let wait = |seconds| verb("a", json!({"verb": "retry-after", "seconds": seconds, "reason": "limit"}));
    hand_over(&worker, vec![wait(90)]).await;
    // A wait that is too long for SQS is lowered to 12 h less 15 min.
    hand_over(&worker, vec![wait(u32::MAX)]).await;
    assert_eq!(queue.calls(), ["visible a 90", "visible a 42300"]);
}

/// Runs on tokio's worker threads: there, a task that was just woken comes before the tasks that still
/// wait for their turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_ends_together_is_acknowledged_together() {
    let (worker, queue, _folder) = worker(at_once());
    let batch = vec![delivery("a", json!("no message")), delivery("b", json!("no message"))];
    tokio::spawn(async move { hand_over(&worker, batch).await }).await.expect("no panic");
    let calls = queue.calls();
    let calls: Vec<_> = calls.iter().filter_map(|call| call.split(' ').next()).collect();
    assert_eq!(calls, ["dead", "dead", "delete", "delete"]);
}

#[tokio::test]
async fn an_unknown_task_is_given_a_grace() {
    let (worker, queue, _folder) = worker(at_once());
    let mut unknown = delivery("a", json!({"task": "missing"}));
    assert!(hand_over(&worker, vec![unknown.clone()]).await.contains("a"));
    unknown.first_received = SystemClock.now().minus(Duration::from_secs(61));
    unknown.receive_count = 7;
    assert!(hand_over(&worker, vec![unknown]).await.is_empty());
    assert_eq!(queue.calls(), ["visible a 4", "dead a unknown-task 7", "delete a"]);
}

#[tokio::test]
async fn an_unreachable_registry_costs_no_message() {
    let (worker, queue, _folder) = worker(at_once());
    let mut unlucky = delivery("a", json!({"task": "unreachable"}));
    unlucky.receive_count = 50;
    assert!(hand_over(&worker, vec![unlucky]).await.contains("a"));
    assert_eq!(queue.calls(), ["visible a 5"]);
}

#[tokio::test]
async fn a_lease_that_is_over_is_left_alone() {
    let (worker, queue, _folder) = worker(at_once());
    let mut stale = verb("a", json!({"verb": "echo", "value": 1}));
    stale.lease_until = SystemClock.now();
    assert!(hand_over(&worker, vec![stale]).await.contains("a"));
    assert!(queue.calls().is_empty(), "somebody else may have it: {:?}", queue.calls());
}

#[tokio::test]
async fn a_message_that_killed_three_workers_is_given_up_and_not_run() {
    let (worker, queue, _folder) = worker(at_once());
    let [mut two, mut three] = ["two", "three"].map(|id| verb(id, json!({"verb": "echo", "value": 1})));
    (two.deaths, three.deaths) = (2, 3);
    assert!(hand_over(&worker, vec![two]).await.is_empty());
    assert_eq!(queue.calls(), ["delete two"]);
    assert!(hand_over(&worker, vec![three]).await.is_empty());
    assert_eq!(queue.calls()[1..], ["dead three killed-worker 1", "delete three"]);
}

#[tokio::test]
async fn one_bad_message_does_not_end_a_batch() {
    let (worker, queue, _folder) = worker(at_once());
    let batch = vec![
        delivery("a", json!([])),
        verb("b", json!({"verb": "panic", "message": "oh no"})),
        verb("c", json!({"verb": "echo", "value": 1})),
    ];
    assert_eq!(hand_over(&worker, batch).await, ["b".to_owned()].into());
    let calls = queue.calls();
    for call in ["dead a malformed 1", "delete a", "visible b 0", "delete c"] {
        assert!(calls.iter().any(|made| made == call), "{call:?} is missing: {calls:?}");
    }
}

#[tokio::test]
async fn a_worker_that_is_told_to_stop_gives_back() {
    let (worker, queue, _folder) = worker(at_once());
    let running = hand_over(&worker, vec![verb("a", json!({"verb": "sleep", "ms": 20_000}))]);
    let stopping = async {
        worker.stop();
    };
    let (unfinished, ()) = tokio::join!(running, stopping);
    assert!(unfinished.contains("a"));
    assert_eq!(queue.calls(), ["visible a 0"]);
}

#[tokio::test]
async fn a_waiting_run_does_not_start_in_the_slot_of_a_stopped_run() {
    let (worker, queue, _folder) = worker_with_memory(at_once(), ByteCount::mib(128));
    let echo = |id| verb(id, json!({"verb": "echo", "value": 1}));
    // One run first, so that the module is loaded before the runs below.
    hand_over(&worker, vec![echo("before")]).await;
    let waiting = ["b", "c", "d", "e", "f", "g", "h"].map(echo);
    let sleeping = verb("a", json!({"verb": "sleep", "ms": 20_000}));
    let running = hand_over(&worker, [vec![sleeping], waiting.to_vec()].concat());
    let stopping = async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        worker.stop();
    };
    let (unfinished, ()) = tokio::join!(running, stopping);
    assert_eq!(unfinished.len(), 8);
    // The order in which the runs see the stop is random.
    let mut calls = queue.calls().split_off(1);
    calls.sort();
    let given_back = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|id| format!("visible {id} 0"));
    assert_eq!(calls, given_back);
}

#[tokio::test]
async fn no_wait_is_longer_than_the_queue_remembers() {
    let (worker, queue, _folder) = worker(at_once());
    let mut old = verb("old", json!({"verb": "retry-after", "seconds": 43_000, "reason": "limit"}));
    old.sent = SystemClock.now().minus(Duration::from_secs(80 * 3600));
    assert!(hand_over(&worker, vec![old]).await.is_empty());
    let far = SystemClock.now().plus(Duration::from_secs(4 * 24 * 3600));
    assert!(
        hand_over(&worker, vec![delivery("far", json!({"task": "verbs", "not_before": far}))])
            .await
            .is_empty()
    );
    // A fault of the host does not let a message wait until SQS deletes it either.
    let mut unlucky = delivery("unlucky", json!({"task": "unreachable"}));
    unlucky.sent = SystemClock.now().minus(Duration::from_secs(84 * 3600));
    hand_over(&worker, vec![unlucky]).await;
    assert_eq!(
        queue.calls(),
        [
            "dead old retry 1",
            "delete old",
            "dead far malformed 1",
            "delete far",
            "dead unlucky unavailable 1",
            "delete unlucky"
        ]
    );
}

#[tokio::test]
async fn a_message_is_not_run_before_its_time() {
    let (worker, queue, _folder) = worker(at_once());
    let soon = SystemClock.now().plus(Duration::from_secs(60));
    let early = delivery("a", json!({"task": "verbs", "not_before": soon}));
    assert!(hand_over(&worker, vec![early]).await.contains("a"));
    let calls = queue.calls();
    assert!(calls == ["visible a 59"] || calls == ["visible a 60"], "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_bounds_how_many_tasks_run_at_once() {
    // Two of these do not fit into the memory together, although there are eight slots.
    let settings = Settings { memory: ByteCount::mib(512), ..Settings::default() };
    let (worker, queue, _folder) = worker_with_memory(settings, ByteCount::mib(700));
    let sleep = |id: &str| verb(id, json!({"verb": "sleep", "ms": 600}));
    assert!(hand_over(&worker, vec![sleep("a"), sleep("b")]).await.is_empty());
    let mut told = queue.told();
    told.sort_by(|one, other| one.place_ms.total_cmp(&other.place_ms));
    let (first, second) = (&told[0], &told[1]);
    assert!(second.place_ms > first.run_ms / 2.0, "{} and {}", second.place_ms, first.run_ms);
    // A task that may have more memory than the worker has for all tasks runs alone.
    let settings = Settings { memory: ByteCount::mib(512), ..Settings::default() };
    let (worker, _, _folder) = worker_with_memory(settings, ByteCount::mib(1));
    assert!(hand_over(&worker, vec![sleep("a")]).await.is_empty());
}
