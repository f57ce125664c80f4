//! Reads the live configuration from the APIs of AWS's services, not from the stack's record of it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_dynamodb::types::{PointInTimeRecoveryStatus, TimeToLiveStatus};
use aws_sdk_iam::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::RecursiveLoop;
use aws_sdk_s3::types::{BucketVersioningStatus, ExpirationStatus, LifecycleRule};
use aws_sdk_scheduler::types::ScheduleState;
use aws_sdk_sqs::types::QueueAttributeName as Attribute;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use wasq_aws::ScheduleGroup;
use wasq_local::Listed;
use wasq_protocol::{Clock, Digest, LiveRecord, Pong, SystemClock, TaskName, WorkerEvent};
use wasq_schedule::{TASKS_PREFIX, name_on_aws};

use crate::cloud::{Deployment, explain};
use crate::doctor::configuration::{
    BucketSettings, Deployed, ExpiryRule, FunctionSettings, Live, MappingSettings, Place, QueueSettings,
    Read, Redrive, RoleSettings, ScheduleSettings, TableSettings, TaskSchedule, TaskSchedules,
};
use crate::doctor::policy::{Statement, statements};
use crate::registry::Registry;
use crate::target::Target;

/// The publisher needs less for an upload, with two more tries of Lambda. The hourly sweep finds what was lost.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(15 * 60);

/// Schedules of tasks that are looked at.
const SCHEDULES_MAX: usize = 10_000;

/// Reads the live configuration. Parts that cannot be read are noted; only a queue that cannot be read is an
/// error.
pub(crate) async fn live(target: &Target) -> Result<Live> {
    let address = target.queue()?;
    let client = address.client().await;
    let what = || format!("ask {}{}", address.url, address.hint());
    let queue = queue(&client, &address.url)
        .await
        .with_context(what)?
        .with_context(|| format!("there is no queue {}{}", address.url, address.hint()))?;
    let mut live = Live { queue, ..Live::default() };
    let letters = address.dead_letters.as_deref().unwrap_or_default();
    match self::queue(&client, letters).await {
        Ok(Some(settings)) => live.dead_letters = Read::Known(settings),
        Ok(None) => live.missing.push(format!("dead-letter queue {letters}")),
        Err(e) => live.unread.push(format!("dead-letter queue {letters}: {e:#}")),
    }
    live.place = match target {
        Target::Local(_) => Place {
            aws: format!("--endpoint-url {}", address.local.as_deref().unwrap_or_default()),
            wasq: String::new(),
        },
        Target::Aws(deployment) => {
            let (stack, region) = (&deployment.name, &deployment.session.region);
            Place { aws: format!("--region {region}"), wasq: format!("--stack {stack} --region {region}") }
        }
    };
    if let Target::Aws(deployment) = target {
        let mut reader = Reader::new(deployment, &live.queue.arn).await?;
        let mut deployed = reader.deployed().await;
        match Registry::of(target)?.tasks().await {
            Ok(tasks) => {
                deployed.unpublished = reader.unpublished(&tasks).await;
                deployed.expected_schedules = Read::Known(expected_schedules(&tasks));
                deployed.once = tasks_with_once(&tasks);
                deployed.tasks = tasks
                    .into_iter()
                    .filter_map(|task| task.live)
                    .map(|record| (record.task, record.version.artifacts.into_keys().collect()))
                    .collect();
            }
            Err(e) => reader.unread.push(format!("live tasks: {e:#}")),
        }
        let Reader { missing, unread, .. } = reader;
        live.deployed = Some(deployed);
        live.missing.extend(missing);
        live.unread.extend(unread);
    }
    Ok(live)
}

