//! Leases: a message stays invisible to others for as long as it is being worked on.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::{Clock, Delivery};

use crate::ports::{Queue, Visibility};

/// The deliveries of one batch that are still being worked on.
pub(crate) struct Leases {
    /// By receipt handle, in an order that does not depend on chance.
    held: Mutex<BTreeMap<String, Lease>>,
    /// How long a lease lasts.
    length: Duration,
    /// Told whenever an extension was answered.
    answered: Notify,
}

struct Lease {
    ends: Instant,
    /// When it is to be extended.
    due: Instant,
    /// An extension is under way.
    extending: bool,
}

/// Whether a message was still ours when the work on it was over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Still,
    /// The lease ran out, somebody else may have the message.
    Lost,
}

impl Leases {
    pub(crate) fn new<C: Clock>(deliveries: &[Delivery], length: Duration, clock: &C) -> Self {
        let (now, instant) = (clock.now(), Instant::now());
        let held = deliveries.iter().map(|delivery| {
            let left = delivery.lease_until.since(now);
            let ends = instant + left;
            (delivery.receipt.clone(), Lease { ends, due: ends - left.min(length / 2), extending: false })
        });
        Self { held: Mutex::new(held.collect()), length, answered: Notify::new() }
    }

    /// Stops extending a lease: its message is about to be acknowledged. Waits for an extension that is under way, so
    /// that it cannot take effect after the acknowledgement.
    pub(crate) async fn release(&self, receipt: &str) -> Held {
        loop {
            let answered = self.answered.notified();
            {
                let mut held = self.held();
                match held.get(receipt) {
                    None => return Held::Lost,
                    Some(lease) if !lease.extending => {
                        let ends = lease.ends;
                        held.remove(receipt);
                        return if ends > Instant::now() { Held::Still } else { Held::Lost };
                    }
                    Some(_) => {}
                }
            }
            answered.await;
        }
    }

    /// Extends every lease when half of it is left, for ever. One that cannot be extended is tried again until it is
    /// over; its message may then run twice, which is allowed; it is not lost.
    pub(crate) async fn extend<Q: Queue>(&self, queue: &Q) {
        loop {
            let next = self.held().values().map(|lease| lease.due).min();
            let Some(next) = next else {
                // Nothing is held any more, and nothing can be added.
                return std::future::pending().await;
            };
            tokio::time::sleep_until(next).await;
            self.extend_due(queue).await;
        }
    }

    async fn extend_due<Q: Queue>(&self, queue: &Q) {
        let asked = Instant::now();
        // Those that are nearly due go along in the same call.
        let soon = asked + self.length / 10;
        let mut due = Vec::new();
        self.held().retain(|receipt, lease| {
            if lease.ends <= asked {
                tracing::warn!("a lease ran out before it could be extended, its message may run twice");
                return false;
            }
            if lease.due <= soon {
                lease.extending = true;
                due.push(receipt.clone());
            }
            true
        });
        if due.is_empty() {
            return;
        }
        let entry =
            |receipt: &String| Visibility { receipt: receipt.clone(), after: self.length, held: true };
        let call = queue.set_visibility(due.iter().map(entry).collect());
        // A call that hangs must not keep the messages of this batch from being acknowledged.
        let results = tokio::time::timeout(self.length / 4, call).await;
        let results = results.unwrap_or_else(|_| {
            due.iter().map(|_| Err(anyhow::anyhow!("no answer within {:?}", self.length / 4))).collect()
        });
        let mut held = self.held();
        for (receipt, result) in due.iter().zip(results) {
            let Some(lease) = held.get_mut(receipt) else { continue };
            lease.extending = false;
            match result {
                Ok(()) => {
                    lease.ends = asked + self.length;
                    lease.due = asked + self.length / 2;
                }
                Err(e) => {
                    lease.due = Instant::now() + self.length / 10;
                    tracing::warn!("a lease could not be extended: {e:#}");
                }
            }
        }
        drop(held);
        self.answered.notify_waiters();
    }

    fn held(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Lease>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
