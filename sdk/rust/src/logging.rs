//! Lines of the `log` crate, passed on to the run's log.

use log::{LevelFilter, Log, Metadata, Record};

struct Logger;

/// Sets the logger before the task runs. (A logger that is already set stays.)
pub(crate) fn start() {
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        crate::host::log(record.level(), &record.args().to_string());
    }

    fn flush(&self) {}
}
