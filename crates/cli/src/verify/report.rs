//! The rows of `wasq verify`.

use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::output::tell;

/// A part of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// The configuration, as `wasq doctor` reads it.
    Configuration,
    /// Uploads go live, are refused, and come back.
    Uploads,
    /// Messages run, fail, and end.
    Runs,
    /// Messages survive a busy worker, and one that dies.
    Disturbances,
}

/// The state of a promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Held,
    Broken,
    /// It could not be tried.
    NotTried,
}

/// A promise that was held, or that could not be tried, with a detail each.
pub(super) enum Shown {
    Held(String),
    NotTried(String),
}

struct Row {
    part: &'static str,
    promise: String,
    seen: Seen,
    took: Duration,
    detail: String,
}

/// The rows so far.
pub(super) struct Report(Vec<Row>);

impl Seen {
    fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Broken => "BROKEN",
            Self::NotTried => "not tried",
        }
    }
}

impl Part {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Uploads => "uploads",
            Self::Runs => "runs",
            Self::Disturbances => "disturbances",
        }
    }
}

impl Report {
    pub(super) fn new() -> Self {
        Self(Vec::new())
    }

    /// Tries a promise. Returns whether it was held; an error is a broken promise.
    pub(super) async fn check(
        &mut self,
        part: Part,
        promise: &str,
        work: impl Future<Output = Result<Shown>>,
    ) -> bool {
        let started = Instant::now();
        let shown = work.await;
        self.add(part, promise, started.elapsed(), shown)
    }

    /// Adds a row for a promise that was tried for this time. Returns whether it was held.
    pub(super) fn add(&mut self, part: Part, promise: &str, took: Duration, shown: Result<Shown>) -> bool {
        let (seen, detail) = match shown {
            Ok(Shown::Held(detail)) => (Seen::Held, detail),
            Ok(Shown::NotTried(detail)) => (Seen::NotTried, detail),
            Err(e) => (Seen::Broken, format!("{e:#}")),
        };
        let detail = detail.replace('\n', " ");
        tell!("  {:<9} {promise}", seen.as_str());
        self.0.push(Row { part: part.as_str(), promise: promise.to_owned(), seen, took, detail });
        seen == Seen::Held
    }

    /// Whether no promise was broken.
    pub(super) fn well(&self) -> bool {
        self.0.iter().all(|row| row.seen != Seen::Broken)
    }

    fn count(&self, seen: Seen) -> usize {
        self.0.iter().filter(|row| row.seen == seen).count()
    }

    pub(super) fn json(&self, stack: &str, region: &str) -> Value {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|Row { part, promise, seen, took, detail }| {
                let seen = seen.as_str().to_lowercase().replace(' ', "-");
                let seconds = (took.as_secs_f64() * 1000.0).round() / 1000.0;
                json!({ "part": part, "promise": promise, "seen": seen, "seconds": seconds, "detail": detail })
            })
            .collect();
        json!({
            "stack": stack,
            "region": region,
            "held": self.count(Seen::Held),
            "broken": self.count(Seen::Broken),
            "not_tried": self.count(Seen::NotTried),
            "rows": rows,
        })
    }

    /// The rows as a table, and a line that counts them.
    pub(super) fn table(&self) -> String {
        let width = self.0.iter().map(|row| row.promise.chars().count()).max().unwrap_or_default();
        let mut text = String::new();
        for Row { part, promise, seen, took, detail } in &self.0 {
            let (seen, took) = (seen.as_str(), took.as_secs_f64());
            let row = format!("{part:<13}  {seen:<9}  {promise:<width$}  {took:>6.1} s  {detail}");
            text.push_str(row.trim_end());
            text.push('\n');
        }
        let (held, broken) = (self.count(Seen::Held), self.count(Seen::Broken));
        let not_tried = match self.count(Seen::NotTried) {
            0 => String::new(),
            count => format!(", {count} not tried"),
        };
        text.push_str(&format!("\n{held} promises held, {broken} broken{not_tried}\n"));
        text
    }
}
