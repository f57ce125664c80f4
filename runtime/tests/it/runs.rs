//! The worker with a table of runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use anyhow::bail;
use tokio::sync::Notify;
use wasq_protocol::{
    Cancelling, FailureKind, ItemState, ItemWrite, Message, Outcome, RunItem, RunOutcome, Then, Timestamp,
    Written,
};
use wasq_runtime::Runs;

use super::settling::at_once;
use super::*;

/// A table in memory. While it is broken, it answers nothing.
#[derive(Clone, Default)]
pub(crate) struct TestRuns {
    table: Arc<Mutex<Table>>,
    asked: Arc<Notify>,
    written: Arc<Notify>,
}

#[derive(Default)]
struct Table {
    items: HashMap<String, RunItem>,
    /// The states that cannot be written.
    broken: Vec<ItemState>,
    /// The fault at the next step of an item.
    at_step: AtStep,
    /// Nobody sees the marks of cancels.
    unseen: bool,
}

/// The fault when a run saves a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AtStep {
    /// It is written.
    #[default]
    Nothing,
    /// The table does not answer.
    Broken,
    /// Another worker has claimed the item.
    TakenOver,
    /// Somebody has asked to cancel the message.
    Cancelled,
    /// The same, and the worker has not looked since.
    CancelledUnseen,
    /// It is written, and the first answer is lost.
    Unanswered,
    /// It is written, and the answer takes a second.
    Slow,
}

impl TestRuns {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("no panic")
    }

    pub(crate) fn at_step(&self, what: AtStep) {
        self.table().at_step = what;
    }

    pub(crate) fn item(&self, id: &str) -> RunItem {
        self.table().items.get(id).cloned().expect("it is remembered")
    }

    pub(crate) fn items(&self) -> Vec<RunItem> {
        self.table().items.values().cloned().collect()
    }

    /// Waits until an item is written.
    pub(crate) async fn written(&self) {
        self.written.notified().await;
    }

    /// Puts an item there that another worker may have written.
    pub(crate) fn has(&self, item: RunItem) {
        self.table().items.insert(item.id.clone(), item);
    }

    fn break_on(&self, states: &[ItemState]) {
        self.table().broken = states.to_vec();
    }

    pub(crate) fn cancel(&self, id: &str) {
        let stored = self.table().items.get(id).cloned();
        match RunItem::cancel(stored.as_ref(), id, "cancel".to_owned(), SystemClock.now()) {
            Cancelling::Write(write) => self.has(write.item),
            Cancelling::Ended(state) => panic!("it is {state}"),
        }
        self.asked.notify_waiters();
    }

    fn put_one(&self, ItemWrite { item, replaces }: ItemWrite) -> Result<Written> {
        let mut table = self.table();
        if table.broken.contains(&item.state) {
            bail!("as told");
        }
        let (mut unanswered, mut table_unseen) = (false, false);
        if item.state == ItemState::Running && !item.steps.is_empty() {
            let at_step = table.at_step;
            if at_step == AtStep::Broken {
                bail!("as told");
            }
            table.at_step = AtStep::Nothing;
            let stored = table.items.get_mut(&item.id).expect("it was claimed");
            match at_step {
                AtStep::TakenOver => {
                    stored.owner = Some("somebody".to_owned());
                    stored.revision = "taken over".to_owned();
                }
                AtStep::Cancelled | AtStep::CancelledUnseen => {
                    table_unseen = at_step == AtStep::CancelledUnseen;
                    stored.cancel = true;
                    stored.revision = "cancelled".to_owned();
                    self.asked.notify_waiters();
                }
                AtStep::Unanswered | AtStep::Slow => unanswered = true,
                AtStep::Nothing | AtStep::Broken => {}
            }
        }
        table.unseen |= table_unseen;
        let stored = table.items.get(&item.id);
        let fits = match (&replaces, stored) {
            (Some(revision), stored) => stored.is_some_and(|stored| stored.revision == *revision),
            (None, stored) => stored.is_none_or(|stored| stored.is_expired(SystemClock.now())),
        };
        if !fits {
            return Ok(Written::Refused(stored.cloned().map(Box::new)));
        }
        table.items.insert(item.id.clone(), item);
        self.written.notify_one();
        if unanswered {
            bail!("as told");
        }
        Ok(Written::Yes)
    }
}

impl Runs for TestRuns {
    const PARAMS_MAX: usize = 100;

