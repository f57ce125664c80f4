//! The worker on AWS: SQS, the registry in S3, and the Lambda function.

use std::io::Write;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::config::timeout::TimeoutConfig;
use aws_sdk_sqs::error::SdkError;
use serde_json::value::RawValue;
use wasq_aws::{
    GroupConfig, MessageAt, OtherFunction, Outbound, QueueEndpoint, RunsTable, S3Objects, ScheduleGroup,
    ScheduleMaker, SdkConfig, SecretReader,
};
use wasq_engine::{Addresses, Child, Limits};
use wasq_protocol::{
    AHEAD_IN_QUEUE, AHEAD_MAX, AddressRanges, Artifact, ByteCount, Caps, DeadLetter, Delivery, Digest,
    Fingerprint, Invoke, ItemWrite, LEASE_BY_DEFAULT, LiveRecord, Metrics, Pong, PublishRequest,
    RETENTION_BY_DEFAULT, SystemClock, TaskName, VarError, Vars, Written,
};

use crate::artifacts::{ArtifactCache, CheckedArtifact};
use crate::ports::{
    ArtifactError, Delayed, Finished, Observer, Queue, Registry, Release, Runs, Timer, WorkerParts,
    WorkerPorts,
};
use crate::state::WorkerSettings;
use crate::telemetry::{Telemetry, TelemetryConfig};
use crate::wasm::Wasm;
use crate::worker::{Answer, Worker};

/// The function's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `WASQ_QUEUE_URL`: the queue that the deliveries come from.
    pub queue_url: String,
    /// `WASQ_DEAD_LETTER_URL`: the dead-letter queue, for messages that are given up.
    pub dead_letter_url: String,
    /// `WASQ_REGISTRY_BUCKET`: the bucket of the registry.
    pub registry_bucket: String,
    /// `WASQ_PUBLISHER_FUNCTION`: the publisher, which the worker asks for a missing artifact. If it is not
    /// set, somebody else must ask.
    pub publisher_function: Option<String>,
    /// `WASQ_RUNS_TABLE`: the table of runs. If it is not set, runs are not remembered.
    pub runs_table: Option<String>,
    /// The schedule group for messages whose time lies far ahead, by `WASQ_SCHEDULE_GROUP` and others. If it is not set, they wait in
    /// the queue.
    pub schedule_group: Option<GroupConfig>,
    /// `WASQ_CACHE_DIR`: the folder of the cached artifacts; default `/tmp/wasq`.
    pub cache_dir: PathBuf,
    /// `WASQ_CACHE`: the largest size of that folder, and of all loaded modules together; default 200 MiB.
    /// The disk needs twice that: a removed file stays on the disk while its module is loaded.
    pub cache: ByteCount,
    /// `WASQ_ALLOW_ADDRESSES`: the ranges that tasks may reach in addition to the public internet, such as
    /// `10.0.0.0/8,fd00::/8`. Tasks never reach `AWS_LAMBDA_RUNTIME_API`, which Lambda sets.
    pub addresses: Addresses,
    /// `WASQ_METRICS`: the metrics that CloudWatch makes from the log: `off`, `function` (default) or `task`.
    pub metrics: Metrics,
    /// Where traces and metrics go; `None` for nowhere.
    pub telemetry: Option<TelemetryConfig>,
    /// `AWS_LAMBDA_FUNCTION_NAME`, which Lambda sets.
    pub function: String,
    /// The worker's settings:
    ///
    /// - `WASQ_CONCURRENCY`: default 10
    /// - `WASQ_MEMORY`: the memory that concurrent runs may be allowed together; default the function's
    ///   memory minus 128 MiB
    /// - `WASQ_MODULES_MAX`: default 64
    /// - `WASQ_LIVE_TTL`: default 1 s
    /// - `WASQ_SECRET_TTL`: default 5 min
    /// - `WASQ_LEASE`: the queue's visibility timeout; default 120 s
    /// - `WASQ_RETENTION`: the time for which the queue keeps messages; default 96 h
    /// - the caps `WASQ_MAX_TIMEOUT`, `WASQ_MAX_MEMORY`, `WASQ_MAX_ATTEMPTS`, `WASQ_MAX_KEEP`
    pub worker: WorkerSettings,
}

