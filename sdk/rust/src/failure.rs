//! How a task says that it did not succeed.

use std::error::Error;
use std::fmt::{self, Display};
use std::time::Duration;

/// The next step for a message that the task could not finish.
///
/// Any error turns into [`Failure::Retry`] by `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A temporary error: another attempt by the task's retry policy, until its attempts are used up.
    Retry(String),
    /// A temporary error with a known end, such as a rate limit.
    RetryAfter {
        /// The shortest time to wait.
        after: Duration,
        /// The reason, for people.
        reason: String,
    },
    /// This message can never succeed: wasq moves it to the dead-letter queue, with this reason.
    Reject(String),
}

impl Failure {
    /// Another attempt, with this reason.
    pub fn retry(reason: impl Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// Another attempt, no sooner than after this time.
    pub fn retry_after(after: Duration, reason: impl Display) -> Self {
        Self::RetryAfter { after, reason: reason.to_string() }
    }

    /// No further attempt.
    pub fn reject(reason: impl Display) -> Self {
        Self::Reject(reason.to_string())
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Retry(reason) => write!(f, "retry: {reason}"),
            Self::RetryAfter { after, reason } => write!(f, "retry after {} s: {reason}", after.as_secs()),
            Self::Reject(reason) => write!(f, "reject: {reason}"),
        }
    }
}

/// Adds all causes to the reason. (Because of this conversion, `Failure` itself cannot implement [`Error`].)
impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            reason.push_str(&format!(": {error}"));
            cause = error.source();
        }
        Self::Retry(reason)
    }
}
