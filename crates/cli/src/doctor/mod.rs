//! `wasq doctor`: reads the live configuration, and reports what is wrong with it. Without a deployment, it also
//! looks at this machine.

mod configuration;
mod findings;
mod machine;
mod policy;
mod read;
mod rules;

use anyhow::Result;
use serde_json::json;

use crate::output::{self, Ended, tell};
use crate::target::{Target, TargetArgs};

pub(crate) use findings::{Effect, Finding};

use machine::Machine;
use rules::examine;

/// Examines a deployment. Returns the findings, and the parts that could not be read.
pub(crate) async fn examined(deployment: &Target) -> Result<(Vec<Finding>, Vec<String>)> {
    let live = read::live(deployment).await?;
    Ok((examine(&live), live.unread))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn doctor(args: Doctor, json: bool) -> Result<Ended> {
    let target = args.target.target().await?;
    let machine = match &target {
        Target::Local(data) => Some(Machine::look(data)),
        Target::Aws(_) => None,
    };
    // Without a `wasq dev`, there is no queue to look at.
    let live = match &machine {
        Some(machine) if !machine.runs() => None,
        _ => Some(read::live(&target).await?),
    };
    let findings = live.as_ref().map(examine).unwrap_or_default();
    let unread = live.map(|live| live.unread).unwrap_or_default();
    let refused = machine.as_ref().is_some_and(Machine::has_refused);
    let well = findings.is_empty() && unread.is_empty() && !refused;
    if json {
        let findings: Vec<_> = findings
            .iter()
            .map(|Finding { effect, resource, problem, fix }| {
                json!({ "effect": effect.as_str(), "resource": resource, "problem": problem, "fix": fix })
            })
            .collect();
        let machine = machine.as_ref().map(Machine::json);
        output::value(&json!({ "findings": findings, "unread": unread, "machine": machine }));
    } else {
        if let (Some(machine), Target::Local(data)) = (&machine, &target) {
            output::text(&machine.text(data));
        }
        for Finding { effect, resource, problem, fix } in &findings {
            output::text(&format!(
                "{:<10} {resource}\n           {problem}\n           fix: {fix}\n",
                effect.as_str()
            ));
        }
        for unread in &unread {
            output::text(&format!("not read   {unread}\n"));
        }
        match (&target, well) {
            (Target::Local(data), true) if machine.as_ref().is_some_and(Machine::runs) => {
                output::text(&format!("wasq dev in {}: no problem found\n", data.display()));
            }
            (Target::Aws(deployment), true) => {
                output::text(&format!(
                    "{} in {}: no problem found\n",
                    deployment.name, deployment.session.region
                ));
            }
            (Target::Local(_), true) => {}
            (_, false) => {
                let refused = usize::from(refused);
                let found = findings.len() + refused;
                match unread.len() {
                    0 => tell!("{found} found"),
                    unread => tell!("{found} found; {unread} parts could not be read"),
                }
            }
        }
    }
    Ok(if well { Ended::Well } else { Ended::InPart })
}
