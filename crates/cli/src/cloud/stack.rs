//! A CloudFormation stack: its state, and how wasq creates, updates, repairs and deletes it.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use aws_sdk_cloudformation::Client;
use aws_sdk_cloudformation::error::ProvideErrorMetadata;
use aws_sdk_cloudformation::operation::update_stack::builders::UpdateStackFluentBuilder;
use aws_sdk_cloudformation::types::{
    Capability, ChangeSetStatus, ChangeSetType, Parameter, ResourceToImport, Stack as Described, StackEvent,
    StackStatus, Tag,
};
use serde_json::json;
use tokio::time::Instant;

use crate::cloud::template::{TEMPLATE, template_has};
use crate::cloud::{Bucket, Identity, Session, explain};
use crate::deployed::{DeployedQueues, DeploymentStatus};
use crate::output::tell;

/// The interval between two looks at CloudFormation's progress.
const POLL: Duration = Duration::from_millis(1500);
/// The marks of wasq's own stacks and queues: a stack's description begins with `DESCRIPTION`, and a queue
/// has the tag `TAG`.
const DESCRIPTION: &str = "wasq:";
const TAG: &str = "wasq";
/// The name of the change set that takes over queues and buckets of an earlier stack.
const ADOPTION: &str = "wasq-adopts";
/// The stack's description between that change set and the update that follows.
const ADOPTING: &str = "wasq: taking over what an earlier stack has kept.";

/// The namespace of the names of a stack's buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Namespace {
    /// Every account can take every name.
    Global,
    /// The names end in `-an`, and belong to one account in one region.
    AccountRegional,
}

/// The longest name of a bucket, by S3, and of a stack whose buckets are in the account-regional namespace.
const BUCKET_NAME_MAX: usize = 63;
const REGIONAL_NAME_MAX: usize = 23;
/// The regions without such a namespace.
const WITHOUT_REGIONAL: [&str; 2] = ["me-central-1", "me-south-1"];

impl Namespace {
    /// The namespace for a new stack.
    pub(crate) fn for_new(stack: &str, region: &str) -> Self {
        match stack.len() > REGIONAL_NAME_MAX || WITHOUT_REGIONAL.contains(&region) {
            true => Self::Global,
            false => Self::AccountRegional,
        }
    }

    /// The namespace of a bucket that wasq has made.
    pub(crate) fn of(bucket: &str) -> Self {
        if bucket.ends_with(Self::AccountRegional.suffix()) { Self::AccountRegional } else { Self::Global }
    }

    /// The namespace of this name.
    pub(crate) fn named(name: &str) -> Self {
        if name == Self::AccountRegional.as_str() { Self::AccountRegional } else { Self::Global }
    }

    /// Its name, as the template and CloudFormation have it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::AccountRegional => "account-regional",
        }
    }

    fn suffix(self) -> &'static str {
        match self {
            Self::Global => "",
            Self::AccountRegional => "-an",
        }
    }
}

/// A stack by its name, whether it exists or not.
#[derive(Clone)]
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) session: Session,
    client: Client,
}

/// A stack that exists.
#[derive(Clone, Debug)]
pub(crate) struct Deployment {
    pub(crate) name: String,
    pub(crate) session: Session,
    /// The account that it is in, by the ARN of the stack.
    pub(crate) account: Option<String>,
    pub(crate) status: StackStatus,
    pub(crate) parameters: BTreeMap<String, String>,
    pub(crate) outputs: BTreeMap<String, String>,
}

/// A queue or bucket that stays when its stack is deleted: its logical id, its type, and its name or address.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) logical_id: &'static str,
    pub(crate) kind: &'static str,
    /// The property that identifies it for CloudFormation.
    pub(crate) property: &'static str,
    pub(crate) identifier: String,
    pub(crate) name: String,
}

/// Follows CloudFormation's events from a moment on.
struct Follow {
    seen: HashSet<String>,
    started: Instant,
}