    async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        let is_step =
            |write: &ItemWrite| write.item.state == ItemState::Running && !write.item.steps.is_empty();
        let slow = self.table().at_step == AtStep::Slow && writes.iter().any(is_step);
        let written = writes.iter().map(|write| self.put_one(write.clone())).collect();
        if slow {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        written
    }

    async fn cancelled(&self, id: &str, owner: &str) {
        loop {
            let asked = self.asked.notified();
            let table_says = {
                let table = self.table();
                !table.unseen && table.items.get(id).is_some_and(|item| item.is_to_be_cancelled(owner))
            };
            if table_says {
                return;
            }
            asked.await;
        }
    }
}

pub(crate) fn remembering(settings: Settings) -> (TestWorker, Recorder, TestRuns, tempfile::TempDir) {
    let (worker, queue, folder, runs) =
        worker_with_runs(settings, Duration::ZERO, ByteCount::mib(4096), Some(TestRuns::default()));
    (worker, queue, runs.expect("given"), folder)
}

fn once() -> Settings {
    Settings { once: true, ..Settings::default() }
}

/// A message with an id of its own. Its receipt and the queue's id are `receive`.
pub(crate) fn with_id(receive: &str, id: &str, params: Value) -> Delivery {
    delivery(receive, json!({"task": "verbs", "id": id, "params": params}))
}

fn echo() -> Value {
    json!({"verb": "echo", "value": 12})
}

fn running(id: &str, params: Value, until: Timestamp) -> RunItem {
    let body = json!({"task": "verbs", "id": id, "params": params}).to_string();
    let message = Message::parse(&body).expect("a message");
    let mut item = RunItem::new(id.to_owned(), ItemState::Running, SystemClock.now());
    item.params = Some(RunItem::params_digest(&message));
    item.attempts = 1;
    item.owner = Some("somebody".to_owned());
    item.lease_until = Some(until);
    item.expires = u64::MAX;
    item
}

