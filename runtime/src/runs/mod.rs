//! The memory of runs. A worker claims the item of a message before it runs the message, and writes the end into it. All rules of the
//! table are here: the adapters only compare a revision and write.

mod notes;
mod turns;

use std::time::Duration;

use anyhow::{Result, anyhow};
use wasq_engine::{Child, NotStored};
use wasq_protocol::{
    AttemptEnd, ChildRef, Clock, DEATHS_MAX, Digest, Failure, FailureKind, Invoke, ItemState, ItemWrite,
    Message, Outcome, RunItem, Settings, Step, Timestamp, UnsentChild, Written,
};

use crate::delivery::{Facts, Watch};
use crate::ports::{Runs, WorkerPorts};
use crate::state::WorkerState;
use crate::verdict::Verdict;

pub(crate) use notes::{note_dead, note_delayed};
pub(crate) use turns::{end_turns, take_turn};

/// The memory of a delivery's message.
#[derive(Debug, Default)]
pub(crate) enum Memory {
    /// Nothing: there is no table, or the delivery did not get as far as a claim.
    #[default]
    Nothing,
    /// This delivery runs the message.
    Claimed(Box<Claim>),
    /// The message has ended before. This delivery does not run it.
    Ended(Box<RunItem>),
}

/// A claimed item.
#[derive(Debug)]
pub(crate) struct Claim {
    /// The item as it was written last.
    pub(crate) item: RunItem,
    /// How long the end is kept.
    pub(crate) keep: Duration,
    /// Whether the table has answered. If not, the item may be another delivery's.
    pub(crate) certain: bool,
    /// Another delivery has claimed the message since.
    pub(crate) lost: bool,
    /// The turn of its schedule, if it has taken one.
    pub(crate) turn: Option<RunItem>,
}

impl Claim {
    /// How long a run may take that begins at this time: its end must be written before another worker may claim the message.
    pub(crate) fn lasts_from(&self, begins: Timestamp) -> Duration {
        let until = self.item.lease_until.unwrap_or(begins);
        until.since(begins).saturating_sub(COMMIT_MARGIN)
    }
}

/// The time in which a run can be prepared, and that in which its end can be written. Then another worker may claim the message.
const PREPARE_MARGIN: Duration = Duration::from_secs(30);
const COMMIT_MARGIN: Duration = Duration::from_secs(20);
/// A call of the table that takes longer counts as failed.
const ANSWER_TIME: Duration = Duration::from_secs(2);
/// The pause before a call that failed is made again, once. The worker has little time when a run has ended.
const PAUSE: Duration = Duration::from_millis(100);
/// How often an item that others write at the same time is tried.
const ROUNDS: usize = 10;

/// The decision on a stored item.
#[derive(Debug)]
enum Claiming {
    /// The message may run: this item replaces the stored one.
    Take(Box<RunItem>),
    /// Its worker died after somebody had cancelled it: this item replaces the stored one.
    Cancel(Box<RunItem>),
    /// It has ended.
    Ended,
    /// It is running until then.
    Elsewhere(Timestamp),
    /// The stored item is of another message.
    Reused,
}

/// The answer to a claim.
pub(crate) enum Claimed {
    /// The message may run.
    Yes,
    /// The message has ended before.
    Ended(Box<RunItem>),
    /// Nobody knows how its last run ended, and nobody would see the end of the next one either. So it must not run beside others.
    MustBeAlone,
}

