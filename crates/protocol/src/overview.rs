//! The state of the whole, as the page and `wasq top` show it.

use serde::{Deserialize, Serialize};

use crate::{FailureKind, TaskName, Timestamp};

/// The state of the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Overview {
    /// The messages in the queue.
    pub counts: MessageCounts,
    /// Nothing older than this is known of the runs.
    pub since: Timestamp,
    /// Slices of the same length, oldest first. The last one is not over.
    pub slices: Vec<OverviewSlice>,
    /// The runs that failed, by kind, most first.
    pub failures: Vec<(FailureKind, u64)>,
    /// The tasks, by name.
    pub tasks: Vec<TaskLoad>,
    /// Whether no more messages are taken from the queue; `None` if that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub paused: Option<bool>,
    /// A sentence about runs that are not in it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub note: Option<String>,
}

impl Overview {
    /// Says that it is paused.
    pub const PAUSED: &str = "Paused: no more messages are taken from the queue. They wait there.";
}

/// The messages in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageCounts {
    /// Messages that wait for a worker.
    pub waiting: u64,
    /// Messages that a worker has, and those that wait for another attempt.
    pub in_flight: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// There may be more of them: not all were counted.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub delayed_or_more: bool,
    /// Dead letters.
    pub dead: u64,
}

impl MessageCounts {
    /// The number of delayed messages, and whether there may be more.
    pub fn delayed_text(&self) -> String {
        format!("{}{}", self.delayed, if self.delayed_or_more { " or more" } else { "" })
    }
}

/// The runs that ended in a slice of time.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OverviewSlice {
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// From the send of a message to the begin of its run; `None` if no run ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub wait: Option<Quantiles>,
    /// How long the runs took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<Quantiles>,
}

/// Durations in milliseconds that half, 95 % and 99 % of the runs did not exceed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// 95 %.
    pub p95: f64,
    /// 99 %.
    pub p99: f64,
}

/// The runs of one task over the span.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskLoad {
    /// Its name.
    pub task: TaskName,
    /// Whether it is live.
    pub live: bool,
    /// Whether its last upload was refused.
    pub refused: bool,
    /// Runs that succeeded.
    pub succeeded: u64,
    /// Runs that failed.
    pub failed: u64,
    /// How long its runs took.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub run: Option<Quantiles>,
    /// Runs by slice, oldest first.
    pub by_slice: Vec<u64>,
}
