//! The worker on AWS: SQS, the registry in S3, and the Lambda function.

use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use aws_sdk_s3::primitives::ByteStream;
use serde_json::value::RawValue;
use wasq_aws::{Outbound, QueueEndpoint, SdkConfig, SecretReader, explain};
use wasq_engine::{Addresses, Child};
use wasq_protocol::{
    AddressRanges, Artifact, ByteCount, Caps, DeadLetter, Delivery, Digest, Fingerprint, Invoke,
    LEASE_BY_DEFAULT, LiveRecord, Metrics, PublishRequest, RETENTION_BY_DEFAULT, SecretError, SecretSource,
    SecretValue, SystemClock, TaskName, VarError, Vars,
};

use crate::artifacts::{ArtifactCache, CheckedArtifact};
use crate::ports::{
    ArtifactError, Finished, Observer, Parts, Ports, Queue, Registry, SecretStore, Visibility,
};
use crate::wasm::Wasm;
use crate::worker::{Answer, Settings, Worker};

/// The function's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `WASQ_QUEUE_URL`: the queue whose deliveries come in.
    pub queue_url: String,
    /// `WASQ_DEAD_LETTER_URL`: where messages go that are given up.
    pub dead_letter_url: String,
    /// `WASQ_REGISTRY_BUCKET`: what is live.
    pub registry_bucket: String,
    /// `WASQ_PUBLISHER_FUNCTION`: asked for an artifact that is missing; without it, somebody else must.
    pub publisher_function: Option<String>,
    /// `WASQ_CACHE_DIR`: where artifacts are kept; default `/tmp/wasq`.
    pub cache_dir: PathBuf,
    /// `WASQ_CACHE`: how much of it, and how much may be loaded; default 200 MiB. The disk needs twice that, because what is loaded
    /// stays there until it is not.
    pub cache: ByteCount,
    /// `WASQ_ALLOW_ADDRESSES`: ranges that tasks may reach beside the public internet, such as `10.0.0.0/8,fd00::/8`; and never
    /// `AWS_LAMBDA_RUNTIME_API`, which Lambda sets.
    pub addresses: Addresses,
    /// `WASQ_METRICS`: which metrics CloudWatch makes of the log: `off`, `function` (default) or `task`.
    pub metrics: Metrics,
    /// `AWS_LAMBDA_FUNCTION_NAME`, which Lambda sets.
    pub function: String,
    /// `WASQ_CONCURRENCY` (default 10), `WASQ_MEMORY` (what tasks that run at once may be allowed together; default what the function has, but
    /// for 128 MiB), `WASQ_MODULES_MAX` (default 64), `WASQ_LIVE_TTL` (default 1 s), `WASQ_SECRET_TTL` (default 5 min), `WASQ_LEASE` (the
    /// queue's visibility timeout; default 120 s), `WASQ_RETENTION` (how long the queue keeps messages; default 96 h), and the
    /// caps `WASQ_MAX_TIMEOUT`, `WASQ_MAX_MEMORY`, `WASQ_MAX_ATTEMPTS`.
    pub worker: Settings,
}

impl Config {
    /// Reads the configuration, naming the variable that is missing or wrong.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Self, VarError> {
        let caps = Caps::default();
        let cache = vars.parse_or("WASQ_CACHE", ByteCount::mib(200))?;
        Ok(Self {
            queue_url: vars.required("WASQ_QUEUE_URL", "the address of the queue")?,
            dead_letter_url: vars.required("WASQ_DEAD_LETTER_URL", "the address of the dead-letter queue")?,
            registry_bucket: vars.required("WASQ_REGISTRY_BUCKET", "the bucket that the publisher writes")?,
            publisher_function: vars.text("WASQ_PUBLISHER_FUNCTION"),
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
            function: vars.parse_or("AWS_LAMBDA_FUNCTION_NAME", "wasq-worker".to_owned())?,
            worker: Settings {
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
                },
            },
        })
    }
}

/// The worker's own, beside what its tasks have: code, connections, messages.
const OWN_MEMORY: u64 = 128 << 20;

