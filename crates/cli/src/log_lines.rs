//! Lines of the log: which are printed, and how.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use serde_json::{Map, Value};
use wasq_protocol::{RunRecord, TaskName, Timestamp};

use crate::output;

/// The filter for lines of the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Lines {
    /// Only lines of this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<TaskName>,
    /// Only lines of the message with this id (its own, or the queue's) and of its children
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Only runs that failed
    #[arg(long)]
    pub(crate) failed: bool,
    /// Only the last lines, this many
    #[arg(long, short = 'n', value_name = "N", conflicts_with = "follow")]
    pub(crate) last: Option<usize>,
}

/// The filter for lines, and the form in which they are printed.
pub(crate) struct Printer {
    pub(crate) task: Option<String>,
    pub(crate) id: Option<String>,
    failed: bool,
    pub(crate) since: Timestamp,
    json: bool,
    /// The lines to print at the end, and how many at most; `None`: each line is printed at once.
    last: Option<(usize, RefCell<VecDeque<String>>)>,
    any: Cell<bool>,
}

impl Printer {
    pub(crate) fn new(select: Lines, since: Timestamp, json: bool) -> Self {
        let Lines { task, id, failed, last } = select;
        let task = task.map(|task| task.to_string());
        let last = last.map(|last| (last, RefCell::default()));
        Self { task, id, failed, since, json, last, any: Cell::new(false) }
    }

    /// Prints a line if it matches the filter. Lambda's own lines about starts and ends never match.
    pub(crate) fn line(&self, line: &str) {
        let line = line.trim_end();
        let value: Option<Map<String, Value>> = serde_json::from_str(line).ok();
        let Some(value) = value else {
            let lambdas = ["START ", "END ", "REPORT ", "INIT_", "XRAY "];
            let asked = self.task.is_some() || self.id.is_some() || self.failed || self.json;
            if !asked && !line.is_empty() && !lambdas.iter().any(|word| line.starts_with(word)) {
                self.print(line.to_owned());
            }
            return;
        };
        let is = |key: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| value.get(key).and_then(Value::as_str) == Some(wanted))
        };
        let time = value.get("timestamp").and_then(Value::as_str);
        let recent = time.and_then(|time| time.parse().ok()).is_none_or(|time: Timestamp| time >= self.since);
        if !recent
            || !is("task", &self.task)
            || !["id", "message_id", "parent"].iter().any(|key| is(key, &self.id))
        {
            return;
        }
        // Only the record of a run that failed has a kind.
        if self.failed && !value.contains_key("kind") {
            return;
        }
        self.print(if self.json { line.to_owned() } else { readable(&value) });
    }

    fn print(&self, text: String) {
        self.any.set(true);
        match &self.last {
            Some((most, lines)) => {
                let mut lines = lines.borrow_mut();
                lines.push_back(text);
                if lines.len() > *most {
                    lines.pop_front();
                }
            }
            None if self.json => output::exactly(&format!("{text}\n")),
            None => output::text(&format!("{text}\n")),
        }
    }

    /// Prints the lines that were kept for the end. Returns whether any line has matched.
    pub(crate) fn finish(&self) -> bool {
        if let Some((_, lines)) = &self.last {
            let print = if self.json { output::exactly } else { output::text };
            lines.borrow().iter().for_each(|line| print(&format!("{line}\n")));
        }
        self.any.get()
    }
}

/// A line for people: time, level, task, message id, attempt and message, then the other fields.
fn readable(line: &Map<String, Value>) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    // Times have milliseconds, so that lines align.
    let time = text("timestamp").trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut shown = format!("{seconds:<19}.{fraction:0<3.3} {:<5}", text("level"));
    for key in ["task", "id"] {
        if !text(key).is_empty() {
            shown.push_str(&format!(" {}", text(key)));
        }
    }
    if let Some(attempt) = line.get("attempt") {
        shown.push_str(&format!(" #{attempt}"));
    }
    // A further line is indented, so that it cannot pass for another record.
    shown.push_str(&format!("  {}", text("message").replace('\n', "\n    ")));
    let record: Option<RunRecord> = serde_json::from_value(Value::Object(line.clone())).ok();
    if let Some(record) = record {
        let kind = record.kind.map(|kind| format!("{kind}, ")).unwrap_or_default();
        let memory = output::size(record.peak_memory_bytes);
        let parent = record
            .parent
            .map(|parent| format!(", child of {}", parent.replace('\n', " ")))
            .unwrap_or_default();
        shown.push_str(&format!("  ({kind}{:.1} ms, {memory}{parent})", record.run_ms));
        return shown;
    }
    let known = [
        "timestamp",
        "level",
        "task",
        "id",
        "message_id",
        "attempt",
        "message",
        "target",
        "requestId",
        "xrayTraceId",
    ];
    for (key, value) in line.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        shown.push_str(&format!(" {key}={value}"));
    }
    shown
}