/// `None`: there is no such queue.
async fn queue(client: &aws_sdk_sqs::Client, url: &str) -> Result<Option<QueueSettings>> {
    let answer = client.get_queue_attributes().queue_url(url).attribute_names(Attribute::All).send().await;
    let answer = match answer {
        Err(e) if e.as_service_error().is_some_and(|e| e.is_queue_does_not_exist()) => return Ok(None),
        answer => answer.map_err(explain)?,
    };
    let attributes = answer.attributes.unwrap_or_default();
    let text = |name: Attribute| attributes.get(&name).map(String::as_str);
    let seconds = |name: Attribute| -> Result<Duration> {
        let number = text(name.clone()).and_then(|text| text.parse().ok());
        Ok(Duration::from_secs(number.with_context(|| format!("no {name} in the answer"))?))
    };
    let json = |name: Attribute| text(name).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let redrive = json(Attribute::RedrivePolicy).map(|policy| Redrive {
        target_arn: policy["deadLetterTargetArn"].as_str().unwrap_or_default().to_owned(),
        // SQS accepts and returns the count as a number or as a string.
        receives_max: policy["maxReceiveCount"]
            .as_u64()
            .or_else(|| policy["maxReceiveCount"].as_str()?.parse().ok())
            .and_then(|count| u32::try_from(count).ok())
            .unwrap_or_default(),
    });
    let arn = text(Attribute::QueueArn).unwrap_or_default().to_owned();
    Ok(Some(QueueSettings {
        name: arn.rsplit(':').next().unwrap_or_default().to_owned(),
        url: url.to_owned(),
        visibility: seconds(Attribute::VisibilityTimeout)?,
        retention: seconds(Attribute::MessageRetentionPeriod)?,
        delay: seconds(Attribute::DelaySeconds)?,
        message_max: seconds(Attribute::MaximumMessageSize)?.as_secs(),
        redrive,
        encrypted: text(Attribute::KmsMasterKeyId).is_some_and(|key| !key.is_empty())
            || text(Attribute::SqsManagedSseEnabled) == Some("true"),
        policy: json(Attribute::Policy).map(|policy| statements(&policy)).unwrap_or_default(),
        arn,
    }))
}

/// Reads one part after the other, and notes the parts that it could not read.
struct Reader<'a> {
    deployment: &'a Deployment,
    /// Physical ids by logical ids.
    resources: BTreeMap<String, String>,
    queue_arn: &'a str,
    lambda: aws_sdk_lambda::Client,
    iam: aws_sdk_iam::Client,
    s3: aws_sdk_s3::Client,
    missing: Vec<String>,
    unread: Vec<String>,
}

impl<'a> Reader<'a> {
    async fn new(deployment: &'a Deployment, queue_arn: &'a str) -> Result<Self> {
        let sdk = &deployment.session.sdk;
        Ok(Self {
            deployment,
            resources: deployment.resources().await?,
            queue_arn,
            lambda: aws_sdk_lambda::Client::new(sdk),
            iam: aws_sdk_iam::Client::new(sdk),
            s3: aws_sdk_s3::Client::new(sdk),
            missing: Vec::new(),
            unread: Vec::new(),
        })
    }

    /// Notes a part that could not be read.
    fn read<T>(&mut self, what: &str, result: Result<T>) -> Read<T> {
        match result {
            Ok(part) => Read::Known(part),
            Err(e) => {
                self.unread.push(format!("{what}: {e:#}"));
                Read::Unknown
            }
        }
    }

    /// As [`Self::read`], for a resource that the stack lists. Notes it if it does not exist.
    fn read_if_there<T>(&mut self, what: &str, result: Result<Option<T>>) -> Read<T> {
        match result.transpose() {
            Some(result) => self.read(what, result),
            None => {
                self.missing.push(what.to_owned());
                Read::Unknown
            }
        }
    }

    fn id(&self, logical_id: &str) -> Option<String> {
        self.resources.get(logical_id).cloned()
    }

    /// Notes a part that every stack should have, and this one does not list.
    fn not_listed<T>(&mut self, logical_id: &str) -> Read<T> {
        self.unread.push(format!("{logical_id}: the stack has no such resource"));
        Read::Unknown
    }