/// Claims the item of a message for a run by these settings. Without an answer of the table, the message runs without it,
/// unless its task says `once`.
pub(crate) async fn claim<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &mut Facts,
    message: &Message,
    settings: &Settings,
    now: Timestamp,
) -> Result<Claimed, Failure> {
    let Some(runs) = &worker.ports.runs else {
        if settings.once {
            let why =
                "the task says once, and this worker has no table of runs: `wasq deploy --runs on` adds one";
            return Err(Failure::new(FailureKind::Unavailable, why));
        }
        return Ok(Claimed::Yes);
    };
    // A message whose delete failed comes again when its lease ends: until then its end must be known.
    let keep = settings.keep.max(worker.settings.lease * 2);
    let fresh = fresh(worker, facts, message, settings, now);
    let died = facts.delivery.as_ref().is_some_and(|delivery| delivery.deaths > 0);
    let (mut item, mut replaces) = (fresh.clone(), None);
    for _ in 0..ROUNDS {
        item.revision = revision();
        // Before the call: if this delivery is ended during it, the claim may have been made.
        facts.memory = Memory::Claimed(Box::new(Claim {
            item: item.clone(),
            keep,
            certain: false,
            lost: false,
            turn: None,
        }));
        let write = ItemWrite { item, replaces: replaces.take() };
        let stored = match put(runs, &[write]).await.remove(0) {
            Ok(Written::Yes) => return taken(facts),
            // It was deleted meanwhile.
            Ok(Written::Refused(None)) => {
                item = fresh.clone();
                continue;
            }
            Ok(Written::Refused(Some(stored))) => stored,
            Ok(Written::Unreadable(why)) => {
                facts.memory = Memory::Nothing;
                let why = format!("its item in the table of runs cannot be read: {why}");
                return Err(Failure::new(FailureKind::Unavailable, why));
            }
            Err(e) if settings.once => {
                let why = format!("the table of runs does not answer, and the task says once: {e:#}");
                return Err(Failure::new(FailureKind::Unavailable, why));
            }
            Err(e) => {
                tracing::error!("the run is not remembered, the table of runs does not answer: {e:#}");
                return Ok(Claimed::Yes);
            }
        };
        if let Memory::Claimed(claim) = &facts.memory
            && claim.item.revision == stored.revision
        {
            // An earlier call has made it, and its answer was lost.
            return taken(facts);
        }
        facts.memory = Memory::Nothing;
        item = match decide(&stored, &fresh, died, now) {
            Claiming::Take(item)
                if facts.watch == (Watch::Unwatched { alone: false }) && may_kill(&stored, &item) =>
            {
                return Ok(Claimed::MustBeAlone);
            }
            Claiming::Take(item) => *item,
            Claiming::Cancel(mut cancelled) => {
                cancelled.revision = revision();
                cancelled.keep_for(keep, now);
                let write = ItemWrite { item: (*cancelled).clone(), replaces: Some(stored.revision) };
                return match put(runs, &[write]).await.remove(0) {
                    Ok(Written::Yes) => Ok(Claimed::Ended(cancelled)),
                    _ => Err(crowded()),
                };
            }
            Claiming::Ended => return Ok(Claimed::Ended(stored)),
            Claiming::Elsewhere(until) => return Err(elsewhere(until, now)),
            Claiming::Reused => return Err(reused(&stored)),
        };
        replaces = Some(stored.revision);
    }
    Err(crowded())
}

/// The claim has been made.
fn taken(facts: &mut Facts) -> Result<Claimed, Failure> {
    if let Memory::Claimed(claim) = &mut facts.memory {
        claim.certain = true;
        facts.attempt = claim.item.attempts;
        facts.span.record("attempt", facts.attempt);
        // As where the consumer sees the deaths: only the first run had others beside it.
        let RunItem { cut_off, cut_off_alone, .. } = claim.item;
        if cut_off >= DEATHS_MAX && cut_off_alone >= DEATHS_MAX - 1 {
            let reason = format!(
                "its run was cut off {cut_off} times, the last {cut_off_alone} times while it ran alone: its worker dies of it; the \
                 log of the worker says how"
            );
            return Err(Failure::new(FailureKind::KilledWorker, reason));
        }
    }
    Ok(Claimed::Yes)
}

fn elsewhere(until: Timestamp, now: Timestamp) -> Failure {
    let seconds = until.since(now).as_millis().div_ceil(1000);
    Failure {
        retry_after_seconds: Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1)),
        ..Failure::new(
            FailureKind::RunningElsewhere,
            format!("another delivery of this id is running; its worker has time until {until}"),
        )
    }
}

