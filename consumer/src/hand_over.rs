//! One hand-over: a batch of messages, from its receive until the worker has settled it.

use std::sync::atomic::Ordering;
use std::time::Duration;

use wasq_protocol::{Clock, DEATHS_MAX, Delivery};

use crate::pack::{event_of, pack};
use crate::ports::{ConsumerPorts, InvokeError, Invoker, Source};
use crate::state::{Drain, Load, PAUSE};

/// A batch in the consumer's hands. It counts towards the drain's limits for as long as this lives.
pub(crate) struct Batch<'a> {
    event: String,
    deliveries: Vec<Delivery>,
    _counted: Counted<'a>,
}

/// Messages that are received, and not settled yet as far as the consumer knows.
struct Counted<'a> {
    load: &'a Load,
    messages: u64,
    bytes: u64,
}

impl<'a> Counted<'a> {
    fn new(load: &'a Load, deliveries: &[Delivery]) -> Self {
        let messages = deliveries.len() as u64;
        let bytes = deliveries.iter().map(|delivery| delivery.body.len() as u64).sum();
        load.messages.fetch_add(messages, Ordering::Relaxed);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        load.batches.fetch_add(1, Ordering::Relaxed);
        Self { load, messages, bytes }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.load.messages.fetch_sub(self.messages, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.load.batches.fetch_sub(1, Ordering::Relaxed);
        self.load.changed.notify_waiters();
    }
}

/// A batch that waits for a worker with room. The drain receives nothing meanwhile.
struct Held<'a>(&'a Load);

impl<'a> Held<'a> {
    fn new(load: &'a Load) -> Self {
        load.held.fetch_add(1, Ordering::Relaxed);
        Self(load)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
        self.0.changed.notify_waiters();
    }
}

/// The longest pause between two offers of a batch that no worker has room for.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(4);
/// An offer that is not refused within this time was taken: a busy function refuses at once.
const TAKEN_AFTER: Duration = Duration::from_millis(300);
/// The shortest lease of messages that are kept for the next drain of this process: two consumers take turns every minute.
const KEPT: Duration = Duration::from_secs(180);
/// The end of an extended lease that is not counted on: the answer may be late.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// The shortest time that a released message stays hidden. The older the message, the longer it stays hidden:
/// a quarter of the time since its first receive, up to `RELEASE_MAX`. A fault that lasts then costs few receives.
const RELEASE: Duration = Duration::from_secs(5);
const RELEASE_MAX: Duration = Duration::from_secs(300);

