//! `wasq deploy`: the stack on AWS, made or brought up to date.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::json;

use crate::args::Deploy;
use crate::cloud::{CodeBucket, Functions, Session, Stack};
use crate::output::{self, Ended};

pub(crate) async fn deploy(args: Deploy, json: bool) -> Result<Ended> {
    let Deploy { stack, region, functions, code_bucket, options } = args;
    let session = Session::open(region).await?;
    let identity = session.identity().await?;
    let stack = Stack::new(session.clone(), stack);
    // Whatever can be wrong on this machine shows before anything is touched.
    let before = stack.describe().await?;
    let architecture =
        options.arch.clone().or_else(|| before.as_ref()?.parameters.get("Architecture").cloned());
    let architecture = architecture.unwrap_or_else(|| "arm64".to_owned());
    let functions = Functions::read(functions, &architecture)?;

    eprintln!("Deploying {} to account {} in {}", stack.name, identity.account, session.region);
    let code_bucket = code_bucket
        .or_else(|| before.as_ref()?.parameters.get("CodeBucket").cloned())
        .unwrap_or_else(|| CodeBucket::name(&stack.name, &identity.account, &session.region));
    let code = CodeBucket::open(&session, code_bucket, &identity.account).await?;
    code.upload(&functions).await?;

    let mut is_there = stack.settle().await?.is_some();
    if !is_there {
        let kept = stack.kept(&identity).await?;
        if !kept.is_empty() {
            let names: Vec<_> = kept.iter().map(|kept| kept.name.as_str()).collect();
            eprintln!("  an earlier stack has kept {}; taking over what is in there", names.join(", "));
            stack.adopt(&kept).await?;
            is_there = true;
        }
    }
    // Also of a stack that had to be removed first.
    let mut parameters: BTreeMap<String, String> = before.map(|before| before.parameters).unwrap_or_default();
    parameters.extend(options.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)));
    parameters.insert("Architecture".to_owned(), architecture);
    parameters.insert("CodeBucket".to_owned(), code.name.clone());
    parameters.insert("CodePrefix".to_owned(), functions.prefix.clone());
    let changed = stack.apply(is_there, &parameters).await?;
    if !changed {
        eprintln!("  nothing to change");
    }

    let deployment = stack.find().await.context("after the deployment")?;
    if json {
        output::value(&json!({
            "stack": stack.name,
            "region": session.region,
            "account": identity.account,
            "changed": changed,
            "parameters": deployment.parameters,
            "outputs": deployment.outputs,
        }));
        return Ok(Ended::Well);
    }
    let (queue, tasks) = (deployment.output("QueueUrl")?, deployment.output("TasksBucketName")?);
    let (name, region) = (&stack.name, &session.region);
    output::text(&format!(
        "{name} is deployed.\n  \
         queue         {queue}\n  \
         dead letters  {}\n  \
         tasks         s3://{tasks} (put NAME.wasm here, and NAME.toml beside it)\n\n\
         Try it:\n  \
         aws s3 cp hello.wasm s3://{tasks}/ --region {region}\n  \
         aws sqs send-message --region {region} --queue-url {queue} --message-body '{{\"task\": \"hello\", \"params\": {{}}}}'\n  \
         wasq logs --stack {name} --region {region} --follow\n\
         Then: wasq status, wasq doctor, wasq tasks, wasq dlq ls, all with --stack {name} --region {region}\n",
        deployment.output("DeadLetterUrl")?
    ));
    Ok(Ended::Well)
}