/// What the function leaves for tasks, by `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, which Lambda sets in MB.
fn memory<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<ByteCount, VarError> {
    let megabytes: u64 = vars.parse_or("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 1769)?;
    Ok(ByteCount((megabytes << 20).saturating_sub(OWN_MEMORY).max(megabytes << 19)))
}

/// The Lambda function.
pub struct Function(Worker<Lambda>);

/// The worker's ports on AWS.
struct Lambda;

impl Ports for Lambda {
    type Queue = SqsQueue;
    type Registry = S3Registry;
    type SecretStore = AwsSecrets;
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
            cache_dir,
            cache,
            addresses,
            metrics,
            function,
            worker,
        } = config;
        // Beside the client of S3, which takes about as long to make.
        let settings = worker.clone();
        let runner = tokio::task::spawn_blocking(move || Wasm::new(&settings, addresses));
        let sdk = wasq_aws::function_config();
        let queue = SqsQueue { sdk: sdk.clone(), queue_url, dead_letter_url, endpoints: OnceLock::new() };
        let registry = S3Registry {
            s3: aws_sdk_s3::Client::new(&sdk),
            sdk: sdk.clone(),
            bucket: registry_bucket,
            publisher_function,
            cache: ArtifactCache::open(cache_dir, cache.0)?,
        };
        let secrets = AwsSecrets(SecretReader::new(&sdk));
        let runner = runner.await.context("start the engine")??;
        let observer = Log { metrics, function };
        let parts = Parts { queue, registry, secrets, runner, observer, clock: SystemClock };
        Ok(Self(Worker::new(parts, worker)))
    }

    /// Answers one invoke; a direct invoke and an event source mapping read the answer.
    pub async fn handle(&self, payload: &str, invoke: Invoke) -> Result<Box<RawValue>> {
        let answer = match self.0.handle(payload, invoke).await? {
            Answer::Outcome(outcome) => serde_json::to_string(&outcome)?,
            Answer::EventSource(response) => serde_json::to_string(&response)?,
            Answer::Pong(pong) => serde_json::to_string(&pong)?,
            Answer::Batch { unfinished } => serde_json::json!({ "unfinished": unfinished }).to_string(),
        };
        Ok(RawValue::from_string(answer)?)
    }
}

/// Writes to stdout, where Lambda collects it.
struct Log {
    metrics: Metrics,
    function: String,
}

impl Observer for Log {
    fn finished(&self, finished: &Finished<'_>) {
        let line = finished.record.to_json_with_metrics(self.metrics, &self.function);
        // A log that cannot be written must not cost a message.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

/// The two queues. Their client is made when the first run is over, because a cold start waits for every client that is made
/// before.
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
    async fn set_visibility(&self, entries: Vec<Visibility>) -> Vec<Result<()>> {
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
            group: Some(child.message.task.to_string()),
            body: child.message.to_json(),
            ..Outbound::default()
        });
        self.endpoints().queue.send(messages.collect()).await
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        self.endpoints().dead_letters.send_dead_letters(&letters).await
    }
}

struct AwsSecrets(SecretReader);

impl SecretStore for AwsSecrets {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        self.0.read(from).await
    }
}

struct S3Registry {
    s3: aws_sdk_s3::Client,
    /// For the client of Lambda, which hardly ever is needed.
    sdk: SdkConfig,
    bucket: String,
    publisher_function: Option<String>,
    cache: ArtifactCache,
}

impl Registry for S3Registry {
    async fn live(&self, task: &TaskName) -> Result<Option<LiveRecord>> {
        let key = LiveRecord::key(task);
        let Some(body) = self.get(&key).await? else {
            return Ok(None);
        };
        let bytes =
            body.collect().await.with_context(|| format!("read s3://{}/{key}", self.bucket))?.to_vec();
        serde_json::from_slice(&bytes).map(Some).with_context(|| format!("read {key}"))
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
        let body = self.get(&key).await.map_err(ArtifactError::Unavailable)?;
        let mut body = body.ok_or_else(|| ArtifactError::Missing(format!("the registry has no {key}")))?;
        // Piece by piece: it is never in memory as a whole.
        let mut filling = self.cache.begin(artifact)?;
        while let Some(piece) = body.next().await {
            let piece = piece.with_context(|| format!("read s3://{}/{key}", self.bucket));
            filling.write(&piece.map_err(ArtifactError::Unavailable)?)?;
        }
        filling.finish()
    }

    async fn request_artifact(&self, task: &TaskName) -> Result<()> {
        let function = self.publisher_function.as_ref().context("WASQ_PUBLISHER_FUNCTION is not set")?;
        let request = PublishRequest { recompile: task.clone() };
        let answer = aws_sdk_lambda::Client::new(&self.sdk)
            .invoke()
            .function_name(function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(serde_json::to_vec(&request)?))
            .send()
            .await
            .map_err(explain)
            .with_context(|| format!("invoke {function}"))?;
        ensure!(answer.status_code == 202, "invoke {function}: status {}", answer.status_code);
        Ok(())
    }
}

impl S3Registry {
    async fn get(&self, key: &str) -> Result<Option<ByteStream>> {
        let what = || format!("read s3://{}/{key}", self.bucket);
        let answer = self.s3.get_object().bucket(&self.bucket).key(key).send().await;
        let answer = match answer {
            Err(SdkError::ServiceError(e)) if matches!(e.err(), GetObjectError::NoSuchKey(_)) => {
                return Ok(None);
            }
            answer => answer.map_err(explain).with_context(what)?,
        };
        Ok(Some(answer.body))
    }
}