    async fn deployed(&mut self) -> Deployed {
        let worker = self.function("Worker").await.unwrap_or_else(|| self.not_listed("Worker"));
        let pong = match worker.known() {
            // Without concurrency the worker cannot answer. Another finding reports that.
            Some(worker) if worker.reserved != Some(0) => self.ping(&worker.name.clone()).await,
            _ => Read::Unknown,
        };
        let mut roles = Vec::new();
        for (whose, logical_id) in [
            ("worker", "WorkerRole"),
            ("consumer", "ConsumerRole"),
            ("publisher", "PublisherRole"),
            ("schedule", "ScheduleRole"),
            ("sweep", "SweepRole"),
            ("sender", "SenderRole"),
        ] {
            if let Some(name) = self.id(logical_id) {
                let role = self.role(whose, &name).await;
                if let Read::Known(role) = self.read(&format!("role {name}"), role) {
                    roles.push(role);
                }
            }
        }
        let tasks_bucket = self.bucket_of("TasksBucket").await;
        let told_of_uploads = match tasks_bucket.known() {
            Some(bucket) => {
                let told = self.told_of_uploads(&bucket.name).await;
                self.read("notifications of the tasks bucket", told)
            }
            None => Read::Unknown,
        };
        Deployed {
            publisher: self.function("Publisher").await.unwrap_or_else(|| self.not_listed("Publisher")),
            consumer: self.function("Consumer").await,
            schedule: self.schedule().await,
            mappings: self.mappings().await,
            registry_bucket: self.bucket_of("RegistryBucket").await,
            runs_table: self.runs_table().await,
            account_concurrency: self.account_concurrency().await,
            unpublished: Read::Unknown,
            worker,
            pong,
            told_of_uploads,
            roles,
            tasks_bucket,
            tasks: BTreeMap::new(),
            expected_schedules: Read::Unknown,
            once: Vec::new(),
            task_schedules: self.task_schedules().await,
        }
    }

    async fn task_schedules(&mut self) -> Option<Read<TaskSchedules>> {
        let group = self.id("ScheduleGroup")?;
        let there = ScheduleGroup::new(&self.deployment.session.sdk, group.clone());
        let listed = there.list(TASKS_PREFIX, SCHEDULES_MAX).await.map(|listed| TaskSchedules {
            schedules: listed
                .into_iter()
                .map(|schedule| TaskSchedule {
                    name: schedule.name,
                    enabled: schedule.enabled,
                    target: schedule.target.unwrap_or_default(),
                })
                .collect(),
            group: group.clone(),
        });
        Some(self.read(&format!("schedule group {group}"), listed))
    }

    async fn bucket_of(&mut self, logical_id: &str) -> Read<BucketSettings> {
        let Some(name) = self.id(logical_id) else { return self.not_listed(logical_id) };
        let partition = self.queue_arn.split(':').nth(1).unwrap_or("aws");
        let read = self.bucket(&name, partition).await;
        self.read(&format!("bucket {name}"), read)
    }

    /// `None`: the stack has no such function.
    async fn function(&mut self, logical_id: &str) -> Option<Read<FunctionSettings>> {
        let name = self.id(logical_id)?;
        let read = function(&self.lambda, &name).await;
        Some(self.read_if_there(&format!("function {name}"), read))
    }

    /// Asks the worker for its engine's fingerprint, and for what it cannot reach.
    async fn ping(&mut self, function: &str) -> Read<Pong> {
        let ping = Blob::new(WorkerEvent::PING);
        let asked = self.lambda.invoke().function_name(function).payload(ping).send().await;
        let pong = asked.map_err(explain).and_then(|answer| {
            let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
            ensure!(
                answer.function_error.is_none(),
                "it does not work: {}",
                String::from_utf8_lossy(&payload)
            );
            serde_json::from_slice(&payload).context("its answer to a ping cannot be read")
        });
        self.read(&format!("what {function} can run"), pong)
    }

