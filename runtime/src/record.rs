//! What is told of a delivery that was dealt with.

use std::time::Duration;

use wasq_protocol::{
    Clock, Delivery, FailureKind, Invoke, Outcome, RecordLevel, RunOutcome, RunRecord, Then,
};

use crate::attempt::{Attempt, Spent};
use crate::ports::{Finished, Observer, Ports};
use crate::verdict::Verdict;
use crate::worker::Inner;

/// Tells the observer of a delivery that was acknowledged, or of a direct invoke, which has none.
pub(crate) fn finished<P: Ports>(
    worker: &Inner<P>,
    delivery: Option<&Delivery>,
    attempt: &Attempt,
    invoke: &Invoke,
) {
    let Attempt {
        id,
        task,
        attempt: number,
        outcome,
        verdict,
        children: _,
        digest,
        spent,
        traceparent,
        ended,
    } = attempt;
    let Spent { placed, place, load, run, peak_memory, denied } = spent;
    let (level, outcome_word, message, kind) = match outcome {
        Outcome::Success { .. } => (RecordLevel::Info, RunOutcome::Success, "done".to_owned(), None),
        Outcome::Failure(failure) => {
            let message = match follows(verdict) {
                Some(follows) if delivery.is_some() => format!("{}; {follows}", failure.message),
                _ => failure.message.clone(),
            };
            // What merely waits for its time, or for the worker's end, is nothing to worry about.
            let expected = failure.kind == FailureKind::Interrupted;
            let level = if expected { RecordLevel::Info } else { RecordLevel::Warn };
            (level, RunOutcome::Failure, message, Some(failure.kind))
        }
    };
    let record = RunRecord {
        timestamp: worker.ports.clock.now(),
        level,
        message,
        task: task.clone(),
        id: id.clone(),
        message_id: delivery.map(|delivery| delivery.message_id.clone()),
        attempt: *number,
        outcome: outcome_word,
        kind,
        then: match verdict {
            Verdict::Done => Then::Done,
            Verdict::Retry(_) => Then::Retry,
            Verdict::GiveBack(_) => Then::GiveBack,
            Verdict::DeadLetter => Then::DeadLetter,
        },
        queued_ms: delivery.zip(*placed).map(|(delivery, placed)| ms(placed.since(delivery.sent))),
        place_ms: ms(*place),
        load_ms: ms(*load),
        run_ms: ms(*run),
        acknowledge_ms: ms(ended.elapsed()),
        peak_memory_bytes: *peak_memory,
        denied_requests: *denied,
        digest: *digest,
        request_id: invoke.request_id.clone(),
        traceparent: traceparent.clone(),
    };
    worker.ports.observer.finished(&Finished { record, outcome });
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
