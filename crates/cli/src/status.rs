//! `wasq status`: the counts of messages and tasks, and where the data is.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wasq_aws::Counts;
use wasq_protocol::MessageCounts;

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
        Target::Local(_) => Some(0),
        Target::Aws(deployment) => match deployment.schedule_group() {
            Some(group) => group
                .delayed(DELAYED_MAX)
                .await
                .inspect_err(|e| tell!("wasq: messages outside of the queue are not counted: {e:#}"))
                .ok(),
            None => Some(0),
        },
    };
    let Counts { visible, in_flight, delayed } = counts;
    let counts = MessageCounts {
        waiting: visible,
        in_flight,
        delayed: delayed + outside.unwrap_or(0),
        delayed_or_more: outside.is_none_or(|outside| outside >= DELAYED_MAX as u64),
        dead: letters.visible + letters.in_flight,
    };
    let delayed = counts.delayed_text();
    lines.push(("queue", format!("{visible} waiting, {in_flight} in flight, {delayed} delayed")));
    lines.push(("dead letters", counts.dead.to_string()));
    lines.push(("tasks", format!("{live} live, {} with a refused upload", refused.len())));
    if json {
        value["queue"] = json!({ "url": address.url, "visible": visible, "in_flight": in_flight, "delayed": counts.delayed });
        if counts.delayed_or_more {
            value["queue"]["delayed_or_more"] = true.into();
        }
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
