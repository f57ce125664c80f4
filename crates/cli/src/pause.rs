//! `wasq pause` and `wasq resume`: stop taking messages from the queue, and start again.

use anyhow::{Context, Result, bail};
use aws_sdk_scheduler::types::ScheduleState;
use serde_json::json;

use crate::cloud::{Deployment, explain};
use crate::output::{self, Ended};
use crate::target::{Target, TargetArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn pause(args: Pause, paused: bool, json: bool) -> Result<Ended> {
    let Target::Aws(deployment) = args.target.target().await? else {
        bail!(
            "name a deployment by --stack; `wasq dev` is paused on its page, or by ending it: its messages stay"
        );
    };
    Switch::of(&deployment).await?.set(&deployment, paused).await?;
    if json {
        output::value(&json!({ "stack": deployment.name, "paused": paused }));
    } else if paused {
        output::text(&format!(
            "{} is paused: running tasks continue, and messages are still taken for up to a minute; then they wait.\n`wasq resume` takes messages again. Messages expire 14 days after they were sent.\n",
            deployment.name
        ));
    } else {
        output::text(&format!("{} goes on.\n", deployment.name));
    }
    Ok(Ended::Well)
}

/// The resource that makes a deployment take messages, by its physical id.
#[derive(Clone, Debug)]
pub(crate) enum Switch {
    /// The schedule that starts the consumer.
    Schedule(String),
    /// The event source mapping.
    Mapping(String),
}

impl Switch {
    pub(crate) async fn of(deployment: &Deployment) -> Result<Self> {
        let mut resources = deployment.resources().await?;
        match (resources.remove("Schedule"), resources.remove("EventSourceMapping")) {
            (Some(schedule), _) => Ok(Self::Schedule(schedule)),
            (None, Some(mapping)) => Ok(Self::Mapping(mapping)),
            (None, None) => {
                bail!("the stack {} has neither a schedule nor an event source mapping", deployment.name)
            }
        }
    }

    pub(crate) async fn set(&self, deployment: &Deployment, paused: bool) -> Result<()> {
        match self {
            Self::Schedule(schedule) => set_schedule(deployment, schedule, paused).await,
            Self::Mapping(mapping) => {
                let lambda = aws_sdk_lambda::Client::new(&deployment.session.sdk);
                let asked = lambda.update_event_source_mapping().uuid(mapping).enabled(!paused).send().await;
                asked.map_err(explain).context("change the event source mapping")?;
                Ok(())
            }
        }
    }

    pub(crate) async fn is_paused(&self, deployment: &Deployment) -> Result<bool> {
        match self {
            Self::Schedule(schedule) => {
                let client = aws_sdk_scheduler::Client::new(&deployment.session.sdk);
                let found = client.get_schedule().name(schedule).send().await.map_err(explain)?;
                Ok(found.state == Some(ScheduleState::Disabled))
            }
            Self::Mapping(mapping) => {
                let lambda = aws_sdk_lambda::Client::new(&deployment.session.sdk);
                let found = lambda.get_event_source_mapping().uuid(mapping).send().await.map_err(explain)?;
                Ok(found.state.is_some_and(|state| ["Disabled", "Disabling"].contains(&&*state)))
            }
        }
    }
}

/// Changes a schedule's state. The API takes only a whole schedule.
async fn set_schedule(deployment: &Deployment, name: &str, paused: bool) -> Result<()> {
    let client = aws_sdk_scheduler::Client::new(&deployment.session.sdk);
    let now = client.get_schedule().name(name).send().await;
    let now = now.map_err(explain).with_context(|| format!("read the schedule {name}"))?;
    let changed = client
        .update_schedule()
        .name(name)
        .set_description(now.description)
        .set_schedule_expression(now.schedule_expression)
        .set_schedule_expression_timezone(now.schedule_expression_timezone)
        .set_flexible_time_window(now.flexible_time_window)
        .set_target(now.target)
        .state(if paused { ScheduleState::Disabled } else { ScheduleState::Enabled })
        .send()
        .await;
    changed.map_err(explain).with_context(|| format!("change the schedule {name}"))?;
    Ok(())
}
