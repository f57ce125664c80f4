//! The functions' logs in CloudWatch.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use anyhow::{Context, Result};
use aws_config::SdkConfig;
use aws_sdk_cloudwatchlogs::Client;
use aws_sdk_cloudwatchlogs::error::ProvideErrorMetadata;
use aws_sdk_cloudwatchlogs::operation::filter_log_events::builders::FilterLogEventsFluentBuilder;
use wasq_protocol::{Clock, RunRecord, SystemClock, Timestamp};

use crate::cloud::{Deployment, explain};
use crate::log_lines::Printer;
use crate::output::tell;

/// The interval between two looks for new lines. AWS allows ten looks a second for the whole account.
const POLL: Duration = Duration::from_secs(2);
/// The answers of CloudWatch that are read for the page of one run.
const PAGES_MAX: usize = 50;
/// The delay with which CloudWatch may show a line, counted from the line's time.
const LATE: Duration = Duration::from_secs(30);

impl Deployment {
    /// Prints the lines of all functions; with `follow`, for ever.
    pub(crate) async fn print_logs(&self, printer: &Printer, follow: bool) -> Result<()> {
        let client = Client::new(&self.session.sdk);
        let resources = self.resources().await?;
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
                let request =
                    client.filter_log_events().log_group_name(*group).start_time(milliseconds(from));
                match events_of(request.set_filter_pattern(pattern(printer)), group, usize::MAX).await {
                    Ok(more) => events.extend(more),
                    // The next look tries again.
                    Err(e) if follow && !seen.is_empty() => tell!("wasq: {e:#}"),
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
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Deployment {
    /// The lines of a log group between two times that are about the message with this id, in the order of their times.
    pub(crate) async fn log_lines(
        &self,
        group: &str,
        from: Timestamp,
        until: Timestamp,
        id: &str,
    ) -> Result<Vec<String>> {
        let request = Client::new(&self.session.sdk)
            .filter_log_events()
            .log_group_name(group)
            .start_time(milliseconds(from))
            .end_time(milliseconds(until))
            .filter_pattern(of_id(id));
        let mut events = events_of(request, group, PAGES_MAX).await?;
        events.sort_by_key(|(time, _, _)| *time);
        Ok(events.into_iter().map(|(_, _, line)| line).collect())
    }
}

/// The records of a worker's log, from a time on, whose id or parent's id begins with `prefix`, in the order of their times.
pub(crate) async fn records(
    sdk: &SdkConfig,
    group: &str,
    from: Timestamp,
    prefix: &str,
) -> Result<Vec<RunRecord>> {
    let pattern = format!("{{ $.id = \"{prefix}*\" || $.parent = \"{prefix}*\" }}");
    let request = Client::new(sdk).filter_log_events().log_group_name(group).start_time(milliseconds(from));
    let events = events_of(request.filter_pattern(pattern), group, usize::MAX).await?;
    let records = events.iter().filter_map(|(_, _, line)| serde_json::from_str(line).ok());
    let ours = |record: &RunRecord| {
        record.id.starts_with(prefix)
            || record.parent.as_ref().is_some_and(|parent| parent.starts_with(prefix))
    };
    let mut records: Vec<RunRecord> = records.filter(ours).collect();
    records.sort_by_key(|record| record.timestamp);
    Ok(records)
}

/// The pattern by which CloudWatch finds the lines that a printer wants; `None`: all of them.
fn pattern(printer: &Printer) -> Option<String> {
    let conditions: Vec<_> = [("task", &printer.task), ("id", &printer.id)]
        .into_iter()
        .filter_map(|(key, wanted)| wanted.as_ref().map(|wanted| (key, wanted)))
        // The printer filters by the others.
        .filter(|(_, wanted)| quotable(wanted))
        .map(|(key, wanted)| match key {
            "id" => {
                let is = |key: &str| format!("$.{key} = \"{wanted}\"");
                format!("({} || {} || {})", is("id"), is("message_id"), is("parent"))
            }
            key => format!("($.{key} = \"{wanted}\")"),
        })
        .collect();
    (!conditions.is_empty()).then(|| format!("{{ {} }}", conditions.join(" && ")))
}

/// Whether a text can stand in a pattern. A quote or a backslash could end the text there.
fn quotable(text: &str) -> bool {
    !text.contains(['"', '\\'])
}

/// The pattern of the lines about a message. Of an id with a quote or a backslash it has the part before that.
fn of_id(id: &str) -> String {
    match id.split_once(['"', '\\']) {
        None => format!("{{ $.id = \"{id}\" }}"),
        Some((beginning, _)) => format!("{{ $.id = \"{beginning}*\" }}"),
    }
}

fn milliseconds(time: Timestamp) -> i64 {
    i64::try_from(time.ms()).unwrap_or(i64::MAX)
}

/// Time, hash and text of a log group's events.
async fn events_of(
    request: FilterLogEventsFluentBuilder,
    group: &str,
    pages_max: usize,
) -> Result<Vec<(i64, u64, String)>> {
    let mut events = Vec::new();
    let mut pages = request.into_paginator().send();
    for _ in 0..pages_max {
        let Some(page) = pages.next().await else { break };
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
