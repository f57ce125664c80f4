//! Steps, in the table of runs.

use wasq_protocol::{FailureKind, ItemState, RunItem, Timestamp};

use super::runs::{AtStep, remembering, with_id};
use super::settling::at_once;
use super::*;

/// Saves two steps, and fails between them in the first attempt.
fn two_steps() -> Value {
    json!({"verb": "steps", "calls": [
        {"load": "one"}, {"save": ["one", "1"]}, {"retry-before": 2}, {"load": "two"}, {"save": ["two", "2"]}
    ]})
}

fn saved(item: &RunItem) -> Vec<(&str, &str, u32)> {
    item.steps.iter().map(|step| (step.name.as_str(), step.value.get(), step.attempt)).collect()
}

#[tokio::test]
async fn a_later_attempt_has_the_steps_of_the_one_before() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    let message = with_id("a", "order", two_steps());
    assert!(hand_over(&worker, vec![message.clone()]).await.contains("a"));
    let item = runs.item("order");
    assert_eq!((item.state, saved(&item)), (ItemState::Retrying, vec![("one", "1", 1)]));
    // The guest saves the step again if it is not told of it, and that is refused.
    let message = with_id("a", "order", two_steps());
    assert!(hand_over(&worker, vec![message]).await.is_empty());
    assert_eq!(queue.calls(), ["visible a 0", "delete a"]);
    let item = runs.item("order");
    assert_eq!((item.state, saved(&item)), (ItemState::Done, vec![("one", "1", 1), ("two", "2", 2)]));
    let result = item.result.expect("a result").get().to_owned();
    assert!(result.starts_with(r#"["1",{"error":"#), "{result}");
}

#[tokio::test]
async fn a_dead_message_keeps_its_steps_for_a_redrive() {
    let (worker, _, runs, _folder) = remembering(Settings { max_attempts: 1, ..at_once() });
    assert!(hand_over(&worker, vec![with_id("a", "order", two_steps())]).await.is_empty());
    assert_eq!(runs.item("order").state, ItemState::Dead);
    let dead = runs.item("order");
    let kept = Timestamp::from_ms(dead.expires * 1000).since(SystemClock.now());
    assert!(kept > Duration::from_secs(14 * 24 * 3600), "as long as a queue keeps the dead letter: {kept:?}");
    // Redriven as another message of the queue. It fails again before attempt 2, with its step known: it is not stored again.
    assert!(hand_over(&worker, vec![with_id("b", "order", two_steps())]).await.is_empty());
    let item = runs.item("order");
    assert_eq!((item.state, saved(&item)), (ItemState::Dead, vec![("one", "1", 1)]));
    assert_eq!(item.steps[0].saved, dead.steps[0].saved);
}

#[tokio::test]
async fn a_step_that_cannot_be_stored_costs_no_attempt() {
    let (worker, queue, runs, _folder) = remembering(Settings { max_attempts: 1, ..at_once() });
    runs.at_step(AtStep::Broken);
    let message = || {
        with_id("a", "order", json!({"verb": "steps", "calls": [{"step": ["one", "http://127.0.0.1:1/"]}]}))
    };
    // The request fails first: the host does not allow it. That is the task's own fault.
    assert!(hand_over(&worker, vec![message()]).await.is_empty());
    assert_eq!(queue.told()[0].kind, Some(FailureKind::Retry));

    let steps =
        json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}, {"retry-before": 9}]});
    assert!(hand_over(&worker, vec![with_id("b", "other", steps.clone())]).await.contains("b"));
    let told = &queue.told()[1];
    assert_eq!(told.kind, Some(FailureKind::Unavailable));
    assert!(
        told.message.contains(r#"step "one" could not be stored: the table of runs"#),
        "{}",
        told.message
    );
    let item = runs.item("other");
    assert_eq!((item.state, item.attempts, saved(&item)), (ItemState::Waiting, 0, vec![]));
    runs.at_step(AtStep::Nothing);
    assert!(hand_over(&worker, vec![with_id("b", "other", steps)]).await.is_empty());
    assert_eq!((runs.item("other").state, runs.item("other").attempts), (ItemState::Dead, 1));
}

