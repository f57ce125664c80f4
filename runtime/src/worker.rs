//! The worker: one invoke at a time or many, each with one message or a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use wasq_protocol::{
    Batch, BatchItemFailure, BatchResponse, ByteCount, Caps, Clock, EventError, Failure, FailureKind, Invoke,
    Message, Outcome, Pong, WorkerEvent,
};

use crate::acknowledge::{Decided, acknowledge};
use crate::attempt::{Attempt, Order, Ran, attempt, run};
use crate::lease::{Held, Leases};
use crate::live::LiveRecords;
use crate::modules::Modules;
use crate::ports::{Parts, Ports, Queue, Runner};
use crate::record::Teller;
use crate::secrets::Secrets;
use crate::verdict::Verdict;

/// A delivery whose lease has less than this left is not begun: it may already be somebody else's.
pub(crate) const LEASE_MARGIN: Duration = Duration::from_secs(1);
/// What the worker keeps of its time for acknowledging.
const END_MARGIN: Duration = Duration::from_secs(2);

/// How a worker works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Tasks that run at once, over all invokes of this process.
    pub concurrency: u32,
    /// What tasks that run at once may be allowed together, by the memory that their settings allow; one alone may have more.
    pub memory: ByteCount,
    /// Modules that are kept loaded.
    pub modules_max: usize,
    /// The machine code of modules that are kept loaded, together.
    pub modules_bytes_max: ByteCount,
    /// How long a live record is believed: a new version runs at the latest after this.
    pub live_ttl: Duration,
    /// How long the value of a secret is believed: a changed one is used at the latest after this.
    pub secret_ttl: Duration,
    /// The queue's visibility timeout: how long each lease lasts.
    pub lease: Duration,
    /// How long the queue keeps a message after its send.
    pub retention: Duration,
    /// What the operator allows any task at most.
    pub caps: Caps,
}

/// A worker. Cheap to clone; clones share everything.
pub struct Worker<P: Ports>(Arc<Inner<P>>);

impl<P: Ports> Clone for Worker<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pub(crate) struct Inner<P: Ports> {
    pub(crate) ports: Parts<P>,
    pub(crate) live: LiveRecords,
    pub(crate) modules: Modules<<P::Runner as Runner>::Module>,
    pub(crate) secrets: Secrets,
    pub(crate) places: Semaphore,
    pub(crate) memory: MemoryBudget,
    pub(crate) settings: Settings,
    /// Deliveries that are being dealt with.
    in_flight: AtomicU64,
    stop: watch::Sender<bool>,
}

/// What an invoke is answered with.
#[derive(Debug)]
pub enum Answer {
    /// A plain message: how its run ended.
    Outcome(Outcome),
    /// A batch of the consumer's: the SQS ids of the messages that come again.
    Batch {
        /// Their SQS ids.
        unfinished: Vec<String>,
    },
    /// A batch of an event source mapping.
    EventSource(BatchResponse),
    /// A ping.
    Pong(Pong),
}

impl<P: Ports> Worker<P> {
    /// A worker on these ports.
    pub fn new(ports: Parts<P>, settings: Settings) -> Self {
        Self(Arc::new(Inner {
            ports,
            live: LiveRecords::new(settings.live_ttl, settings.caps),
            modules: Modules::new(settings.modules_max, settings.modules_bytes_max),
            secrets: Secrets::new(settings.secret_ttl),
            places: Semaphore::new(settings.concurrency as usize),
            memory: MemoryBudget::new(settings.memory),
            settings,
            in_flight: AtomicU64::new(0),
            stop: watch::Sender::new(false),
        }))
    }

    /// Answers one invoke.
    pub async fn handle(&self, payload: &str, mut invoke: Invoke) -> Result<Answer, EventError> {
        invoke.ends = invoke.ends.minus(END_MARGIN);
        match WorkerEvent::parse(payload, self.0.ports.clock.now(), self.0.settings.lease)? {
            WorkerEvent::Message(message) => Ok(Answer::Outcome(self.run(&message, &invoke).await)),
            WorkerEvent::Batch(batch) => {
                Ok(Answer::Batch { unfinished: self.run_batch(batch, &invoke).await })
            }
            WorkerEvent::Ping => Ok(Answer::Pong(Pong {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                fingerprint: self.0.ports.runner.fingerprint().clone(),
            })),
            WorkerEvent::EventSource(batch) => {
                let unfinished = self.run_batch(batch, &invoke).await;
                let failures = unfinished.into_iter().map(|message_id| BatchItemFailure { message_id });
                Ok(Answer::EventSource(BatchResponse { failures: failures.collect() }))
            }
        }
    }

    /// Deliveries that are being dealt with: run, or waiting for their place.
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Ends every run that is under way; their messages are given back.
    pub fn stop(&self) {
        self.0.stop.send_replace(true);
    }

