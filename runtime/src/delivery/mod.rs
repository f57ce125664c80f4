//! One delivery, stage by stage. Each stage takes the value of the one before and returns the next, or a [`Failure`]:
//!
//! `receive` -> [`Received`] -> `admit` -> [`Admitted`](admit::Admitted) -> `claim` -> `prepare` ->
//! [`Prepared`](prepare::Prepared) -> `execute` -> [`Executed`] -> `judge` -> [`Judged`] -> `settle`
//!
//! `claim` writes into the table of runs that this delivery runs the message. It ends the way of a message that has ended before.
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
use wasq_protocol::{Failure, FailureKind, RunItem, Timestamp};

use crate::ports::WorkerPorts;
use crate::runs::{Claimed, claim, take_turn};
use crate::state::WorkerState;

pub(crate) use facts::{Facts, Watch};
pub(crate) use judge::Judged;
pub(crate) use receive::{Received, Receiving, direct, receive};
pub(crate) use settle::{Settling, settle_batch, settle_direct};

use admit::admit;
use execute::{Executed, execute};
use judge::{ended_before, judge};
use prepare::prepare;

/// Why a message was not run.
pub(crate) enum NotRun {
    /// It could not be run, or its run was ended.
    Failed(Failure),
    /// It has ended before: its item says how.
    Ended(Box<RunItem>),
    /// Its worker may have died of it: it must not run beside others.
    MustBeAlone,
}

impl From<Failure> for NotRun {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// What became of a delivery.
pub(crate) enum Delivered {
    /// It has a verdict.
    Judged(Judged),
    /// It may be what its last worker died of. It must be delivered again when no other delivery of its event runs.
    MustBeAlone(Box<Facts>),
}

/// Takes a received message to its verdict. `ends` is when the worker must be done. If the worker is told to stop, the
/// message is judged as interrupted.
pub(crate) async fn deliver<P: WorkerPorts>(
    worker: &WorkerState<P>,
    mut facts: Box<Facts>,
    received: Result<Received, Failure>,
    ends: Timestamp,
) -> Delivered {
    let span = facts.span.clone();
    let executed = match received {
        // Pinned where it is: a run's future is large, and moving it into `Instrumented` would copy it.
        Ok(received) => pin!(unless_stopped(worker, &mut facts, received, ends)).instrument(span).await,
        Err(failure) => Err(NotRun::Failed(failure)),
    };
    Delivered::Judged(match executed {
        Ok(executed) => judge(worker, facts, Ok(executed)),
        Err(NotRun::Failed(failure)) => judge(worker, facts, Err(failure)),
        Err(NotRun::Ended(item)) => ended_before(facts, item),
        Err(NotRun::MustBeAlone) => return Delivered::MustBeAlone(facts),
    })
}

/// Delivers a message again that must run alone, when it does.
pub(crate) async fn deliver_alone<P: WorkerPorts>(
    worker: &WorkerState<P>,
    mut facts: Box<Facts>,
    ends: Timestamp,
) -> Judged {
    facts.watch = Watch::Unwatched { alone: true };
    facts.span.in_scope(|| tracing::warn!("nobody knows how its last run ended: it runs alone now"));
    let received = facts.parse_again();
    match deliver(worker, facts, received, ends).await {
        Delivered::Judged(judged) => judged,
        Delivered::MustBeAlone(_) => unreachable!("it runs alone"),
    }
}

async fn unless_stopped<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &mut Facts,
    received: Received,
    ends: Timestamp,
) -> Result<Executed, NotRun> {
    let mut running = pin!(run(worker, facts, received, ends));
    tokio::select! {
        biased;
        // First, because most runs end without waiting: they need not listen for a stop.
        executed = &mut running => executed,
        () = worker.stopped() => Err(stopping().into()),
    }
}

async fn run<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &mut Facts,
    received: Received,
    ends: Timestamp,
) -> Result<Executed, NotRun> {
    let admitted = admit(worker, facts, received).await?;
    if let Some(schema) = &admitted.live.params
        && let Err(mismatch) = schema.check(admitted.message.params.get())
    {
        return Err(Failure::new(FailureKind::BadParams, format!("the params do not fit: {mismatch}")).into());
    }
    let now = admitted.facts.received.plus(admitted.facts.instant.elapsed());
    let claimed = claim(worker, admitted.facts, &admitted.message, &admitted.live.settings, now).await?;
    match claimed {
        Claimed::Yes => {}
        Claimed::Ended(item) => return Err(NotRun::Ended(item)),
        Claimed::MustBeAlone => return Err(NotRun::MustBeAlone),
    }
    if let Some(runs) = &worker.ports.runs {
        let (facts, task) = (&mut *admitted.facts, &admitted.message.task);
        take_turn(runs, facts, task, &admitted.live.settings, now).await?;
    }
    let prepared = prepare(worker, admitted, ends).await?;
    Ok(execute(worker, prepared).await)
}

fn stopping() -> Failure {
    Failure::new(FailureKind::Interrupted, "the worker is stopping")
}
