//! `wasq:task/context`: what a task can know about its run.

use wasq_protocol::{TaskName, Timestamp};

use crate::bindings::wasq::task::context::Host;
use crate::state::RunState;

/// What a task can know about its run.
#[derive(Clone, Debug)]
pub struct RunContext {
    /// The task's name.
    pub task: TaskName,
    /// The message's id.
    pub id: String,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
    /// How many attempts there are.
    pub max_attempts: u32,
    /// When the run will be ended.
    pub deadline: Timestamp,
    /// The id of the message whose task sent this one.
    pub parent: Option<String>,
    /// The id of the message at the top of the chain of parents.
    pub root: String,
    /// How many parents are above this message.
    pub depth: u32,
    /// The W3C trace context that came with the message.
    pub traceparent: Option<String>,
    /// X-Ray's trace header. The task does not see it; its children get it.
    pub trace_header: Option<String>,
}

impl Host for RunState {
    fn id(&mut self) -> String {
        self.context.id.clone()
    }

    fn task(&mut self) -> String {
        self.context.task.to_string()
    }

    fn attempt(&mut self) -> u32 {
        self.context.attempt
    }

    fn max_attempts(&mut self) -> u32 {
        self.context.max_attempts
    }

    fn deadline(&mut self) -> u64 {
        self.context.deadline.ms()
    }

    fn parent(&mut self) -> Option<String> {
        self.context.parent.clone()
    }

    fn root(&mut self) -> String {
        self.context.root.clone()
    }

    fn depth(&mut self) -> u32 {
        self.context.depth
    }

    fn traceparent(&mut self) -> Option<String> {
        self.context.traceparent.clone()
    }
}
