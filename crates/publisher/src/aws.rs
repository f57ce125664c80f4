//! The publisher on AWS: S3 buckets, and the Lambda function.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};
use aws_sdk_s3::primitives::ByteStream;
use wasq_aws::{
    GroupConfig, NewSchedule, SCHEDULED_TIME, ScheduleMaker, SecretReader, explain, without_words,
};
use wasq_protocol::{
    ByteCount, Clock, Missed, PublishRequest, Schedule, SystemClock, TaskName, Timestamp, VarError, Vars,
};
use wasq_schedule::{OnAws, name_on_aws, prefix_on_aws};

use crate::compile::{CompileLimits, Wasm};
use crate::event::PublisherEvent;
use crate::ports::{
    Bucket, Condition, Object, PublisherParts, PublisherPorts, Put, Scheduler, Upload, Uploads,
};
use crate::publish::{Published, Publisher};

/// The function's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `WASQ_TASKS_BUCKET`: where people upload.
    pub tasks_bucket: String,
    /// `WASQ_REGISTRY_BUCKET`: where workers read.
    pub registry_bucket: String,
    /// `WASQ_BUCKET_OWNER`: the account that both belong to. If it is given, a write into the bucket of another account fails.
    pub bucket_owner: Option<String>,
    /// The schedule group of the tasks, by `WASQ_SCHEDULE_GROUP` and others. If it is not set, tasks with schedules are refused.
    pub schedule_group: Option<GroupConfig>,
    /// The limits of one compilation.
    pub limits: CompileLimits,
}

/// The memory that the function itself needs: module and machine code, each once.
const OWN_MEMORY: u64 = 512 << 20;
/// The longest time of one compilation. The function has 5 min.
const COMPILE_TIME: Duration = Duration::from_secs(240);

impl Config {
    /// Reads the configuration. The error names the variable that is missing.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Self, VarError> {
        let memory = vars.parse_or("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 3008_u64)? << 20;
        let limits = CompileLimits {
            memory: ByteCount(memory.saturating_sub(OWN_MEMORY).max(memory / 2)),
            processor: COMPILE_TIME,
            time: COMPILE_TIME,
            at_once: 1,
        };
        Ok(Self {
            limits,
            tasks_bucket: vars.required("WASQ_TASKS_BUCKET", "the bucket that tasks are uploaded to")?,
            registry_bucket: vars.required("WASQ_REGISTRY_BUCKET", "the bucket that workers read")?,
            bucket_owner: vars.text("WASQ_BUCKET_OWNER"),
            schedule_group: GroupConfig::from_vars(vars)?,
        })
    }
}

/// The Lambda function.
pub struct Function(Publisher<Lambda>);

/// The kinds of the publisher's ports on AWS.
struct Lambda;

impl PublisherPorts for Lambda {
    type Tasks = S3Bucket;
    type Registry = S3Bucket;
    type SecretStore = SecretReader;
    type Compiler = Wasm;
    type Scheduler = ScheduleMaker;
    type Clock = SystemClock;
}

impl Function {
    /// Connects to the buckets.
    pub async fn new(config: Config) -> Result<Self> {
        let sdk = wasq_aws::function_config();
        let client = Client::new(&sdk);
        let bucket = |name| S3Bucket { client: client.clone(), name, owner: config.bucket_owner.clone() };
        let (tasks, registry) = (bucket(config.tasks_bucket), bucket(config.registry_bucket));
        let secrets = SecretReader::new(&sdk);
        let parts = PublisherParts {
            tasks,
            registry,
            secrets,
            compiler: Wasm::new(config.limits)?,
            scheduler: config.schedule_group.map(|group| ScheduleMaker::new(&sdk, group)),
            clock: SystemClock,
        };
        Ok(Self(Publisher::new(parts)))
    }

    /// Answers one invoke. An upload that is refused is no error: invoking again would not help.
    pub async fn handle(&self, payload: &str) -> Result<()> {
        match PublisherEvent::parse(payload).map_err(|e| anyhow!("{e}"))? {
            PublisherEvent::Recompile(PublishRequest { recompile, unusable }) => {
                self.0.recompile(&recompile, unusable).await
            }
            PublisherEvent::Changed(changes) => {
                // One task's fault must not keep the others from being published.
                let mut failed = None;
                for change in changes {
                    let task = &change.task;
                    match self.0.publish_change(&change).await {
                        Ok(published) => log(task, &published),
                        Err(e) => {
                            tracing::error!(%task, "not published, Lambda will try again: {e:#}");
                            failed = Some(e);
                        }
                    }
                }
                failed.map_or(Ok(()), Err)
            }
            PublisherEvent::Sweep => self.sweep().await,
        }
    }

