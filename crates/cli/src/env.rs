//! `wasq env`: the variables with which other clients of SQS find the queue, as commands of a shell.

use anyhow::Result;
use serde_json::{Map, Value};

use crate::output::{self, Ended};
use crate::target::TargetArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Env {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

pub(crate) async fn env(args: Env, json: bool) -> Result<Ended> {
    let address = args.target.target().await?.queue()?;
    let mut variables = Vec::new();
    if let Some(endpoint) = &address.local {
        // `wasq dev` accepts any credentials and any region, but clients refuse to have none.
        variables.extend([
            ("AWS_ENDPOINT_URL_SQS", endpoint.as_str()),
            ("AWS_REGION", "us-east-1"),
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "wasq"),
            ("AWS_SECRET_ACCESS_KEY", "wasq"),
        ]);
    }
    variables.push(("QUEUE_URL", &address.url));
    if let Some(dead_letters) = &address.dead_letters {
        variables.push(("DEAD_LETTER_QUEUE_URL", dead_letters));
    }
    if json {
        let variables: Map<String, Value> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        output::value(&variables);
    } else {
        // No value has a character that a shell would read as more than text.
        let lines = variables.into_iter().map(|(name, value)| format!("export {name}={value}\n"));
        output::text(&lines.collect::<String>());
    }
    Ok(Ended::Well)
}