impl Config {
    /// Reads the configuration. The error names the variable that is missing or wrong.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Self, VarError> {
        let caps = Caps::default();
        let cache = vars.parse_or("WASQ_CACHE", ByteCount::mib(200))?;
        Ok(Self {
            queue_url: vars.required("WASQ_QUEUE_URL", "the address of the queue")?,
            dead_letter_url: vars.required("WASQ_DEAD_LETTER_URL", "the address of the dead-letter queue")?,
            registry_bucket: vars.required("WASQ_REGISTRY_BUCKET", "the bucket that the publisher writes")?,
            publisher_function: vars.text("WASQ_PUBLISHER_FUNCTION"),
            runs_table: vars.text("WASQ_RUNS_TABLE"),
            schedule_group: GroupConfig::from_vars(vars)?,
            cache_dir: vars.parse_or("WASQ_CACHE_DIR", PathBuf::from("/tmp/wasq"))?,
            cache,
            addresses: Addresses {
                allow: vars.parse_or("WASQ_ALLOW_ADDRESSES", AddressRanges::default())?.0,
                never: vars
                    .text("AWS_LAMBDA_RUNTIME_API")
                    .and_then(|api| api.parse().ok())
                    .into_iter()
                    .collect(),
            },
            metrics: vars.parse_or("WASQ_METRICS", Metrics::Function)?,
            telemetry: TelemetryConfig::from_vars(vars)?,
            function: vars.parse_or("AWS_LAMBDA_FUNCTION_NAME", "wasq-worker".to_owned())?,
            worker: WorkerSettings {
                concurrency: vars.parse_or("WASQ_CONCURRENCY", 10)?,
                memory: vars.parse_or("WASQ_MEMORY", memory(vars)?)?,
                modules_max: vars.parse_or("WASQ_MODULES_MAX", 64)?,
                // A file that is removed while its module is loaded stays on the disk.
                modules_bytes_max: cache,
                live_ttl: vars.duration_or("WASQ_LIVE_TTL", Duration::from_secs(1))?,
                secret_ttl: vars.duration_or("WASQ_SECRET_TTL", Duration::from_secs(300))?,
                lease: vars.duration_or("WASQ_LEASE", LEASE_BY_DEFAULT)?,
                retention: vars.duration_or("WASQ_RETENTION", RETENTION_BY_DEFAULT)?,
                caps: Caps {
                    timeout: vars.duration_or("WASQ_MAX_TIMEOUT", caps.timeout)?,
                    memory: vars.parse_or("WASQ_MAX_MEMORY", caps.memory)?,
                    max_attempts: vars.parse_or("WASQ_MAX_ATTEMPTS", caps.max_attempts)?,
                    keep: vars.duration_or("WASQ_MAX_KEEP", caps.keep)?,
                },
            },
        })
    }
}

/// The memory of the worker itself, without its tasks: code, connections, messages.
const OWN_MEMORY: u64 = 128 << 20;