    /// A direct invoke: there is no message to acknowledge, only children to send.
    async fn run(&self, message: &Message, invoke: &Invoke) -> Outcome {
        let worker = &*self.0;
        let id = message
            .id
            .clone()
            .unwrap_or_else(|| format!("direct-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
        let trace_header = invoke.trace_header.as_deref();
        let order = Order {
            message,
            id: &id,
            receive_count: 1,
            first_received: None,
            trace_header,
            now: worker.ports.clock.now(),
            instant: Instant::now(),
            ends: invoke.ends,
        };
        let traceparent = order.traceparent();
        let Ran { mut outcome, attempt, retries: _, children, digest, spent } = run(worker, order).await;
        let ended = Instant::now();
        if matches!(outcome, Outcome::Success { .. }) {
            for sent in worker.ports.queue.send(children).await {
                if let Err(e) = sent {
                    let why = format!("send a child task: {e:#}");
                    outcome = Outcome::Failure(Failure::new(FailureKind::Unavailable, why));
                }
            }
        }
        let attempt = Attempt {
            id,
            task: Some(message.task.clone()),
            attempt,
            // There is no message to do anything else with.
            verdict: Verdict::Done,
            outcome,
            children: Vec::new(),
            digest,
            spent,
            traceparent,
            ended,
        };
        Teller::new(worker, invoke).tell(None, attempt)
    }

    /// Runs and acknowledges a batch, each delivery on its own: none can fail another. Returns the SQS ids of those
    /// that come again.
    async fn run_batch(&self, batch: Batch, invoke: &Invoke) -> Vec<String> {
        let ends = invoke.ends;
        let leases = Arc::new(Leases::new(&batch.deliveries, self.0.settings.lease, &self.0.ports.clock));
        let ids: Vec<String> = batch.deliveries.iter().map(|d| d.message_id.clone()).collect();
        let (sender, decided) = mpsc::channel(batch.deliveries.len().max(1));
        // Tasks of their own, so that they run on every core; they end with this invoke.
        let mut runs = Vec::with_capacity(batch.deliveries.len());
        for (index, delivery) in batch.deliveries.into_iter().enumerate() {
            let (worker, leases, sender) = (self.clone(), leases.clone(), sender.clone());
            let counted = Counted::new(self.clone());
            runs.push(AbortOnDropHandle::new(tokio::spawn(async move {
                let _counted = counted;
                let attempt = attempt(&worker.0, &delivery, ends).await;
                let held = leases.release(index).await;
                match attempt {
                    // What succeeded is done, whoever has the message now.
                    Some(attempt) if held == Held::Still || attempt.verdict == Verdict::Done => {
                        // The receiver lives until every sender is gone.
                        let _ = sender.send(Decided { index, delivery, attempt, held }).await;
                    }
                    _ => tracing::warn!(
                        message_id = delivery.message_id,
                        "left alone: its lease is over or nearly so"
                    ),
                }
            })));
        }
        drop(sender);
        let finished = tokio::select! {
            biased;
            finished = acknowledge(&self.0, decided, invoke) => finished,
            () = leases.extend(&self.0.ports.queue) => unreachable!("extending leases never ends"),
        };
        // Whatever is not known to be finished comes again: a delivery that was left alone, or whose task panicked.
        let again = ids.into_iter().enumerate().filter(|(index, _)| !finished.contains(index));
        again.map(|(_, id)| id).collect()
    }
}

/// The memory that runs may be allowed together. Who asks first gets it first, so that a large task is not passed by for ever.
pub(crate) struct MemoryBudget {
    mib: Semaphore,
    mib_max: u32,
}

impl MemoryBudget {
    fn new(memory: ByteCount) -> Self {
        let mib_max = u32::try_from(memory.0 >> 20).unwrap_or(u32::MAX).clamp(1, MIB_MAX);
        Self { mib: Semaphore::new(mib_max as usize), mib_max }
    }

    /// What a run may have, for as long as the answer lives; `None` if it must wait for it.
    pub(crate) fn try_take(&self, memory: ByteCount) -> Option<SemaphorePermit<'_>> {
        self.mib.try_acquire_many(self.mib(memory)).ok()
    }

    /// Waits until a run may have so much, and keeps it for as long as the answer lives.
    pub(crate) async fn take(&self, memory: ByteCount) -> SemaphorePermit<'_> {
        self.mib.acquire_many(self.mib(memory)).await.expect("the semaphore is never closed")
    }

    fn mib(&self, memory: ByteCount) -> u32 {
        u32::try_from(memory.0.div_ceil(1 << 20)).unwrap_or(u32::MAX).min(self.mib_max)
    }
}

/// 1 PiB: nobody has more, and tokio counts no further.
const MIB_MAX: u32 = 1 << 28;

/// A delivery that is being dealt with, for as long as this lives.
struct Counted<P: Ports>(Worker<P>);

impl<P: Ports> Counted<P> {
    fn new(worker: Worker<P>) -> Self {
        worker.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }
}

impl<P: Ports> Drop for Counted<P> {
    fn drop(&mut self) {
        self.0.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl<P: Ports> Inner<P> {
    pub(crate) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }

    /// Returns when the worker is told to stop.
    pub(crate) async fn stopped(&self) {
        let mut stop = self.stop.subscribe();
        // The sender lives as long as self.
        let _ = stop.wait_for(|stop| *stop).await;
    }
}
