//! The consumer's ports to the outside.

use std::time::Duration;

use anyhow::Result;
use wasq_protocol::{Clock, DeadLetter, Delivery};

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

    /// Releases messages, by receipt handle: each becomes visible again after its time. One result per entry, in order. A
    /// message that cannot be released comes again when its lease ends.
    fn release(&self, entries: Vec<(String, Duration)>) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Sends a copy of a message to the dead-letter queue. It does not delete the original.
    fn send_dead_letter(
        &self,
        delivery: &Delivery,
        letter: &DeadLetter,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Deletes a message by receipt handle, after its copy was sent to the dead-letter queue.
    fn delete(&self, receipt: &str) -> impl Future<Output = Result<()>> + Send;
}

/// The worker, as far as the consumer needs it.
pub trait Invoker: Send + Sync {
    /// Hands a worker event over. `Ok` means that it was accepted, not that it was run.
    fn invoke(&self, event: String) -> impl Future<Output = Result<(), InvokeError>> + Send;

    /// The number of messages that the workers hold.
    fn in_flight(&self) -> impl Future<Output = Result<InFlight>> + Send;

    /// Whether a worker could start one more event at once. Only asked while too many messages may be in
    /// flight.
    fn has_room(&self) -> impl Future<Output = Result<bool>> + Send;
}

/// The number of messages that the workers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// Exactly this number.
    Exactly(u64),
    /// At most this number: all invisible messages. Some of them may only wait for their next attempt, or for
    /// their `not_before`.
    AtMost(u64),
}

/// Why a hand-over was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// Too many invokes run at once; a later one may be accepted.
    #[error("throttled: {0}")]
    Throttled(String),
    /// The invoke was refused: the worker does not have the event.
    #[error("{0}")]
    Refused(String),
    /// It is not known whether the worker has the event.
    #[error("{0}")]
    Unknown(String),
}
