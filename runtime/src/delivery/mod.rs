//! One delivery, stage by stage. Each stage takes the value of the one before and returns the next, or a [`Failure`]:
//!
//! `receive` -> [`Received`] -> `admit` -> [`Admitted`](admit::Admitted) -> `prepare` -> [`Prepared`](prepare::Prepared)
//! -> `execute` -> [`Executed`] -> `judge` -> [`Judged`] -> `settle`
//!
//! A direct invoke takes the same way. It enters with a message that is parsed already, and differs in `settle`.

mod admit;
mod execute;
mod facts;
mod judge;
mod prepare;
mod receive;
mod record;
mod settle;

use std::pin::pin;

use tracing::Instrument;
use wasq_protocol::{Failure, FailureKind, Timestamp};

use crate::ports::WorkerPorts;
use crate::state::WorkerState;

pub(crate) use facts::Facts;
pub(crate) use judge::Judged;
pub(crate) use receive::{Received, direct, receive};
pub(crate) use settle::{Settling, settle_batch, settle_direct};

use admit::admit;
use execute::{Executed, execute};
use judge::judge;
use prepare::prepare;

/// Takes a received message to its verdict. `ends` is when the worker must be done. If the worker is told to stop, the
/// message is judged as interrupted.
pub(crate) async fn deliver<P: WorkerPorts>(
    worker: &WorkerState<P>,
    mut facts: Box<Facts>,
    received: Result<Received, Failure>,
    ends: Timestamp,
) -> Judged {
    let span = facts.span.clone();
    let executed = match received {
        // Pinned where it is: a run's future is large, and moving it into `Instrumented` would copy it.
        Ok(received) => pin!(unless_stopped(worker, &mut facts, received, ends)).instrument(span).await,
        Err(failure) => Err(failure),
    };
    judge(worker, facts, executed)
}

async fn unless_stopped<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &mut Facts,
    received: Received,
    ends: Timestamp,
) -> Result<Executed, Failure> {
    let mut running = pin!(run(worker, facts, received, ends));
    tokio::select! {
        biased;
        // First, because most runs end without waiting: they need not listen for a stop.
        executed = &mut running => executed,
        () = worker.stopped() => Err(stopping()),
    }
}

async fn run<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &mut Facts,
    received: Received,
    ends: Timestamp,
) -> Result<Executed, Failure> {
    let admitted = admit(worker, facts, received).await?;
    let prepared = prepare(worker, admitted, ends).await?;
    Ok(execute(worker, prepared).await)
}

fn stopping() -> Failure {
    Failure::new(FailureKind::Interrupted, "the worker is stopping")
}
