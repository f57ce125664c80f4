//! The verdict: how a message is settled. It is decided here and nowhere else.

use std::time::Duration;

use wasq_protocol::{AHEAD_IN_QUEUE, Backoff, Delivery, Failure, FailureKind, Timestamp};

/// The way in which a message is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: its children are sent, then it is deleted.
    Done,
    /// It becomes visible again after this time, for another attempt.
    Retry(Duration),
    /// It goes to the dead-letter queue.
    DeadLetter,
    /// It becomes visible again after this time; it was not attempted.
    Release(Duration),
    /// It is deleted, because somebody cancelled it.
    Cancelled,
    /// The timer keeps it until this time, then it is deleted. The timer sends it again.
    Delay(Timestamp),
}

/// The facts by which a failure is judged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// The number of the attempt that failed; the first is 1.
    pub attempt: u32,
    /// The number of attempts that the task allows.
    pub max_attempts: u32,
    /// The task's waits.
    pub backoff: Backoff,
    /// The time since the first receive of the message.
    pub known_for: Duration,
    /// How long it is until the message's `not_before`; zero if that is over, or if it has none.
    pub early: Duration,
    /// That time, if the timer can keep the message until then.
    pub delay_until: Option<Timestamp>,
    /// The time since the message was sent.
    pub age: Duration,
    /// The age at which it must be in the dead-letter queue.
    pub kept_for: Duration,
    /// A random number from 0 to 1: the full jitter of the backoff.
    pub jitter: f64,
}

/// The time that messages wait for a task that is not live: the publisher may be working on it right now.
pub(crate) const UNKNOWN_TASK_GRACE: Duration = Duration::from_secs(60);
/// The waits after which the worker looks for the task again, within that time. They are few, because the
/// worker can only estimate later how many receives were spent on them.
const GRACE_WAITS: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(16), Duration::from_secs(40)];
/// The shortest and the longest wait after a fault of the host. The shortest spares a service that is down.
/// The wait grows while the fault lasts, because every receive counts towards the redrive policy.
const HOST_FAULT_WAIT: Duration = Duration::from_secs(5);
const HOST_FAULT_WAIT_MAX: Duration = Duration::from_secs(300);
/// The margin before the end of a message's retention. At that end, SQS deletes the message without notice. A
/// message that would wait into this margin goes to the dead-letter queue while it is still there.
pub(crate) const KEPT_MARGIN: Duration = Duration::from_secs(12 * 3600);
/// The longest wait for a `not_before` in the queue, if there is a timer. It is the longest delay of SQS.
const WAIT_IN_QUEUE: Duration = Duration::from_secs(15 * 60);
/// The longest wait. SQS allows 12 h of invisibility, counted from the receive, and the run has
/// used some of it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(12 * 3600 - 15 * 60);

/// Judges a failure.
pub(crate) fn judge_failure(failure: &Failure, case: &Case) -> Verdict {
    match judge_kind(failure, case) {
        // It may succeed any moment.
        verdict if failure.kind == FailureKind::RunningElsewhere => verdict,
        // A message that is early has been checked: its time comes before its retention ends.
        Verdict::Retry(wait) | Verdict::Release(wait)
            if case.early.is_zero() && case.age + wait > case.kept_for =>
        {
            Verdict::DeadLetter
        }
        verdict => verdict,
    }
}

