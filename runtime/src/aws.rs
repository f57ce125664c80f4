//! The worker on AWS: SQS, the registry in S3, and the Lambda function.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::GetObjectError;
use serde_json::value::RawValue;
use wasq_aws::{Outbound, QueueEndpoint, SecretReader, explain};
use wasq_engine::{Addresses, Child};
use wasq_protocol::{
    AddressRanges, Artifact, Caps, DeadLetter, Delivery, Digest, Fingerprint, Invoke, LEASE_BY_DEFAULT,
    LiveRecord, Metrics, PublishRequest, RETENTION_BY_DEFAULT, SecretError, SecretSource, SecretValue,
    SystemClock, TaskName, VarError, Vars,
};

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
    /// `WASQ_ALLOW_ADDRESSES`: ranges that tasks may reach beside the public internet, such as `10.0.0.0/8,fd00::/8`; and never
    /// `AWS_LAMBDA_RUNTIME_API`, which Lambda sets.
    pub addresses: Addresses,
    /// `WASQ_METRICS`: which metrics CloudWatch makes of the log: `off`, `function` (default) or `task`.
    pub metrics: Metrics,
    /// `AWS_LAMBDA_FUNCTION_NAME`, which Lambda sets.
    pub function: String,
    /// `WASQ_CONCURRENCY` (default 10), `WASQ_MODULES_MAX` (default 64), `WASQ_LIVE_TTL` (default 1 s), `WASQ_SECRET_TTL` (default 5 min), `WASQ_LEASE` (the
    /// queue's visibility timeout; default 120 s), `WASQ_RETENTION` (how long the queue keeps messages; default 96 h), and the
    /// caps `WASQ_MAX_TIMEOUT`, `WASQ_MAX_MEMORY`, `WASQ_MAX_ATTEMPTS`.
    pub worker: Settings,
}

impl Config {
    /// Reads the configuration, naming the variable that is missing or wrong.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Self, VarError> {
        let caps = Caps::default();
        Ok(Self {
            queue_url: vars.required("WASQ_QUEUE_URL", "the address of the queue")?,
            dead_letter_url: vars.required("WASQ_DEAD_LETTER_URL", "the address of the dead-letter queue")?,
            registry_bucket: vars.required("WASQ_REGISTRY_BUCKET", "the bucket that the publisher writes")?,
            publisher_function: vars.text("WASQ_PUBLISHER_FUNCTION"),
            cache_dir: vars.parse_or("WASQ_CACHE_DIR", PathBuf::from("/tmp/wasq"))?,
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
                modules_max: vars.parse_or("WASQ_MODULES_MAX", 64)?,
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
            addresses,
            metrics,
            function,
            worker,
        } = config;
        let sdk = wasq_aws::sdk_config().load().await;
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let queue = SqsQueue {
            queue: QueueEndpoint::new(sqs.clone(), queue_url),
            dead_letters: QueueEndpoint::new(sqs, dead_letter_url),
        };
        std::fs::create_dir_all(&cache_dir).with_context(|| format!("create {}", cache_dir.display()))?;
        let registry = S3Registry {
            s3: aws_sdk_s3::Client::new(&sdk),
            lambda: aws_sdk_lambda::Client::new(&sdk),
            bucket: registry_bucket,
            publisher_function,
            cache_dir,
        };
        let secrets = AwsSecrets(SecretReader::new(&sdk));
        let runner = Wasm::new(&worker, addresses)?;
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

struct SqsQueue {
    queue: QueueEndpoint,
    dead_letters: QueueEndpoint,
}

impl Queue for SqsQueue {
    async fn set_visibility(&self, entries: Vec<Visibility>) -> Vec<Result<()>> {
        let entries: Vec<_> = entries.into_iter().map(|entry| (entry.receipt, entry.after)).collect();
        self.queue.set_visibility(&entries).await
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        self.queue.delete(&receipts).await
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
        self.queue.send(messages.collect()).await
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        self.dead_letters.send_dead_letters(&letters).await
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
    lambda: aws_sdk_lambda::Client,
    bucket: String,
    publisher_function: Option<String>,
    cache_dir: PathBuf,
}

impl Registry for S3Registry {
    async fn live(&self, task: &TaskName) -> Result<Option<LiveRecord>> {
        let key = LiveRecord::key(task);
        let Some(bytes) = self.get(&key).await? else {
            return Ok(None);
        };
        serde_json::from_slice(&bytes).map(Some).with_context(|| format!("read {key}"))
    }

    async fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<PathBuf, ArtifactError> {
        let path = self.cache_dir.join(format!("{}.cwasm", artifact.sha256));
        if std::fs::metadata(&path).is_ok_and(|file| file.len() == artifact.bytes) {
            return Ok(path);
        }
        let key = LiveRecord::artifact_key(fingerprint, module);
        let bytes = self.get(&key).await.map_err(ArtifactError::Unavailable)?;
        let bytes = bytes.ok_or_else(|| ArtifactError::Missing(format!("the registry has no {key}")))?;
        if Digest::of(&bytes) != artifact.sha256 {
            return Err(ArtifactError::Missing(format!("{key} in the registry is damaged")));
        }
        // Under another name first: a worker that dies here leaves no half-written artifact.
        let partial = path.with_extension("partial");
        std::fs::write(&partial, &bytes)
            .and_then(|()| std::fs::rename(&partial, &path))
            .with_context(|| format!("write {}", path.display()))
            .map_err(ArtifactError::Unavailable)?;
        Ok(path)
    }

    async fn request_artifact(&self, task: &TaskName) -> Result<()> {
        let function = self.publisher_function.as_ref().context("WASQ_PUBLISHER_FUNCTION is not set")?;
        let request = PublishRequest { recompile: task.clone() };
        let answer = self
            .lambda
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
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let what = || format!("read s3://{}/{key}", self.bucket);
        let answer = self.s3.get_object().bucket(&self.bucket).key(key).send().await;
        let answer = match answer {
            Err(SdkError::ServiceError(e)) if matches!(e.err(), GetObjectError::NoSuchKey(_)) => {
                return Ok(None);
            }
            answer => answer.map_err(explain).with_context(what)?,
        };
        let body = answer.body.collect().await.with_context(what)?;
        Ok(Some(body.to_vec()))
    }
}