fn crowded() -> Failure {
    Failure::new(FailureKind::Unavailable, "others write the item of this message at the same time")
}

/// Whether the last worker may have died of a message.
fn may_kill(stored: &RunItem, again: &RunItem) -> bool {
    stored.state == ItemState::Running || again.cut_off_alone > 0
}

fn reused(stored: &RunItem) -> Failure {
    let task = stored.task.as_ref().map_or("no task", |task| task.as_str());
    let state = stored.state;
    Failure::new(
        FailureKind::IdReused,
        format!(
            "a message with this id had another task or other params (task {task}, state {state}); send it with another id"
        ),
    )
}

/// The item of a message that nothing is remembered of.
fn fresh<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &Facts,
    message: &Message,
    settings: &Settings,
    now: Timestamp,
) -> RunItem {
    let mut item = RunItem::new(facts.id.clone(), ItemState::Running, now);
    item.set_message(message, P::Runs::PARAMS_MAX);
    item.message_id = facts.delivery.as_ref().map(|delivery| delivery.message_id.clone());
    item.attempts = 1;
    item.owner = Some(owner(facts));
    item.alone = facts.watch == (Watch::Unwatched { alone: true });
    item.lease_until = Some(now.plus(PREPARE_MARGIN + settings.timeout + COMMIT_MARGIN));
    item.once = settings.once;
    item.parent = message.parent.clone();
    item.root = message.root.clone();
    item.sent = facts.delivery.as_ref().map(|delivery| delivery.sent);
    item.started = Some(now);
    item.keep_for(worker.settings.retention + settings.keep, now);
    item
}

/// Decides on a message whose item is there. `fresh` is the item that it would have otherwise; `died`: the consumer knows that a
/// worker died that had this receive of the message.
fn decide(stored: &RunItem, fresh: &RunItem, died: bool, now: Timestamp) -> Claiming {
    if stored.is_expired(now) {
        return Claiming::Take(Box::new(fresh.clone()));
    }
    if stored.params.is_some() && stored.params != fresh.params {
        return Claiming::Reused;
    }
    // Some of the past stays.
    let again = || RunItem {
        attempts: stored.attempts + 1,
        cut_off: stored.cut_off,
        cut_off_alone: stored.cut_off_alone,
        cancel: stored.cancel,
        history: stored.history.clone(),
        steps: stored.steps.clone(),
        started: stored.started,
        ..fresh.clone()
    };
    match stored.state {
        ItemState::Waiting | ItemState::Retrying => Claiming::Take(Box::new(again())),
        ItemState::Running => match stored.lease_until {
            Some(until) if until > now && !(died && same_receive(stored, fresh)) => {
                Claiming::Elsewhere(until)
            }
            _ if stored.cancel => {
                let mut item = RunItem { cut_off: stored.cut_off + 1, ..stored.clone() };
                end(&mut item, ItemState::Cancelled, now);
                Claiming::Cancel(Box::new(item))
            }
            // The attempt that was cut off is made again.
            _ => Claiming::Take(Box::new(RunItem {
                attempts: stored.attempts.max(1),
                cut_off: stored.cut_off + 1,
                // The table may not have taken the end of a run of a task that says `once`.
                cut_off_alone: stored.cut_off_alone + u32::from(stored.alone && !stored.once),
                ..again()
            })),
        },
        ItemState::Done | ItemState::Cancelled => Claiming::Ended,
        // Its delete or its dead letter may have failed.
        ItemState::Dead if stored.message_id.is_some() && stored.message_id == fresh.message_id => {
            Claiming::Ended
        }
        // It was sent twice: the end of one is that of both.
        ItemState::Dead if is_copy(stored, fresh) => Claiming::Ended,
        // It was redriven, or sent again.
        ItemState::Dead => Claiming::Take(Box::new(RunItem {
            attempts: 1,
            cut_off: 0,
            cut_off_alone: 0,
            cancel: false,
            ..again()
        })),
    }
}