    async fn runs_table(&mut self) -> Option<Read<TableSettings>> {
        let name = self.id("RunsTable")?;
        let client = aws_sdk_dynamodb::Client::new(&self.deployment.session.sdk);
        let read = async {
            let live = client.describe_time_to_live().table_name(&name).send().await;
            let Some(live) = if_there(live, "ResourceNotFoundException")? else { return Ok(None) };
            let backups = client.describe_continuous_backups().table_name(&name).send().await;
            let backups = backups.map_err(explain)?.continuous_backups_description;
            let recovery = backups.and_then(|backups| backups.point_in_time_recovery_description);
            Ok(Some(TableSettings {
                name: name.clone(),
                forgets: live.time_to_live_description.is_some_and(|live| {
                    live.attribute_name.as_deref() == Some("expires")
                        && matches!(
                            live.time_to_live_status,
                            Some(TimeToLiveStatus::Enabled | TimeToLiveStatus::Enabling)
                        )
                }),
                recoverable: recovery.is_some_and(|recovery| {
                    recovery.point_in_time_recovery_status == Some(PointInTimeRecoveryStatus::Enabled)
                }),
            }))
        };
        let read = read.await;
        Some(self.read_if_there(&format!("table of runs {name}"), read))
    }

    async fn account_concurrency(&mut self) -> Read<u32> {
        let answer = self.lambda.get_account_settings().send().await.map_err(explain);
        let limit = answer.and_then(|answer| {
            let limit = answer.account_limit.context("the answer has no limits")?;
            Ok(u32::try_from(limit.concurrent_executions)?)
        });
        self.read("the account's concurrency", limit)
    }

    /// Uploads that the publisher has neither made live nor refused. `listed` is the registry's content.
    async fn unpublished(&mut self, listed: &[Listed]) -> Read<Vec<TaskName>> {
        let found = async {
            let buckets = self.deployment.buckets()?;
            let mut unpublished = Vec::new();
            let since = SystemClock.now().minus(PUBLISHED_WITHIN);
            for (task, uploaded) in buckets.modules().await? {
                let of_task = |listed: &&Listed| listed.task() == Some(&task);
                let known = listed.iter().find(of_task);
                if uploaded > since || known.is_some_and(|known| known.answers(uploaded)) {
                    continue;
                }
                // An upload with the same content changes nothing.
                let module = buckets.uploaded(&format!("{task}.wasm")).await?;
                let live = known.and_then(|known| Some(known.live.as_ref()?.version.digest));
                if module.is_some_and(|module| live != Some(Digest::of(&module))) {
                    unpublished.push(task);
                }
            }
            Ok(unpublished)
        };
        let found = found.await;
        self.read("the uploads in the tasks bucket", found)
    }

    async fn mappings(&mut self) -> Read<Vec<MappingSettings>> {
        let request = self.lambda.list_event_source_mappings().event_source_arn(self.queue_arn);
        let answer = request.send().await.map_err(explain);
        let mappings = answer.map(|answer| {
            let mappings = answer.event_source_mappings.unwrap_or_default().into_iter();
            let settings = mappings.map(|mapping| MappingSettings {
                function: mapping.function_arn.as_deref().map(function_of).unwrap_or_default(),
                // A mapping that is changing counts as what it is changing to.
                enabled: !matches!(mapping.state.as_deref(), Some("Disabled" | "Disabling")),
                reports_failures: mapping
                    .function_response_types
                    .unwrap_or_default()
                    .iter()
                    .any(|kind| kind.as_str() == "ReportBatchItemFailures"),
                filters: mapping
                    .filter_criteria
                    .and_then(|criteria| criteria.filters)
                    .is_some_and(|filters| !filters.is_empty()),
                concurrency_max: mapping
                    .scaling_config
                    .and_then(|scaling| scaling.maximum_concurrency)
                    .and_then(|most| u32::try_from(most).ok()),
                id: mapping.uuid.unwrap_or_default(),
            });
            settings.collect()
        });
        self.read("event source mappings", mappings)
    }