/// The memory that is left for tasks, from `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, which Lambda sets in MB.
fn memory<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<ByteCount, VarError> {
    let megabytes: u64 = vars.parse_or("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 1769)?;
    Ok(ByteCount((megabytes << 20).saturating_sub(OWN_MEMORY).max(megabytes << 19)))
}

/// The Lambda function.
pub struct Function {
    worker: Worker<Lambda>,
    services: Services,
    telemetry: Option<Arc<Telemetry>>,
}

/// The worker's ports on AWS.
struct Lambda;

impl WorkerPorts for Lambda {
    type Queue = SqsQueue;
    type Registry = S3Registry;
    type SecretStore = SecretReader;
    type Runs = DynamoRuns;
    type Timer = ScheduledSends;
    type Runner = Wasm;
    type Observer = Log;
    type Clock = SystemClock;
}

impl Function {
    /// Connects to the queues and the bucket, and starts the engine.
    pub async fn new(config: Config) -> Result<Self> {
        let Config {
            queue_url,
            dead_letter_url,
            registry_bucket,
            publisher_function,
            runs_table,
            schedule_group,
            cache_dir,
            cache,
            addresses,
            metrics,
            telemetry,
            function,
            worker,
        } = config;
        // The engine starts while the clients are made.
        let settings = worker.clone();
        let delay_max = if schedule_group.is_some() { AHEAD_MAX } else { AHEAD_IN_QUEUE };
        let limits = Limits { addresses, delay_max, ..Limits::default() };
        let runner = tokio::task::spawn_blocking(move || Wasm::new(&settings, limits));
        let sdk = wasq_aws::function_config();
        let services = Services {
            sdk: sdk.clone(),
            queue_url: queue_url.clone(),
            bucket: registry_bucket.clone(),
            publisher: publisher_function.clone(),
            schedule_group: schedule_group.as_ref().map(|config| config.group.clone()),
        };
        let queue = SqsQueue { sdk: sdk.clone(), queue_url, dead_letter_url, endpoints: OnceLock::new() };
        let registry = S3Registry {
            objects: S3Objects::new(&sdk, &registry_bucket),
            publisher: publisher_function.map(|name| OtherFunction::new(&sdk, name)),
            cache: ArtifactCache::open(cache_dir, cache.0)?,
        };
        let runs = runs_table.map(|table| DynamoRuns {
            table: RunsTable::new(&sdk, table, registry_bucket),
            look_every: worker.lease / 2,
        });
        let timer =
            schedule_group.map(|config| ScheduledSends { sdk: sdk.clone(), config, group: OnceLock::new() });
        let secrets = SecretReader::new(&sdk);
        let runner = runner.await.context("start the engine")??;
        let telemetry = telemetry.map(|config| Arc::new(Telemetry::new(config, &sdk, &function)));
        let observer = Log { metrics, function, telemetry: telemetry.clone() };
        let clock = SystemClock;
        let parts = WorkerParts { queue, registry, secrets, runs, timer, runner, observer, clock };
        Ok(Self { worker: Worker::new(parts, worker), services, telemetry })
    }

    /// Answers one invoke; a direct invoke and an event source mapping read the answer.
    pub async fn handle(&self, payload: &str, invoke: Invoke) -> Result<Box<RawValue>> {
        let ends = invoke.ends;
        let handled = self.worker.handle(payload, invoke).await;
        // Lambda freezes the process when the invoke has ended.
        if let Some(telemetry) = &self.telemetry {
            telemetry.export(ends).await;
        }
        let answer = match handled? {
            Answer::Outcome(outcome) => serde_json::to_string(&outcome)?,
            Answer::EventSource(response) => serde_json::to_string(&response)?,
            Answer::Pong(pong) => {
                serde_json::to_string(&Pong { unreachable: self.services.unreachable().await, ..pong })?
            }
            Answer::Batch { unfinished } => serde_json::json!({ "unfinished": unfinished }).to_string(),
        };
        Ok(RawValue::from_string(answer)?)
    }
}

/// The services that the worker calls. A worker in subnets may have no way to them.
struct Services {
    sdk: SdkConfig,
    queue_url: String,
    bucket: String,
    publisher: Option<String>,
    schedule_group: Option<String>,
}

/// The longest time in which a service that can be reached answers.
const REACHED_WITHIN: Duration = Duration::from_secs(5);

impl Services {
    /// The services that cannot be connected to. Any answer counts, also a refusal.
    async fn unreachable(&self) -> Vec<String> {
        let timeouts = TimeoutConfig::builder().operation_timeout(REACHED_WITHIN).build();
        let sdk =
            self.sdk.to_builder().timeout_config(timeouts).retry_config(RetryConfig::disabled()).build();
        let bucket = S3Objects::new(&sdk, &self.bucket);
        let s3 = bucket.read("live/no-task.json");
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let sqs = sqs.change_message_visibility().queue_url(&self.queue_url).receipt_handle("none");
        let sqs = sqs.visibility_timeout(0).send();
        let lambda = async {
            let Some(publisher) = &self.publisher else { return true };
            answered(&OtherFunction::new(&sdk, publisher).dry_run().await)
        };
        let scheduler = async {
            let Some(group) = &self.schedule_group else { return true };
            ScheduleGroup::new(&sdk, group.clone()).answers().await
        };
        let (s3, sqs, lambda, scheduler) = tokio::join!(s3, sqs, lambda, scheduler);
        let reached = [
            ("S3", answered(&s3)),
            ("SQS", answered(&sqs)),
            ("Lambda", lambda),
            ("EventBridge Scheduler", scheduler),
        ];
        reached.into_iter().filter(|(_, reached)| !reached).map(|(name, _)| name.to_owned()).collect()
    }
}

fn answered<T, E, R>(answer: &Result<T, SdkError<E, R>>) -> bool {
    !matches!(answer, Err(SdkError::DispatchFailure(_) | SdkError::TimeoutError(_)))
}

/// Writes to stdout, where Lambda collects it.
struct Log {
    metrics: Metrics,
    function: String,
    telemetry: Option<Arc<Telemetry>>,
}

impl Observer for Log {
    fn finished(&self, finished: &Finished<'_>) {
        let line = finished.record.to_json_with_metrics(self.metrics, &self.function);
        // A log that cannot be written must not cost a message.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
        if let Some(telemetry) = &self.telemetry {
            telemetry.observe(&finished.record);
        }
    }
}

/// The two queues. Their client is made at the first call, not before the first run: a cold start waits for
/// every client that is made earlier.
struct SqsQueue {
    sdk: SdkConfig,
    queue_url: String,
    dead_letter_url: String,
    endpoints: OnceLock<Endpoints>,
}

struct Endpoints {
    queue: QueueEndpoint,
    dead_letters: QueueEndpoint,
}

impl SqsQueue {
    fn endpoints(&self) -> &Endpoints {
        self.endpoints.get_or_init(|| {
            let client = aws_sdk_sqs::Client::new(&self.sdk);
            Endpoints {
                queue: QueueEndpoint::new(client.clone(), self.queue_url.clone()),
                dead_letters: QueueEndpoint::new(client, self.dead_letter_url.clone()),
            }
        })
    }
}

impl Queue for SqsQueue {
    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        let entries: Vec<_> = receipts.into_iter().map(|receipt| (receipt, lease)).collect();
        self.endpoints().queue.set_visibility(&entries).await
    }

    async fn release(&self, entries: Vec<Release>) -> Vec<Result<()>> {
        let entries: Vec<_> = entries.into_iter().map(|entry| (entry.receipt, entry.after)).collect();
        self.endpoints().queue.set_visibility(&entries).await
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        self.endpoints().queue.delete(&receipts).await
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        let messages = children.into_iter().map(|child| Outbound {
            delay: child.delay,
            deduplication: child.message.id.clone(),
            trace_header: child.trace_header,
            group: Some(child.group.unwrap_or_else(|| child.message.task.to_string())),
            body: child.message.to_json(),
            ..Outbound::default()
        });
        self.endpoints().queue.send(messages.collect()).await
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        self.endpoints().dead_letters.send_dead_letters(&letters).await
    }
}

