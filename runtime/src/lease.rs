//! Leases: a message stays invisible to others while a worker works on it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Span;
use wasq_protocol::Timestamp;

use crate::ports::Queue;

/// The deliveries of one batch that are still being worked on.
pub(crate) struct Leases {
    /// By a delivery's index in the batch; `None` if the lease was released, or is over.
    held: Mutex<Vec<Option<Lease>>>,
    /// The moment when the batch was received, by both clocks.
    received: (Timestamp, Instant),
    /// How long a lease lasts.
    length: Duration,
    /// Notified after each answer to an extension.
    answered: Notify,
}

struct Lease {
    receipt: String,
    ends: Instant,
    /// The time of the next extension.
    due: Instant,
    /// An extension is under way.
    extending: bool,
    /// The delivery's span.
    span: Span,
}

/// Whether the worker still held a message when the work on it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Held {
    Still,
    /// The lease ran out; another worker may have the message.
    Lost,
}

impl Leases {
    /// Room for the leases of a batch of `count` deliveries, which was received at `now`. Each lease lasts for `length`.
    pub(crate) fn new(length: Duration, count: usize, now: Timestamp, instant: Instant) -> Self {
        let held = (0..count).map(|_| None).collect();
        Self { held: Mutex::new(held), received: (now, instant), length, answered: Notify::new() }
    }

    /// Holds the lease of a delivery, by its index in the batch. `until` is when it ends.
    pub(crate) fn hold(&mut self, index: usize, receipt: String, until: Timestamp, span: Span) {
        let (now, instant) = self.received;
        let left = until.since(now);
        let ends = instant + left;
        let due = ends - left.min(self.length / 2);
        self.held()[index] = Some(Lease { receipt, ends, due, extending: false, span });
    }

    /// Stops extending a lease: its message is about to be settled. Waits for an extension that is under way:
    /// it must not take effect after that.
    pub(crate) async fn release(&self, index: usize) -> Held {
        loop {
            let answered = self.answered.notified();
            {
                let held = &mut self.held()[index];
                match held {
                    None => return Held::Lost,
                    Some(Lease { extending: false, ends, .. }) => {
                        let still = *ends > Instant::now();
                        *held = None;
                        return if still { Held::Still } else { Held::Lost };
                    }
                    Some(_) => {}
                }
            }
            answered.await;
        }
    }

    /// Extends every lease when half of it is left. Never returns. An extension that fails is tried again
    /// until the lease is over. The message may then run twice, which is allowed; it is not lost.
    pub(crate) async fn extend<Q: Queue>(&self, queue: &Q) {
        loop {
            let next = self.held().iter().flatten().map(|lease| lease.due).min();
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
        // Leases that are nearly due are extended in the same call.
        let soon = asked + self.length / 10;
        let mut due = Vec::new();
        let mut receipts = Vec::new();
        for (index, held) in self.held().iter_mut().enumerate() {
            match held {
                Some(lease) if lease.ends <= asked => {
                    lease.span.in_scope(|| {
                        tracing::warn!(
                            "the lease ran out before it could be extended: the message may run twice"
                        );
                    });
                    *held = None;
                }
                Some(lease) if lease.due <= soon => {
                    lease.extending = true;
                    due.push(index);
                    receipts.push(lease.receipt.clone());
                }
                _ => {}
            }
        }
        if due.is_empty() {
            return;
        }
        let call = queue.extend(receipts, self.length);
        // A call that hangs must not keep the messages of this batch from being acknowledged.
        let results = tokio::time::timeout(self.length / 4, call).await;
        let results = results.unwrap_or_else(|_| {
            due.iter().map(|_| Err(anyhow::anyhow!("no answer within {:?}", self.length / 4))).collect()
        });
        let mut held = self.held();
        for (index, result) in due.into_iter().zip(results) {
            let Some(lease) = &mut held[index] else { continue };
            lease.extending = false;
            match result {
                Ok(()) => {
                    lease.ends = asked + self.length;
                    lease.due = asked + self.length / 2;
                }
                Err(e) => {
                    lease.due = Instant::now() + self.length / 10;
                    lease.span.in_scope(|| tracing::warn!("the lease could not be extended: {e:#}"));
                }
            }
        }
        drop(held);
        self.answered.notify_waiters();
    }

    fn held(&self) -> MutexGuard<'_, Vec<Option<Lease>>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use anyhow::{Result, bail};
    use wasq_engine::Child;
    use wasq_protocol::{DeadLetter, Delivery};

    use super::*;
    use crate::ports::Release;

    const LENGTH: Duration = Duration::from_secs(60);

    /// A queue with calls that last `takes`. The first `failures` calls fail.
    struct Slow {
        takes: Duration,
        failures: AtomicU32,
        calls: AtomicU32,
    }

    impl Slow {
        fn new(takes: Duration, failures: u32) -> Self {
            Self { takes, failures: AtomicU32::new(failures), calls: AtomicU32::new(0) }
        }

        fn calls(&self) -> u32 {
            self.calls.load(Ordering::Relaxed)
        }
    }

    impl Queue for Slow {
        async fn extend(&self, receipts: Vec<String>, _: Duration) -> Vec<Result<()>> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(self.takes).await;
            let left = self.failures.load(Ordering::Relaxed);
            self.failures.store(left.saturating_sub(1), Ordering::Relaxed);
            let answer = || if left > 0 { bail!("as told") } else { Ok(()) };
            receipts.iter().map(|_| answer()).collect()
        }

        async fn release(&self, _: Vec<Release>) -> Vec<Result<()>> {
            unreachable!("leases are only extended")
        }

        async fn delete(&self, _: Vec<String>) -> Vec<Result<()>> {
            unreachable!("leases are only extended")
        }

        async fn send(&self, _: Vec<Child>) -> Vec<Result<()>> {
            unreachable!("leases are only extended")
        }

        async fn send_dead_letters(&self, _: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
            unreachable!("leases are only extended")
        }
    }

