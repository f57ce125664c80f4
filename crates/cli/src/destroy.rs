//! `wasq destroy`: deletes the stack, and its data only with --data.

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, bail, ensure};
use aws_sdk_s3::types::{Delete, ObjectIdentifier};
use serde_json::json;
use wasq_aws::QueueEndpoint;

use crate::cloud::{Bucket, CodeBucket, Deployment, Identity, Kept, Namespace, Session, Stack, explain};
use crate::output::{self, Ended, tell};
use crate::target::stack_name;

#[derive(Debug, clap::Args)]
pub(crate) struct Destroy {
    /// The stack's name
    #[arg(long, default_value = "wasq", value_name = "NAME", env = "WASQ_STACK", value_parser = stack_name)]
    pub(crate) stack: String,
    /// Its AWS region; without this, the region that the AWS CLI would use
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Delete queues and buckets as well, with every message and every version of every task
    #[arg(long)]
    pub(crate) data: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

pub(crate) async fn destroy(args: Destroy, json: bool) -> Result<Ended> {
    let Destroy { stack, region, data, yes } = args;
    let session = Session::open(region).await?;
    let identity = session.identity().await?;
    let stack = Stack::new(session, stack);
    let there = stack.describe().await?;
    let kept = stack.kept(&identity, Namespace::AccountRegional).await?;
    let code = CodeBucket::name(&stack.name, &identity.account, &stack.session.region);
    let code_is_there = stack.session.bucket(&code, &identity.account).await? == Bucket::Ours;
    if there.is_none() && !code_is_there && (kept.is_empty() || !data) {
        let left =
            if kept.is_empty() { "" } else { "; --data deletes the queues and buckets that it has kept" };
        bail!(
            "there is no stack {} in {} (account {}){left}: --stack and --region name another",
            stack.name,
            stack.session.region,
            identity.account
        );
    }
    if let (Some(deployment), false) = (&there, data) {
        refuse_if_delayed(deployment).await?;
    }
    ask(&stack, &identity, &kept, data, yes).await?;
    if there.is_some() {
        stack.delete().await?;
    }
    if code_is_there {
        delete_bucket(&stack.session, &code).await?;
    }
    if data {
        for kept in &kept {
            tell!("  delete {} {}", kind(kept), kept.name);
            delete(&stack.session, kept).await.with_context(|| format!("delete {}", kept.name))?;
        }
    }
    let names: Vec<_> = kept.iter().map(|kept| &kept.name).collect();
    if json {
        let (kept, deleted) = if data { (vec![], names) } else { (names, vec![]) };
        output::value(&json!({ "stack": stack.name, "kept": kept, "deleted": deleted }));
    } else if data || kept.is_empty() {
        output::text(&format!(
            "{} is gone. SQS accepts the names of its queues again after a minute.\n",
            stack.name
        ));
    } else {
        let mut text = format!("{} is gone. Kept, with everything in them:\n", stack.name);
        for kept in &kept {
            text.push_str(&format!("  {:<6} {}\n", kind(kept), kept.name));
        }
        text.push_str(
            "`wasq deploy` takes them over again; `wasq destroy --data` deletes them. Messages expire 14 days after they were sent.\n",
        );
        output::text(&text);
    }
    Ok(Ended::Well)
}

/// Messages that wait for their time are in the schedule group, which goes with the stack.
async fn refuse_if_delayed(deployment: &Deployment) -> Result<()> {
    let Some(group) = deployment.schedule_group_that_is_there().await? else { return Ok(()) };
    let count = group.delayed(DELAYED_MAX).await?;
    let or_more = if count >= DELAYED_MAX as u64 { " or more" } else { "" };
    let name = &deployment.name;
    ensure!(
        count == 0,
        "messages that wait for their time would be deleted with the stack: {count}{or_more}. Wait, or cancel them by `wasq runs cancel --kind delayed --stack {name}`, or delete everything by --data"
    );
    Ok(())
}

/// Messages of the schedule group that are counted.
const DELAYED_MAX: usize = 1000;

fn kind(kept: &Kept) -> &'static str {
    if kept.kind == "AWS::SQS::Queue" { "queue" } else { "bucket" }
}