/// The table of runs in DynamoDB.
struct DynamoRuns {
    table: RunsTable,
    /// How often a run looks whether somebody has cancelled it.
    look_every: Duration,
}

impl Runs for DynamoRuns {
    /// With these, most items have less than 1 KiB: DynamoDB bills a write by the KiB.
    const PARAMS_MAX: usize = 160;

    async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        self.table.put(writes).await
    }

    async fn cancelled(&self, id: &str, owner: &str) {
        loop {
            tokio::time::sleep(self.look_every).await;
            match self.table.get(id).await {
                Ok(Some(item)) if item.is_to_be_cancelled(owner) => return,
                Ok(_) => {}
                Err(e) => tracing::warn!("cannot see whether the run was cancelled: {e:#}"),
            }
        }
    }
}

/// The timer: one-time schedules that send messages to the queue. Its client is made at the first call.
struct ScheduledSends {
    sdk: SdkConfig,
    config: GroupConfig,
    group: OnceLock<ScheduleMaker>,
}

impl Timer for ScheduledSends {
    async fn keep(&self, messages: Vec<Delayed>) -> Vec<Result<()>> {
        let group = self.group.get_or_init(|| ScheduleMaker::new(&self.sdk, self.config.clone()));
        // Scheduler knows no groups of a standard queue.
        let message = |Delayed { name, body, group: _, at }: Delayed| MessageAt {
            name: ScheduleGroup::message_name(&name),
            body,
            at,
        };
        group.send_all_at(messages.into_iter().map(message).collect()).await
    }
}

struct S3Registry {
    objects: S3Objects,
    /// If there is none, somebody else must ask for missing artifacts.
    publisher: Option<OtherFunction>,
    cache: ArtifactCache,
}

impl Registry for S3Registry {
    type Artifact = CheckedArtifact;

    async fn live(&self, task: &TaskName) -> Result<Option<Arc<LiveRecord>>> {
        let key = LiveRecord::key(task);
        let Some(bytes) = self.objects.get_whole(&key).await? else { return Ok(None) };
        let record = serde_json::from_slice(&bytes).with_context(|| format!("read {key}"))?;
        Ok(Some(Arc::new(record)))
    }

    async fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        if let Some(cached) = self.cache.get(artifact).await {
            return Ok(cached);
        }
        let key = LiveRecord::artifact_key(fingerprint, module);
        let body = self.objects.get(&key).await.map_err(ArtifactError::Unavailable)?;
        let mut body = body.ok_or_else(|| ArtifactError::Missing(format!("the registry has no {key}")))?;
        // Piece by piece, so that the whole artifact is never in memory.
        let mut filling = self.cache.begin(artifact)?;
        while let Some(piece) = body.next().await {
            let piece = piece.with_context(|| format!("read {key} of the registry"));
            filling.write(&piece.map_err(ArtifactError::Unavailable)?)?;
        }
        filling.finish()
    }

    async fn request_artifact(&self, task: &TaskName, unusable: bool) -> Result<()> {
        let publisher = self.publisher.as_ref().context("WASQ_PUBLISHER_FUNCTION is not set")?;
        let request = PublishRequest { recompile: task.clone(), unusable };
        publisher.send(serde_json::to_vec(&request)?).await
    }
}
