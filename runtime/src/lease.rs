//! Leases: a message stays invisible to others for as long as it is being worked on.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasq_protocol::{Clock, Delivery};

use crate::ports::{Queue, Visibility};

/// The deliveries of one batch that are still being worked on.
pub(crate) struct Leases {
    /// When each lease ends, by receipt handle.
    held: Mutex<HashMap<String, Instant>>,
    /// How long a lease lasts.
    lease: Duration,
}

impl Leases {
    pub(crate) fn new<C: Clock>(deliveries: &[Delivery], lease: Duration, clock: &C) -> Self {
        let (now, instant) = (clock.now(), Instant::now());
        let held = deliveries.iter().map(|d| (d.receipt.clone(), instant + d.lease_until.since(now)));
        Self { held: Mutex::new(held.collect()), lease }
    }

    /// Stops extending a lease: its message is about to be acknowledged.
    pub(crate) fn release(&self, receipt: &str) {
        self.held().remove(receipt);
    }

    /// Extends every lease when half of it is left, for ever. A lease that cannot be extended is let go: the message
    /// may then run twice, which is allowed; it is not lost.
    pub(crate) async fn extend<Q: Queue>(&self, queue: &Q) {
        loop {
            let next = self.held().values().min().copied();
            let Some(next) = next else {
                // Nothing is held any more, and nothing can be added.
                return std::future::pending().await;
            };
            tokio::time::sleep_until(next - (self.lease / 2).min(next - Instant::now())).await;
            self.extend_due(queue).await;
        }
    }

    async fn extend_due<Q: Queue>(&self, queue: &Q) {
        let now = Instant::now();
        // Those that are nearly due go along in the same call.
        let soon = now + self.lease / 2 + self.lease / 10;
        let due: Vec<String> = {
            let held = self.held();
            held.iter().filter(|(_, ends)| **ends <= soon).map(|(receipt, _)| receipt.clone()).collect()
        };
        let extended =
            |receipt: &String| Visibility { receipt: receipt.clone(), after: self.lease, held: true };
        let entries = due.iter().map(extended);
        let results = queue.set_visibility(entries.collect()).await;
        let mut held = self.held();
        for (receipt, result) in due.iter().zip(results) {
            match result {
                Ok(()) => {
                    held.entry(receipt.clone()).and_modify(|ends| *ends = now + self.lease);
                }
                Err(e) => {
                    held.remove(receipt);
                    tracing::warn!("a lease could not be extended, its message may run twice: {e:#}");
                }
            }
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
