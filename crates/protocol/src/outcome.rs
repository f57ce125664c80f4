//! How a run ended.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{ItemState, RunItem, TaskName};

/// How a run ended: the worker's answer to a direct invoke.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Wire", into = "Wire")]
pub enum Outcome {
    /// The task returned a result.
    Success {
        /// The task's result, as its own JSON text.
        output: Box<RawValue>,
    },
    /// The task returned no result.
    Failure(Failure),
}

/// The outcome as JSON: `{"outcome": "success", "output": ...}` or `{"outcome": "failure", "kind": ..., "message": ...}`.
#[derive(Clone, Serialize, Deserialize)]
struct Wire {
    outcome: Word,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    output: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    kind: Option<FailureKind>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    retry_after_seconds: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    Success,
    Failure,
}

/// How a message ended. The single-machine stack answers with it to a client that waits for the message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// The message's own id.
    pub id: String,
    /// The queue's id of the message.
    pub message_id: String,
    /// The task that it names, if it names one.
    pub task: Option<TaskName>,
    /// How many attempts were made.
    pub attempt: u32,
    /// Where it is now.
    pub end: End,
    /// How the last run ended, or why there was none.
    pub result: Outcome,
    /// How long the last run took, in milliseconds.
    pub duration_ms: f64,
    /// The most memory that the last run had, in bytes.
    pub peak_memory_bytes: u64,
}

impl Ended {
    /// The end of a message as its item has it; `None` if it has not ended.
    pub fn of(item: &RunItem) -> Option<Self> {
        let failure = |kind: FailureKind, reason: &str| {
            let reason = item.reason.as_deref().unwrap_or(reason);
            Outcome::Failure(Failure::new(item.kind.unwrap_or(kind), reason))
        };
        let (end, result) = match item.state {
            ItemState::Waiting | ItemState::Running | ItemState::Retrying => return None,
            ItemState::Done => {
                let output = item.result.clone().unwrap_or_else(|| RawValue::NULL.to_owned());
                (End::Done, Outcome::Success { output })
            }
            ItemState::Dead => (End::DeadLetter, failure(FailureKind::Retry, "")),
            ItemState::Cancelled => {
                let failure = Failure::new(FailureKind::Cancelled, "it was cancelled");
                (End::Cancelled, Outcome::Failure(failure))
            }
        };
        let last = item.history.last();
        Some(Self {
            id: item.id.clone(),
            message_id: item.message_id.clone().unwrap_or_default(),
            task: item.task.clone(),
            attempt: item.attempts,
            end,
            result,
            duration_ms: last.map_or(0.0, |last| last.run_ms),
            peak_memory_bytes: last.map_or(0, |last| last.peak_memory_bytes),
        })
    }
}

/// The last failure of a message that has not ended. The single-machine stack answers with it to a client that
/// waits for the message.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Unfinished {
    /// The number of this answer; a client that has seen it asks for a later one.
    pub number: u64,
    /// The attempt that was made, or that is about to be made.
    pub attempt: u32,
    /// Why the message has not ended.
    pub failure: Failure,
    /// The time until the next try, in milliseconds. `None` if the message is on its way.
    pub next_ms: Option<u64>,
}

/// The final state of a message that gets no more attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// Deleted, after its task succeeded.
    Done,
    /// In the dead-letter queue.
    DeadLetter,
    /// Deleted, because somebody cancelled it.
    Cancelled,
}

/// A failure, as data: a failed task is not an `Err`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind of failure; it decides the next step for the message.
    pub kind: FailureKind,
    /// The reason for the failure, for people.
    pub message: String,
    /// The shortest wait before the next attempt, in seconds, if the task asked for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

impl From<Outcome> for Wire {
    fn from(outcome: Outcome) -> Self {
        let (word, output, failure) = match outcome {
            Outcome::Success { output } => (Word::Success, Some(output), None),
            Outcome::Failure(failure) => (Word::Failure, None, Some(failure)),
        };
        Self {
            outcome: word,
            output,
            kind: failure.as_ref().map(|f| f.kind),
            retry_after_seconds: failure.as_ref().and_then(|f| f.retry_after_seconds),
            message: failure.map(|f| f.message),
        }
    }
}

impl TryFrom<Wire> for Outcome {
    type Error = &'static str;