    async fn schedule(&mut self) -> Option<Read<ScheduleSettings>> {
        let name = self.id("Schedule")?;
        let client = aws_sdk_scheduler::Client::new(&self.deployment.session.sdk);
        let answer = if_there(client.get_schedule().name(&name).send().await, "ResourceNotFoundException");
        let schedule = answer.map(|schedule| {
            schedule.map(|schedule| ScheduleSettings {
                name: name.clone(),
                enabled: schedule.state == Some(ScheduleState::Enabled),
                expression: schedule.schedule_expression.unwrap_or_default(),
            })
        });
        Some(self.read_if_there(&format!("schedule {name}"), schedule))
    }

    async fn role(&self, whose: &'static str, name: &str) -> Result<RoleSettings> {
        let mut role = RoleSettings { whose, name: name.to_owned(), ..RoleSettings::default() };
        let listed = self.iam.list_role_policies().role_name(name).send().await.map_err(explain)?;
        for policy in listed.policy_names {
            let answer = self.iam.get_role_policy().role_name(name).policy_name(&policy).send().await;
            let document = answer.map_err(explain)?.policy_document;
            // IAM encodes the document as in a URL.
            let document = percent_decode_str(&document).decode_utf8().context("decode a policy")?;
            let document: Value =
                serde_json::from_str(&document).with_context(|| format!("read the policy {policy}"))?;
            role.statements.extend(statements(&document));
        }
        let attached =
            self.iam.list_attached_role_policies().role_name(name).send().await.map_err(explain)?;
        let attached = attached.attached_policies.unwrap_or_default().into_iter();
        role.attached = attached.filter_map(|policy| policy.policy_arn).collect();
        Ok(role)
    }

    async fn bucket(&self, name: &str, partition: &str) -> Result<BucketSettings> {
        let block = self.s3.get_public_access_block().bucket(name).send().await;
        let block = if_there(block, "NoSuchPublicAccessBlockConfiguration").context("public access")?;
        let closed = block.and_then(|block| block.public_access_block_configuration).is_some_and(|block| {
            [
                block.block_public_acls,
                block.block_public_policy,
                block.ignore_public_acls,
                block.restrict_public_buckets,
            ]
            .iter()
            .all(|lock| *lock == Some(true))
        });
        let encryption = self.s3.get_bucket_encryption().bucket(name).send().await;
        let encryption = if_there(encryption, "ServerSideEncryptionConfigurationNotFoundError");
        let versioning = self.s3.get_bucket_versioning().bucket(name).send().await.map_err(explain);
        let policy = self.s3.get_bucket_policy().bucket(name).send().await;
        let policy = if_there(policy, "NoSuchBucketPolicy").context("policy")?;
        let policy: Vec<Statement> = match policy.and_then(|policy| policy.policy) {
            Some(text) => statements(&serde_json::from_str(&text).context("read its policy")?),
            None => Vec::new(),
        };
        Ok(BucketSettings {
            name: name.to_owned(),
            arn: format!("arn:{partition}:s3:::{name}"),
            closed_to_public: closed,
            encrypted: encryption.context("encryption")?.is_some(),
            versioned: versioning.context("versioning")?.status == Some(BucketVersioningStatus::Enabled),
            policy,
            expiry: self.expiry(name).await.context("lifecycle rules")?,
        })
    }

    async fn expiry(&self, bucket: &str) -> Result<Vec<ExpiryRule>> {
        let answer = self.s3.get_bucket_lifecycle_configuration().bucket(bucket).send().await;
        let answer = if_there(answer, "NoSuchLifecycleConfiguration")?;
        let rules = answer.and_then(|answer| answer.rules).unwrap_or_default().into_iter();
        let enabled = rules.filter(|rule| rule.status == ExpirationStatus::Enabled);
        Ok(enabled.map(expiry_rule).collect())
    }

