//! `wasq schedule`: lists, pauses, resumes and fires the schedules of tasks.

use anyhow::{Context, Result, bail};
use serde_json::json;
use wasq_protocol::{Clock, ScheduleState, SystemClock};
use wasq_schedule::{name_on_aws, next_firings};

use crate::cloud::Deployment;
use crate::output::{self, Ended, tell};
use crate::registry::Registry;
use crate::runs::Endpoint;
use crate::target::{Target, TargetArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Schedule {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    target: TargetArgs,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// List all schedules, and when each fires next
    Ls,
    /// Let a schedule fire no more, until `wasq schedule resume`
    ///
    /// A schedule that is paused stays paused when a new version of its task is published. What would have fired meanwhile is not made
    /// up for.
    Pause {
        /// The schedule: the name of its task, or TASK/NAME if it has a name of its own
        #[arg(value_name = "SCHEDULE")]
        name: String,
    },
    /// Let a schedule fire again
    Resume {
        /// The schedule, as `wasq schedule ls` names it
        #[arg(value_name = "SCHEDULE")]
        name: String,
    },
    /// Send the message of a schedule now, beside its firings
    Fire {
        /// The schedule, as `wasq schedule ls` names it
        #[arg(value_name = "SCHEDULE")]
        name: String,
    },
}

pub(crate) async fn schedule(args: Schedule, json: bool) -> Result<Ended> {
    let Schedule { what, target } = args;
    let target = target.target().await?;
    match what {
        What::Ls => {
            let schedules = list(&target).await?;
            if json {
                output::value(&json!({ "schedules": schedules }));
                return Ok(Ended::Well);
            }
            if schedules.is_empty() {
                tell!("wasq: no live task has a schedule: [[schedule]] in its settings makes one");
            }
            schedules.iter().for_each(|state| output::text(&line(state)));
            Ok(Ended::Well)
        }
        What::Pause { name } => pause(&target, &name, true, json).await,
        What::Resume { name } => pause(&target, &name, false, json).await,
        What::Fire { name } => fire(&target, &name, json).await,
    }
}

/// All schedules of live tasks, in the order of their names.
pub(crate) async fn list(target: &Target) -> Result<Vec<ScheduleState>> {
    match target {
        Target::Local(data) => Endpoint::of(data)?.schedules().await,
        Target::Aws(deployment) => of_deployment(deployment, &Registry::of(target)?).await,
    }
}

/// The schedules of a deployment, in the order of their names.
pub(crate) async fn of_deployment(
    deployment: &Deployment,
    registry: &Registry,
) -> Result<Vec<ScheduleState>> {
    let enabled = deployment.schedules()?.enabled().await?;
    let now = SystemClock.now();
    let mut states = Vec::new();
    for record in registry.tasks().await?.into_iter().filter_map(|listed| listed.live) {
        for (name, schedule, next) in next_firings(&record.task, &record.version.settings, now) {
            // One that is not there yet is set within an hour.
            let paused = enabled.get(&name_on_aws(&record.task, schedule)) == Some(&false);
            states.push(ScheduleState {
                name,
                task: record.task.clone(),
                schedule: schedule.clone(),
                paused,
                next: next.filter(|_| !paused),
            });
        }
    }
    states.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(states)
}

fn line(state: &ScheduleState) -> String {
    let ScheduleState { name, schedule, paused, next, .. } = state;
    let next = match next {
        _ if *paused => "paused".to_owned(),
        Some(next) => format!("next {next}"),
        None => "never again".to_owned(),
    };
    format!("{name:<32}  {:<32}  {next}\n", schedule.when.to_string())
}

async fn find(target: &Target, name: &str) -> Result<ScheduleState> {
    let all = list(target).await?;
    let names: Vec<String> = all.iter().map(|state| state.name.clone()).collect();
    all.into_iter().find(|state| state.name == name).with_context(|| {
        let known = if names.is_empty() { "there are none".to_owned() } else { names.join(", ") };
        format!("there is no schedule {name} (known schedules: {known})")
    })
}

async fn pause(target: &Target, name: &str, paused: bool, json: bool) -> Result<Ended> {
    let state = find(target, name).await?;
    match target {
        Target::Local(data) => Endpoint::of(data)?.pause_schedule(name, paused).await?,
        Target::Aws(deployment) => {
            let there =
                deployment.schedules()?.pause(&name_on_aws(&state.task, &state.schedule), paused).await?;
            if !there {
                bail!("{name} is not set yet: the publisher does it within an hour; `wasq doctor` says more");
            }
        }
    }
    if json {
        output::value(&json!({ "schedule": name, "paused": paused }));
    } else {
        output::text(&format!("{name} {}\n", if paused { "is paused" } else { "goes on" }));
    }
    Ok(Ended::Well)
}

async fn fire(target: &Target, name: &str, json: bool) -> Result<Ended> {
    let ScheduleState { task, schedule, .. } = find(target, name).await?;
    let time = SystemClock.now().to_string();
    let address = target.queue()?;
    let client = address.client().await;
    let sent = client
        .send_message()
        .queue_url(&address.url)
        .message_body(schedule.body(&task, &time))
        .message_group_id(task.as_str())
        .send()
        .await;
    sent.map_err(wasq_aws::explain).with_context(|| format!("send to {}{}", address.url, address.hint()))?;
    let id = format!("{name}@{time}");
    if json {
        output::value(&json!({ "id": id }));
    } else {
        output::text(&format!("{id}\n"));
    }
    Ok(Ended::Well)
}
