//! From verdicts to queue calls.
//!
//! The order of the calls is the promise: children before the parent's delete, the dead letter's copy before the
//! original's delete. A crash between two of them can only make a message run twice.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::mpsc;
use wasq_protocol::{
    Clock, DeadLetter, DeadLetterAttributes, Delivery, Failure, FailureKind, Invoke, Outcome,
};

use crate::attempt::Attempt;
use crate::lease::Held;
use crate::ports::{Ports, Queue, Visibility};
use crate::record::{Origin, Teller};
use crate::verdict::Verdict;
use crate::worker::Inner;

/// A delivery whose fate is decided.
pub(crate) struct Decided {
    /// Its index in the batch that it came in.
    pub(crate) index: usize,
    pub(crate) delivery: Delivery,
    pub(crate) attempt: Attempt,
    pub(crate) held: Held,
}

/// After a child or a dead letter could not be sent, its message is tried again after this.
const SEND_FAILED_WAIT: Duration = Duration::from_secs(5);
/// As many as one batch call of SQS takes.
const BATCH_MAX: usize = 10;

/// Acknowledges deliveries as they come, in batches of what is there, until the channel closes. Returns the indices of
/// those that are finished; every other message comes again.
pub(crate) async fn acknowledge<P: Ports>(
    worker: &Inner<P>,
    mut decided: mpsc::Receiver<Decided>,
    invoke: &Invoke,
) -> Vec<usize> {
    let mut finished = Vec::new();
    let mut batch = Vec::with_capacity(BATCH_MAX);
    while decided.recv_many(&mut batch, BATCH_MAX).await > 0 {
        add_what_ends_now(&mut decided, &mut batch).await;
        let batch = std::mem::take(&mut batch);
        finished.extend(acknowledge_batch(worker, batch, invoke).await);
    }
    finished
}

/// Short tasks end together, and one call can acknowledge all of them: gives each that is ready to run one turn, and adds what
/// has ended then.
async fn add_what_ends_now(decided: &mut mpsc::Receiver<Decided>, batch: &mut Vec<Decided>) {
    let mut had_their_turn = false;
    poll_fn(|context| {
        if !had_their_turn {
            had_their_turn = true;
            // To the end of the queue of what is ready. Tokio's own yield waits until that is empty, which may take long.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let room = BATCH_MAX - batch.len();
        let _ = decided.poll_recv_many(context, batch, room);
        Poll::Ready(())
    })
    .await
}

async fn acknowledge_batch<P: Ports>(
    worker: &Inner<P>,
    mut batch: Vec<Decided>,
    invoke: &Invoke,
) -> Vec<usize> {
    send_children(worker, &mut batch).await;
    send_dead_letters(worker, &mut batch).await;

    let mut delete = Vec::new();
    let mut visible = Vec::new();
    let mut done = Vec::new();
    let mut ended = Vec::with_capacity(batch.len());
    for Decided { index, delivery, attempt, held } in batch {
        let Delivery { message_id, receipt, sent, .. } = delivery;
        match attempt.verdict {
            Verdict::Done | Verdict::DeadLetter => {
                delete.push(receipt);
                done.push(index);
            }
            // A success whose children could not be sent, of a message that somebody else may have by now.
            Verdict::Retry(_) | Verdict::GiveBack(_) if held == Held::Lost => {}
            Verdict::Retry(after) | Verdict::GiveBack(after) => {
                visible.push(Visibility { receipt, after, held: false });
            }
        }
        ended.push((Origin { message_id, sent }, attempt));
    }
    if !delete.is_empty() {
        report("delete a finished message, it may run again", worker.ports.queue.delete(delete).await);
    }
    if !visible.is_empty() {
        let results = worker.ports.queue.set_visibility(visible).await;
        report("give a message back, it comes again when its lease ends", results);
    }
    let teller = Teller::new(worker, invoke);
    for (origin, attempt) in ended {
        teller.tell(Some(origin), attempt);
    }
    done
}

/// Sends the children of every finished message. A parent of which one child could not be sent is not finished: it
/// runs again and sends the same ids.
async fn send_children<P: Ports>(worker: &Inner<P>, batch: &mut [Decided]) {
    let mut children = Vec::new();
    let mut parents = Vec::new();
    for (i, decided) in batch.iter_mut().enumerate() {
        let mut sent = std::mem::take(&mut decided.attempt.children);
        if decided.attempt.verdict != Verdict::Done {
            // The children of a run that failed never were.
            sent.clear();
        }
        parents.extend(std::iter::repeat_n(i, sent.len()));
        children.extend(sent);
    }
    if children.is_empty() {
        return;
    }
    let results = worker.ports.queue.send(children).await;
    for (parent, result) in parents.into_iter().zip(results) {
        if let Err(e) = result {
            put_off(&mut batch[parent].attempt, format!("send a child task: {e:#}"));
        }
    }
}

async fn send_dead_letters<P: Ports>(worker: &Inner<P>, batch: &mut [Decided]) {
    let mut letters = Vec::new();
    let mut places = Vec::new();
    for (i, Decided { delivery, attempt, .. }) in batch.iter().enumerate() {
        if attempt.verdict == Verdict::DeadLetter
            && let Outcome::Failure(failure) = &attempt.outcome
        {
            let letter = DeadLetter {
                failure: failure.clone(),
                id: attempt.id.clone(),
                task: attempt.task.clone(),
                attempts: attempt.attempt,
                first_received: delivery.first_received,
                failed: worker.ports.clock.now(),
                digest: attempt.digest,
                history: DeadLetterAttributes::read(&delivery.attributes).history,
            };
            letters.push((delivery.clone(), letter));
            places.push(i);
        }
    }
    if letters.is_empty() {
        return;
    }
    let results = worker.ports.queue.send_dead_letters(letters).await;
    for (i, result) in places.into_iter().zip(results) {
        if let Err(e) = result {
            put_off(&mut batch[i].attempt, format!("send to the dead-letter queue: {e:#}"));
        }
    }
}

/// Turns a verdict that could not be carried out into another try.
fn put_off(attempt: &mut Attempt, why: String) {
    tracing::error!(id = attempt.id, "{why}; the message is tried again");
    attempt.outcome = Outcome::Failure(Failure::new(FailureKind::Unavailable, why));
    attempt.verdict = Verdict::GiveBack(SEND_FAILED_WAIT);
}

fn report(what: &str, results: Vec<anyhow::Result<()>>) {
    for error in results.into_iter().filter_map(Result::err) {
        tracing::warn!("could not {what}: {error:#}");
    }
}
