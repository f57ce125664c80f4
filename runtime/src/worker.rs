//! The worker: answers invokes, one at a time or many, each with one message or a batch.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tokio_util::task::AbortOnDropHandle;
use wasq_protocol::{
    Batch, BatchItemFailure, BatchResponse, Clock, EventError, Invoke, Message, Outcome, Pong, WorkerEvent,
};

use crate::delivery::{
    Delivered, Receiving, Settling, Watch, deliver, deliver_alone, direct, receive, settle_batch,
    settle_direct,
};
use crate::lease::{Held, Leases};
use crate::ports::{Queue, Runner, WorkerParts, WorkerPorts};
use crate::state::{WorkerSettings, WorkerState};
use crate::verdict::Verdict;

/// The part of an invoke's time that is kept for settling.
const END_MARGIN: Duration = Duration::from_secs(2);

/// A worker. Cheap to clone; clones share everything.
pub struct Worker<P: WorkerPorts>(Arc<WorkerState<P>>);

impl<P: WorkerPorts> Clone for Worker<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The answer to an invoke.
#[derive(Debug)]
pub enum Answer {
    /// To a plain message: how its run ended.
    Outcome(Outcome),
    /// To a batch of the consumer.
    Batch {
        /// The SQS ids of the messages that come again.
        unfinished: Vec<String>,
    },
    /// To a batch of an event source mapping.
    EventSource(BatchResponse),
    /// To a ping.
    Pong(Pong),
}

impl<P: WorkerPorts> Worker<P> {
    /// A worker on these ports.
    pub fn new(ports: WorkerParts<P>, settings: WorkerSettings) -> Self {
        Self(Arc::new_cyclic(|this| WorkerState::new(ports, settings, this)))
    }

    /// Answers one invoke.
    pub async fn handle(&self, payload: &str, mut invoke: Invoke) -> Result<Answer, EventError> {
        invoke.ends = invoke.ends.minus(END_MARGIN);
        match WorkerEvent::parse(payload, self.0.ports.clock.now(), self.0.settings.lease)? {
            WorkerEvent::Message(message) => Ok(Answer::Outcome(self.run(message, &invoke).await)),
            WorkerEvent::Batch(batch) => {
                Ok(Answer::Batch { unfinished: self.run_batch(batch, Source::Consumer, &invoke).await })
            }
            WorkerEvent::Ping => Ok(Answer::Pong(Pong {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                fingerprint: self.0.ports.runner.fingerprint().clone(),
                unreachable: Vec::new(),
            })),
            WorkerEvent::EventSource(mut batch) => {
                self.extend_repeated(&mut batch).await;
                let unfinished = self.run_batch(batch, Source::Mapping, &invoke).await;
                let failures = unfinished.into_iter().map(|message_id| BatchItemFailure { message_id });
                Ok(Answer::EventSource(BatchResponse { failures: failures.collect() }))
            }
        }
    }