#[tokio::test]
async fn an_id_that_is_done_does_not_run_again() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    assert!(hand_over(&worker, vec![with_id("a", "order", echo())]).await.is_empty());
    assert!(hand_over(&worker, vec![with_id("b", "order", echo())]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a", "delete b"]);
    let told = queue.told();
    assert!(told[0].digest.is_some() && told[1].digest.is_none(), "one run");
    assert_eq!(
        (told[1].outcome, told[1].message.as_str()),
        (RunOutcome::Success, "done before: not run again")
    );
    let item = runs.item("order");
    assert_eq!((item.state, item.attempts, item.message_id.as_deref()), (ItemState::Done, 1, Some("a")));
    assert_eq!(item.result.map(|result| result.get().to_owned()).as_deref(), Some("12"));
    assert_eq!(item.history.len(), 1);
}

#[tokio::test]
async fn a_direct_invoke_with_an_id_that_is_done_gets_its_result() {
    let (worker, queue, _, _folder) = remembering(Settings::default());
    let event = json!({"task": "verbs", "id": "order", "params": echo()}).to_string();
    let ends = SystemClock.now().plus(Duration::from_secs(60));
    for _ in 0..2 {
        match worker.handle(&event, Invoke::until(ends)).await.expect("a message") {
            wasq_runtime::Answer::Outcome(Outcome::Success { output }) => assert_eq!(output.get(), "12"),
            other => panic!("no success: {other:?}"),
        }
    }
    assert_eq!(queue.told().iter().filter(|told| told.digest.is_some()).count(), 1);
}

#[tokio::test]
async fn an_id_with_other_params_is_a_dead_letter() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    hand_over(&worker, vec![with_id("a", "order", echo())]).await;
    let other = with_id("b", "order", json!({"verb": "echo", "value": 13}));
    assert!(hand_over(&worker, vec![other]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a", "dead b id-reused 1", "delete b"]);
    assert_eq!(runs.item("order").state, ItemState::Done, "the first is as it was");
}

#[tokio::test]
async fn attempts_are_runs_and_not_receives() {
    let (worker, queue, runs, _folder) = remembering(Settings { max_attempts: 2, ..at_once() });
    let mut message = verb("a", json!({"verb": "retry", "reason": "later"}));
    message.receive_count = 9;
    assert!(hand_over(&worker, vec![message.clone()]).await.contains("a"));
    let item = runs.item("a");
    assert_eq!((item.state, item.attempts, item.kind), (ItemState::Retrying, 1, Some(FailureKind::Retry)));
    assert!(hand_over(&worker, vec![message.clone()]).await.is_empty());
    assert_eq!(queue.calls(), ["visible a 0", "dead a retry 2", "delete a"]);
    assert_eq!((runs.item("a").state, runs.item("a").history.len()), (ItemState::Dead, 2));
    // Its delete may have failed: it is not run again.
    assert!(hand_over(&worker, vec![message.clone()]).await.is_empty());
    assert_eq!(queue.told().iter().filter(|told| told.digest.is_some()).count(), 2);
    // A copy was sent before that end: it is a dead letter as well, and is not run.
    let mut copy = with_id("copy", "a", json!({"verb": "retry", "reason": "later"}));
    copy.sent = message.sent;
    assert!(hand_over(&worker, vec![copy]).await.is_empty());
    assert_eq!(queue.calls().last_chunk(), Some(&["dead copy retry 2".to_owned(), "delete copy".to_owned()]));
    assert_eq!((runs.item("a").state, runs.item("a").history.len()), (ItemState::Dead, 2));
    // It was redriven, as a new message.
    let again = with_id("a2", "a", json!({"verb": "retry", "reason": "later"}));
    assert!(hand_over(&worker, vec![again]).await.contains("a2"));
    assert_eq!((runs.item("a").state, runs.item("a").attempts), (ItemState::Retrying, 1));
}

/// An end without a run says nothing about another message with the id, also if that was sent before.
#[tokio::test]
async fn a_message_runs_after_another_with_its_id_was_given_up_without_a_run() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    let other = with_id("other", "order", echo());
    let mut blamed = with_id("a", "order", echo());
    blamed.deaths = 3;
    assert!(hand_over(&worker, vec![blamed]).await.is_empty());
    assert_eq!((runs.item("order").state, runs.item("order").attempts), (ItemState::Dead, 0));
    assert!(hand_over(&worker, vec![other]).await.is_empty());
    assert_eq!(queue.calls().last().map(String::as_str), Some("delete other"));
    assert_eq!((runs.item("order").state, runs.item("order").attempts), (ItemState::Done, 1));
}

#[tokio::test]
async fn a_message_that_was_cancelled_is_not_run() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    runs.cancel("order");
    assert!(hand_over(&worker, vec![with_id("a", "order", echo())]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a"]);
    assert_eq!((queue.told()[0].then, queue.told()[0].digest), (Then::Cancelled, None));
}

#[tokio::test]
async fn a_message_can_be_cancelled_while_it_runs() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    let running = hand_over(&worker, vec![with_id("a", "order", json!({"verb": "sleep", "ms": 20_000}))]);
    let cancelling = async {
        runs.written.notified().await;
        runs.cancel("order");
    };
    let (unfinished, ()) = tokio::join!(running, cancelling);
    assert!(unfinished.is_empty());
    assert_eq!(queue.calls(), ["delete a"]);
    assert_eq!(runs.item("order").state, ItemState::Cancelled);
}

#[tokio::test]
async fn a_message_that_runs_elsewhere_waits_for_that() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    runs.has(running("order", echo(), SystemClock.now().plus(Duration::from_secs(100))));
    assert!(hand_over(&worker, vec![with_id("a", "order", echo())]).await.contains("a"));
    assert_eq!(queue.calls(), ["visible a 100"]);
    assert_eq!(queue.told()[0].kind, Some(FailureKind::RunningElsewhere));
    // That worker has died.
    runs.has(running("order", echo(), SystemClock.now().minus(Duration::from_secs(1))));
    assert!(hand_over(&worker, vec![with_id("a", "order", echo())]).await.is_empty());
    let item = runs.item("order");
    assert_eq!((item.state, item.attempts, item.cut_off), (ItemState::Done, 1, 1));
}

/// Hands an event of a mapping over. Returns the queue's ids of the messages that come again.
async fn map(worker: &TestWorker, messages: &[(&str, Value)]) -> Vec<String> {
    let now = SystemClock.now();
    let records: Vec<_> = messages
        .iter()
        .map(|(id, params)| {
            json!({
                "messageId": id, "receiptHandle": id, "eventSource": "aws:sqs",
                "body": json!({"task": "verbs", "id": id, "params": params}).to_string(),
                "attributes": {
                    "ApproximateReceiveCount": "1", "ApproximateFirstReceiveTimestamp": now.ms().to_string(),
                    "SentTimestamp": now.ms().to_string(),
                },
            })
        })
        .collect();
    let (event, ends) = (json!({"Records": records}).to_string(), now.plus(Duration::from_secs(60)));
    match worker.handle(&event, Invoke::until(ends)).await.expect("an event") {
        wasq_runtime::Answer::EventSource(answer) => {
            answer.failures.into_iter().map(|failure| failure.message_id).collect()
        }
        other => panic!("not a mapping's answer: {other:?}"),
    }
}

