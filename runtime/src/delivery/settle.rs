//! The last stage: from verdicts to queue calls.
//!
//! The order of the calls is the promise: the table of runs learns the end before anything follows from it, children are sent
//! before their parent is deleted, and a dead letter before its original is. A crash between two calls can only make a message come
//! again. With the table, a message that has ended does not run again.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use wasq_protocol::{
    Clock, DeadLetter, DeadLetterAttributes, Failure, FailureKind, Invoke, Message, Outcome, RunItem,
};

use crate::delivery::judge::Judged;
use crate::delivery::record::Recorder;
use crate::lease::Held;
use crate::ports::{Delayed, Queue, Release, Timer, WorkerPorts};
use crate::runs::{
    Claim, Committed, Memory, RunEnd, at_end, children_are_sent, commit, end_turns, note_dead, note_delayed,
};
use crate::state::WorkerState;
use crate::verdict::{KEPT_MARGIN, Verdict, judge_not_kept};

/// A judged delivery on its way to be settled.
pub(crate) struct Settling {
    /// Its index in the batch.
    pub(crate) index: usize,
    pub(crate) judged: Judged,
    pub(crate) held: Held,
    /// Its place in its event, until it is settled.
    pub(crate) _place: Option<OwnedSemaphorePermit>,
}

/// After a child or a dead letter could not be sent, its message is tried again after this.
const SEND_FAILED_WAIT: Duration = Duration::from_secs(5);
/// As many as one batch call of SQS takes.
const BATCH_MAX: usize = 10;

/// Settles a direct invoke: sends the children, and records the run. Its caller gets the outcome.
pub(crate) async fn settle_direct<P: WorkerPorts>(
    worker: &WorkerState<P>,
    judged: Judged,
    invoke: &Invoke,
) -> Outcome {
    let mut batch = vec![Settling { index: 0, judged, held: Held::Still, _place: None }];
    let others = commit_ends(worker, &mut batch, invoke).await;
    batch.extend(others.into_iter().map(|(mut settling, failure)| {
        settling.judged.outcome = Outcome::Failure(failure);
        settling.judged.children.clear();
        settling
    }));
    send_children(worker, &mut batch).await;
    let Settling { judged, .. } = batch.remove(0);
    Recorder::new(worker, invoke).record(judged)
}

/// Settles deliveries as they come, in batches of what is there, until the channel closes. Returns the indices of the
/// finished ones; every other message comes again.
pub(crate) async fn settle_batch<P: WorkerPorts>(
    worker: &WorkerState<P>,
    mut judged: mpsc::Receiver<Settling>,
    invoke: &Invoke,
) -> Vec<usize> {
    let mut finished = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while judged.recv_many(&mut batch, BATCH_MAX).await > 0 {
        add_more(&mut judged, &mut batch).await;
        let batch = std::mem::take(&mut batch);
        finished.extend(settle(worker, batch, invoke).await);
    }
    finished
}