    fn leases(receipts: &[&str]) -> Leases {
        let now = Timestamp::from_ms(0);
        let mut leases = Leases::new(LENGTH, receipts.len(), now, Instant::now());
        for (index, receipt) in receipts.iter().enumerate() {
            leases.hold(index, (*receipt).to_owned(), now.plus(LENGTH), Span::none());
        }
        leases
    }

    /// Works for `seconds`, then releases the lease. Returns whether it was still held, and the
    /// time that this took.
    async fn work(leases: &Leases, queue: &Slow, seconds: u64) -> (Held, Duration) {
        let started = Instant::now();
        let worked = async {
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            leases.release(0).await
        };
        tokio::select! {
            held = worked => (held, started.elapsed()),
            () = leases.extend(queue) => unreachable!("extending never ends"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn long_work_keeps_its_lease_with_few_calls() {
        let queue = Slow::new(Duration::from_millis(20), 0);
        let (held, _) = work(&leases(&["a", "b"]), &queue, 590).await;
        // One call extends both leases, each time when half of the lease is left.
        assert_eq!((held, queue.calls()), (Held::Still, 19));
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_waits_for_an_extension_that_is_under_way() {
        let queue = Slow::new(Duration::from_secs(5), 0);
        let (held, took) = work(&leases(&["a"]), &queue, 32).await;
        assert_eq!((held, took.as_secs()), (Held::Still, 35));
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_that_hangs_holds_a_verdict_for_a_quarter_of_the_lease() {
        let queue = Slow::new(Duration::from_secs(1000), 0);
        let (held, took) = work(&leases(&["a"]), &queue, 32).await;
        assert_eq!((held, took.as_secs()), (Held::Still, 45));
    }

    #[tokio::test(start_paused = true)]
    async fn an_extension_that_fails_is_tried_again() {
        let queue = Slow::new(Duration::from_millis(20), 3);
        let (held, _) = work(&leases(&["a"]), &queue, 90).await;
        assert_eq!((held, queue.calls()), (Held::Still, 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_cannot_be_extended_is_lost() {
        let queue = Slow::new(Duration::from_millis(20), u32::MAX);
        let (held, _) = work(&leases(&["a"]), &queue, 61).await;
        assert_eq!(held, Held::Lost);
        let calls = queue.calls();
        assert!((3..10).contains(&calls), "{calls} calls");
    }
}
