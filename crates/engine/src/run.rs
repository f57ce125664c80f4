//! A run: what goes in, and what comes out.

use std::pin::Pin;
use std::sync::Weak;
use std::time::Duration;

use tokio::time::Instant;
use wasq_protocol::{Failure, Message, Outcome, SentRequest, Settings, TaskName, Timestamp};

use crate::bindings::LogLevel;
use crate::secrets::SecretValues;
use crate::steps::{StepValues, Steps};

/// The inputs of one run.
pub struct Run<'a> {
    /// The facts that the task can know about the run.
    pub context: RunContext,
    /// The message's params as JSON text.
    pub params: &'a str,
    /// The task's settings, within the operator's caps.
    pub settings: &'a Settings,
    /// The values of the secrets that the settings name.
    pub secrets: &'a SecretValues,
    /// The steps of its message.
    pub steps: Steps,
    /// The time at which the run is ended: the earlier of the task's timeout and the worker's own end.
    pub deadline: Instant,
    /// Checks the params of the messages that it sends. Without it, their workers do.
    pub child_checks: Option<Weak<dyn CheckChild>>,
}

/// Checks the params of a message when a task sends it: the task can still react then.
pub trait CheckChild: Send + Sync {
    /// Compares params, as JSON text, with the schema of a task. The error says why they do not fit. If nobody knows the schema, they fit.
    fn check_child<'a>(&'a self, task: &'a TaskName, params: &'a str) -> ChildCheck<'a>;
}

/// The answer to [`CheckChild::check_child`].
pub type ChildCheck<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// The outcome of a run, and its measurements.
#[derive(Debug)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// The child tasks to send; empty unless it succeeded.
    pub children: Vec<Child>,
    /// The steps that it saved.
    pub steps: StepValues,
    /// The captured log.
    pub log: Vec<LogLine>,
    /// Log lines beyond the limit.
    pub log_dropped: u64,
    /// From the call to the end, instantiation included.
    pub duration: Duration,
    /// The most memory that the task had at once, in bytes, over all memories and tables.
    pub peak_memory: u64,
    /// HTTP requests that the policy denied.
    pub denied: u32,
    /// The first HTTP requests, at most [`SentRequest::KEPT`].
    pub requests: Vec<SentRequest>,
}

impl Report {
    /// The report of a task that was not run.
    pub fn not_run(failure: Failure) -> Self {
        Self {
            outcome: Outcome::Failure(failure),
            children: Vec::new(),
            steps: StepValues::default(),
            log: Vec::new(),
            log_dropped: 0,
            duration: Duration::ZERO,
            peak_memory: 0,
            denied: 0,
            requests: Vec::new(),
        }
    }
}

/// The facts that a task can know about its run.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// The task's name.
    pub task: TaskName,
    /// The message's id.
    pub id: String,
    /// The number of this attempt; the first is 1.
    pub attempt: u32,
    /// The maximum number of attempts.
    pub max_attempts: u32,
    /// The time at which the run will be ended.
    pub deadline: Timestamp,
    /// The id of the message whose task sent this one.
    pub parent: Option<String>,
    /// The id of the message at the top of the chain of parents.
    pub root: String,
    /// The number of parents above this message.
    pub depth: u32,
    /// How many messages this one may still cause; `None`: as many as a root.
    pub descendants: Option<u32>,
    /// The W3C trace context that came with the message.
    pub traceparent: Option<String>,
    /// X-Ray's trace header. The task does not see it; its children get it.
    pub trace_header: Option<String>,
}

/// A message that a task wants sent.
#[derive(Clone, Debug)]
pub struct Child {
    /// The message, with id, parent, root, depth and trace context set.
    pub message: Message,
    /// The message runs no sooner than this from now.
    pub delay: Duration,
    /// X-Ray's trace header of its parent.
    pub trace_header: Option<String>,
    /// The message group of its parent; without one, the child's task is its group.
    pub group: Option<String>,
}

/// One line of a run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// The level; a line of stdout has `info`, a line of stderr has `warn`.
    pub level: LogLevel,
    /// The line, without its line break.
    pub text: String,
}