fn end(item: &mut RunItem, state: ItemState, now: Timestamp) {
    item.state = state;
    item.ended = Some(now);
    item.updated = now;
    item.lease_until = None;
    item.next = None;
    item.cancel = false;
}

/// Whether a message is a copy of one that was given up after a run: it has the same params, and was sent before that end.
fn is_copy(stored: &RunItem, fresh: &RunItem) -> bool {
    // A direct invoke has no id of the queue. A message that was given up without a run has no params.
    let was_run = stored.message_id.is_some() && stored.params.is_some() && stored.attempts > 0;
    was_run && fresh.sent.zip(stored.ended).is_some_and(|(sent, ended)| sent < ended)
}

/// Names a delivery: the receive that it belongs to, and chance, because Lambda may repeat an invoke.
fn owner(facts: &Facts) -> String {
    let receipt = facts.delivery.as_ref().map(|delivery| Digest::of(delivery.receipt.as_bytes()).short());
    format!("{}-{}", receipt.unwrap_or_default(), revision())
}

/// Whether two deliveries belong to the same receive of a message.
fn same_receive(one: &RunItem, other: &RunItem) -> bool {
    let receive = |item: &RunItem| {
        let owner = item.owner.as_ref()?;
        owner.split_once('-').map(|(receive, _)| receive.to_owned()).filter(|receive| !receive.is_empty())
    };
    receive(one).is_some_and(|receive_of_one| Some(receive_of_one) == receive(other))
}

/// A token that no other write has.
fn revision() -> String {
    format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..))
}

/// Whether the stored item is that of this claim, which somebody has changed meanwhile.
fn is_ours(stored: &RunItem, claim: &Claim) -> bool {
    stored.owner == claim.item.owner && stored.state == ItemState::Running
}

/// Adds a step to the item of a claim, before the run goes on.
pub(crate) async fn save_step<R: Runs>(runs: &R, claim: &mut Claim, step: Step) -> Result<(), NotStored> {
    for _ in 0..ROUNDS {
        let mut item = RunItem { revision: revision(), updated: step.saved, ..claim.item.clone() };
        item.add_step(step.clone());
        let write = ItemWrite { item: item.clone(), replaces: Some(claim.item.revision.clone()) };
        match put(runs, &[write]).await.remove(0) {
            Ok(Written::Yes) => claim.item = item,
            Ok(Written::Refused(Some(stored))) if stored.revision == item.revision => claim.item = item,
            // Somebody has asked to cancel it.
            Ok(Written::Refused(Some(stored))) if is_ours(&stored, claim) => {
                claim.item = *stored;
                continue;
            }
            Ok(Written::Refused(_) | Written::Unreadable(_)) => {
                claim.lost = true;
                return Err(NotStored::Lost);
            }
            Err(e) => {
                return Err(NotStored::Unavailable(format!("the table of runs does not answer: {e:#}")));
            }
        }
        return Ok(());
    }
    Err(NotStored::Unavailable("others write the item of this message at the same time".to_owned()))
}

/// How a run is settled, for its item.
pub(crate) struct RunEnd<'a> {
    pub(crate) outcome: &'a Outcome,
    pub(crate) verdict: &'a Verdict,
    pub(crate) children: &'a [Child],
    pub(crate) facts: &'a Facts,
    pub(crate) invoke: &'a Invoke,
    pub(crate) now: Timestamp,
}