/// A message whose worker may have died of it. Nobody has seen that.
fn cut_off(id: &str) -> RunItem {
    running(id, echo(), SystemClock.now().minus(Duration::from_secs(1)))
}

#[tokio::test]
async fn behind_a_mapping_a_message_that_was_cut_off_runs_after_the_others() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    ["a", "b"].into_iter().for_each(|id| runs.has(cut_off(id)));
    let slow = json!({"verb": "sleep", "ms": 300});
    assert!(map(&worker, &[("a", echo()), ("slow", slow), ("b", echo())]).await.is_empty());
    let calls = queue.calls();
    assert_eq!(calls[0], "delete slow", "{calls:?}");
    assert_eq!(calls.len(), 3, "one after the other: {calls:?}");
    for id in ["a", "b"] {
        let item = runs.item(id);
        assert_eq!((item.state, item.attempts, item.cut_off), (ItemState::Done, 1, 1));
        assert_eq!((item.alone, item.cut_off_alone), (false, 0));
    }
}

#[tokio::test]
async fn behind_a_mapping_a_message_that_is_cut_off_alone_again_and_again_is_a_dead_letter() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    // Its first run had others beside it, and this is the end of its second run alone.
    let killer = RunItem { cut_off: 2, cut_off_alone: 1, alone: true, ..cut_off("killer") };
    runs.has(killer.clone());
    // The table may not have taken its ends.
    runs.has(RunItem { id: "once".to_owned(), once: true, ..killer.clone() });
    // It was cut off beside others.
    runs.has(RunItem { id: "beside".to_owned(), alone: false, ..killer });
    let messages = ["killer", "once", "beside"].map(|id| (id, echo()));
    assert!(map(&worker, &messages).await.is_empty());
    let item = runs.item("killer");
    assert_eq!((item.state, item.kind, item.attempts), (ItemState::Dead, Some(FailureKind::KilledWorker), 1));
    let reason = item.reason.expect("a dead letter has a reason");
    assert!(
        reason.starts_with("its run was cut off 3 times, the last 2 times while it ran alone"),
        "{reason}"
    );
    assert!(queue.calls().contains(&"dead killer killed-worker 1".to_owned()), "{:?}", queue.calls());
    for id in ["once", "beside"] {
        assert_eq!(runs.item(id).state, ItemState::Done);
    }
}

#[tokio::test]
async fn a_run_that_was_taken_over_settles_nothing() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    let running_here = hand_over(&worker, vec![with_id("a", "order", json!({"verb": "sleep", "ms": 300}))]);
    let taking = async {
        runs.written.notified().await;
        let other =
            RunItem { owner: Some("other".to_owned()), revision: "other".to_owned(), ..runs.item("order") };
        runs.has(other);
    };
    let (unfinished, ()) = tokio::join!(running_here, taking);
    assert!(unfinished.contains("a"));
    assert!(queue.calls().is_empty(), "{:?}", queue.calls());
    assert_eq!(runs.item("order").owner.as_deref(), Some("other"));
}

