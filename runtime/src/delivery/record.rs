//! The record of a settled delivery, as the log has it.

use std::time::Duration;

use tokio::time::Instant;
use wasq_protocol::{
    Clock, FailureKind, Invoke, Outcome, RecordLevel, RunOutcome, RunRecord, SavedStep, Then, Timestamp,
};

use crate::delivery::facts::{Facts, Usage};
use crate::delivery::judge::Judged;
use crate::ports::{Finished, Observer, WorkerPorts};
use crate::runs::Memory;
use crate::state::WorkerState;
use crate::verdict::Verdict;

/// Records the deliveries that were settled at one moment of an invoke.
pub(crate) struct Recorder<'a, P: WorkerPorts> {
    worker: &'a WorkerState<P>,
    invoke: &'a Invoke,
    at: Timestamp,
    now: Instant,
}

impl<'a, P: WorkerPorts> Recorder<'a, P> {
    pub(crate) fn new(worker: &'a WorkerState<P>, invoke: &'a Invoke) -> Self {
        Self { worker, invoke, at: worker.ports.clock.now(), now: Instant::now() }
    }

    /// Tells the observer of a delivery or a direct invoke that is settled. Returns the outcome.
    pub(crate) fn record(&self, judged: Judged) -> Outcome {
        let Judged { facts, outcome, verdict, children: _, decided } = judged;
        let steps = saved_steps(&facts);
        let Facts {
            delivery,
            id,
            task,
            parent,
            root,
            traceparent,
            from_xray,
            attempt,
            digest,
            usage,
            memory,
            ..
        } = *facts;
        let Usage { slot_taken, slot_wait, load, run, peak_memory, denied, requests } = usage;
        let queued = delivery.as_ref().zip(slot_taken).map(|(delivery, taken)| taken.since(delivery.sent));
        let (level, outcome_word, message, kind) = match &outcome {
            Outcome::Success { .. } => {
                let message = match memory {
                    Memory::Ended(_) => "done before: not run again",
                    Memory::Nothing | Memory::Claimed(_) => "done",
                };
                (RecordLevel::Info, RunOutcome::Success, message.to_owned(), None)
            }
            Outcome::Failure(failure) => {
                let message = match follows(&verdict) {
                    Some(follows) => format!("{}; {follows}", failure.message),
                    None => failure.message.clone(),
                };
                // A message that waits, or that somebody cancelled, is nothing to worry about.
                let expected = matches!(
                    failure.kind,
                    FailureKind::Interrupted
                        | FailureKind::Delayed
                        | FailureKind::RunningElsewhere
                        | FailureKind::Cancelled
                        | FailureKind::Skipped
                );
                let level = if expected { RecordLevel::Info } else { RecordLevel::Warn };
                (level, RunOutcome::Failure, message, Some(failure.kind))
            }
        };
        let record = RunRecord {
            timestamp: self.at,
            level,
            message,
            task,
            id,
            parent,
            root,
            attempt,
            outcome: outcome_word,
            kind,
            then: match verdict {
                Verdict::Done => Then::Done,
                Verdict::Retry(_) => Then::Retry,
                Verdict::Release(_) => Then::Release,
                Verdict::DeadLetter => Then::DeadLetter,
                Verdict::Cancelled => Then::Cancelled,
                Verdict::Delay(_) => Then::Delayed,
            },
            message_id: delivery.map(|delivery| delivery.message_id),
            queued_ms: queued.map(ms),
            place_ms: ms(slot_wait),
            load_ms: ms(load),
            run_ms: ms(run),
            acknowledge_ms: ms(self.now - decided),
            peak_memory_bytes: peak_memory,
            denied_requests: denied,
            requests,
            steps,
            digest,
            request_id: self.invoke.request_id.clone(),
            traceparent,
            from_xray,
        };
        self.worker.ports.observer.finished(&Finished { record, outcome: &outcome });
        outcome
    }
}

/// The steps that this attempt saved.
fn saved_steps(facts: &Facts) -> Vec<SavedStep> {
    let Some(claim) = facts.claim() else { return Vec::new() };
    let own = claim.item.steps.iter().filter(|step| step.attempt == facts.attempt);
    let saved = own.map(|step| SavedStep { name: step.name.clone(), at: step.saved });
    saved.take(SavedStep::KEPT).collect()
}

/// The next step of the message after a failure. A direct invoke leaves no message.
fn follows(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::DeadLetter => Some("moved to the dead-letter queue".to_owned()),
        Verdict::Retry(after) => Some(format!("next attempt in {:.1} s", after.as_secs_f64())),
        Verdict::Release(after) => Some(format!("released for {:.1} s", after.as_secs_f64())),
        Verdict::Cancelled => Some("deleted".to_owned()),
        Verdict::Delay(_) => Some("it left the queue, and is sent again then".to_owned()),
        Verdict::Done => None,
    }
}

/// In milliseconds; whole microseconds are exact enough.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
