//! `wasq:task/context`: the facts that a task can know about its run.

use crate::bindings::wasq::task::context::Host;
use crate::state::RunState;

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