impl Stack {
    pub(crate) fn new(session: Session, name: String) -> Self {
        let client = Client::new(&session.sdk);
        Self { name, session, client }
    }

    /// The stack as it is now; `None` if it does not exist.
    pub(crate) async fn describe(&self) -> Result<Option<Deployment>> {
        let answer = self.client.describe_stacks().stack_name(&self.name).send().await;
        let stack = match answer {
            Ok(answer) => answer.stacks.unwrap_or_default().into_iter().next(),
            // CloudFormation has no error code of its own for this.
            Err(e) if e.message().is_some_and(|message| message.contains("does not exist")) => None,
            Err(e) => {
                return Err(explain(e)).with_context(|| format!("look for the stack {}", self.name));
            }
        };
        let Some(stack) = stack else {
            return Ok(None);
        };
        let description = match stack.description().filter(|description| !description.is_empty()) {
            Some(description) => Some(description.to_owned()),
            None => {
                let asked = self.client.get_template_summary().stack_name(&self.name).send().await;
                asked.ok().and_then(|summary| summary.description)
            }
        };
        let ours = description.is_some_and(|description| description.starts_with(DESCRIPTION));
        let deployment = self.deployment(stack);
        // A stack with a change set that was never carried out has no description; `delete` checks that wasq
        // made it.
        let without =
            [StackStatus::ReviewInProgress, StackStatus::DeleteInProgress, StackStatus::DeleteComplete];
        ensure!(
            ours || without.contains(&deployment.status),
            "the stack {} in {} is not one of wasq's: name another by --stack",
            self.name,
            self.session.region
        );
        Ok(Some(deployment).filter(|deployment| deployment.status != StackStatus::DeleteComplete))
    }

    fn deployment(&self, stack: Described) -> Deployment {
        let parameters = stack.parameters.unwrap_or_default().into_iter();
        let outputs = stack.outputs.unwrap_or_default().into_iter();
        Deployment {
            name: self.name.clone(),
            session: self.session.clone(),
            account: stack.stack_id.and_then(|arn| Some(arn.split(':').nth(4)?.to_owned())),
            status: stack.stack_status.unwrap_or(StackStatus::DeleteComplete),
            parameters: parameters.filter_map(|p| p.parameter_key.zip(p.parameter_value)).collect(),
            outputs: outputs.filter_map(|o| o.output_key.zip(o.output_value)).collect(),
        }
    }

    /// As [`Self::describe`], but a stack that does not exist is an error.
    pub(crate) async fn find(&self) -> Result<Deployment> {
        self.describe().await?.with_context(|| {
            format!(
                "there is no stack {} in {}: `wasq deploy` makes one; --stack and --region name another",
                self.name, self.session.region
            )
        })
    }

    /// Brings a stack that another run has left half-made to a state from which it can be updated, or deletes
    /// it. Waits for an operation that is under way, finishes a roll-back, and deletes a stack that cannot be
    /// updated any more.
    pub(crate) async fn settle(&self) -> Result<Option<Deployment>> {
        // Each round leads to another state. A stack that is not settled after four rounds needs a person.
        for _ in 0..4 {
            let Some(now) = self.describe().await? else {
                return Ok(None);
            };
            match &now.status {
                StackStatus::ReviewInProgress => {
                    self.delete().await?;
                    tell!("  a change set of the stack {} was never carried out; starting again", self.name);
                }
                status if is_in_progress(status) => {
                    tell!("  the stack {} is in {status}; waiting for its end", self.name);
                    self.follow().await?.end(self).await?;
                }
                StackStatus::ImportRollbackComplete | StackStatus::ImportRollbackFailed
                    if now.resources().await?.is_empty() =>
                {
                    tell!("  nothing was taken over into the stack {}; starting again", self.name);
                    self.delete().await?;
                }
                StackStatus::CreateFailed
                | StackStatus::RollbackComplete
                | StackStatus::RollbackFailed
                | StackStatus::DeleteFailed => {
                    tell!("  the stack {} is in {}; removing what is left of it", self.name, now.status);
                    self.delete().await?;
                }
                StackStatus::UpdateRollbackFailed => {
                    tell!("  the last roll-back of the stack {} did not end; going on with it", self.name);
                    let follow = self.follow().await?;
                    let asked = self.client.continue_update_rollback().stack_name(&self.name).send().await;
                    asked.map_err(explain).context("continue the roll-back")?;
                    follow.end(self).await?;
                }
                StackStatus::ImportRollbackFailed => break,
                _ => return Ok(Some(now)),
            }
        }
        let now = self.describe().await?.map_or(StackStatus::DeleteComplete, |now| now.status);
        bail!(
            "the stack {} stays in {now}: CloudFormation's console shows the reason; fix that, and run this command again",
            self.name
        )
    }