    /// Compares the tasks bucket with the registry, and publishes what was missed: the event of an upload may be lost, and Lambda
    /// gives up after two more tries.
    async fn sweep(&self) -> Result<()> {
        let ports = self.0.ports();
        // When the files of each task were written last, if there is a module among them.
        let mut changed: BTreeMap<TaskName, Option<Timestamp>> = BTreeMap::new();
        let mut settings = Vec::new();
        for (key, _) in ports.registry.list("live/").await? {
            let name = key.strip_prefix("live/").and_then(|name| name.strip_suffix(".json"));
            if let Some(task) = name.and_then(|name| name.parse().ok()) {
                changed.insert(task, None);
            }
        }
        for (key, at) in ports.tasks.list("").await? {
            match PublisherEvent::task_of(&key) {
                Ok(task) if key.ends_with(".wasm") => {
                    changed.insert(task, Some(at));
                }
                Ok(task) => settings.push((task, at)),
                Err(_) => {}
            }
        }
        for (task, at) in settings {
            if let Some(Some(last)) = changed.get_mut(&task) {
                *last = at.max(*last);
            }
        }
        for (task, changed) in changed {
            match self.0.publish_if_missed(&task, changed).await {
                Ok(None) => {}
                Ok(Some(published)) => {
                    tracing::warn!(%task, "its last upload was missed");
                    log(&task, &published);
                }
                Err(e) => tracing::error!(%task, "not published: {e:#}"),
            }
        }
        Ok(())
    }
}

fn log(task: &TaskName, published: &Published) {
    match published {
        Published::Live(version) => {
            tracing::info!(%task, version = version.version, digest = %version.digest, "live");
        }
        Published::Unchanged(version) => {
            tracing::info!(%task, version = version.version, digest = %version.digest, "unchanged");
        }
        Published::Rejected(rejection) => {
            tracing::error!(%task, "rejected: {}", rejection.reason);
        }
        Published::Removed(version) => tracing::info!(%task, version = version.version, "removed"),
        Published::NoModule => tracing::info!(%task, "settings without a module: nothing to publish yet"),
    }
}

/// Schedules of one task that are looked at.
const SCHEDULES_MAX: usize = 1000;
/// How long a firing is tried that is to be made up for.
const MADE_UP_WITHIN: Duration = Duration::from_secs(24 * 3600);

impl Scheduler for ScheduleMaker {
    fn refusal(&self, schedule: &Schedule) -> Option<String> {
        OnAws::of(schedule, SystemClock.now()).err()
    }

    async fn set(&self, task: &TaskName, schedules: &[Schedule]) -> Result<()> {
        let mut names = Vec::new();
        for schedule in schedules {
            let new = new_schedule(task, schedule)?;
            ScheduleMaker::set(self, &new).await?;
            names.push(new.name);
        }
        for listed in self.group().list(&prefix_on_aws(task), SCHEDULES_MAX).await? {
            if !names.contains(&listed.name) {
                self.group().delete(&listed.name).await?;
            }
        }
        Ok(())
    }
}

/// The body of a schedule's messages. Only its id contains a word that is replaced.
fn body_of_firings(task: &TaskName, schedule: &Schedule) -> String {
    let body = schedule.body(task, SCHEDULED_TIME);
    // The id is the last key.
    let (before, after) = body.split_at(body.rfind(SCHEDULED_TIME).unwrap_or(body.len()));
    format!("{}{after}", without_words(before))
}

/// A schedule of a task, as EventBridge Scheduler has it.
fn new_schedule(task: &TaskName, schedule: &Schedule) -> Result<NewSchedule> {
    let OnAws { expression, timezone, start } =
        OnAws::of(schedule, SystemClock.now()).map_err(|why| anyhow!("{why}"))?;
    Ok(NewSchedule {
        name: name_on_aws(task, schedule),
        expression,
        timezone,
        start,
        description: format!("The schedule {} of wasq", schedule.full_name(task)),
        body: body_of_firings(task, schedule),
        tries_for: match schedule.missed {
            Missed::Skip => Schedule::LATE,
            Missed::Run => MADE_UP_WITHIN,
        },
        // A firing that is left out is no dead letter.
        dead_letter: schedule.missed == Missed::Run,
    })
}