fn judge_kind(failure: &Failure, case: &Case) -> Verdict {
    match failure.kind {
        FailureKind::Reject
        | FailureKind::Malformed
        | FailureKind::BadParams
        | FailureKind::KilledWorker
        | FailureKind::IdReused => Verdict::DeadLetter,
        FailureKind::Cancelled | FailureKind::Skipped => Verdict::Cancelled,
        // Until the other worker's time is over.
        FailureKind::RunningElsewhere => {
            Verdict::Release(failure.retry_after().unwrap_or(HOST_FAULT_WAIT).min(WAIT_MAX))
        }
        FailureKind::Retry
        | FailureKind::Trap
        | FailureKind::OutOfTime
        | FailureKind::OutOfMemory
        | FailureKind::OutputTooLarge
        | FailureKind::OutputNotJson => {
            if case.attempt >= case.max_attempts {
                return Verdict::DeadLetter;
            }
            let wait = case.backoff.ceiling(case.attempt).mul_f64(case.jitter);
            let asked = failure.retry_after().unwrap_or_default();
            Verdict::Retry(wait.max(asked).min(WAIT_MAX))
        }
        FailureKind::UnknownTask => {
            if case.known_for >= UNKNOWN_TASK_GRACE {
                return Verdict::DeadLetter;
            }
            Verdict::Release(grace_wait(case.known_for))
        }
        // The message is not at fault, however often this happens. The queue's redrive policy
        // is the last limit.
        FailureKind::ArtifactMissing | FailureKind::Unavailable => {
            let wait = (case.known_for / 4).clamp(HOST_FAULT_WAIT, HOST_FAULT_WAIT_MAX);
            Verdict::Release(wait.max(failure.retry_after().unwrap_or_default()))
        }
        // Another worker may have it at once, or at its time.
        FailureKind::Interrupted => Verdict::Release(case.early.min(WAIT_MAX)),
        FailureKind::Delayed => match case.delay_until {
            Some(at) if case.early > WAIT_IN_QUEUE => Verdict::Delay(at),
            _ => Verdict::Release(case.early.min(WAIT_MAX)),
        },
    }
}

/// Judges a message whose `not_before` lies at `at`, and that the timer could not keep. It comes again soon: the timer may have it, and
/// then it must not stay in the queue as well. If the queue would forget it before its time, it is a dead letter before.
pub(crate) fn judge_not_kept(
    delivery: &Delivery,
    at: Timestamp,
    now: Timestamp,
    kept_for: Duration,
) -> Verdict {
    let wait = (now.since(delivery.first_received) / 4).clamp(HOST_FAULT_WAIT, HOST_FAULT_WAIT_MAX);
    let is_forgotten = at.since(delivery.sent) > AHEAD_IN_QUEUE && now.since(delivery.sent) + wait > kept_for;
    if is_forgotten { Verdict::DeadLetter } else { Verdict::Release(wait.min(at.since(now))) }
}

/// The wait that begins when the first receive of a message was `known_for` ago.
fn grace_wait(known_for: Duration) -> Duration {
    let mut ends = Duration::ZERO;
    for wait in GRACE_WAITS {
        ends += wait;
        if known_for < ends {
            return wait;
        }
    }
    GRACE_WAITS[GRACE_WAITS.len() - 1]
}

/// About how many receives of a delivery's message were spent on waiting: for its task to be published first, and for its
/// `not_before`. They count as no attempts.
pub(crate) fn receives_that_waited(
    delivery: &Delivery,
    first_published: Timestamp,
    not_before: Option<Timestamp>,
) -> u32 {
    let for_task = first_published.since(delivery.first_received);
    let for_time = not_before.map(|at| at.since(delivery.first_received)).unwrap_or_default();
    // One receive for each wait, of which none is longer than 12 h.
    let for_time = u32::try_from(for_time.as_millis().div_ceil(WAIT_MAX.as_millis())).unwrap_or(u32::MAX);
    receives_before_ready(for_task).saturating_add(for_time)
}

/// About how many receives were spent on waiting for a task that was published `known_for` after the first receive.
fn receives_before_ready(known_for: Duration) -> u32 {
    let mut begins = Duration::ZERO;
    let mut receives = 0;
    for wait in GRACE_WAITS {
        receives += u32::from(begins < known_for);
        begins += wait;
    }
    receives
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message that was sent 40 h ago, to a queue that keeps messages for 48 h.
    fn old(early: Duration) -> Case {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Case {
            attempt: 1,
            max_attempts: 5,
            backoff: Backoff { base: Duration::from_secs(2), cap: hours(1) },
            known_for: hours(1),
            early,
            delay_until: None,
            age: hours(40),
            kept_for: hours(48) - KEPT_MARGIN,
            jitter: 0.5,
        }
    }

    #[test]
    fn a_message_that_is_early_waits_however_old_it_is() {
        let failure = Failure::new(FailureKind::Delayed, "not_before lies ahead");
        let minute = Duration::from_secs(60);
        assert_eq!(judge_failure(&failure, &old(minute)), Verdict::Release(minute));
        assert_eq!(judge_failure(&failure, &old(Duration::ZERO)), Verdict::DeadLetter);
    }
}
