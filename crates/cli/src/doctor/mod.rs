//! `wasq doctor`: reads the live configuration, and reports what is wrong with it.

mod configuration;
mod findings;
mod policy;
mod read;
mod rules;

use anyhow::Result;
use serde_json::json;

use crate::output::{self, Ended};
use crate::target::{Target, TargetArgs};

use findings::Finding;
use rules::examine;

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn doctor(args: Doctor, json: bool) -> Result<Ended> {
    let target = args.target.target().await?;
    let live = read::live(&target).await?;
    let findings = examine(&live);
    let well = findings.is_empty() && live.unread.is_empty();
    if json {
        let findings: Vec<_> = findings
            .iter()
            .map(|Finding { effect, resource, problem, fix }| {
                json!({ "effect": effect.as_str(), "resource": resource, "problem": problem, "fix": fix })
            })
            .collect();
        output::value(&json!({ "findings": findings, "unread": live.unread }));
    } else {
        for Finding { effect, resource, problem, fix } in &findings {
            output::text(&format!(
                "{:<10} {resource}\n           {problem}\n           fix: {fix}\n",
                effect.as_str()
            ));
        }
        for unread in &live.unread {
            output::text(&format!("not read   {unread}\n"));
        }
        match (&target, well) {
            (Target::Local(data), true) => {
                output::text(&format!("wasq dev in {}: nothing found\n", data.display()));
            }
            (Target::Aws(deployment), true) => {
                output::text(&format!(
                    "{} in {}: nothing found\n",
                    deployment.name, deployment.session.region
                ));
            }
            (_, false) => eprintln!("{} found, {} not read", findings.len(), live.unread.len()),
        }
    }
    Ok(if well { Ended::Well } else { Ended::InPart })
}