struct S3Bucket {
    client: Client,
    name: String,
    owner: Option<String>,
}

impl S3Bucket {
    /// The keys that begin so, and when each was written.
    async fn list(&self, prefix: &str) -> Result<Vec<(String, Timestamp)>> {
        let mut found = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            let page = page.map_err(explain).with_context(|| format!("list s3://{}/{prefix}", self.name))?;
            for object in page.contents.unwrap_or_default() {
                let written = object.last_modified.and_then(|at| u64::try_from(at.secs()).ok());
                if let (Some(key), Some(seconds)) = (object.key, written) {
                    found.push((key, Timestamp::from_ms(seconds * 1000)));
                }
            }
        }
        Ok(found)
    }

    /// Reads an object, or returns `None` if the bucket has none under `key`. The body comes as it is read.
    async fn read(&self, key: &str) -> Result<Option<GetObjectOutput>> {
        match self.client.get_object().bucket(&self.name).key(key).send().await {
            Err(SdkError::ServiceError(e)) if matches!(e.err(), GetObjectError::NoSuchKey(_)) => Ok(None),
            answer => {
                answer.map(Some).map_err(explain).with_context(|| format!("read s3://{}/{key}", self.name))
            }
        }
    }
}

/// An ETag as events have it.
fn without_quotes(etag: String) -> String {
    etag.trim_matches('"').to_owned()
}

impl Uploads for S3Bucket {
    async fn upload(&self, key: &str, bytes_max: u64) -> Result<Upload> {
        let Some(object) = self.read(key).await? else {
            return Ok(Upload::Absent);
        };
        let bytes = object.content_length.and_then(|bytes| u64::try_from(bytes).ok());
        if bytes.is_none_or(|bytes| bytes > bytes_max) {
            return Ok(Upload::too_large(bytes_max));
        }
        let body = object.body.collect().await.with_context(|| format!("read s3://{}/{key}", self.name))?;
        let etag = object.e_tag.map(without_quotes);
        Ok(Upload::Whole { bytes: body.to_vec(), etag })
    }

    async fn etag(&self, key: &str) -> Result<Option<String>> {
        match self.client.head_object().bucket(&self.name).key(key).send().await {
            Ok(head) => Ok(head.e_tag.map(without_quotes)),
            Err(SdkError::ServiceError(e)) if e.err().is_not_found() => Ok(None),
            Err(e) => Err(explain(e)).with_context(|| format!("look at s3://{}/{key}", self.name)),
        }
    }
}

impl Bucket for S3Bucket {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let Some(object) = self.read(key).await? else {
            return Ok(None);
        };
        let what = || format!("read s3://{}/{key}", self.name);
        let tag = object.e_tag.with_context(|| format!("{}: no ETag", what()))?;
        let bytes = object.body.collect().await.with_context(what)?.to_vec();
        Ok(Some(Object { bytes, tag }))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Put> {
        let put = self.client.put_object().bucket(&self.name).key(key).body(ByteStream::from(bytes));
        let put = put.set_expected_bucket_owner(self.owner.clone());
        let put = match condition {
            Condition::Always => put,
            Condition::Absent => put.if_none_match("*"),
            Condition::Unchanged(tag) => put.if_match(tag),
        };
        match put.send().await {
            Ok(_) => Ok(Put::Done),
            // 412: the condition does not hold. 409: another conditional write was under way.
            Err(SdkError::ServiceError(e)) if matches!(e.raw().status().as_u16(), 409 | 412) => {
                Ok(Put::Conflict)
            }
            // The object that had to be unchanged is gone. (A missing bucket is a 404 as well, and an error.)
            Err(SdkError::ServiceError(e)) if e.err().meta().code() == Some("NoSuchKey") => Ok(Put::Conflict),
            Err(e) => Err(explain(e)).with_context(|| format!("write s3://{}/{key}", self.name)),
        }
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let deleted = self.client.delete_object().bucket(&self.name).key(key);
        let deleted = deleted.set_expected_bucket_owner(self.owner.clone()).send().await;
        deleted.map_err(explain).with_context(|| format!("delete s3://{}/{key}", self.name))?;
        Ok(())
    }
}
