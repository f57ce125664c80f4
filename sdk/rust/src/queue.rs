//! Child tasks, sent when this run has succeeded.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::host;

/// A message that is to be sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Child {
    /// The task's name.
    pub task: String,
    /// Its params.
    pub params: Value,
    /// The shortest time from now until the child runs; at most 366 days.
    pub delay: Option<Duration>,
    /// Its id. Without one, it is derived from the parent's, so a parent that runs twice sends the same id.
    pub id: Option<String>,
}

/// The reason why a child was not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnqueueError {
    /// The task's name, the params or an option is not valid; the text names which and why.
    Invalid(String),
    /// The run has enqueued as many children as it may; the number is that limit.
    TooMany(u32),
    /// The message is as deep in its chain of parents as is allowed; the number is that limit.
    TooDeep(u32),
}

/// Enqueues a message for a task. Returns its id. Children are dropped if this run does not succeed.
pub fn enqueue(task: impl Into<String>, params: &impl Serialize) -> Result<String, EnqueueError> {
    let params = serde_json::to_value(params).map_err(|e| EnqueueError::Invalid(format!("params: {e}")))?;
    Child { task: task.into(), params, delay: None, id: None }.send()
}

impl Child {
    /// Enqueues it. Returns its id.
    pub fn send(self) -> Result<String, EnqueueError> {
        host::enqueue(self)
    }
}

impl fmt::Display for EnqueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(why) => write!(f, "enqueue a child: {why}"),
            Self::TooMany(limit) => {
                write!(f, "enqueue a child: this run has sent {limit}, and may send no more")
            }
            Self::TooDeep(limit) => {
                write!(f, "enqueue a child: it would have more than {limit} parents above it")
            }
        }
    }
}

impl std::error::Error for EnqueueError {}
