//! `wasq logs`: prints the records of runs and the lines that tasks logged. The functions write the same
//! lines on AWS and on this machine.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use serde_json::{Map, Value};
use wasq_local::log_files;
use wasq_protocol::{Clock, RunRecord, SystemClock, TaskName, Timestamp, parse_duration};

use crate::cloud::{Deployment, explain};
use crate::output::{self, Ended};
use crate::target::{Target, TargetArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) select: Lines,
    /// How far back
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) since: Duration,
    /// Keep printing new lines until ctrl-c
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// The filter for lines of the log.
#[derive(Debug, clap::Args)]
pub(crate) struct Lines {
    /// Only lines of this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<TaskName>,
    /// Only lines of the message with this id
    #[arg(long)]
    pub(crate) id: Option<String>,
}

/// The intervals between two looks for new lines, here and on AWS. AWS allows ten looks a second for the
/// whole account.
const POLL_HERE: Duration = Duration::from_millis(200);
const POLL_AWS: Duration = Duration::from_secs(2);
/// The delay with which CloudWatch may show a line, counted from the line's time.
const LATE: Duration = Duration::from_secs(30);

pub(crate) async fn logs(args: Logs, json: bool) -> Result<Ended> {
    let Logs { target, select, since, follow } = args;
    let since = SystemClock.now().minus(since);
    let printer = Printer { task: select.task.map(|task| task.to_string()), id: select.id, since, json };
    let printed = match target.target().await? {
        Target::Local(data) => here(&data, &printer, follow).await,
        Target::Aws(deployment) => on_aws(&deployment, &printer, follow).await,
    };
    printed.map(|()| Ended::Well)
}

/// The filter for lines, and the form in which they are printed.
struct Printer {
    task: Option<String>,
    id: Option<String>,
    since: Timestamp,
    json: bool,
}

impl Printer {
    /// Prints a line if it matches the filter. Lambda's own lines about starts and ends never match.
    fn line(&self, line: &str) {
        let line = line.trim_end();
        let value: Option<Map<String, Value>> = serde_json::from_str(line).ok();
        let Some(value) = value else {
            let lambdas = ["START ", "END ", "REPORT ", "INIT_", "XRAY "];
            let asked = self.task.is_some() || self.id.is_some() || self.json;
            if !asked && !line.is_empty() && !lambdas.iter().any(|word| line.starts_with(word)) {
                output::text(&format!("{line}\n"));
            }
            return;
        };
        let is = |key: &str, wanted: &Option<String>| {
            wanted.as_ref().is_none_or(|wanted| value.get(key).and_then(Value::as_str) == Some(wanted))
        };
        let time = value.get("timestamp").and_then(Value::as_str);
        let recent = time.and_then(|time| time.parse().ok()).is_none_or(|time: Timestamp| time >= self.since);
        if !recent || !is("task", &self.task) || !is("id", &self.id) {
            return;
        }
        let text = if self.json { line.to_owned() } else { readable(&value) };
        output::text(&format!("{text}\n"));
    }
}

/// A line for people: time, level, task, message id, attempt and message, then the other fields.
fn readable(line: &Map<String, Value>) -> String {
    let text = |key: &str| line.get(key).and_then(Value::as_str).unwrap_or_default();
    // Times are cut to milliseconds, so that lines align.
    let time = text("timestamp").trim_end_matches('Z');
    let mut shown = format!("{:<23} {:<5}", &time[..time.floor_char_boundary(23)], text("level"));
    for key in ["task", "id"] {
        if !text(key).is_empty() {
            shown.push_str(&format!(" {}", text(key)));
        }
    }
    if let Some(attempt) = line.get("attempt") {
        shown.push_str(&format!(" #{attempt}"));
    }
    shown.push_str(&format!("  {}", text("message")));
    let record: Option<RunRecord> = serde_json::from_value(Value::Object(line.clone())).ok();
    if let Some(record) = record {
        let kind = record.kind.map(|kind| format!("{kind}, ")).unwrap_or_default();
        let mib = record.peak_memory_bytes as f64 / f64::from(1 << 20);
        shown.push_str(&format!("  ({kind}{:.1} ms, {mib:.1} MiB)", record.run_ms));
        return shown;
    }
    let known = ["timestamp", "level", "task", "id", "attempt", "message", "target", "spans"];
    for (key, value) in line.iter().filter(|(key, _)| !known.contains(&key.as_str())) {
        shown.push_str(&format!(" {key}={value}"));
    }
    shown
}