impl<P: ConsumerPorts> Drain<'_, P> {
    /// Batches of messages that were received.
    pub(crate) fn batches(&self, deliveries: Vec<Delivery>) -> Vec<Batch<'_>> {
        let batch = |(event, deliveries): (String, Vec<Delivery>)| {
            let _counted = Counted::new(&self.load, &deliveries);
            Batch { event, deliveries, _counted }
        };
        pack(deliveries).into_iter().map(batch).collect()
    }

    /// Hands a batch over, and follows it to its end. Returns the batches to hand over next: after the death of a worker, its
    /// messages travel alone.
    pub(crate) async fn hand_over<'a>(&'a self, batch: Batch<'a>) -> Vec<Batch<'a>> {
        let Batch { mut event, mut deliveries, _counted } = batch;
        let mut held: Option<Held<'_>> = None;
        let mut pause = PAUSE;
        tracing::debug!(
            messages = deliveries.len(),
            message_ids = message_ids(&deliveries),
            "handed to the worker"
        );
        loop {
            let invoke = self.ports.invoker.invoke(event);
            self.offered();
            tokio::pin!(invoke);
            let answer = match tokio::time::timeout(TAKEN_AFTER, &mut invoke).await {
                Ok(answer) => answer,
                Err(_) => {
                    held = None;
                    invoke.await
                }
            };
            let count = deliveries.len() as u64;
            let message_ids = || message_ids(&deliveries);
            match answer {
                Ok(()) => {
                    tracing::debug!(messages = count, message_ids = message_ids(), "settled by the worker");
                    self.did(|did| did.handed_over += count);
                    if deliveries.iter().all(|delivery| delivery.deaths < DEATHS_MAX) {
                        self.load.works();
                    }
                    return Vec::new();
                }
                Err(InvokeError::Busy(e)) => {
                    held.get_or_insert_with(|| Held::new(&self.load));
                    let changed = self.load.changed.notified();
                    let _ = tokio::time::timeout(pause.min(self.left()), changed).await;
                    pause = (pause * 2).min(BUSY_PAUSE_MAX);
                    if self.left().is_zero() {
                        tracing::info!(message_ids = message_ids(), "kept for the next drain: {e}");
                        let kept = self.extended(deliveries, self.settings.lease.max(KEPT)).await;
                        self.keep(kept);
                        return Vec::new();
                    }
                    deliveries = self.with_leases(deliveries).await;
                    if deliveries.is_empty() {
                        return Vec::new();
                    }
                    event = event_of(&deliveries);
                }
                Err(InvokeError::Refused(e)) => {
                    self.did(|did| did.errors += 1);
                    tracing::error!(message_ids = message_ids(), "the worker could not be invoked: {e}");
                    self.release(deliveries).await;
                    return Vec::new();
                }
                Err(InvokeError::Died(e)) => {
                    self.did(|did| did.errors += 1);
                    tracing::error!(
                        message_ids = message_ids(),
                        "the worker died with {count} messages: {e}"
                    );
                    return self.alone(deliveries).await;
                }
                // The worker may have the messages: if the consumer released them, they would run twice.
                Err(InvokeError::Unknown(e)) => {
                    self.did(|did| {
                        did.errors += 1;
                        did.unknown += count;
                    });
                    tracing::error!(
                        message_ids = message_ids(),
                        "{e}; unless the worker has them, {count} messages come again when their leases end"
                    );
                    return Vec::new();
                }
            }
        }
    }

    /// The messages of a worker that died: each of them may be the reason, so each travels alone from now on.
    async fn alone(&self, deliveries: Vec<Delivery>) -> Vec<Batch<'_>> {
        if self.left().is_zero() {
            self.release(deliveries).await;
            return Vec::new();
        }
        // Messages that the worker had settled before have no lease any more.
        let mut deliveries = self.extended(deliveries, self.settings.lease).await;
        deliveries.iter_mut().for_each(|delivery| delivery.deaths += 1);
        // The worker makes a dead letter of a message with `DEATHS_MAX` deaths, and does not run it. But if workers die of that as
        // well, or of one message after the other, then it is not the messages.
        let blameless = |delivery: &Delivery| match delivery.deaths {
            deaths if deaths > DEATHS_MAX => true,
            DEATHS_MAX => !self.load.blames(),
            _ => false,
        };
        let (blameless, alone): (Vec<_>, _) = deliveries.into_iter().partition(blameless);
        if !blameless.is_empty() {
            tracing::error!("the workers die whatever they run: nothing more is received");
            self.gives_up();
            self.release(blameless).await;
        }
        self.batches(alone)
    }

    /// The messages whose leases last for a while, extended where needed.
    async fn with_leases(&self, deliveries: Vec<Delivery>) -> Vec<Delivery> {
        let now = self.ports.clock.now();
        let shortest = deliveries.iter().map(|delivery| delivery.lease_until.since(now)).min();
        if shortest.is_some_and(|left| left > self.settings.lease / 2) {
            return deliveries;
        }
        self.extended(deliveries, self.settings.lease).await
    }

    /// The messages whose leases could be extended. The others are left alone: somebody else may have them.
    async fn extended(&self, deliveries: Vec<Delivery>, lease: Duration) -> Vec<Delivery> {
        let receipts = deliveries.iter().map(|delivery| delivery.receipt.clone()).collect();
        let until = self.ports.clock.now().plus(lease).minus(ANSWER_TIME);
        let results = self.ports.source.extend(receipts, lease).await;
        let mut extended = Vec::with_capacity(deliveries.len());
        for (mut delivery, result) in deliveries.into_iter().zip(results) {
            match result {
                Ok(()) => {
                    delivery.lease_until = until;
                    extended.push(delivery);
                }
                Err(e) => {
                    let message_id = &delivery.message_id;
                    tracing::info!(message_id, "left alone: its lease cannot be extended: {e:#}");
                }
            }
        }
        extended
    }

    async fn release(&self, deliveries: Vec<Delivery>) {
        self.did(|did| did.released += deliveries.len() as u64);
        let now = self.ports.clock.now();
        let wait = |delivery: &Delivery| (now.since(delivery.first_received) / 4).clamp(RELEASE, RELEASE_MAX);
        let entries = deliveries.iter().map(|delivery| (delivery.receipt.clone(), wait(delivery))).collect();
        for (delivery, released) in deliveries.iter().zip(self.ports.source.release(entries).await) {
            if let Err(e) = released {
                self.did(|did| did.errors += 1);
                let message_id = &delivery.message_id;
                tracing::warn!(message_id, "{e:#}; the message comes again when its lease ends");
            }
        }
    }
}

/// The SQS ids of messages, as a line of the log names them.
fn message_ids(deliveries: &[Delivery]) -> String {
    deliveries.iter().map(|delivery| delivery.message_id.as_str()).collect::<Vec<_>>().join(" ")
}
