//! `wasq tasks`: lists live tasks and refused uploads, or shows one task.

use anyhow::{Result, bail, ensure};
use serde_json::json;
use wasq_local::Listed;
use wasq_protocol::{Clock, LiveRecord, Schedule, SystemClock, TaskName, Version};
use wasq_schedule::Firings;

use crate::output::{self, Ended, tell};
use crate::registry::Registry;
use crate::target::TargetArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Tasks {
    /// Show everything about this task: its versions, its settings, and the reason if its last upload was
    /// refused
    #[arg(value_name = "TASK")]
    pub(crate) task: Option<TaskName>,
    /// Print the JSON Schema of the task's params and result, as its component carries it
    #[arg(long, requires = "task")]
    pub(crate) schema: bool,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn tasks(args: Tasks, json: bool) -> Result<Ended> {
    let registry = Registry::of(&args.target.target().await?)?;
    if let Some(task) = args.task {
        let listed = registry.task(&task).await?;
        ensure!(
            listed.record().is_some() || listed.rejected.is_some(),
            "no task named {task} was ever uploaded here"
        );
        if args.schema {
            let Some(schema) = listed.record().and_then(|record| record.version.schema.as_ref()) else {
                bail!("{task} has no schema; docs/types.md says how a task gets one");
            };
            output::json_text(&serde_json::to_string_pretty(schema)?);
        } else if json {
            output::value(&value(&listed));
        } else {
            output::text(&whole(&listed));
        }
        return Ok(Ended::Well);
    }
    let tasks = registry.tasks().await?;
    if json {
        output::value(&json!({ "tasks": tasks.iter().map(value).collect::<Vec<_>>() }));
        return Ok(Ended::Well);
    }
    if tasks.iter().all(|task| task.live.is_none() && task.rejected.is_none()) {
        tell!(
            "no task is live: `wasq push FILE.wasm`, or put NAME.wasm into the tasks folder of `wasq dev`, or into the tasks bucket"
        );
    }
    for listed in &tasks {
        output::text(&lines(listed));
    }
    Ok(Ended::Well)
}

fn value(listed: &Listed) -> serde_json::Value {
    let Listed { live, removed, rejected } = listed;
    json!({ "live": live, "removed": removed, "rejected": rejected })
}

/// A line each for the live version, the removal and the refused upload.
fn lines(listed: &Listed) -> String {
    let mut text = String::new();
    if let Some(LiveRecord { task, version, .. }) = &listed.live {
        let Version { version, digest, published, .. } = version;
        text += &format!("{:<32} version {version:<4} {}  {published}\n", task.as_str(), digest.short());
    }
    if let Some(LiveRecord { task, version, removed: Some(at), .. }) = &listed.removed {
        text += &format!("{:<32} removed at {at}; its last version was {}\n", task.as_str(), version.version);
    }
    if let Some(rejected) = &listed.rejected {
        let (task, at, reason) = (rejected.task.as_str(), rejected.at, &rejected.reason);
        let what = if rejected.fault { "not published, and tried again," } else { "refused" };
        text += &format!("{task:<32} last upload {what} at {at}: {}\n", reason.replace('\n', "\n    "));
    }
    text
}

/// Everything that the registry knows about a task.
fn whole(listed: &Listed) -> String {
    let mut text = lines(listed);
    let Some(record) = listed.record() else { return text };
    text += "\nversions\n";
    for version in std::iter::once(&record.version).chain(&record.history) {
        let Version { version, published, digest, bytes, made_with, uploader, .. } = version;
        let size = bytes.map_or_else(String::new, output::size);
        let line =
            format!("  {version:<4} {published}  {}  {size:>8}  {}", digest.short(), made_with.join(", "));
        text += &format!("{}\n", line.trim_end());
        if let Some(uploader) = uploader {
            text += &format!("       uploaded by {uploader}\n");
        }
    }
    if listed.live.is_some() && !record.version.settings.schedule.is_empty() {
        text += "\nschedules (`wasq schedule ls` says which are paused)\n";
        for schedule in &record.version.settings.schedule {
            let name = schedule.full_name(&record.task);
            text += &format!("  {name:<32}  {:<32}  next {}\n", schedule.when.to_string(), next(schedule));
        }
    }
    text += "\nsettings\n";
    for line in record.version.settings.to_toml().lines() {
        text += &format!("  {line}\n");
    }
    text
}

/// Firings that are shown of a schedule.
const FIRINGS: usize = 3;

/// The next firings of a schedule.
fn next(schedule: &Schedule) -> String {
    let Ok(firings) = Firings::of(schedule) else { return "never".to_owned() };
    let times = std::iter::successors(firings.after(SystemClock.now()), |last| firings.after(*last));
    let times: Vec<_> = times.take(FIRINGS).map(|time| time.to_string()).collect();
    times.join(", ")
}