/// The log of `wasq dev`.
async fn here(data: &Path, printer: &Printer, follow: bool) -> Result<()> {
    let mut read: BTreeMap<PathBuf, u64> = BTreeMap::new();
    loop {
        let files = log_files(data)?;
        if files.is_empty() && !follow {
            bail!(
                "there is no log in {}: start `wasq dev` here, name its data folder by --data, or a deployment by --stack",
                data.display()
            );
        }
        for path in files {
            let from = read.entry(path.clone()).or_default();
            let more = more(&path, *from).with_context(|| format!("read {}", path.display()))?;
            // A line that is being written is read when it is whole.
            let whole = more.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            let lines = more[..whole].split(|byte| *byte == b'\n');
            lines.for_each(|line| printer.line(&String::from_utf8_lossy(line)));
            *from += whole as u64;
        }
        if !follow {
            return Ok(());
        }
        tokio::time::sleep(POLL_HERE).await;
    }
}

fn more(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The functions' logs in CloudWatch.
async fn on_aws(deployment: &Deployment, printer: &Printer, follow: bool) -> Result<()> {
    let client = Client::new(&deployment.session.sdk);
    let resources = deployment.resources().await?;
    let groups: Vec<_> = ["WorkerLogs", "PublisherLogs", "ConsumerLogs"]
        .into_iter()
        .filter_map(|logical_id| resources.get(logical_id))
        .collect();
    let mut from = printer.since;
    // Lines printed so far, by hash. A line older than the start of the next look can be forgotten.
    let mut seen: HashMap<u64, i64> = HashMap::new();
    loop {
        let started = SystemClock.now();
        let mut events = Vec::new();
        for group in &groups {
            match events_of(&client, group, from, printer).await {
                Ok(more) => events.extend(more),
                // The next look tries again.
                Err(e) if follow && !seen.is_empty() => eprintln!("wasq: {e:#}"),
                Err(e) => return Err(e),
            }
        }
        // Lines of three functions, in the order of their times.
        events.sort_by_key(|(time, _, _)| *time);
        for (time, hash, line) in events {
            if seen.insert(hash, time).is_none() {
                printer.line(&line);
            }
        }
        if !follow {
            return Ok(());
        }
        from = from.max(started.minus(LATE));
        seen.retain(|_, time| from.ms() <= u64::try_from(*time).unwrap_or(0));
        tokio::time::sleep(POLL_AWS).await;
    }
}

/// Time, hash and text of a log group's events from a time on.
async fn events_of(
    client: &Client,
    group: &str,
    from: Timestamp,
    printer: &Printer,
) -> Result<Vec<(i64, u64, String)>> {
    let mut request = client
        .filter_log_events()
        .log_group_name(group)
        .start_time(i64::try_from(from.ms()).unwrap_or(i64::MAX));
    let conditions: Vec<_> = [("task", &printer.task), ("id", &printer.id)]
        .into_iter()
        .filter_map(|(key, wanted)| wanted.as_ref().map(|wanted| (key, wanted)))
        // A value with a quote or a backslash could end the text of the pattern. The printer filters by it.
        .filter(|(_, wanted)| !wanted.contains(['"', '\\']))
        .map(|(key, wanted)| format!("($.{key} = \"{wanted}\")"))
        .collect();
    if !conditions.is_empty() {
        request = request.filter_pattern(format!("{{ {} }}", conditions.join(" && ")));
    }
    let mut events = Vec::new();
    let mut pages = request.into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = match page {
            Ok(page) => page,
            // Nothing has run yet.
            Err(e) if e.code() == Some("ResourceNotFoundException") => break,
            Err(e) => return Err(explain(e)).with_context(|| format!("read the log group {group}")),
        };
        for event in page.events.unwrap_or_default() {
            let mut hasher = DefaultHasher::new();
            (&event.event_id, &event.log_stream_name, event.timestamp, &event.message).hash(&mut hasher);
            let time = event.timestamp.unwrap_or_default();
            events.push((time, hasher.finish(), event.message.unwrap_or_default()));
        }
    }
    Ok(events)
}
