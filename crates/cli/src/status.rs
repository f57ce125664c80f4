//! `wasq status`: the counts of messages and tasks, and where the data is.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wasq_aws::Counts;

use crate::deployed::DeploymentStatus;
use crate::output::{self, Ended, tell};
use crate::registry::Registry;
use crate::target::{Target, TargetArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// Messages of a schedule group that are counted: each hundred of them is a request.
const DELAYED_MAX: usize = 1000;

pub(crate) async fn status(args: Status, json: bool) -> Result<Ended> {
    let target = args.target.target().await?;
    let address = target.queue()?;
    let (queue, letters) = address.queues().await?;
    let what = || format!("ask {}{}", address.url, address.hint());
    let counts = queue.counts().await.with_context(what)?;
    let letters = letters.counts().await.with_context(what)?;
    let tasks = Registry::of(&target)?.tasks().await?;
    let live = tasks.iter().filter(|task| task.live.is_some()).count();
    let refused: Vec<_> =
        tasks.iter().filter_map(|task| task.rejected.as_ref()).filter(|rejection| !rejection.fault).collect();

    let mut lines = vec![];
    let mut value = match &target {
        Target::Local(data) => {
            lines.push(("wasq dev", format!("data in {}", data.display())));
            json!({ "data": data })
        }
        Target::Aws(deployment) => {
            let DeploymentStatus { lines: of_stack, value } = deployment.status()?;
            lines.extend(of_stack);
            value
        }
    };
    let outside = match &target {
        // `wasq dev` counts them as SQS's delayed messages.
        Target::Local(_) => 0,
        Target::Aws(deployment) => match deployment.schedule_group() {
            Some(group) => group.delayed(DELAYED_MAX).await.unwrap_or_else(|e| {
                tell!("wasq: messages outside of the queue are not counted: {e:#}");
                0
            }),
            None => 0,
        },
    };
    let Counts { visible, in_flight, delayed } = counts;
    let delayed = delayed + outside;
    let or_more = if outside >= DELAYED_MAX as u64 { " or more" } else { "" };
    lines.push(("queue", format!("{visible} waiting, {in_flight} in flight, {delayed}{or_more} delayed")));
    lines.push(("dead letters", (letters.visible + letters.in_flight).to_string()));
    lines.push(("tasks", format!("{live} live, {} with a refused upload", refused.len())));
    if json {
        value["queue"] =
            json!({ "url": address.url, "visible": visible, "in_flight": in_flight, "delayed": delayed });
        value["dead_letters"] = json!({ "visible": letters.visible, "in_flight": letters.in_flight });
        value["tasks"] =
            json!({ "live": live, "refused": Value::from_iter(refused.iter().map(|r| r.task.as_str())) });
        output::value(&value);
        return Ok(Ended::Well);
    }
    for (name, text) in lines {
        output::text(&format!("{name:<13} {text}\n"));
    }
    if letters.visible > 0 {
        tell!("`wasq dlq ls` shows the dead letters");
    }
    Ok(Ended::Well)
}