/// The item of a claimed message at the end of its run.
pub(crate) fn at_end(claim: &Claim, run: &RunEnd<'_>) -> RunItem {
    let RunEnd { outcome, verdict, children, facts, invoke, now } = run;
    let mut item = RunItem { revision: revision(), ..claim.item.clone() };
    item.updated = *now;
    item.lease_until = None;
    item.module = facts.digest.or(item.module);
    let failure = match outcome {
        Outcome::Success { .. } => None,
        Outcome::Failure(failure) => Some(failure),
    };
    (item.kind, item.reason) = (None, None);
    if let Some(failure) = failure {
        item.set_failure(failure.kind, &failure.message);
    }
    item.alone = false;
    if facts.digest.is_some() {
        item.cut_off_alone = 0;
        item.add_attempt(AttemptEnd {
            attempt: facts.attempt,
            ended: *now,
            run_ms: facts.usage.run.as_micros() as f64 / 1000.0,
            peak_memory_bytes: facts.usage.peak_memory,
            kind: failure.map(|failure| failure.kind),
            reason: failure.map(|failure| failure.message.clone()),
            module: facts.digest,
            request_id: invoke.request_id.clone(),
        });
    }
    match verdict {
        // A direct invoke that fails leaves no message.
        Verdict::Done if failure.is_some() => end(&mut item, ItemState::Dead, *now),
        Verdict::Done => {
            end(&mut item, ItemState::Done, *now);
            if let Outcome::Success { output } = outcome {
                item.result = Some(output.clone());
            }
            item.set_children(children.iter().map(unsent).collect());
        }
        Verdict::DeadLetter => end(&mut item, ItemState::Dead, *now),
        Verdict::Cancelled => {
            if facts.digest.is_none() {
                item.attempts = item.attempts.saturating_sub(1);
            }
            end(&mut item, ItemState::Cancelled, *now);
        }
        Verdict::Retry(after) => {
            item.state = ItemState::Retrying;
            item.next = Some(now.plus(*after));
        }
        Verdict::Release(after) => {
            // It does not count: there was no run, or one that the worker ended.
            item.state = ItemState::Waiting;
            item.attempts = item.attempts.saturating_sub(1);
            item.next = Some(now.plus(*after));
        }
        Verdict::Delay(at) => {
            item.state = ItemState::Waiting;
            item.attempts = item.attempts.saturating_sub(1);
            item.next = Some(*at);
        }
    }
    if item.state.is_end() {
        // Another message with this id may wait for the lease of this claim.
        let waited = claim.item.lease_until.map(|until| until.since(*now)).unwrap_or_default();
        // A dead letter that is redriven goes on after its steps.
        let redriven = item.state == ItemState::Dead && !item.steps.is_empty();
        let keep = if redriven { claim.keep.max(RunItem::LONGEST_IN_QUEUES) } else { claim.keep };
        item.keep_for(keep + waited, *now);
    }
    item
}

/// The answer to a commit.
pub(crate) enum Committed {
    /// The item says what this delivery wrote.
    Yes,
    /// Another delivery has the message.
    Lost,
    /// Somebody cancelled the message while it ran, and it would come again: it is written as cancelled.
    Cancelled,
    /// Nobody knows.
    Unknown(anyhow::Error),
}

/// Writes the ends of runs, each over its claim. Returns the claims, with the items that were to be written.
pub(crate) async fn commit<P: WorkerPorts>(
    worker: &WorkerState<P>,
    runs: &P::Runs,
    mut ends: Vec<(RunItem, Box<Claim>)>,
) -> Vec<(Box<Claim>, Committed)> {
    let now = worker.ports.clock.now();
    let mut committed: Vec<Option<Committed>> =
        ends.iter().map(|(_, claim)| claim.lost.then_some(Committed::Lost)).collect();
    for (item, claim) in &mut ends {
        // A step was saved beside the mark.
        end_if_cancelled(item, claim, now);
    }
    for _ in 0..ROUNDS {
        let open: Vec<usize> = (0..ends.len()).filter(|i| committed[*i].is_none()).collect();
        if open.is_empty() {
            break;
        }
        let write = |i: &usize| {
            let (item, claim) = &ends[*i];
            ItemWrite { item: item.clone(), replaces: Some(claim.item.revision.clone()) }
        };
        let writes: Vec<ItemWrite> = open.iter().map(write).collect();
        let results = put(runs, &writes).await;
        for (i, result) in open.into_iter().zip(results) {
            let (item, claim) = &mut ends[i];
            let written =
                if item.state == ItemState::Cancelled { Committed::Cancelled } else { Committed::Yes };
            committed[i] = match result {
                Ok(Written::Yes) => Some(written),
                Ok(Written::Refused(Some(stored))) if stored.revision == item.revision => Some(written),
                // Somebody has asked to cancel it, or the run saved a step as it ended: the claim is still ours.
                Ok(Written::Refused(Some(stored))) if is_ours(&stored, claim) => {
                    item.steps.clone_from(&stored.steps);
                    claim.item = *stored;
                    end_if_cancelled(item, claim, worker.ports.clock.now());
                    None
                }
                Ok(Written::Refused(_) | Written::Unreadable(_)) => Some(Committed::Lost),
                Err(e) => Some(Committed::Unknown(e)),
            };
        }
    }
    let written = ends.into_iter().zip(committed).map(|((item, mut claim), committed)| {
        let crowded = || Committed::Unknown(anyhow!("others write it at the same time"));
        // Also if it is not written: what follows is decided by what was to be written.
        claim.item = item;
        (claim, committed.unwrap_or_else(crowded))
    });
    written.collect()
}

