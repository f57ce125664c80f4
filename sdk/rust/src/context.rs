//! Information about the run in progress.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::host;

/// All information about the run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) id: String,
    pub(crate) task: String,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) deadline_ms: u64,
    pub(crate) parent: Option<String>,
    pub(crate) root: String,
    pub(crate) depth: u32,
    pub(crate) traceparent: Option<String>,
}

/// The message's id: the same in every attempt, which makes it the key for work that must not be done twice.
pub fn id() -> String {
    host::context(|context| context.id.clone())
}

/// The name under which this task was called.
pub fn task() -> String {
    host::context(|context| context.task.clone())
}

/// The number of this attempt; the first is 1.
pub fn attempt() -> u32 {
    host::context(|context| context.attempt)
}

/// The number of attempts that the task's settings allow.
pub fn max_attempts() -> u32 {
    host::context(|context| context.max_attempts)
}

/// The time at which wasq ends this run.
pub fn deadline() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(host::context(|context| context.deadline_ms))
}

/// The id of the message whose task enqueued this one, if one did.
pub fn parent() -> Option<String> {
    host::context(|context| context.parent.clone())
}

/// The id of the message at the top of the chain of parents; the message's own if it has none.
pub fn root() -> String {
    host::context(|context| context.root.clone())
}

/// The number of parents above this message.
pub fn depth() -> u32 {
    host::context(|context| context.depth)
}

/// The W3C trace context of the message, if it has one.
pub fn traceparent() -> Option<String> {
    host::context(|context| context.traceparent.clone())
}