#[tokio::test]
async fn without_its_table_only_a_task_that_says_once_waits() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    runs.break_on(&ItemState::ALL);
    assert!(hand_over(&worker, vec![verb("a", echo())]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a"]);
    let (worker, queue, runs, _folder) = remembering(once());
    runs.break_on(&ItemState::ALL);
    assert!(hand_over(&worker, vec![verb("a", echo())]).await.contains("a"));
    assert_eq!(queue.calls(), ["visible a 5"]);
    assert!(queue.told()[0].digest.is_none(), "it did not run");
}

#[tokio::test]
async fn an_end_that_cannot_be_written_is_made_again_if_the_task_says_once() {
    let (worker, queue, runs, _folder) = remembering(once());
    runs.break_on(&[ItemState::Done]);
    assert!(hand_over(&worker, vec![verb("a", echo())]).await.contains("a"));
    assert!(queue.calls().is_empty(), "its lease ends by itself: {:?}", queue.calls());
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    runs.break_on(&[ItemState::Done]);
    assert!(hand_over(&worker, vec![verb("a", echo())]).await.is_empty());
    assert_eq!(queue.calls(), ["delete a"]);
}

#[tokio::test]
async fn a_large_result_that_cannot_be_stored_is_made_again() {
    for (bytes, unfinished) in [(100_000, false), (310_000, true)] {
        let (worker, queue, runs, _folder) = remembering(Settings::default());
        runs.break_on(&[ItemState::Done]);
        let result = json!({"verb": "echo", "value": "x".repeat(bytes)});
        assert_eq!(hand_over(&worker, vec![verb("a", result)]).await.contains("a"), unfinished);
        // Otherwise its lease ends by itself.
        assert_eq!(queue.calls(), if unfinished { vec![] } else { vec!["delete a"] });
    }
}

#[tokio::test]
async fn children_that_may_not_have_been_sent_are_sent_without_a_run() {
    let (worker, queue, runs, _folder) = remembering(Settings::default());
    let parent =
        || with_id("a", "order", json!({"verb": "enqueue", "task": "verbs", "count": 2, "fail": false}));
    queue.break_on("send");
    assert!(hand_over(&worker, vec![parent()]).await.contains("a"));
    assert_eq!((runs.item("order").state, runs.item("order").unsent.len()), (ItemState::Done, 2));
    queue.0.lock().expect("no panic").broken.clear();
    assert!(hand_over(&worker, vec![parent()]).await.is_empty());
    let ids =
        |children: &[Child]| children.iter().filter_map(|child| child.message.id.clone()).collect::<Vec<_>>();
    let children = queue.children();
    assert_eq!(ids(&children[..2]), ids(&children[2..]), "the same children");
    assert_eq!(queue.told().iter().filter(|told| told.digest.is_some()).count(), 1, "one run");
    let item = runs.item("order");
    assert_eq!((item.unsent.len(), item.children.len(), item.children_count), (0, 2, 2));
}

#[tokio::test]
async fn a_message_that_is_given_up_without_a_run_is_remembered() {
    let (worker, _, runs, _folder) = remembering(Settings::default());
    hand_over(&worker, vec![delivery("a", json!("no message"))]).await;
    let item = runs.item("a");
    assert_eq!((item.state, item.kind, item.attempts), (ItemState::Dead, Some(FailureKind::Malformed), 0));
}

#[tokio::test]
async fn a_task_that_says_once_waits_if_there_is_no_table() {
    let (worker, queue, _folder) = worker(once());
    assert!(hand_over(&worker, vec![verb("a", echo())]).await.contains("a"));
    assert_eq!(queue.calls(), ["visible a 5"]);
    assert!(queue.told()[0].message.contains("wasq deploy --runs on"), "{}", queue.told()[0].message);
}

#[tokio::test]
async fn a_dead_letter_without_a_run_leaves_the_item_of_another_message() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    let retried = || with_id("a", "order", json!({"verb": "retry", "reason": "later"}));
    hand_over(&worker, vec![retried()]).await;
    let mut stranger = delivery("b", json!({"task": "missing", "id": "order"}));
    stranger.first_received = SystemClock.now().minus(Duration::from_secs(61));
    assert!(hand_over(&worker, vec![stranger]).await.is_empty());
    assert_eq!((runs.item("order").state, runs.item("order").attempts), (ItemState::Retrying, 1));
    hand_over(&worker, vec![retried()]).await;
    assert_eq!(runs.item("order").attempts, 2);
    assert_eq!(queue.calls(), ["visible a 0", "dead b unknown-task 1", "delete b", "visible a 0"]);
}

#[tokio::test]
async fn a_cancel_of_an_earlier_run_does_not_end_a_later_one() {
    let (worker, queue, runs, _folder) = remembering(at_once());
    let params = json!({"verb": "sleep", "ms": 100});
    let mut dead = running("order", params.clone(), SystemClock.now());
    (dead.state, dead.cancel, dead.message_id) = (ItemState::Dead, true, Some("before".to_owned()));
    runs.has(dead);
    assert!(hand_over(&worker, vec![with_id("a", "order", params)]).await.is_empty());
    assert_eq!((queue.calls(), runs.item("order").state), (vec!["delete a".to_owned()], ItemState::Done));
}
