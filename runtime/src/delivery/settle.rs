//! The last stage: from verdicts to queue calls.
//!
//! The order of the calls is the promise: children before the parent's delete, the dead letter's copy before the
//! original's delete. A crash between two of them can only make a message run twice.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use wasq_protocol::{Clock, DeadLetter, DeadLetterAttributes, Failure, FailureKind, Invoke, Outcome};

use crate::delivery::judge::Judged;
use crate::delivery::record::Recorder;
use crate::lease::Held;
use crate::ports::{Queue, Release, WorkerPorts};
use crate::state::WorkerState;
use crate::verdict::Verdict;

/// A judged delivery on its way to be settled.
pub(crate) struct Settling {
    /// Its index in the batch.
    pub(crate) index: usize,
    pub(crate) judged: Judged,
    pub(crate) held: Held,
}

/// After a child or a dead letter could not be sent, its message is tried again after this.
const SEND_FAILED_WAIT: Duration = Duration::from_secs(5);
/// As many as one batch call of SQS takes.
const BATCH_MAX: usize = 10;

/// Settles a direct invoke: sends the children, and records the run. Its caller gets the outcome.
pub(crate) async fn settle_direct<P: WorkerPorts>(
    worker: &WorkerState<P>,
    mut judged: Judged,
    invoke: &Invoke,
) -> Outcome {
    if !judged.children.is_empty() {
        let children = std::mem::take(&mut judged.children);
        for sent in worker.ports.queue.send(children).await {
            if let Err(e) = sent {
                let why = format!("send a child task: {e:#}");
                judged.outcome = Outcome::Failure(Failure::new(FailureKind::Unavailable, why));
            }
        }
    }
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
    send_children(worker, &mut batch).await;
    send_dead_letters(worker, &mut batch).await;

    let (mut delete, mut deleted) = (Vec::new(), Vec::new());
    let (mut release, mut released) = (Vec::new(), Vec::new());
    for (i, Settling { judged, held, .. }) in batch.iter().enumerate() {
        let Some(delivery) = &judged.facts.delivery else { continue };
        let receipt = delivery.receipt.clone();
        match judged.verdict {
            Verdict::Done | Verdict::DeadLetter => {
                delete.push(receipt);
                deleted.push(i);
            }
            // A success whose children could not be sent. Its lease is over: another worker may have the message.
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

/// Sends the children of every finished message. If one child of a parent cannot be sent, the parent is not finished: it
/// runs again and sends the same ids.
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
    for (parent, result) in parents.into_iter().zip(results) {
        if let Err(e) = result {
            put_off(&mut batch[parent].judged, format!("send a child task: {e:#}"));
        }
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
