//! `wasq:task/log`: log lines with a level.

use crate::bindings::wasq::task::log::{Host, Level};
use crate::state::RunState;

impl Host for RunState {
    fn log(&mut self, level: Level, message: String) {
        self.log.line(level, &message);
    }
}
