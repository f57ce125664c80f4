//! The consumer on AWS: SQS, Lambda's synchronous invoke, and the Lambda function.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::operation::invoke::InvokeOutput;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use tokio_util::sync::CancellationToken;
use wasq_aws::{CONNECT_TIMEOUT, FunctionError, QueueEndpoint, explain};
use wasq_protocol::{Clock, Delivery, LEASE_BY_DEFAULT, SystemClock, Timestamp, VarError, Vars};

use crate::drain::drain;
use crate::ports::{ConsumerParts, ConsumerPorts, InvokeError, Invoker, Source};
use crate::state::{DrainSettings, Drained, Mode, Summary};

/// The function's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `WASQ_QUEUE_URL`: the queue to drain.
    pub queue_url: String,
    /// `WASQ_WORKER_FUNCTION`: the function that the messages are handed to.
    pub worker_function: String,
    /// `WASQ_LEASE`: the queue's visibility timeout; default 120 s.
    pub lease: Duration,
    /// `WASQ_MODE`: `window` (default) or `until-empty`.
    pub mode: Mode,
    /// `WASQ_RECEIVERS`: receives at once while there is a backlog; default 8.
    pub receivers: usize,
    /// The most bytes of messages to hold at once: a quarter of `AWS_LAMBDA_FUNCTION_MEMORY_SIZE`, which
    /// Lambda sets, in MB. During the hand-over a message takes a few times its size.
    pub held_bytes_max: u64,
    /// `WASQ_IN_FLIGHT_MAX`: the most messages that are handed over and not settled; default 5000.
    pub in_flight_max: u64,
    /// The most open invokes, by the memory of the function: each takes a connection.
    pub invokes_max: u64,
}

impl Config {
    /// Reads the configuration. The error names the variable that is missing or wrong.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Self, VarError> {
        let memory: u64 = vars.parse_or("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 128)?;
        Ok(Self {
            queue_url: vars.required("WASQ_QUEUE_URL", "the address of the queue")?,
            worker_function: vars.required("WASQ_WORKER_FUNCTION", "the worker's function name")?,
            lease: vars.duration_or("WASQ_LEASE", LEASE_BY_DEFAULT)?,
            mode: vars.parse_or("WASQ_MODE", Mode::Window)?,
            receivers: vars.parse_or("WASQ_RECEIVERS", 8)?,
            held_bytes_max: (memory << 20) / 4,
            in_flight_max: vars.parse_or("WASQ_IN_FLIGHT_MAX", 5000)?,
            invokes_max: (memory * INVOKES_PER_MIB).min(INVOKES_MAX),
        })
    }
}

/// The open invokes for each MiB of the function's memory, of which a quarter is for messages.
const INVOKES_PER_MIB: u64 = 4;
/// A Lambda function may have 1,024 open files.
const INVOKES_MAX: u64 = 900;

/// The Lambda function.
pub struct Function {
    config: Config,
    ports: ConsumerParts<Lambda>,
    /// The messages that the last drain of this process has kept.
    kept: Mutex<Vec<Delivery>>,
}

/// The kinds of the consumer's ports on AWS.
struct Lambda;

impl ConsumerPorts for Lambda {
    type Source = SqsSource;
    type Invoker = LambdaInvoker;
    type Clock = SystemClock;
}

impl Function {
    /// Connects to the queues and the worker.
    pub async fn new(config: Config) -> Self {
        let sdk = wasq_aws::function_config();
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        // No retries: the SDK would repeat an invoke that may have arrived, and its messages would run twice.
        // If the invoke did not arrive, its messages come again by themselves.
        // No timeout of reads: an invoke lasts as long as its runs.
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).disable_read_timeout().build();
        let lambda = aws_sdk_lambda::config::Builder::from(&sdk)
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        let ports = ConsumerParts {
            source: SqsSource { queue: QueueEndpoint::new(sqs, &config.queue_url), lease: config.lease },
            invoker: LambdaInvoker {
                client: aws_sdk_lambda::Client::from_conf(lambda),
                function: config.worker_function.clone(),
            },
            clock: SystemClock,
        };
        Self { config, ports, kept: Mutex::default() }
    }

    /// Drains the queue once, until `deadline` at most, and logs one line with the summary. The schedule's
    /// payload does not matter.
    pub async fn handle(&self, deadline: Timestamp) -> Summary {
        let settings = DrainSettings {
            mode: self.config.mode,
            until: deadline,
            lease: self.config.lease,
            receivers: self.config.receivers,
            held_bytes_max: self.config.held_bytes_max,
            in_flight_max: self.config.in_flight_max,
            invokes_max: self.config.invokes_max,
        };
        let started = SystemClock.now();
        // Lambda stops it by ending its time.
        let kept = std::mem::take(&mut *self.kept());
        let Drained { summary, kept } = drain(&self.ports, settings, kept, CancellationToken::new()).await;
        let kept_messages = kept.len();
        *self.kept() = kept;
        let Summary { receives, received, handed_over, released, unknown, errors } = summary;
        let seconds = SystemClock.now().since(started).as_secs_f64();
        tracing::info!(
            receives,
            received,
            handed_over,
            given_back = released,
            unknown,
            kept = kept_messages,
            errors,
            seconds,
            "drained"
        );
        summary
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct SqsSource {
    queue: QueueEndpoint,
    lease: Duration,
}

impl Source for SqsSource {
    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>> {
        self.queue.receive(wait, self.lease, || SystemClock.now()).await
    }

    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        let entries: Vec<_> = receipts.into_iter().map(|receipt| (receipt, lease)).collect();
        self.queue.set_visibility(&entries).await
    }

    async fn release(&self, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        self.queue.set_visibility(&entries).await
    }
}

struct LambdaInvoker {
    client: aws_sdk_lambda::Client,
    function: String,
}

impl Invoker for LambdaInvoker {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        let answer = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(event.into_bytes()))
            .send()
            .await;
        let function = &self.function;
        match answer {
            Ok(InvokeOutput { function_error: None, .. }) => Ok(()),
            Ok(InvokeOutput { payload, .. }) => {
                let error = FunctionError::read(payload.as_ref().map_or(b"", |payload| payload.as_ref()));
                let text = format!("invoke {function}: {error}");
                Err(if error.is_answer() { InvokeError::Refused(text) } else { InvokeError::Died(text) })
            }
            Err(e) => {
                let kind = match &e {
                    SdkError::ServiceError(e) if e.raw().status().as_u16() == 429 => InvokeError::Busy,
                    SdkError::ServiceError(e) if e.raw().status().is_client_error() => InvokeError::Refused,
                    SdkError::ConstructionFailure(_) => InvokeError::Refused,
                    e if wasq_aws::not_sent(e) => InvokeError::Refused,
                    _ => InvokeError::Unknown,
                };
                Err(kind(format!("invoke {function}: {:#}", explain(e))))
            }
        }
    }
}
