//! The sixth stage: the verdict on the message. The rules are in `verdict.rs`.

use serde_json::value::RawValue;
use tokio::time::Instant;
use wasq_engine::Child;
use wasq_protocol::{Failure, FailureKind, ItemState, Outcome, RunItem, Settings, can_leave_the_queue};

use crate::delivery::execute::Executed;
use crate::delivery::facts::{Facts, Retries};
use crate::ports::WorkerPorts;
use crate::runs::{Memory, children_of};
use crate::state::WorkerState;
use crate::verdict::{Case, KEPT_MARGIN, Verdict, judge_failure};

/// A delivery whose fate is decided.
pub(crate) struct Judged {
    pub(crate) facts: Box<Facts>,
    pub(crate) outcome: Outcome,
    pub(crate) verdict: Verdict,
    /// The children to send; empty unless the run succeeded.
    pub(crate) children: Vec<Child>,
    /// When it was decided.
    pub(crate) decided: Instant,
}

/// Decides the fate of a message after its run, or if it could not be run.
pub(crate) fn judge<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: Box<Facts>,
    executed: Result<Executed, Failure>,
) -> Judged {
    let (outcome, children) = match executed {
        Ok(Executed { outcome: outcome @ Outcome::Success { .. }, children }) => (outcome, children),
        Ok(Executed { outcome, .. }) => (outcome, Vec::new()),
        Err(failure) => (Outcome::Failure(failure), Vec::new()),
    };
    let verdict = match (&outcome, &facts.delivery) {
        (Outcome::Success { .. }, _) => Verdict::Done,
        (Outcome::Failure(failure), None) if failure.kind == FailureKind::Cancelled => Verdict::Cancelled,
        // A direct invoke leaves no message: its caller gets the outcome.
        (Outcome::Failure(_), None) => Verdict::Done,
        (Outcome::Failure(failure), Some(delivery)) => {
            let retries = facts.retries.unwrap_or_else(|| Retries::of(&Settings::default()));
            let now = facts.received;
            judge_failure(
                failure,
                &Case {
                    attempt: facts.attempt,
                    max_attempts: retries.max_attempts,
                    backoff: retries.backoff,
                    known_for: now.since(delivery.first_received),
                    early: facts.not_before.map(|at| at.since(now)).unwrap_or_default(),
                    delay_until: facts
                        .not_before
                        .filter(|_| worker.ports.timer.is_some() && can_leave_the_queue(delivery.body.len())),
                    age: now.since(delivery.sent),
                    kept_for: worker.settings.retention.saturating_sub(KEPT_MARGIN),
                    jitter: fastrand::f64(),
                },
            )
        }
    };
    Judged { facts, outcome, verdict, children, decided: Instant::now() }
}

/// The verdict on a message that has ended before: what its end still needs is done.
pub(crate) fn ended_before(mut facts: Box<Facts>, item: Box<RunItem>) -> Judged {
    let failure = |kind| {
        let reason = item.reason.clone().unwrap_or_default();
        Outcome::Failure(Failure::new(item.kind.unwrap_or(kind), reason))
    };
    let (outcome, verdict) = match item.state {
        ItemState::Cancelled => (
            Outcome::Failure(Failure::new(FailureKind::Cancelled, "it was cancelled before it ran")),
            Verdict::Cancelled,
        ),
        ItemState::Dead => (failure(FailureKind::Retry), Verdict::DeadLetter),
        _ => {
            let output = item.result.clone().unwrap_or_else(|| RawValue::NULL.to_owned());
            (Outcome::Success { output }, Verdict::Done)
        }
    };
    facts.attempt = item.attempts.max(1);
    let children = children_of(&item);
    facts.memory = Memory::Ended(item);
    Judged { facts, outcome, verdict, children, decided: Instant::now() }
}
