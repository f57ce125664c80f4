//! `wasq types`: the types of a task's params and result, for those who send.

use anyhow::{Result, anyhow, ensure};
use serde_json::json;
use wasq_protocol::TaskName;
use wasq_toolkit::{SenderLanguage, sender_types};

use crate::output::{self, Ended};
use crate::registry::Registry;
use crate::target::TargetArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Types {
    /// A live task whose component carries a schema
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    /// typescript, python or rust
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) lang: SenderLanguage,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn types(args: Types, json: bool) -> Result<Ended> {
    let Types { task, lang, target } = args;
    let listed = Registry::of(&target.target().await?)?.task(&task).await?;
    let live = listed.live.as_ref();
    ensure!(live.is_some(), "no task named {task} is live; `wasq tasks` lists those that are");
    let schema = live.and_then(|record| record.version.schema.as_ref());
    let schema = schema.ok_or_else(|| {
        anyhow!("{task} has no schema, so nobody knows its types; docs/types.md says how a task gets one")
    })?;
    let module = sender_types(&task, schema, lang);
    if json {
        output::value(&json!({ "task": task, "language": lang.name(), "module": module }));
    } else {
        output::text(&module);
    }
    Ok(Ended::Well)
}
