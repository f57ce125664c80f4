//! What the consumer needs from the outside.

use std::time::Duration;

use anyhow::Result;
use wasq_protocol::{DeadLetter, Delivery};

/// The queue, as far as the consumer needs it.
pub trait Source: Send + Sync {
    /// Receives up to ten messages, waiting for the first for up to `wait` (at most 20 s).
    fn receive(&self, wait: Duration) -> impl Future<Output = Result<Vec<Delivery>>> + Send;

    /// Makes messages visible again, by receipt handle, each after its time. One result per entry, in order: what cannot
    /// be given back comes again when its lease ends.
    fn give_back(&self, entries: Vec<(String, Duration)>) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Sends a copy of a message to the dead-letter queue. It does not delete the original.
    fn send_dead_letter(
        &self,
        delivery: &Delivery,
        letter: &DeadLetter,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Deletes a message by receipt handle: one that is in the dead-letter queue now.
    fn delete(&self, receipt: &str) -> impl Future<Output = Result<()>> + Send;
}

/// The worker, seen from here.
pub trait Invoker: Send + Sync {
    /// Hands a worker event over. `Ok` means that it was accepted, not that it was run.
    fn invoke(&self, event: String) -> impl Future<Output = Result<(), InvokeError>> + Send;

    /// How many messages are in the workers' hands.
    fn in_flight(&self) -> impl Future<Output = Result<InFlight>> + Send;

    /// Whether a worker could begin with one more event at once. Only asked while too much may be in flight.
    fn has_room(&self) -> impl Future<Output = Result<bool>> + Send;
}

/// How many messages are in the workers' hands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InFlight {
    /// So many.
    Exactly(u64),
    /// So many at most: all that are invisible, and some of them may merely wait for their next attempt, or for their time.
    AtMost(u64),
}

/// Why a hand-over was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// Not now: too many at once.
    #[error("throttled: {0}")]
    Throttled(String),
    /// It was refused: the worker does not have it.
    #[error("{0}")]
    Refused(String),
    /// Whether the worker has it is not known.
    #[error("{0}")]
    Unknown(String),
}
