//! What happens with a message: decided here and nowhere else.

use std::time::Duration;

use wasq_protocol::{Backoff, Failure, FailureKind};

/// What happens with a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is done: its children are sent, then it is deleted.
    Done,
    /// It becomes visible again after this time, for another attempt.
    Retry(Duration),
    /// It goes to the dead-letter queue.
    DeadLetter,
    /// It becomes visible again after this time; nothing was attempted.
    GiveBack(Duration),
}

/// What a failure is judged by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    /// Which attempt failed; the first is 1.
    pub attempt: u32,
    /// How many attempts there are.
    pub max_attempts: u32,
    /// The task's waits.
    pub backoff: Backoff,
    /// How long the message has been known to workers.
    pub known_for: Duration,
    /// How long ago the message was sent.
    pub age: Duration,
    /// The age at which it must be in the dead-letter queue.
    pub kept_for: Duration,
    /// A random number from 0 to 1: the full jitter of the backoff.
    pub jitter: f64,
}

/// A task that is not live (yet) may be being published right now: its messages wait this long for it.
pub(crate) const UNKNOWN_TASK_GRACE: Duration = Duration::from_secs(60);
/// Within that time the worker looks again after these waits: few, because it can only estimate later how many receives
/// were spent on them.
const GRACE_WAITS: [Duration; 3] = [Duration::from_secs(4), Duration::from_secs(16), Duration::from_secs(40)];
/// After a fault of the host's own: long enough not to hammer a service that is down, and the longer the fault lasts
/// the longer, because every receive counts towards the redrive policy.
const HOST_FAULT_WAIT: Duration = Duration::from_secs(5);
const HOST_FAULT_WAIT_MAX: Duration = Duration::from_secs(300);
/// SQS forgets a message after its retention, without a word. One that would wait until so long before that goes to the
/// dead-letter queue while it is there.
pub(crate) const KEPT_MARGIN: Duration = Duration::from_secs(12 * 3600);
/// A `not_before` cannot lie further after the send than this: the shortest retention that we work with is four days.
pub(crate) const AHEAD_MAX: Duration = Duration::from_secs(3 * 24 * 3600);
/// The longest wait. SQS allows 12 h of invisibility, counted from the receive, and the run has had some of it.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(12 * 3600 - 15 * 60);

/// Judges a failure.
pub(crate) fn judge(failure: &Failure, case: &Case) -> Verdict {
    match judge_kind(failure, case) {
        Verdict::Retry(wait) | Verdict::GiveBack(wait) if case.age + wait > case.kept_for => {
            Verdict::DeadLetter
        }
        verdict => verdict,
    }
}

fn judge_kind(failure: &Failure, case: &Case) -> Verdict {
    match failure.kind {
        FailureKind::Reject | FailureKind::Malformed | FailureKind::TooLarge => Verdict::DeadLetter,
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
            Verdict::GiveBack(grace_wait(case.known_for))
        }
        // Not the message's fault, however often it happens; the queue's redrive policy is the last net.
        FailureKind::ArtifactMissing | FailureKind::Unavailable => {
            Verdict::GiveBack((case.known_for / 4).clamp(HOST_FAULT_WAIT, HOST_FAULT_WAIT_MAX))
        }
        FailureKind::Interrupted => Verdict::GiveBack(Duration::ZERO),
    }
}

/// The wait that begins when a message has been known for so long.
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

/// About how many receives of a message were spent on waiting for its task to be ready: `known_for` is the time from
/// its first receive until then. They count as no attempts.
pub(crate) fn receives_before_ready(known_for: Duration) -> u32 {
    let mut begins = Duration::ZERO;
    let mut receives = 0;
    for wait in GRACE_WAITS {
        receives += u32::from(begins < known_for);
        begins += wait;
    }
    receives
}