    /// Fails if the stack holds a change set that wasq did not make. Such a stack must never be deleted.
    async fn only_our_change_sets(&self) -> Result<()> {
        let listed = self.client.list_change_sets().stack_name(&self.name).send().await;
        let listed = listed.map_err(explain).context("list change sets")?.summaries.unwrap_or_default();
        let others: Vec<_> = listed
            .iter()
            .filter_map(|summary| summary.change_set_name())
            .filter(|name| *name != ADOPTION)
            .collect();
        ensure!(
            others.is_empty(),
            "the stack {} waits for somebody to carry out the change set {}, which wasq did not make: carry it out or delete it, or name another stack by --stack",
            self.name,
            others.join(", ")
        );
        Ok(())
    }

    /// Creates the stack, or updates it. Returns whether there was anything to do. Parameters that are not given get the
    /// template's default.
    pub(crate) async fn apply(
        &self,
        is_there: bool,
        parameters: &BTreeMap<String, String>,
        tags: &[(String, String)],
    ) -> Result<bool> {
        let tags: Vec<_> =
            tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
        // CloudFormation leaves the tags as they are if none are given.
        let tags = (!tags.is_empty()).then_some(tags);
        let parameters: Vec<_> = parameters
            .iter()
            // An older template may have had parameters that this one does not have.
            .filter(|(key, _)| template_has(key))
            .map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build())
            .collect();
        if !is_there {
            let follow = Follow { seen: HashSet::new(), started: Instant::now() };
            let asked = self
                .client
                .create_stack()
                .stack_name(&self.name)
                .template_body(TEMPLATE)
                .capabilities(Capability::CapabilityIam)
                .set_parameters(Some(parameters))
                .set_tags(tags)
                .send()
                .await;
            asked.map_err(explain).with_context(|| format!("create the stack {}", self.name))?;
            follow.well(self, StackStatus::CreateComplete).await?;
            return Ok(true);
        }
        self.update(self.client.update_stack().template_body(TEMPLATE).set_tags(tags), parameters).await
    }

    /// Changes only parameters: the stack keeps its template. Parameters that its template does not have are
    /// left out.
    pub(crate) async fn apply_to_its_template(&self, parameters: &BTreeMap<String, String>) -> Result<bool> {
        let summary = self.client.get_template_summary().stack_name(&self.name).send().await;
        let summary =
            summary.map_err(explain).with_context(|| format!("read the template of {}", self.name))?;
        let known: Vec<_> = summary
            .parameters
            .unwrap_or_default()
            .into_iter()
            .filter_map(|known| known.parameter_key)
            .collect();
        let parameters = parameters.iter().filter(|(key, _)| known.contains(key));
        let parameters = parameters
            .map(|(key, value)| Parameter::builder().parameter_key(key).parameter_value(value).build())
            .collect();
        self.update(self.client.update_stack().use_previous_template(true), parameters).await
    }

    /// Returns whether there was anything to do.
    async fn update(&self, update: UpdateStackFluentBuilder, parameters: Vec<Parameter>) -> Result<bool> {
        let follow = self.follow().await?;
        let asked = update
            .stack_name(&self.name)
            .capabilities(Capability::CapabilityIam)
            .set_parameters(Some(parameters))
            .send()
            .await;
        match asked {
            Ok(_) => {}
            Err(e)
                if e.message().is_some_and(|message| message.contains("No updates are to be performed")) =>
            {
                return Ok(false);
            }
            Err(e) => return Err(explain(e)).with_context(|| format!("update the stack {}", self.name)),
        }
        follow.well(self, StackStatus::UpdateComplete).await?;
        Ok(true)
    }

    /// The existing queues and buckets that have this stack's names and were made by wasq. Fails if another account has the name of
    /// a bucket that is to be made in the namespace `new`.
    pub(crate) async fn kept(&self, identity: &Identity, new: Namespace) -> Result<Vec<Kept>> {
        let mut kept = Vec::new();
        let sqs = aws_sdk_sqs::Client::new(&self.session.sdk);
        for (logical_id, suffix) in [("DeadLetterQueue", "-dead-letters"), ("Queue", "")] {
            let name = format!("{}{suffix}", self.name);
            match sqs.get_queue_url().queue_name(&name).send().await {
                Ok(answer) => {
                    let url = answer.queue_url.context("the answer has no address")?;
                    let tags = sqs.list_queue_tags().queue_url(&url).send().await.map_err(explain);
                    let tags = tags.with_context(|| format!("read the tags of the queue {name}"))?;
                    let tagged = tags.tags().and_then(|tags| tags.get(TAG));
                    ensure!(
                        tagged == Some(&self.name),
                        "there is a queue {name} that wasq did not make: take another name, by --stack; if it is to be taken over, give it the tag {TAG} = {}",
                        self.name
                    );
                    kept.push(Kept {
                        logical_id,
                        kind: "AWS::SQS::Queue",
                        property: "QueueUrl",
                        identifier: url,
                        name,
                    });
                }
                Err(e) if e.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => {}
                Err(e) => return Err(explain(e)).with_context(|| format!("look for the queue {name}")),
            }
        }
        for (logical_id, word) in [("TasksBucket", "tasks"), ("RegistryBucket", "registry")] {
            for namespace in [Namespace::AccountRegional, Namespace::Global] {
                let (account, region) = (&identity.account, &self.session.region);
                let name = format!("{}-{word}-{account}-{region}{}", self.name, namespace.suffix());
                if name.len() > BUCKET_NAME_MAX {
                    continue;
                }
                match self.session.bucket(&name, account).await? {
                    // Its name contains the account and the region, so no other stack's bucket has this name.
                    Bucket::Ours => {
                        kept.push(Kept {
                            logical_id,
                            kind: "AWS::S3::Bucket",
                            property: "BucketName",
                            identifier: name.clone(),
                            name,
                        });
                        break;
                    }
                    Bucket::NotOurs if namespace == new => bail!(
                        "the bucket's name {name} is taken by another account, or you may not see it: take another name, by --stack"
                    ),
                    Bucket::Absent | Bucket::NotOurs => {}
                }
            }
        }
        Ok(kept)
    }

    /// Creates a stack from the queues and buckets that an earlier stack has kept, and from nothing else yet.
    /// CloudFormation cannot create a resource under a name that is taken, but it can import the existing
    /// resource.
    pub(crate) async fn adopt(&self, kept: &[Kept]) -> Result<()> {
        let mut resources = serde_json::Map::new();
        let mut imports = Vec::new();
        for Kept { logical_id, kind, property, identifier, name } in kept {
            let named = if *kind == "AWS::SQS::Queue" { "QueueName" } else { "BucketName" };
            let mut resource =
                json!({ "Type": kind, "DeletionPolicy": "Retain", "Properties": { named: name } });
            if named == "BucketName" && Namespace::of(name) == Namespace::AccountRegional {
                resource["Properties"]["BucketNamespace"] = Namespace::AccountRegional.as_str().into();
            }
            resources.insert((*logical_id).to_owned(), resource);
            let import = ResourceToImport::builder()
                .resource_type(*kind)
                .logical_resource_id(*logical_id)
                .resource_identifier(*property, identifier)
                .build();
            imports.push(import);
        }
        let follow = Follow { seen: HashSet::new(), started: Instant::now() };
        let asked = self
            .client
            .create_change_set()
            .stack_name(&self.name)
            .change_set_name(ADOPTION)
            .change_set_type(ChangeSetType::Import)
            .template_body(json!({ "Description": ADOPTING, "Resources": resources }).to_string())
            .set_resources_to_import(Some(imports))
            .send()
            .await;
        asked.map_err(explain).context("ask CloudFormation to take over what is there")?;
        loop {
            let request = self.client.describe_change_set().stack_name(&self.name).change_set_name(ADOPTION);
            let answer = request.send().await.map_err(explain).context("look at the change set")?;
            match answer.status {
                Some(ChangeSetStatus::CreateComplete) => break,
                Some(ChangeSetStatus::Failed) => {
                    let why = answer.status_reason.unwrap_or_default();
                    bail!("CloudFormation does not take over what is there: {why}")
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
        // The buckets' policies stay in force until here. CloudFormation does not replace a policy that it
        // has not made.
        let s3 = aws_sdk_s3::Client::new(&self.session.sdk);
        for bucket in kept.iter().filter(|kept| kept.kind == "AWS::S3::Bucket") {
            let deleted = s3.delete_bucket_policy().bucket(&bucket.identifier).send().await;
            deleted.map_err(explain).with_context(|| format!("renew the policy of {}", bucket.name))?;
        }
        let execute = self.client.execute_change_set().stack_name(&self.name).change_set_name(ADOPTION);
        execute.send().await.map_err(explain).context("take over what is there")?;
        follow.well(self, StackStatus::ImportComplete).await
    }

    /// Deletes the stack, and waits until it is gone.
    pub(crate) async fn delete(&self) -> Result<()> {
        if self.describe().await?.is_some_and(|now| now.status == StackStatus::ReviewInProgress) {
            self.only_our_change_sets().await?;
        }
        let follow = self.follow().await?;
        let asked = self.client.delete_stack().stack_name(&self.name).send().await;
        asked.map_err(explain).with_context(|| format!("delete the stack {}", self.name))?;
        follow.well(self, StackStatus::DeleteComplete).await
    }

    /// Follows CloudFormation's events from now on.
    async fn follow(&self) -> Result<Follow> {
        let seen = self.events().await?.into_iter().filter_map(|event| event.event_id).collect();
        Ok(Follow { seen, started: Instant::now() })
    }

    /// The newest events, newest first. A stack that does not exist has none.
    async fn events(&self) -> Result<Vec<StackEvent>> {
        match self.client.describe_stack_events().stack_name(&self.name).send().await {
            Ok(answer) => Ok(answer.stack_events.unwrap_or_default()),
            Err(e) if e.message().is_some_and(|message| message.contains("does not exist")) => Ok(Vec::new()),
            Err(e) => Err(explain(e)).context("follow CloudFormation"),
        }
    }
}

impl Follow {
    /// Prints CloudFormation's events on stderr until it is done. Returns the stack's status and the
    /// failures.
    async fn end(mut self, stack: &Stack) -> Result<(StackStatus, Vec<String>)> {
        let mut failed = Vec::new();
        loop {
            // Wait before the first look as well: it might still see the status from before the operation.
            tokio::time::sleep(POLL).await;
            // Read the status before the events, so that no event is missed between the two.
            let status = stack.describe().await?.map_or(StackStatus::DeleteComplete, |now| now.status);
            for event in stack.events().await?.into_iter().rev() {
                if event.event_id().is_some_and(|id| self.seen.insert(id.to_owned())) {
                    failed.extend(self.tell(&event));
                }
            }
            if !is_in_progress(&status) {
                return Ok((status, failed));
            }
        }
    }

    /// As [`Self::end`], but a status that is not `wanted` is an error that lists the failures.
    async fn well(self, stack: &Stack, wanted: StackStatus) -> Result<()> {
        let (status, failed) = self.end(stack).await?;
        if status == wanted {
            return Ok(());
        }
        let failed = if failed.is_empty() {
            "CloudFormation does not say why".to_owned()
        } else {
            failed.join("\n  ")
        };
        Err(anyhow!(
            "the stack {} ended in {status}:\n  {failed}\nFix this, and run the same command again: it continues from there",
            stack.name
        ))
    }

    /// Prints an event. Returns the resource and the reason, if the event is a failure.
    fn tell(&self, event: &StackEvent) -> Option<String> {
        let status = event.resource_status().map(|status| status.as_str()).unwrap_or_default();
        let resource = event.logical_resource_id().unwrap_or_default();
        let reason = event.resource_status_reason().unwrap_or_default();
        let separator = if reason.is_empty() { "" } else { ": " };
        let failed = status.ends_with("_FAILED");
        if failed || !status.ends_with("_IN_PROGRESS") {
            let seconds = self.started.elapsed().as_secs();
            let reason = if failed { reason } else { "" };
            tell!("  {seconds:>4} s  {resource:<26} {status}{}{reason}", if failed { separator } else { "" });
        }
        // A resource that was cancelled because another one failed needs no fix.
        (failed && !reason.contains("cancelled")).then(|| format!("{resource}{separator}{reason}"))
    }
}

impl Deployment {
    /// Finds a deployment by its stack's name. Without a region, that of the AWS CLI.
    pub(crate) async fn find(stack: String, region: Option<String>) -> Result<Self> {
        Stack::new(Session::open(region).await?, stack).find().await
    }

    /// Its queues.
    pub(crate) fn queues(&self) -> Result<DeployedQueues> {
        Ok(DeployedQueues {
            queue: self.output("QueueUrl")?.to_owned(),
            dead_letters: self.output("DeadLetterUrl")?.to_owned(),
            sdk: self.session.sdk.clone(),
        })
    }

    /// Its status, as `wasq status` prints it.
    pub(crate) fn status(&self) -> Result<DeploymentStatus> {
        let Self { name, session, account: _, status, parameters, outputs } = self;
        let (region, status) = (&session.region, status.as_str());
        let dashboard = format!(
            "https://{region}.console.aws.amazon.com/cloudwatch/home?region={region}#dashboards/dashboard/{name}"
        );
        let lines = vec![
            ("stack", format!("{name} in {region}, {status}")),
            ("mode", parameters.get("Mode").cloned().unwrap_or_default()),
            ("tasks bucket", format!("s3://{}", self.output("TasksBucketName")?)),
            ("dashboard", dashboard),
        ];
        let value = json!({
            "stack": name,
            "region": region,
            "status": status,
            "parameters": parameters,
            "outputs": outputs,
        });
        Ok(DeploymentStatus { lines, value })
    }

    /// An output of the stack.
    pub(crate) fn output(&self, name: &str) -> Result<&str> {
        let output = self.outputs.get(name).map(String::as_str);
        output.with_context(|| {
            format!(
                "the stack {} is in {} and has no output {name}: is it one of wasq's? `wasq deploy` brings it up to date",
                self.name, self.status
            )
        })
    }

    /// The physical ids of its resources by their logical ids.
    pub(crate) async fn resources(&self) -> Result<BTreeMap<String, String>> {
        let client = Client::new(&self.session.sdk);
        let mut resources = BTreeMap::new();
        let mut pages = client.list_stack_resources().stack_name(&self.name).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain).with_context(|| format!("list what is in {}", self.name))?;
            let summaries = page.stack_resource_summaries.unwrap_or_default().into_iter();
            let gone = aws_sdk_cloudformation::types::ResourceStatus::DeleteComplete;
            for summary in summaries.filter(|summary| summary.resource_status.as_ref() != Some(&gone)) {
                resources.extend(summary.logical_resource_id.zip(summary.physical_resource_id));
            }
        }
        Ok(resources)
    }
}

fn is_in_progress(status: &StackStatus) -> bool {
    status.as_str().ends_with("_IN_PROGRESS")
}
