//! `wasq tasks`: what is live.

use anyhow::{Result, ensure};
use serde_json::json;
use wasq_local::{Listed, list_tasks};

use crate::args::Tasks;
use crate::output::{self, Ended};

pub(crate) fn tasks(args: Tasks, json: bool) -> Result<Ended> {
    let Tasks { data } = args;
    ensure!(
        data.is_dir(),
        "there is no data folder {}: start `wasq dev` here, or name its folder by --data",
        data.display()
    );
    let tasks = list_tasks(&data)?;
    if json {
        let tasks: Vec<_> = tasks
            .iter()
            .map(|Listed { live, rejected }| json!({ "live": live, "rejected": rejected }))
            .collect();
        output::value(&json!({ "tasks": tasks }));
        return Ok(Ended::Well);
    }
    if tasks.is_empty() {
        eprintln!("no task is live: put NAME.wasm into the tasks folder of `wasq dev`");
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
        if let Some(rejection) = rejected {
            output::text(&format!(
                "{:<32} last upload refused at {}: {}\n",
                rejection.task.as_str(),
                rejection.at,
                rejection.reason
            ));
        }
    }
    Ok(Ended::Well)
}
