//! `wasq tasks`: what is live.

use anyhow::Result;
use serde_json::json;
use wasq_local::Listed;

use crate::args::Tasks;
use crate::output::{self, Ended};
use crate::registry;

pub(crate) async fn tasks(args: Tasks, json: bool) -> Result<Ended> {
    let target = args.target.target().await?;
    let tasks = registry::tasks(&target).await?;
    if json {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|Listed { live, rejected }| json!({ "live": live, "rejected": rejected }))
            .collect();
        output::value(&json!({ "tasks": tasks }));
        return Ok(Ended::Well);
    }
    if tasks.is_empty() {
        eprintln!(
            "no task is live: put NAME.wasm into the tasks folder of `wasq dev`, or into the tasks bucket"
        );
    }
    for Listed { live, rejected } in tasks {
        if let Some(record) = live {
            let version = &record.version;
            output::text(&format!(
                "{:<32} version {:<4} {}  {}\n",
                record.task.as_str(),
                version.version,
                version.digest.short(),
                version.published
            ));
        }
        if let Some(rejected) = rejected {
            output::text(&format!(
                "{:<32} last upload refused at {}: {}\n",
                rejected.task.as_str(),
                rejected.at,
                rejected.reason
            ));
        }
    }
    Ok(Ended::Well)
}