#[tokio::test]
async fn a_run_whose_message_was_taken_over_ends_at_its_next_step() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    runs.at_step(AtStep::TakenOver);
    let steps = json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}, "spin"]});
    let mut message = with_id("a", "order", steps);
    message.lease_until = SystemClock.now().plus(Duration::from_secs(600));
    assert!(hand_over(&worker, vec![message]).await.contains("a"));
    assert_eq!(queue.calls(), [""; 0], "nothing follows from it");
    let item = runs.item("order");
    assert_eq!(
        (item.owner.as_deref(), item.state, saved(&item)),
        (Some("somebody"), ItemState::Running, vec![])
    );
}

#[tokio::test]
async fn a_step_is_stored_beside_the_mark_of_a_cancel() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    runs.at_step(AtStep::Cancelled);
    let steps = json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}, "spin"]});
    assert!(hand_over(&worker, vec![with_id("a", "order", steps)]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a"]);
    let item = runs.item("order");
    assert_eq!((item.state, saved(&item)), (ItemState::Cancelled, vec![("one", "1", 1)]));
}

#[tokio::test]
async fn a_cancel_that_a_step_was_stored_beside_takes_effect_when_the_run_fails() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    runs.at_step(AtStep::CancelledUnseen);
    let steps =
        json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}, {"retry-before": 2}]});
    assert!(hand_over(&worker, vec![with_id("a", "order", steps)]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a"], "it does not come again");
    assert_eq!(runs.item("order").state, ItemState::Cancelled);
}

#[tokio::test]
async fn a_step_whose_answer_was_lost_is_stored_once() {
    let (worker, _, runs, _folder) = remembering(at_once());
    runs.at_step(AtStep::Unanswered);
    let steps = json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}, {"load": "two"}, {"save": ["two", "2"]}]});
    assert!(hand_over(&worker, vec![with_id("a", "order", steps)]).await.is_empty());
    let item = runs.item("order");
    assert_eq!((item.state, saved(&item)), (ItemState::Done, vec![("one", "1", 1), ("two", "2", 1)]));
}

/// The run ends while its step is stored and the answer is still on its way.
#[tokio::test]
async fn a_step_that_was_stored_as_the_time_ended_stays() {
    let settings = Settings { timeout: Duration::from_millis(400), ..at_once() };
    let (worker, _, runs, _folder) = remembering(settings);
    runs.at_step(AtStep::Slow);
    let steps = json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}]});
    assert!(hand_over(&worker, vec![with_id("a", "order", steps.clone())]).await.contains("a"));
    let item = runs.item("order");
    assert_eq!((item.state, item.attempts, saved(&item)), (ItemState::Waiting, 0, vec![("one", "1", 1)]));
    assert!(hand_over(&worker, vec![with_id("a", "order", steps)]).await.is_empty());
    assert_eq!(saved(&runs.item("order")), [("one", "1", 1)]);
}

/// The worker is told to stop while a step is stored, and the answer is still on its way.
#[tokio::test]
async fn a_step_that_was_stored_as_the_worker_stopped_stays() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    runs.at_step(AtStep::Slow);
    let steps = json!({"verb": "steps", "calls": [{"load": "one"}, {"save": ["one", "1"]}]});
    let running = hand_over(&worker, vec![with_id("a", "order", steps)]);
    let stopping = async {
        while runs.items().iter().all(|item| item.steps.is_empty()) {
            runs.written().await;
        }
        worker.stop();
    };
    let (unfinished, ()) = tokio::join!(running, stopping);
    assert!(unfinished.contains("a"));
    assert_eq!(queue.calls(), ["visible a 0"]);
    let item = runs.item("order");
    assert_eq!((item.state, item.attempts, saved(&item)), (ItemState::Waiting, 0, vec![("one", "1", 1)]));
}

#[tokio::test]
async fn without_a_table_a_task_with_steps_waits() {
    let (worker, queue, _folder) = worker(at_once());
    let steps = json!({"verb": "steps", "calls": [{"load": "one"}, {"retry-before": 9}]});
    assert!(hand_over(&worker, vec![with_id("a", "order", steps)]).await.contains("a"));
    let told = &queue.told()[0];
    assert_eq!(told.kind, Some(FailureKind::Unavailable));
    assert!(told.message.contains("`wasq deploy --runs on` adds one"), "{}", told.message);
}
