//! `wasq deploy`: the stack on AWS, made or brought up to date.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wasq_engine::Platform;
use wasq_protocol::{Fingerprint, TaskName};

use crate::args::Deploy;
use crate::cloud::{CodeBucket, Deployment, Functions, PublisherFunction, Session, Stack};
use crate::output::{self, Ended};
use crate::registry::Registry;
use crate::target::Target;

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

    let settled = stack.settle().await?;
    let mut is_there = settled.is_some();
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
    // Of the first step of an upgrade, which this one ends.
    for (parameter, _) in PUBLISHER_FIRST {
        parameters.remove(parameter);
    }
    if let Some(settled) = settled {
        compile_ahead(&stack, settled, &parameters).await?;
    }
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

/// Where the publisher comes from in the first step of an upgrade, and what of the last step these are.
const PUBLISHER_FIRST: [(&str, &str); 3] = [
    ("PublisherCodePrefix", "CodePrefix"),
    ("PublisherCodeBucket", "CodeBucket"),
    ("PublisherArchitecture", "Architecture"),
];

/// The newer publisher compiles what is live before newer workers start, if their engine is another: otherwise every task
/// would wait for its compilation when its first message comes. Until then the workers that are there go on with what they have.
async fn compile_ahead(
    stack: &Stack,
    before: Deployment,
    parameters: &BTreeMap<String, String>,
) -> Result<()> {
    let architecture = parameters.get("Architecture").map(String::as_str);
    let platform =
        if architecture == Some("x86_64") { Platform::LINUX_X86_64 } else { Platform::LINUX_ARM64 };
    let fingerprint = platform.fingerprint();
    // A stack that has no registry yet has no tasks either.
    let Ok(registry) = Registry::of(&Target::Aws(Box::new(before.clone()))) else {
        return Ok(());
    };
    if waiting(&registry, &fingerprint).await?.is_empty() {
        return Ok(());
    }
    let [(first_of_all, _), ..] = PUBLISHER_FIRST;
    if !before.parameters.contains_key(first_of_all) {
        eprintln!("  the engine is another one: each task is compiled for it when its next message comes");
        return Ok(());
    }
    eprintln!("  the engine is another one: tasks are compiled for it before its workers start");
    let mut first = before.parameters.clone();
    for (step, last) in PUBLISHER_FIRST {
        first.insert(step.to_owned(), parameters[last].clone());
    }
    stack.apply_to_its_template(&first).await.context("put the newer publisher before the newer workers")?;
    let compiled = compile_all(stack, &registry, &fingerprint).await;
    if compiled.is_err() {
        // What the newer publisher makes, the older workers cannot run.
        let mut back = before.parameters;
        back.insert(first_of_all.to_owned(), String::new());
        if let Err(e) = stack.apply_to_its_template(&back).await {
            eprintln!(
                "  the older publisher is not back, and what is uploaded waits until you deploy again: {e:#}"
            );
        }
    }
    compiled
}

async fn compile_all(stack: &Stack, registry: &Registry, fingerprint: &Fingerprint) -> Result<()> {
    let publisher = PublisherFunction::of(stack);
    let mut refused = Vec::new();
    // Again: something may have been published meanwhile.
    for task in waiting(registry, fingerprint).await? {
        if let Err(why) = publisher.compile(&task).await? {
            refused.push(format!("{task}: {why}"));
            continue;
        }
        let live = registry.task(&task).await?.live;
        if live.is_some_and(|record| !record.version.artifacts.contains_key(fingerprint)) {
            eprintln!(
                "  these functions are of another release than this command: each task is compiled when its next message comes"
            );
            return Ok(());
        }
        eprintln!("  {task} is compiled");
    }
    ensure!(
        refused.is_empty(),
        "the older workers go on, because the newer engine does not take all tasks:\n  {}\nupload another version of these, or remove them by `wasq rm`; then deploy again",
        refused.join("\n  ")
    );
    Ok(())
}

/// The tasks that are live and not compiled for an engine.
async fn waiting(registry: &Registry, fingerprint: &Fingerprint) -> Result<Vec<TaskName>> {
    let listed = registry.tasks().await.context("look for tasks that are live")?;
    let live = listed.into_iter().filter_map(|listed| listed.live);
    let without = live.filter(|record| !record.version.artifacts.contains_key(fingerprint));
    Ok(without.map(|record| record.task).collect())
}