    /// Deliveries in this worker: running, or waiting for a slot.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight()
    }

    /// Ends every run that is under way, and releases their messages.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// A direct invoke: there is no message to settle.
    async fn run(&self, message: Message, invoke: &Invoke) -> Outcome {
        let (now, instant) = (self.0.ports.clock.now(), Instant::now());
        let (facts, received) = direct(message, invoke.trace_header.clone(), now, instant);
        match deliver(&self.0, facts, Ok(received), invoke.ends).await {
            Delivered::Judged(judged) => settle_direct(&self.0, judged, invoke).await,
            Delivered::MustBeAlone(_) => unreachable!("the caller of a direct invoke watches it"),
        }
    }

    /// Extends the leases of messages of an event source mapping that were received before: nobody says when their leases end. The
    /// worker leaves a message alone if its lease cannot be extended.
    async fn extend_repeated(&self, batch: &mut Batch) {
        let mut repeated: Vec<_> =
            batch.deliveries.iter_mut().filter(|delivery| delivery.receive_count > 1).collect();
        if repeated.is_empty() {
            return;
        }
        let lease = self.0.settings.lease;
        let until = self.0.ports.clock.now().plus(lease);
        let receipts = repeated.iter().map(|delivery| delivery.receipt.clone()).collect();
        // The others of the batch wait for this, and their leases run.
        let Ok(extended) = timeout(lease / 4, self.0.ports.queue.extend(receipts, lease)).await else {
            tracing::warn!("{} messages are left alone: the queue does not answer", repeated.len());
            return;
        };
        for (delivery, extended) in repeated.iter_mut().zip(extended) {
            match extended {
                Ok(()) => delivery.lease_until = until,
                Err(e) => {
                    let message_id = &delivery.message_id;
                    tracing::warn!(message_id, "its lease cannot be extended: {e:#}");
                }
            }
        }
    }

    /// Runs and settles a batch, each delivery on its own: none can fail another. Returns the SQS ids of the messages that
    /// come again.
    async fn run_batch(&self, batch: Batch, source: Source, invoke: &Invoke) -> Vec<String> {
        let ids: Vec<String> = batch.deliveries.iter().map(|d| d.message_id.clone()).collect();
        let (now, instant) = (self.0.ports.clock.now(), Instant::now());
        let mut leases = Leases::new(self.0.settings.lease, batch.deliveries.len(), now, instant);
        let alone = ids.len() == 1;
        let watch = match source {
            Source::Consumer => Watch::Watched,
            Source::Mapping => Watch::Unwatched { alone },
        };
        // Only the table of runs knows that a worker may have died of a message.
        let may_be_suspect = source == Source::Mapping && !alone && self.0.ports.runs.is_some();
        let receiving = Receiving { now, instant, has_timer: self.0.ports.timer.is_some() };
        let mut received = Vec::with_capacity(batch.deliveries.len());
        for (index, delivery) in batch.deliveries.into_iter().enumerate() {
            let message_id = &ids[index];
            let (receipt, until) = (delivery.receipt.clone(), delivery.lease_until);
            match receive(delivery, receiving) {
                Some((mut facts, message)) => {
                    facts.watch = watch;
                    leases.hold(index, receipt, until, facts.span.clone());
                    received.push((index, facts, message));
                }
                None => tracing::warn!(message_id, "left alone: its lease is over or nearly so"),
            }
        }
        let leases = Arc::new(leases);
        let (sender, judged) = mpsc::channel(received.len().max(1));
        let places = may_be_suspect.then(|| Places::new(received.len()));
        // All before the first delivery runs: one that must be alone waits for all of them.
        let mut taken = places.as_ref().map(|places| places.take_each()).unwrap_or_default();
        // Tasks of their own, so that they run on every core; they end with this invoke.
        let mut runs = Vec::with_capacity(received.len());
        for (index, facts, message) in received {
            let (leases, sender) = (leases.clone(), sender.clone());
            let (counted, ends) = (Counted::new(self.clone()), invoke.ends);
            let (places, mut place) = (places.clone(), taken.pop());
            runs.push(AbortOnDropHandle::new(tokio::spawn(async move {
                let worker = &counted.0.0;
                let judged = match deliver(worker, facts, message, ends).await {
                    Delivered::Judged(judged) => judged,
                    Delivered::MustBeAlone(facts) => {
                        drop(place.take());
                        let places =
                            places.expect("only the deliveries of an event can be told to run alone");
                        place = Some(places.take_all().await);
                        deliver_alone(worker, facts, ends).await
                    }
                };
                let held = leases.release(index).await;
                // A success is settled even if another worker has the message now. The table of runs knows who has it.
                let claimed = judged.facts.claim().is_some();
                if held == Held::Still || judged.verdict == Verdict::Done || claimed {
                    // The receiver lives until every sender is gone.
                    let _ = sender.send(Settling { index, judged, held, _place: place }).await;
                } else {
                    judged.facts.span.in_scope(|| tracing::warn!("left alone: its lease ran out"));
                }
            })));
        }
        drop(sender);
        let finished = tokio::select! {
            biased;
            finished = settle_batch(&self.0, judged, invoke) => finished,
            () = leases.extend(&self.0.ports.queue) => unreachable!("extending leases never ends"),
        };
        // Every message that is not known to be finished comes again, also that of a delivery whose task panicked.
        let again = ids.into_iter().enumerate().filter(|(index, _)| !finished.contains(index));
        again.map(|(_, id)| id).collect()
    }
}

/// Who has handed a batch over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Consumer,
    /// An event source mapping.
    Mapping,
}

/// The places of an event's deliveries: each has one until it is settled. To run alone is to have all of them.
#[derive(Clone)]
struct Places {
    places: Arc<Semaphore>,
    count: u32,
}

impl Places {
    fn new(count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self { places: Arc::new(Semaphore::new(count as usize)), count }
    }

    /// One place for each delivery.
    fn take_each(&self) -> Vec<OwnedSemaphorePermit> {
        let take = |_| self.places.clone().try_acquire_owned().expect("as many places as deliveries");
        (0..self.count).map(take).collect()
    }

    /// Waits until all other deliveries of the event are settled, or wait themselves.
    async fn take_all(&self) -> OwnedSemaphorePermit {
        self.places.clone().acquire_many_owned(self.count).await.expect("the semaphore is never closed")
    }
}

/// A delivery that counts as in flight for as long as this lives.
struct Counted<P: WorkerPorts>(Worker<P>);

impl<P: WorkerPorts> Counted<P> {
    fn new(worker: Worker<P>) -> Self {
        worker.0.count_in();
        Self(worker)
    }
}

impl<P: WorkerPorts> Drop for Counted<P> {
    fn drop(&mut self) {
        self.0.0.count_out();
    }
}
