//! What is told of a delivery that was dealt with.

use std::time::Duration;

use tokio::time::Instant;
use wasq_protocol::{
    Clock, FailureKind, Invoke, Outcome, RecordLevel, RunOutcome, RunRecord, Then, Timestamp,
};

use crate::attempt::{Attempt, Spent};
use crate::ports::{Finished, Observer, Ports};
use crate::verdict::Verdict;
use crate::worker::Inner;

/// Tells the observer of what came to its end now, in one invoke.
pub(crate) struct Teller<'a, P: Ports> {
    worker: &'a Inner<P>,
    invoke: &'a Invoke,
    at: Timestamp,
    now: Instant,
}

/// What the queue knows of a delivery.
pub(crate) struct Origin {
    pub(crate) message_id: String,
    pub(crate) sent: Timestamp,
}

impl<'a, P: Ports> Teller<'a, P> {
    pub(crate) fn new(worker: &'a Inner<P>, invoke: &'a Invoke) -> Self {
        Self { worker, invoke, at: worker.ports.clock.now(), now: Instant::now() }
    }

    /// Of a delivery that was acknowledged, or of a direct invoke, which has no origin. Returns the outcome.
    pub(crate) fn tell(&self, origin: Option<Origin>, attempt: Attempt) -> Outcome {
        let Attempt {
            id,
            task,
            attempt,
            outcome,
            verdict,
            children: _,
            digest,
            spent: Spent { placed, place, load, run, peak_memory, denied },
            traceparent,
            ended,
        } = attempt;
        let (level, outcome_word, message, kind) = match &outcome {
            Outcome::Success { .. } => (RecordLevel::Info, RunOutcome::Success, "done".to_owned(), None),
            Outcome::Failure(failure) => {
                let message = match follows(&verdict) {
                    Some(follows) if origin.is_some() => format!("{}; {follows}", failure.message),
                    _ => failure.message.clone(),
                };
                // What merely waits for its time, or for the worker's end, is nothing to worry about.
                let expected = failure.kind == FailureKind::Interrupted;
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
            attempt,
            outcome: outcome_word,
            kind,
            then: match verdict {
                Verdict::Done => Then::Done,
                Verdict::Retry(_) => Then::Retry,
                Verdict::GiveBack(_) => Then::GiveBack,
                Verdict::DeadLetter => Then::DeadLetter,
            },
            queued_ms: origin.as_ref().zip(placed).map(|(origin, placed)| ms(placed.since(origin.sent))),
            message_id: origin.map(|origin| origin.message_id),
            place_ms: ms(place),
            load_ms: ms(load),
            run_ms: ms(run),
            acknowledge_ms: ms(self.now - ended),
            peak_memory_bytes: peak_memory,
            denied_requests: denied,
            digest,
            request_id: self.invoke.request_id.clone(),
            traceparent,
        };
        self.worker.ports.observer.finished(&Finished { record, outcome: &outcome });
        outcome
    }
}

/// What follows a failure.
fn follows(verdict: &Verdict) -> Option<String> {
    match verdict {
        Verdict::DeadLetter => Some("moved to the dead-letter queue".to_owned()),
        Verdict::Retry(after) => Some(format!("next attempt in {:.1} s", after.as_secs_f64())),
        Verdict::GiveBack(after) => Some(format!("given back for {:.1} s", after.as_secs_f64())),
        Verdict::Done => None,
    }
}

/// Whole microseconds are exact enough.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
