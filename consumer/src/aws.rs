//! The consumer on AWS: SQS, Lambda's asynchronous invoke, and the Lambda function.

use std::time::Duration;

use anyhow::{Result, bail};
use aws_sdk_lambda::config::retry::RetryConfig;
use aws_sdk_lambda::error::SdkError;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use tokio_util::sync::CancellationToken;
use wasq_aws::{QueueEndpoint, explain};
use wasq_protocol::{
    Clock, DeadLetter, Delivery, LEASE_BY_DEFAULT, SystemClock, Timestamp, VarError, Vars, WorkerEvent,
};

use crate::drain::{DrainSettings, Mode, Summary, drain};
use crate::ports::{ConsumerParts, ConsumerPorts, InFlight, InvokeError, Invoker, Source};

/// The function's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// `WASQ_QUEUE_URL`: the queue to drain.
    pub queue_url: String,
    /// `WASQ_DEAD_LETTER_URL`: the queue for messages that no invoke can carry.
    pub dead_letter_url: String,
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
    /// `WASQ_IN_FLIGHT_MAX`: default 1000.
    pub in_flight_max: u64,
}

impl Config {
    /// Reads the configuration. The error names the variable that is missing or wrong.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Self, VarError> {
        Ok(Self {
            queue_url: vars.required("WASQ_QUEUE_URL", "the address of the queue")?,
            dead_letter_url: vars.required("WASQ_DEAD_LETTER_URL", "the address of the dead-letter queue")?,
            worker_function: vars.required("WASQ_WORKER_FUNCTION", "the worker's function name")?,
            lease: vars.duration_or("WASQ_LEASE", LEASE_BY_DEFAULT)?,
            mode: vars.parse_or("WASQ_MODE", Mode::Window)?,
            receivers: vars.parse_or("WASQ_RECEIVERS", 8)?,
            held_bytes_max: vars.parse_or::<u64>("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 128)? * (1 << 20) / 4,
            in_flight_max: vars.parse_or("WASQ_IN_FLIGHT_MAX", 1000)?,
        })
    }
}

/// The Lambda function.
pub struct Function {
    config: Config,
    ports: ConsumerParts<Lambda>,
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
        let lambda =
            aws_sdk_lambda::config::Builder::from(&sdk).retry_config(RetryConfig::disabled()).build();
        let ports = ConsumerParts {
            source: SqsSource {
                queue: QueueEndpoint::new(sqs.clone(), &config.queue_url),
                dead_letters: QueueEndpoint::new(sqs.clone(), &config.dead_letter_url),
                lease: config.lease,
            },
            invoker: LambdaInvoker {
                client: aws_sdk_lambda::Client::from_conf(lambda),
                function: config.worker_function.clone(),
                queue: QueueEndpoint::new(sqs, &config.queue_url),
            },
            clock: SystemClock,
        };
        Self { config, ports }
    }

    /// Drains the queue once, until `deadline` at most, and logs one line with the summary. The schedule's
    /// payload does not matter.
    pub async fn handle(&self, deadline: Timestamp) -> Summary {
        let settings = DrainSettings {
            mode: self.config.mode,
            until: deadline,
            receivers: self.config.receivers,
            held_bytes_max: self.config.held_bytes_max,
            in_flight_max: self.config.in_flight_max,
        };
        let started = SystemClock.now();
        // Lambda stops it by ending its time.
        let summary = drain(&self.ports, settings, CancellationToken::new()).await;
        let Summary { receives, received, handed_over, released, unknown, dead_lettered, errors } = summary;
        let seconds = SystemClock.now().since(started).as_secs_f64();
        tracing::info!(
            receives,
            received,
            handed_over,
            given_back = released,
            unknown,
            dead_lettered,
            errors,
            seconds,
            "drained"
        );
        summary
    }
}

struct SqsSource {
    queue: QueueEndpoint,
    dead_letters: QueueEndpoint,
    lease: Duration,
}

impl Source for SqsSource {
    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>> {
        self.queue.receive(wait, self.lease, || SystemClock.now()).await
    }

    async fn release(&self, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        self.queue.set_visibility(&entries).await
    }

    async fn send_dead_letter(&self, delivery: &Delivery, letter: &DeadLetter) -> Result<()> {
        let letters = [(delivery.clone(), letter.clone())];
        self.dead_letters.send_dead_letters(&letters).await.into_iter().collect()
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        self.queue.delete(&[receipt.to_owned()]).await.into_iter().collect()
    }
}

struct LambdaInvoker {
    client: aws_sdk_lambda::Client,
    function: String,
    queue: QueueEndpoint,
}

impl Invoker for LambdaInvoker {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        let answer = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::Event)
            .payload(Blob::new(event.into_bytes()))
            .send()
            .await;
        match answer {
            Ok(answer) if answer.status_code == 202 => Ok(()),
            Ok(answer) => {
                Err(InvokeError::Unknown(format!("invoke {}: status {}", self.function, answer.status_code)))
            }
            Err(e) => {
                let kind = match &e {
                    SdkError::ServiceError(e) if e.raw().status().as_u16() == 429 => InvokeError::Throttled,
                    SdkError::ServiceError(e) if e.raw().status().is_client_error() => InvokeError::Refused,
                    SdkError::ConstructionFailure(_) => InvokeError::Refused,
                    _ => InvokeError::Unknown,
                };
                Err(kind(format!("invoke {}: {:#}", self.function, explain(e))))
            }
        }
    }

    /// SQS counts only the invisible messages.
    async fn in_flight(&self) -> Result<InFlight> {
        self.queue.counts().await.map(|counts| InFlight::AtMost(counts.in_flight))
    }

    /// Lambda refuses a synchronous invoke at once if all workers are busy, but queues an asynchronous one.
    async fn has_room(&self) -> Result<bool> {
        let answer = self
            .client
            .invoke()
            .function_name(&self.function)
            .invocation_type(InvocationType::RequestResponse)
            .payload(Blob::new(WorkerEvent::PING))
            .send()
            .await;
        match answer {
            Ok(answer) => match answer.function_error {
                None => Ok(true),
                Some(error) => bail!("invoke {}: it does not work: {error}", self.function),
            },
            Err(SdkError::ServiceError(e)) if e.raw().status().as_u16() == 429 => Ok(false),
            Err(e) => Err(explain(e).context(format!("invoke {}", self.function))),
        }
    }
}