    fn try_from(wire: Wire) -> Result<Self, Self::Error> {
        let Wire { outcome, output, kind, message, retry_after_seconds } = wire;
        match outcome {
            // serde reads an explicit null as an absent output.
            Word::Success => {
                Ok(Self::Success { output: output.unwrap_or_else(|| RawValue::NULL.to_owned()) })
            }
            Word::Failure => Ok(Self::Failure(Failure {
                kind: kind.ok_or("a failure has no kind")?,
                message: message.ok_or("a failure has no message")?,
                retry_after_seconds,
            })),
        }
    }
}

impl Failure {
    /// A failure that asks for no wait before the next attempt.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after_seconds: None }
    }

    /// The wait before the next attempt, if the task asked for one.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after_seconds.map(|s| Duration::from_secs(s.into()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind, self.message)
    }
}

/// The kinds of failure. The names are part of the wire contract: log lines and the dead-letter queue contain
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FailureKind {
    /// The task asked for another attempt.
    Retry,
    /// The task said that this message can never succeed.
    Reject,
    /// The task trapped: a panic, an uncaught exception, an illegal instruction.
    Trap,
    /// The task was not done when its time was up.
    OutOfTime,
    /// The task wanted more memory than it may have.
    OutOfMemory,
    /// The task's result is larger than allowed.
    OutputTooLarge,
    /// The task's result is no JSON.
    OutputNotJson,
    /// The message is not of the shape that wasq reads.
    Malformed,
    /// The params do not fit the schema of the task.
    BadParams,
    /// Its worker died, again and again, and in the end with no other message beside it.
    KilledWorker,
    /// No task of this name is live.
    UnknownTask,
    /// The task is live, but not (yet) compiled for this worker, or its artifact is damaged.
    ArtifactMissing,
    /// The worker could not reach the registry or the queue.
    Unavailable,
    /// The worker was told to stop, or had no time left, before the run was over.
    Interrupted,
    /// The message's `not_before` lies ahead.
    Delayed,
    /// Another delivery of the same id is running.
    RunningElsewhere,
    /// A message with the same id had another task or other params.
    IdReused,
    /// Somebody cancelled the message.
    Cancelled,
    /// Another firing of the same schedule was running.
    Skipped,
}

impl FailureKind {
    /// Whether the failure is of the message or its run. The others only delay the message.
    pub fn is_attempt(self) -> bool {
        match self {
            Self::Retry
            | Self::Reject
            | Self::Trap
            | Self::OutOfTime
            | Self::OutOfMemory
            | Self::OutputTooLarge
            | Self::OutputNotJson
            | Self::Malformed
            | Self::BadParams
            | Self::KilledWorker
            | Self::IdReused
            | Self::Skipped
            | Self::Cancelled => true,
            Self::UnknownTask
            | Self::ArtifactMissing
            | Self::Unavailable
            | Self::Interrupted
            | Self::Delayed
            | Self::RunningElsewhere => false,
        }
    }

    /// Every kind, for tables and tests.
    pub const ALL: [FailureKind; 19] = [
        FailureKind::Retry,
        FailureKind::Reject,
        FailureKind::Trap,
        FailureKind::OutOfTime,
        FailureKind::OutOfMemory,
        FailureKind::OutputTooLarge,
        FailureKind::OutputNotJson,
        FailureKind::Malformed,
        FailureKind::BadParams,
        FailureKind::KilledWorker,
        FailureKind::UnknownTask,
        FailureKind::ArtifactMissing,
        FailureKind::Unavailable,
        FailureKind::Interrupted,
        FailureKind::Delayed,
        FailureKind::RunningElsewhere,
        FailureKind::IdReused,
        FailureKind::Cancelled,
        FailureKind::Skipped,
    ];

    /// The name on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retry => "retry",
            Self::Reject => "reject",
            Self::Trap => "trap",
            Self::OutOfTime => "out-of-time",
            Self::OutOfMemory => "out-of-memory",
            Self::OutputTooLarge => "output-too-large",
            Self::OutputNotJson => "output-not-json",
            Self::Malformed => "malformed",
            Self::BadParams => "bad-params",
            Self::KilledWorker => "killed-worker",
            Self::UnknownTask => "unknown-task",
            Self::ArtifactMissing => "artifact-missing",
            Self::Unavailable => "unavailable",
            Self::Interrupted => "interrupted",
            Self::Delayed => "delayed",
            Self::RunningElsewhere => "running-elsewhere",
            Self::IdReused => "id-reused",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