    /// The functions that are notified of uploads.
    async fn told_of_uploads(&self, bucket: &str) -> Result<Vec<String>> {
        let answer = self.s3.get_bucket_notification_configuration().bucket(bucket).send().await;
        let functions = answer.map_err(explain)?.lambda_function_configurations.unwrap_or_default();
        Ok(functions.into_iter().map(|function| function.lambda_function_arn).collect())
    }
}

fn expiry_rule(rule: LifecycleRule) -> ExpiryRule {
    let expires = rule.expiration.is_some_and(|when| when.days.is_some() || when.date.is_some());
    #[allow(deprecated, reason = "the prefix stands here in older rules")]
    let older = rule.prefix;
    let filter = rule.filter.map(|filter| (filter.prefix, filter.and.and_then(|and| and.prefix)));
    let (alone, both) = filter.unwrap_or_default();
    ExpiryRule {
        id: rule.id.unwrap_or_default(),
        prefix: alone.or(both).or(older).unwrap_or_default(),
        current: expires,
        noncurrent: rule.noncurrent_version_expiration.is_some(),
    }
}

async fn function(lambda: &aws_sdk_lambda::Client, name: &str) -> Result<Option<FunctionSettings>> {
    let configuration = lambda.get_function_configuration().function_name(name).send().await;
    let Some(configuration) = if_there(configuration, "ResourceNotFoundException")? else {
        return Ok(None);
    };
    let concurrency = lambda.get_function_concurrency().function_name(name).send().await;
    let concurrency = if_there(concurrency, "ResourceNotFoundException").context("concurrency")?;
    let recursion = lambda.get_function_recursion_config().function_name(name).send().await.map_err(explain);
    let number = |number: Option<i32>| number.and_then(|number| u64::try_from(number).ok());
    Ok(Some(FunctionSettings {
        name: name.to_owned(),
        timeout: Duration::from_secs(number(configuration.timeout).unwrap_or(3)),
        environment: configuration
            .environment
            .and_then(|environment| environment.variables)
            .unwrap_or_default()
            .into_iter()
            .collect(),
        may_recur: recursion.context("recursive loop detection")?.recursive_loop
            == Some(RecursiveLoop::Allow),
        reserved: number(concurrency.and_then(|concurrency| concurrency.reserved_concurrent_executions))
            .and_then(|reserved| u32::try_from(reserved).ok()),
    }))
}

/// The name in a function's ARN, which may end in a version.
fn function_of(arn: &str) -> String {
    arn.split(':').nth(6).unwrap_or(arn).to_owned()
}

/// `None` if AWS answers with this code, which says that there is none.
fn if_there<T, E, R>(answer: Result<T, SdkError<E, R>>, code: &str) -> Result<Option<T>>
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(e) if e.code() == Some(code) => Ok(None),
        Err(e) => Err(explain(e)),
    }
}

/// The live tasks whose settings say `once`.
fn tasks_with_once(tasks: &[Listed]) -> Vec<TaskName> {
    let live = tasks.iter().filter_map(|task| task.live.as_ref());
    live.filter(|record| record.version.settings.once).map(|record| record.task.clone()).collect()
}

/// The full names of the schedules that live tasks should have, by their names on AWS.
fn expected_schedules(tasks: &[Listed]) -> BTreeMap<String, String> {
    let live = tasks.iter().filter_map(|task| task.live.as_ref());
    let of_task = |LiveRecord { task, version, .. }: &LiveRecord| {
        let names = version.settings.schedule.iter().map(|one| (name_on_aws(task, one), one.full_name(task)));
        names.collect::<Vec<_>>()
    };
    live.flat_map(of_task).collect()
}
