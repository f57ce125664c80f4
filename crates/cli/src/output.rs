//! How a command answers: data on stdout, everything else on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use serde::Serialize;
use serde_json::json;
use tokio::task::JoinHandle;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

use wasq_aws::{JsonLines, SpanFields, TextLines, Unformatted};
use wasq_local::Log;
use wasq_protocol::{Printable, PrintableJson};

/// The end of a command that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// As asked.
    Well,
    /// The task failed.
    TaskFailed,
    /// Not everything that was asked could be done.
    InPart,
}

impl Ended {
    /// All of them.
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] = [Self::Well, Self::TaskFailed, Self::InPart];

    /// The command's exit code.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::TaskFailed | Self::InPart => 1,
        }
    }
}

/// The exit code of a command that could not be carried out. clap uses it for wrong arguments as well.
pub(crate) const EXIT_CODE_OF_ERRORS: u8 = 2;

/// Starts the log: lines on stderr, and JSON lines in `log`.
pub(crate) fn start_logging(filter: &str, log: Option<Log>) {
    let targets = filter.parse::<Targets>().unwrap_or_else(|e| {
        tell!("wasq: --log {filter:?}: {e}; using \"info\"");
        Targets::new().with_default(LevelFilter::INFO)
    });
    // The SDK warns of every place where it found no credentials or region; the command says what is missing.
    let targets =
        if filter == "info" { targets.with_target("aws_config", LevelFilter::OFF) } else { targets };
    // `log` already has a record of each run. It does not need the same run as a line for people.
    let kept = targets.clone().with_target(Log::TOLD, LevelFilter::OFF);
    let log = log.map(|log| {
        let json = tracing_subscriber::fmt::layer().fmt_fields(Unformatted).event_format(JsonLines);
        json.with_writer(log).with_filter(kept)
    });
    let lines = tracing_subscriber::fmt::layer()
        .fmt_fields(Unformatted)
        .event_format(TextLines)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let spans = SpanFields.with_filter(targets.clone());
    tracing_subscriber::registry().with(spans).with(log).with(lines.with_filter(targets)).init();
}

/// Prints a value to stdout: the one that `--json` promises.
pub(crate) fn value<T: Serialize>(value: &T) {
    let json = serde_json::to_string(value).expect("string keys");
    exactly(&format!("{json}\n"));
}

/// Prints text for people to stdout: control characters in it are shown as text.
pub(crate) fn text(text: &str) {
    exactly(&Printable(text).to_string());
}

/// Prints JSON text for people to stdout: it keeps its value, and has no control characters.
pub(crate) fn json_text(json: &str) {
    exactly(&format!("{}\n", PrintableJson(json)));
}

/// Prints a line for people to stderr; see [`tell!`].
pub(crate) fn line(text: &str) {
    // A further line is indented, so that it cannot pass for another message.
    eprintln!("{}", Printable(&text.replace('\n', "\n    ")));
}

/// Prints a line for people to stderr, as `eprintln!` does. Control characters in it are shown as text.
macro_rules! tell {
    ($($words:tt)*) => { $crate::output::line(&format!($($words)*)) };
}
pub(crate) use tell;

/// Prints to stdout as it is. A closed stdout is not an error.
pub(crate) fn exactly(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A number of bytes for people, in decimal units: `950 B`, `12.3 kB`, `18.2 MB`.
pub(crate) fn size(bytes: u64) -> String {
    let bytes = bytes as f64;
    match bytes {
        ..1e3 => format!("{bytes} B"),
        ..1e6 => format!("{:.1} kB", bytes / 1e3),
        ..1e9 => format!("{:.1} MB", bytes / 1e6),
        _ => format!("{:.2} GB", bytes / 1e9),
    }
}

/// Reports why a command could not be carried out.
pub(crate) fn error(error: &anyhow::Error, json: bool) {
    if json {
        value(&json!({ "error": format!("{error:#}") }));
    }
    eprintln!("wasq: {}", Printable(&format!("{error:#}")));
}

/// Prints on stderr what the command waits for: after 1 s, then every 5 s.
pub(crate) struct Progress(JoinHandle<()>);

impl Progress {
    pub(crate) fn start(what: String) -> Self {
        Self(tokio::spawn(async move {
            let mut seconds = 1;
            tokio::time::sleep(Duration::from_secs(1)).await;
            loop {
                tell!("wasq: {what} ({seconds} s)");
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