/// Asks for confirmation. With `data`, the user types the stack's name, because deleted data cannot be
/// restored.
async fn ask(stack: &Stack, identity: &Identity, kept: &[Kept], data: bool, yes: bool) -> Result<()> {
    let sqs = aws_sdk_sqs::Client::new(&stack.session.sdk);
    let mut waiting = Vec::new();
    for kept in kept.iter().filter(|kept| kind(kept) == "queue") {
        // An earlier run of this command may have deleted the queue.
        let Ok(counts) = QueueEndpoint::new(sqs.clone(), &kept.identifier).counts().await else { continue };
        let count = counts.visible + counts.in_flight + counts.delayed;
        if count > 0 {
            waiting.push(format!("about {count} messages are in {}", kept.name));
        }
    }
    if !waiting.is_empty() {
        let then = if data { "they are deleted with it" } else { "they stay there, and nobody runs them" };
        tell!("wasq: {}; {then}", waiting.join(", "));
    }
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        bail!("nobody to ask: add --yes if you mean it");
    }
    let where_it_is = format!("{} in {} (account {})", stack.name, stack.session.region, identity.account);
    if data {
        let names: Vec<_> = kept.iter().map(|kept| format!("{} {}", kind(kept), kept.name)).collect();
        tell!("wasq: this also deletes: {}", names.join(", "));
    }
    let (question, wanted) = if data {
        (
            format!("Delete {where_it_is} with all tasks and messages? Type {} to do so: ", stack.name),
            stack.name.as_str(),
        )
    } else {
        (format!("Delete {where_it_is}? Queues and buckets stay. [y/N] "), "y")
    };
    eprint!("{question}");
    std::io::stderr().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    let answer = answer.trim();
    let answer = if !data && answer.eq_ignore_ascii_case("yes") { "y" } else { answer };
    if !answer.eq_ignore_ascii_case(wanted) {
        bail!("nothing was deleted");
    }
    Ok(())
}

async fn delete(session: &Session, kept: &Kept) -> Result<()> {
    if kind(kept) == "bucket" {
        return delete_bucket(session, &kept.identifier).await;
    }
    let sqs = aws_sdk_sqs::Client::new(&session.sdk);
    match sqs.delete_queue().queue_url(&kept.identifier).send().await {
        Err(e) if !e.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => Err(explain(e)),
        _ => Ok(()),
    }
}

/// Deletes a bucket with every version of everything in it.
async fn delete_bucket(session: &Session, name: &str) -> Result<()> {
    let s3 = aws_sdk_s3::Client::new(&session.sdk);
    // The policy may restrict who can delete objects.
    let deleted = s3.delete_bucket_policy().bucket(name).send().await;
    deleted.map_err(explain).with_context(|| format!("delete the policy of the bucket {name}"))?;
    loop {
        // Always read the first page: deleted objects are no longer on it.
        let page = s3.list_object_versions().bucket(name).send().await;
        let page = page.map_err(explain).with_context(|| format!("list the bucket {name}"))?;
        let versions = page.versions.unwrap_or_default().into_iter().map(|v| (v.key, v.version_id));
        let markers = page.delete_markers.unwrap_or_default().into_iter().map(|m| (m.key, m.version_id));
        let objects: Vec<_> = versions
            .chain(markers)
            .filter_map(|(key, version)| {
                ObjectIdentifier::builder().key(key?).set_version_id(version).build().ok()
            })
            .collect();
        if objects.is_empty() {
            break;
        }
        let delete = Delete::builder().set_objects(Some(objects)).quiet(true).build()?;
        let answer = s3.delete_objects().bucket(name).delete(delete).send().await;
        let answer = answer.map_err(explain).with_context(|| format!("empty the bucket {name}"))?;
        if let Some(error) = answer.errors().first() {
            let (key, message) = (error.key().unwrap_or_default(), error.message().unwrap_or_default());
            bail!("empty the bucket {name}: {key}: {message}");
        }
    }
    let deleted = s3.delete_bucket().bucket(name).send().await;
    deleted.map_err(explain).with_context(|| format!("delete the bucket {name}"))?;
    Ok(())
}
