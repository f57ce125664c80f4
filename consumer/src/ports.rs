//! The consumer's ports to the outside.

use std::time::Duration;

use anyhow::Result;
use wasq_protocol::{Clock, Delivery};

/// The kinds of a consumer's ports.
pub trait ConsumerPorts: 'static {
    /// The queue.
    type Source: Source;
    /// The worker.
    type Invoker: Invoker;
    /// The time.
    type Clock: Clock;
}

/// A consumer's ports.
#[derive(Debug)]
pub struct ConsumerParts<P: ConsumerPorts> {
    /// The queue.
    pub source: P::Source,
    /// The worker.
    pub invoker: P::Invoker,
    /// The time.
    pub clock: P::Clock,
}

/// The queue, as far as the consumer needs it.
pub trait Source: Send + Sync {
    /// Receives up to ten messages, waiting for the first for up to `wait` (at most 20 s).
    fn receive(&self, wait: Duration) -> impl Future<Output = Result<Vec<Delivery>>> + Send;

    /// Extends the leases of messages, by receipt handle: each lasts for `lease` from now. One result per entry, in order. An
    /// error means that the message may be gone, or be visible to others.
    fn extend(&self, receipts: Vec<String>, lease: Duration) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Releases messages, by receipt handle: each becomes visible again after its time. One result per entry, in order. A
    /// message that cannot be released comes again when its lease ends.
    fn release(&self, entries: Vec<(String, Duration)>) -> impl Future<Output = Vec<Result<()>>> + Send;
}

/// The worker, as far as the consumer needs it.
pub trait Invoker: Send + Sync {
    /// Hands a worker event over, and waits until the worker has settled its messages. If the future is dropped before, the
    /// worker goes on.
    fn invoke(&self, event: String) -> impl Future<Output = Result<(), InvokeError>> + Send;

    /// The number of messages that the worker has not settled, if it can be known better than by the open invokes: an invoke
    /// stays open until the last of its messages is settled.
    fn in_flight(&self) -> Option<u64> {
        None
    }
}

/// Why the worker did not settle an event.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// All workers are busy: none has the event.
    #[error("busy: {0}")]
    Busy(String),
    /// The event was not sent, or refused: no worker has it.
    #[error("{0}")]
    Refused(String),
    /// A worker had the event, and died.
    #[error("{0}")]
    Died(String),
    /// It is not known whether a worker has the event.
    #[error("{0}")]
    Unknown(String),
}
