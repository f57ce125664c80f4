//! Messages at their times: those whose `not_before` lies far ahead leave the queue, and firings of a schedule may have turns.

use std::time::Duration;

use serde_json::json;
use wasq_protocol::{
    ByteCount, Clock, FailureKind, ItemState, Message, RunItem, Settings, SystemClock, Then, Timestamp,
};

use crate::runs::TestRuns;
use crate::{OptionalParts, Recorder, TestWorker, delivery, hand_over, worker_of};

const HOUR: Duration = Duration::from_secs(3600);

fn worker_with_timer(runs: Option<TestRuns>) -> (TestWorker, Recorder, tempfile::TempDir) {
    let parts = OptionalParts { runs, has_timer: true };
    worker_of(Settings::default(), Duration::ZERO, ByteCount::mib(4096), parts)
}

fn after(time: Duration) -> Timestamp {
    SystemClock.now().plus(time)
}

#[tokio::test]
async fn it_is_kept_elsewhere_before_it_is_deleted() {
    let (worker, queue, _folder) = worker_with_timer(None);
    let at = after(2 * HOUR);
    let sent = delivery("a", json!({"task": "verbs", "params": [1.0, "é"], "not_before": at, "other": 1}));
    assert!(hand_over(&worker, vec![sent]).await.is_empty());
    // It carries its id from now on, because it gets another one in the queue.
    let body = format!(r#"{{"task":"verbs","params":[1.0,"é"],"id":"a","not_before":"{at}","other":1}}"#);
    assert_eq!(queue.calls(), [format!("keep {body} until {at}"), "delete a".to_owned()]);
    let [told] = &queue.told()[..] else { panic!("one record") };
    assert_eq!((told.then, told.kind.map(|kind| kind.as_str())), (Then::Delayed, Some("delayed")));
    assert!(told.message.ends_with("it left the queue, and is sent again then"), "{}", told.message);
}

#[tokio::test]
async fn it_is_not_deleted_if_it_cannot_be_kept() {
    let (worker, queue, _folder) = worker_with_timer(None);
    queue.break_on("keep");
    let sent = delivery("a", json!({"task": "verbs", "not_before": after(2 * HOUR)}));
    assert!(hand_over(&worker, vec![sent]).await.contains("a"));
    // Soon, because the timer may have it.
    assert_eq!(queue.calls().last().map(String::as_str), Some("visible a 5"));

    // The pauses grow.
    let mut far = delivery("far", json!({"task": "verbs", "not_before": after(200 * HOUR)}));
    far.first_received = SystemClock.now().minus(HOUR / 6);
    assert!(hand_over(&worker, vec![far.clone()]).await.contains("far"));
    let last = queue.calls().pop().expect("a call");
    assert!(last == "visible far 150" || last == "visible far 151", "{last}");
    // Before the queue forgets it, it is a dead letter with the reason.
    far.sent = SystemClock.now().minus(84 * HOUR);
    assert!(hand_over(&worker, vec![far]).await.is_empty());
    assert_eq!(queue.calls()[queue.calls().len() - 2..], ["dead far unavailable 1", "delete far"]);
}

#[tokio::test]
async fn a_quarter_of_an_hour_is_spent_in_the_queue() {
    let (worker, queue, _folder) = worker_with_timer(None);
    let sent = delivery("a", json!({"task": "verbs", "not_before": after(Duration::from_secs(900))}));
    assert!(hand_over(&worker, vec![sent]).await.contains("a"));
    let calls = queue.calls();
    assert!(calls == ["visible a 899"] || calls == ["visible a 900"], "{calls:?}");
}

#[tokio::test]
async fn a_year_and_no_more() {
    let (worker, queue, _folder) = worker_with_timer(None);
    let body = |days: u32| json!({"task": "verbs", "not_before": after(24 * HOUR * days)});
    let batch = vec![delivery("year", body(365)), delivery("more", body(367))];
    assert!(hand_over(&worker, batch).await.is_empty());
    let calls = queue.calls();
    let begins = |word: &str| calls.iter().any(|call| call.starts_with(word));
    assert!(
        begins("keep {\"task\":\"verbs\",\"params\":{},\"id\":\"year\"") && begins("dead more malformed 1"),
        "{calls:?}"
    );
}

#[tokio::test]
async fn a_large_message_stays_in_the_queue() {
    let (worker, queue, _folder) = worker_with_timer(None);
    let body = |days: u32| json!({"task": "verbs", "params": "x".repeat(300_000), "not_before": after(24 * HOUR * days)});
    let again = hand_over(&worker, vec![delivery("two", body(2)), delivery("four", body(4))]).await;
    assert_eq!(again.into_iter().collect::<Vec<_>>(), ["two"]);
    assert!(queue.calls().contains(&"dead four malformed 1".to_owned()), "{:?}", queue.calls());
    let told = queue.told();
    let refused = told.iter().find(|told| told.id == "four").expect("a record");
    let expected =
        "not_before lies more than 3 days ahead, which is the most for a message of more than 250000 bytes";
    assert!(refused.message.starts_with(expected), "{}", refused.message);
}

#[tokio::test]
async fn words_of_the_scheduler_change_no_digest() {
    let (worker, queue, _folder) = worker_with_timer(None);
    let params = json!({"<aws.scheduler.scheduled-time>": "at <aws.scheduler.execution-id>"});
    let sent = delivery("a", json!({"task": "verbs", "params": params, "not_before": after(HOUR)}));
    assert!(hand_over(&worker, vec![sent]).await.is_empty());
    let call = queue.calls().remove(0);
    let body = call.strip_prefix("keep ").and_then(|call| call.rsplit_once(" until ")).expect("a call").0;
    let message = Message::parse(body).expect("a message");
    // As EventBridge Scheduler gets it.
    let escaped = Message::parse(&body.replace(RunItem::WORD, RunItem::ESCAPED_WORD)).expect("a message");
    assert!(!escaped.params.get().contains(RunItem::WORD));
    assert_eq!(serde_json::from_str::<serde_json::Value>(escaped.params.get()).expect("JSON"), params);
    assert_eq!(RunItem::params_digest(&message), RunItem::params_digest(&escaped));
}

#[tokio::test]
async fn the_table_shows_that_it_waits_and_it_can_be_cancelled() {
    let runs = TestRuns::default();
    let (worker, queue, _folder) = worker_with_timer(Some(runs.clone()));
    let at = after(48 * HOUR);
    let body = json!({"task": "verbs", "params": {"verb": "echo", "value": 1}, "not_before": at});
    assert!(hand_over(&worker, vec![delivery("a", body.clone())]).await.is_empty());
    let item = runs.item("a");
    assert_eq!((item.state, item.next, item.attempts), (ItemState::Waiting, Some(at), 0));
    assert!(item.expires > at.ms() / 1000, "it is remembered until then");

    runs.cancel("a");
    // It stays cancelled until its time has come, however long the queue would keep it.
    let cancelled = runs.item("a");
    assert!(cancelled.expires > at.plus(24 * HOUR).ms() / 1000);
    // Its delete had failed: it comes again.
    assert!(hand_over(&worker, vec![delivery("a", body)]).await.is_empty());
    // The timer sends it.
    let due = json!({"task": "verbs", "params": {"verb": "echo", "value": 1}, "id": "a", "not_before": after(Duration::ZERO)});
    assert!(hand_over(&worker, vec![delivery("again", due)]).await.is_empty());
    let calls = queue.calls();
    assert_eq!(calls.iter().filter(|call| call.starts_with("keep")).count(), 1, "{calls:?}");
    let told: Vec<_> = queue.told().iter().map(|told| told.then).collect();
    assert_eq!(told, [Then::Delayed, Then::Cancelled, Then::Cancelled]);
}

#[tokio::test]
async fn it_runs_when_the_timer_has_sent_it() {
    let runs = TestRuns::default();
    let (worker, queue, _folder) = worker_with_timer(Some(runs.clone()));
    let body =
        |at| json!({"task": "verbs", "params": {"verb": "echo", "value": 1}, "id": "own", "not_before": at});
    assert!(hand_over(&worker, vec![delivery("a", body(after(HOUR)))]).await.is_empty());
    assert!(hand_over(&worker, vec![delivery("b", body(after(Duration::ZERO)))]).await.is_empty());
    // Scheduler may send a message twice.
    assert!(hand_over(&worker, vec![delivery("c", body(after(Duration::ZERO)))]).await.is_empty());
    let item = runs.item("own");
    assert_eq!((item.state, item.attempts, item.history.len()), (ItemState::Done, 1, 1));
    let ran = queue.told().iter().filter(|told| told.digest.is_some()).count();
    assert_eq!(ran, 1, "one run");
}

/// The task of the tests, with a schedule whose firings have turns, and one whose firings have not.
fn with_schedules() -> Settings {
    let text = "max_attempts = 2\nbackoff = { base = '0s', cap = '0s' }\n[[schedule]]\nname = 'one'\nevery = '1h'\noverlap = 'skip'\n[[schedule]]\nname = 'all'\nevery = '1h'";
    Settings::from_toml(text).expect("valid settings")
}

fn firing(receipt: &str, id: &str, ms: u32) -> wasq_protocol::Delivery {
    delivery(receipt, json!({"task": "verbs", "params": {"verb": "sleep", "ms": ms}, "id": id}))
}

#[tokio::test(flavor = "multi_thread")]
async fn one_firing_at_a_time() {
    let runs = TestRuns::default();
    let parts = OptionalParts { runs: Some(runs.clone()), has_timer: false };
    let (worker, queue, _folder) = worker_of(with_schedules(), Duration::ZERO, ByteCount::mib(4096), parts);
    let running = tokio::spawn({
        let worker = worker.clone();
        async move { hand_over(&worker, vec![firing("a", "verbs/one@T1", 1500)]).await }
    });
    while runs.items().iter().all(|item| item.id != RunItem::turn_id("verbs/one")) {
        runs.written().await;
    }
    // A second firing does not run, and one of a schedule without turns, and other messages, do.
    let batch =
        vec![firing("b", "verbs/one@T2", 1), firing("c", "verbs/all@T2", 1), firing("d", "verbs/one", 1)];
    assert!(hand_over(&worker, batch).await.is_empty());
    assert!(!running.is_finished(), "the first firing runs all the while");
    let skipped = runs.item("verbs/one@T2");
    assert_eq!((skipped.state, skipped.attempts), (ItemState::Cancelled, 0));
    assert_eq!(skipped.kind, Some(FailureKind::Skipped));
    assert_eq!(
        skipped.reason.as_deref(),
        Some("verbs/one@T1, another firing of the schedule verbs/one, is running")
    );
    for id in ["verbs/all@T2", "verbs/one"] {
        assert_eq!(runs.item(id).state, ItemState::Done, "{id}");
    }
    assert!(running.await.expect("no panic").is_empty());
    assert_eq!(runs.item(&RunItem::turn_id("verbs/one")).state, ItemState::Done);
    // The next one runs.
    assert!(hand_over(&worker, vec![firing("e", "verbs/one@T3", 1)]).await.is_empty());
    assert_eq!(runs.item("verbs/one@T3").state, ItemState::Done);
    assert!(queue.calls().contains(&"delete b".to_owned()));
}

#[tokio::test]
async fn a_turn_ends_with_the_lease_of_its_run() {
    let runs = TestRuns::default();
    let parts = OptionalParts { runs: Some(runs.clone()), has_timer: false };
    let (worker, _queue, _folder) = worker_of(with_schedules(), Duration::ZERO, ByteCount::mib(4096), parts);
    // Its worker has died.
    let mut turn = RunItem::new(RunItem::turn_id("verbs/one"), ItemState::Running, SystemClock.now());
    turn.owner = Some("verbs/one@T1".to_owned());
    turn.keep_for(HOUR, SystemClock.now());
    turn.lease_until = Some(after(HOUR));
    runs.has(turn.clone());
    assert!(hand_over(&worker, vec![firing("b", "verbs/one@T2", 1)]).await.is_empty());
    assert_eq!(runs.item("verbs/one@T2").kind, Some(FailureKind::Skipped));
    // The same firing, made again.
    assert!(hand_over(&worker, vec![firing("a", "verbs/one@T1", 1)]).await.is_empty());
    assert_eq!(runs.item("verbs/one@T1").state, ItemState::Done);
    turn.lease_until = Some(SystemClock.now());
    turn.revision = "another".to_owned();
    runs.has(turn);
    assert!(hand_over(&worker, vec![firing("c", "verbs/one@T3", 1)]).await.is_empty());
    assert_eq!(runs.item("verbs/one@T3").state, ItemState::Done);
}
