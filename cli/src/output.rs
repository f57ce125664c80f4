//! How a command answers: data on stdout, everything else on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::task::JoinHandle;
use tracing_subscriber::EnvFilter;

use crate::args::Args;

/// How a command ended that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As asked.
    Well,
    /// The task failed.
    TaskFailed,
    /// Not everything could be done that was asked.
    InPart,
}

/// Starts log lines on stderr.
pub(crate) fn start_logging(args: &Args) {
    let filter = EnvFilter::try_new(&args.log).unwrap_or_else(|e| {
        eprintln!("wasq: --log {:?}: {e}; using \"info\"", args.log);
        EnvFilter::new("info")
    });
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(filter)
        .init();
}

/// Prints a value to stdout: the one that `--json` promises.
pub(crate) fn value<T: Serialize>(value: &T) {
    let json = serde_json::to_string(value).expect("string keys");
    text(&format!("{json}\n"));
}

/// Prints to stdout. That nobody reads it any more is no error.
pub(crate) fn text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// Reports why a command could not be carried out.
pub(crate) fn error(error: &anyhow::Error, json: bool) {
    if json {
        value(&json!({ "error": format!("{error:#}") }));
    }
    eprintln!("wasq: {error:#}");
}

/// Says on stderr what is being waited for, once it has taken longer than a second and then every five.
pub(crate) struct Progress(JoinHandle<()>);

impl Progress {
    pub(crate) fn start(what: String) -> Self {
        Self(tokio::spawn(async move {
            let mut seconds = 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            loop {
                eprintln!("wasq: {what} ({seconds} s)");
                seconds += 5;
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.abort();
    }
}