/// Ends a message that would come again, if somebody has asked to cancel it.
fn end_if_cancelled(item: &mut RunItem, claim: &Claim, now: Timestamp) {
    if claim.item.cancel && !item.state.is_end() {
        end(item, ItemState::Cancelled, now);
        item.keep_for(claim.keep, now);
    }
}

/// Notes that all children of ended messages are sent. If that fails, they are sent again when the message comes again.
pub(crate) async fn children_are_sent<R: Runs>(runs: &R, items: Vec<&RunItem>) {
    let write = |item: &RunItem| ItemWrite {
        item: RunItem { revision: revision(), unsent: Vec::new(), ..item.clone() },
        replaces: Some(item.revision.clone()),
    };
    if items.is_empty() {
        return;
    }
    let writes: Vec<ItemWrite> = items.into_iter().map(write).collect();
    for result in put(runs, &writes).await {
        if let Err(e) = result {
            tracing::warn!("the table of runs does not know that children are sent: {e:#}");
        }
    }
}

/// Writes items. What fails is tried again, with the same revision: a write whose answer was lost is then refused by itself.
async fn put<R: Runs>(runs: &R, writes: &[ItemWrite]) -> Vec<Result<Written>> {
    let mut results = put_once(runs, writes).await;
    let failed: Vec<usize> = (0..writes.len()).filter(|i| results[*i].is_err()).collect();
    if !failed.is_empty() {
        tokio::time::sleep(PAUSE).await;
        let again: Vec<ItemWrite> = failed.iter().map(|i| writes[*i].clone()).collect();
        let again = put_once(runs, &again).await;
        failed.into_iter().zip(again).for_each(|(i, result)| results[i] = result);
    }
    results
}

async fn put_once<R: Runs>(runs: &R, writes: &[ItemWrite]) -> Vec<Result<Written>> {
    let count = writes.len();
    let answered = tokio::time::timeout(ANSWER_TIME, runs.put(writes)).await;
    let late = |_| (0..count).map(|_| Err(anyhow!("no answer within {} s", ANSWER_TIME.as_secs()))).collect();
    answered.unwrap_or_else(late)
}

fn unsent(child: &Child) -> (ChildRef, UnsentChild) {
    let Child { message, delay, trace_header, group } = child;
    let id = message.id.clone().unwrap_or_default();
    let unsent = UnsentChild {
        body: message.to_json(),
        delay_seconds: u32::try_from(delay.as_secs()).unwrap_or(u32::MAX),
        group: group.clone(),
        trace_header: trace_header.clone(),
    };
    (ChildRef { id, task: message.task.clone() }, unsent)
}

/// The children of an ended message that may not have been sent.
pub(crate) fn children_of(item: &RunItem) -> Vec<Child> {
    let child = |unsent: &UnsentChild| {
        // The worker wrote it, so it can be read.
        let message = Message::parse(&unsent.body).ok()?;
        Some(Child {
            message,
            delay: Duration::from_secs(unsent.delay_seconds.into()),
            trace_header: unsent.trace_header.clone(),
            group: unsent.group.clone(),
        })
    };
    item.unsent.iter().filter_map(child).collect()
}