/// Gives each run that is ready one turn, and adds those that end in it: short tasks end together, and one call can
/// settle all of them.
async fn add_more(judged: &mut mpsc::Receiver<Settling>, batch: &mut Vec<Settling>) {
    let mut others_had_a_turn = false;
    poll_fn(|context| {
        if !others_had_a_turn {
            others_had_a_turn = true;
            // This task goes to the end of tokio's queue. `yield_now` would wait until that queue is empty, which may take
            // long.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = BATCH_MAX - batch.len();
        let _ = judged.poll_recv_many(context, batch, room);
        Poll::Ready(())
    })
    .await
}

async fn settle<P: WorkerPorts>(
    worker: &WorkerState<P>,
    mut batch: Vec<Settling>,
    invoke: &Invoke,
) -> Vec<usize> {
    commit_ends(worker, &mut batch, invoke).await;
    send_children(worker, &mut batch).await;
    delay(worker, &mut batch).await;
    send_dead_letters(worker, &mut batch).await;

    let (mut delete, mut deleted) = (Vec::new(), Vec::new());
    let (mut release, mut released) = (Vec::new(), Vec::new());
    for (i, Settling { judged, held, .. }) in batch.iter().enumerate() {
        let Some(delivery) = &judged.facts.delivery else { continue };
        let receipt = delivery.receipt.clone();
        match judged.verdict {
            Verdict::Done | Verdict::DeadLetter | Verdict::Cancelled | Verdict::Delay(_) => {
                delete.push(receipt);
                deleted.push(i);
            }
            // Its lease is over: another worker may have the message, or it comes again by itself.
            Verdict::Retry(_) | Verdict::Release(_) if *held == Held::Lost => {}
            Verdict::Retry(after) | Verdict::Release(after) => {
                release.push(Release { receipt, after, ran: judged.facts.digest.is_some() });
                released.push(i);
            }
        }
    }
    if !delete.is_empty() {
        let results = worker.ports.queue.delete(delete).await;
        report("the message could not be deleted, it may run again", &batch, &deleted, results);
    }
    if !release.is_empty() {
        let results = worker.ports.queue.release(release).await;
        report(
            "the message could not be released, it comes again when its lease ends",
            &batch,
            &released,
            results,
        );
    }
    let finished = deleted.into_iter().map(|i| batch[i].index).collect();
    let recorder = Recorder::new(worker, invoke);
    for Settling { judged, .. } in batch {
        recorder.record(judged);
    }
    finished
}

/// Writes the ends of the batch into the table of runs. Takes those deliveries out of the batch and returns them whose message is now
/// another delivery's, or which may not go on without the table, with the reason: nothing may follow from their runs.
async fn commit_ends<P: WorkerPorts>(
    worker: &WorkerState<P>,
    batch: &mut Vec<Settling>,
    invoke: &Invoke,
) -> Vec<(Settling, Failure)> {
    let Some(runs) = &worker.ports.runs else { return Vec::new() };
    let now = worker.ports.clock.now();
    let mut ends = Vec::with_capacity(batch.len());
    let mut indices = Vec::with_capacity(batch.len());
    let mut without_claim = Vec::new();
    for (i, Settling { judged, .. }) in batch.iter_mut().enumerate() {
        let Judged { facts, outcome, verdict, children, .. } = judged;
        match std::mem::take(&mut facts.memory) {
            Memory::Claimed(claim) => {
                let end = RunEnd { outcome, verdict, children, facts, invoke, now };
                ends.push((at_end(&claim, &end), claim));
                indices.push(i);
            }
            Memory::Nothing => without_claim.push(i),
            ended @ Memory::Ended(_) => facts.memory = ended,
        }
    }
    let mut committed = commit(worker, runs, ends).await;
    end_turns(runs, committed.iter_mut().map(|(claim, _)| &mut **claim), now).await;
    let dead = without_claim.into_iter().filter_map(|i| {
        let Judged { facts, outcome, verdict, .. } = &batch[i].judged;
        match outcome {
            Outcome::Failure(failure)
                if *verdict == Verdict::DeadLetter && failure.kind != FailureKind::IdReused =>
            {
                Some((&**facts, failure))
            }
            _ => None,
        }
    });
    note_dead(worker, runs, dead.collect()).await;
    let mut left_alone = Vec::new();
    for (i, (claim, committed)) in indices.into_iter().zip(committed) {
        let Settling { judged, held, .. } = &mut batch[i];
        let span = judged.facts.span.clone();
        let _in_span = span.enter();
        let goes_on = may_go_on(&claim, &committed, judged, *held);
        judged.facts.memory = Memory::Claimed(claim);
        match committed {
            Committed::Yes => {}
            Committed::Cancelled => {
                let why = "it was cancelled while it ran";
                judged.outcome = Outcome::Failure(Failure::new(FailureKind::Cancelled, why));
                judged.verdict = Verdict::Cancelled;
            }
            Committed::Lost if goes_on => {}
            Committed::Lost => {
                let why = "another delivery of this id has taken the run over";
                tracing::warn!("left alone: {why}");
                left_alone.push((i, Failure::new(FailureKind::RunningElsewhere, why)));
            }
            Committed::Unknown(e) if goes_on => {
                tracing::error!("the end of the run is not remembered: {e:#}")
            }
            Committed::Unknown(e) => {
                let why = format!("the end of the run cannot be written into the table of runs: {e:#}");
                tracing::error!("left alone: {why}");
                left_alone.push((i, Failure::new(FailureKind::Unavailable, why)));
            }
        }
    }
    left_alone.into_iter().rev().map(|(i, failure)| (batch.remove(i), failure)).collect()
}

/// Whether a run is settled after this answer of the table.
fn may_go_on(claim: &Claim, committed: &Committed, judged: &Judged, held: Held) -> bool {
    let Judged { verdict, facts, .. } = judged;
    match committed {
        Committed::Yes | Committed::Cancelled => true,
        // Another worker may have the message.
        _ if held == Held::Lost => *verdict == Verdict::Done && !claim.certain,
        // The table did not answer to the claim either: the message ran without it. If it was cancelled, it comes again, and
        // the table learns it then.
        Committed::Lost => !claim.certain && *verdict != Verdict::Cancelled,
        Committed::Unknown(_) => match verdict {
            // It did not run.
            Verdict::Release(_) if !claim.certain => true,
            _ if claim.item.once => false,
            // A result that is nowhere but here is worth another run, if a message is left that can run again.
            Verdict::Done => facts.delivery.is_none() || !claim.item.is_large(),
            Verdict::Cancelled => false,
            Verdict::Retry(_) | Verdict::Release(_) | Verdict::DeadLetter | Verdict::Delay(_) => true,
        },
    }
}

/// Sends the children of every finished message. If one child of a parent cannot be sent, the parent is not finished: it
/// comes again, and the same ids are sent.
async fn send_children<P: WorkerPorts>(worker: &WorkerState<P>, batch: &mut [Settling]) {
    let mut children = Vec::new();
    let mut parents = Vec::new();
    for (i, Settling { judged, .. }) in batch.iter_mut().enumerate() {
        // The children of a failed run are dropped with it.
        if judged.verdict == Verdict::Done {
            parents.extend(std::iter::repeat_n(i, judged.children.len()));
            children.append(&mut judged.children);
        }
    }
    if children.is_empty() {
        return;
    }
    let results = worker.ports.queue.send(children).await;
    let mut sent = parents.clone();
    for (parent, result) in parents.into_iter().zip(results) {
        if let Err(e) = result {
            put_off(&mut batch[parent].judged, format!("send a child task: {e:#}"));
            sent.retain(|other| *other != parent);
        }
    }
    sent.dedup();
    if let Some(runs) = &worker.ports.runs {
        let items: Vec<_> = sent.iter().filter_map(|i| batch[*i].judged.facts.item()).collect();
        children_are_sent(runs, items).await;
    }
}

async fn send_dead_letters<P: WorkerPorts>(worker: &WorkerState<P>, batch: &mut [Settling]) {
    let mut letters = Vec::new();
    let mut indices = Vec::new();
    for (i, Settling { judged, .. }) in batch.iter().enumerate() {
        let facts = &judged.facts;
        if judged.verdict == Verdict::DeadLetter
            && let (Outcome::Failure(failure), Some(delivery)) = (&judged.outcome, &facts.delivery)
        {
            let letter = DeadLetter {
                failure: failure.clone(),
                id: facts.id.clone(),
                task: facts.task.clone(),
                attempts: facts.attempt,
                first_received: delivery.first_received,
                failed: worker.ports.clock.now(),
                digest: facts.digest,
                history: DeadLetterAttributes::read(&delivery.attributes).history,
            };
            letters.push((delivery.clone(), letter));
            indices.push(i);
        }
    }
    if letters.is_empty() {
        return;
    }
    let results = worker.ports.queue.send_dead_letters(letters).await;
    for (i, result) in indices.into_iter().zip(results) {
        if let Err(e) = result {
            put_off(&mut batch[i].judged, format!("send to the dead-letter queue: {e:#}"));
        }
    }
}

/// Hands messages whose time lies far ahead to the timer. It sends them again, so each carries its own id from now on. A message that
/// was cancelled is not kept.
async fn delay<P: WorkerPorts>(worker: &WorkerState<P>, batch: &mut [Settling]) {
    let Some(timer) = &worker.ports.timer else { return };
    let mut delayed = Vec::new();
    for (i, Settling { judged, .. }) in batch.iter().enumerate() {
        let Judged { facts, verdict, .. } = judged;
        if let (Verdict::Delay(at), Some(delivery)) = (verdict, &facts.delivery)
            && let Ok(mut message) = Message::parse(&delivery.body)
        {
            message.id = Some(facts.id.clone());
            message.traceparent = message.traceparent.take().or_else(|| facts.traceparent.clone());
            delayed.push((i, message, *at));
        }
    }
    if delayed.is_empty() {
        return;
    }
    if let Some(runs) = &worker.ports.runs {
        let noted = delayed.iter().map(|(i, message, at)| (&*batch[*i].judged.facts, message, *at)).collect();
        let cancelled = note_delayed(worker, runs, noted).await;
        let is_cancelled = |(i, ..): &mut (usize, _, _)| cancelled.contains(&batch[*i].judged.facts.id);
        let these: Vec<_> = delayed.extract_if(.., is_cancelled).collect();
        for (i, ..) in these {
            let why = "it was cancelled before it ran";
            batch[i].judged.outcome = Outcome::Failure(Failure::new(FailureKind::Cancelled, why));
            batch[i].judged.verdict = Verdict::Cancelled;
        }
    }
    let kept = delayed.iter().map(|(i, message, at)| Delayed {
        name: RunItem::delayed_name(&batch[*i].judged.facts.id, &RunItem::params_digest(message), *at),
        body: message.to_json(),
        group: batch[*i].judged.facts.delivery.as_ref().and_then(|delivery| delivery.group.clone()),
        at: *at,
    });
    // The other messages of the batch wait for this.
    let results = timeout(KEPT_WITHIN, timer.keep(kept.collect())).await;
    let late =
        |_| delayed.iter().map(|_| Err(anyhow!("no answer within {} s", KEPT_WITHIN.as_secs()))).collect();
    let results: Vec<_> = results.unwrap_or_else(late);
    let now = worker.ports.clock.now();
    let kept_for = worker.settings.retention.saturating_sub(KEPT_MARGIN);
    for ((i, _, at), result) in delayed.into_iter().zip(results) {
        let judged = &mut batch[i].judged;
        if let (Err(e), Some(delivery)) = (result, &judged.facts.delivery) {
            let why = format!("keep the message outside of the queue until its not_before: {e:#}");
            judged.facts.span.in_scope(|| tracing::error!("{why}"));
            judged.verdict = judge_not_kept(delivery, at, now, kept_for);
            judged.outcome = Outcome::Failure(Failure::new(FailureKind::Unavailable, why));
        }
    }
}

/// How long the timer may take. It can answer late: to keep a message again changes nothing.
const KEPT_WITHIN: Duration = Duration::from_secs(5);

/// Turns a verdict that could not be carried out into another try.
fn put_off(judged: &mut Judged, why: String) {
    judged.facts.span.in_scope(|| tracing::error!("{why}; the message is tried again"));
    judged.outcome = Outcome::Failure(Failure::new(FailureKind::Unavailable, why));
    judged.verdict = Verdict::Release(SEND_FAILED_WAIT);
}

/// Logs the entries of a batch call that failed, each in the span of its delivery.
fn report(what: &str, batch: &[Settling], indices: &[usize], results: Vec<anyhow::Result<()>>) {
    for (i, result) in indices.iter().zip(results) {
        if let Err(e) = result {
            batch[*i].judged.facts.span.in_scope(|| tracing::warn!("{what}: {e:#}"));
        }
    }
}
