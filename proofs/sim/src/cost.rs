//! The cost of a million tasks: API calls are counted in calm worlds, prices are an input.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use wasq_consumer::Mode;

use crate::run::{Report, run};
use crate::runs::WRITE_UNITS;
use crate::scenario::{Drain, Kind, Load, Protocol, Remembering, Scenario, Weather};

/// Prices in US dollars.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    /// When they were looked up.
    pub date: String,
    /// Where.
    pub sources: Vec<String>,
    /// For a million of each.
    pub per_million: PerMillion,
    /// For running functions.
    pub lambda: LambdaPrices,
}

/// Prices for a million of each.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PerMillion {
    /// Any call of SQS.
    pub sqs_request: f64,
    /// An invocation of a function.
    pub lambda_request: f64,
    /// An invocation by EventBridge Scheduler.
    pub scheduler_invocation: f64,
    /// A read from S3.
    pub s3_read: f64,
    /// A write to S3.
    pub s3_write: f64,
    /// A write unit of DynamoDB: up to 1 KiB.
    pub dynamodb_write: f64,
    /// A read unit of DynamoDB: up to 4 KiB.
    pub dynamodb_read: f64,
}

/// Prices for running functions.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LambdaPrices {
    /// For a GB for a second.
    pub gb_second: GbSecond,
    /// The consumer's memory, in GB.
    pub consumer_gb: f64,
    /// The worker's memory, in GB.
    pub worker_gb: f64,
}

/// The price of a GB for a second, by the processor.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GbSecond {
    /// Graviton, the default of `wasq deploy`.
    pub arm64: f64,
    /// Intel or AMD.
    pub x86_64: f64,
}

/// The processor of the functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Graviton.
    Arm64,
    /// Intel or AMD.
    X86_64,
}

impl Prices {
    /// The prices that come with wasq.
    pub fn ours() -> Self {
        toml::from_str(include_str!("../prices.toml")).expect("our own file is right")
    }

    /// Prices from a file of the same shape.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("read {}", path.display()))
    }
}

/// One way to run tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// wasq's consumer, waiting for messages all the time.
    Window,
    /// wasq's consumer, once a minute until the queue is empty.
    UntilEmpty,
    /// wasq's worker behind an event source mapping.
    EventSource,
    /// The design that wasq replaces.
    Reference,
}

impl Way {
    /// All of them.
    pub const ALL: [Way; 4] = [Way::Window, Way::UntilEmpty, Way::EventSource, Way::Reference];

    /// wasq's own.
    pub const OURS: [Way; 3] = [Way::Window, Way::UntilEmpty, Way::EventSource];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::UntilEmpty => "until-empty",
            Self::EventSource => "event source",
            Self::Reference => "reference",
        }
    }
}

/// The counts for one way at one rate.
#[derive(Clone, Debug)]
pub struct Counted {
    /// Messages sent.
    pub sent: u32,
    /// The world's report.
    pub report: Report,
}

/// The time for which tasks arrive, in seconds. `TASKS_MAX` is the most tasks that are counted.
const SECONDS: u32 = 3600;
const TASKS_MAX: u32 = 40_000;
/// SQS bills each 64 KiB of a call as a request.
const CHUNK_BYTES: u64 = 64 << 10;

/// Runs short tasks (up to 200 ms, 100 ms on average) in calm weather and counts their calls. `a_minute`
/// tasks arrive in each minute, at even intervals. `runs`: whether they are remembered.
pub fn count(way: Way, runs: Remembering, a_minute: u32) -> Counted {
    let (protocol, drain) = match way {
        Way::Window => (Protocol::Wasq, Drain::Schedule(Mode::Window)),
        Way::UntilEmpty => (Protocol::Wasq, Drain::Schedule(Mode::UntilEmpty)),
        Way::EventSource => (Protocol::Wasq, Drain::EventSource),
        Way::Reference => (Protocol::Reference, Drain::Schedule(Mode::Window)),
    };
    let tasks = (a_minute * SECONDS / 60).min(TASKS_MAX);
    let report = run(Scenario {
        seed: 1,
        tasks,
        crashes: 0,
        weather: Weather::Calm,
        drain,
        load: Load::Even { apart_us: 60_000_000 / u64::from(a_minute) },
        protocol,
        runs,
        mutation: None,
    });
    Counted { sent: tasks, report }
}

/// The dollars for one million tasks, by purpose.
#[derive(Clone, Copy, Debug, Default)]
pub struct Dollars {
    /// Calls of SQS, those of the sender included.
    pub sqs: f64,
    /// Invocations and running time of the worker, with its reads from S3.
    pub worker: f64,
    /// Schedule, invocations and running time of the consumer.
    pub consumer: f64,
    /// The table of runs.
    pub runs: f64,
}

impl Dollars {
    /// Their sum.
    pub fn total(self) -> f64 {
        let Self { sqs, worker, consumer, runs } = self;
        sqs + worker + consumer + runs
    }
}

impl Counted {
    /// API calls for each million tasks, by name.
    pub fn calls_per_million(&self) -> BTreeMap<&'static str, f64> {
        self.report.calls.iter().map(|(name, count)| (*name, *count as f64 * self.scale())).collect()
    }

    /// The requests that SQS bills for each million tasks, by the name of the call, if each message has this many bytes.
    fn sqs_requests(&self, message_bytes: u64) -> f64 {
        let chunks = message_bytes.div_ceil(CHUNK_BYTES).max(1) as f64;
        let sqs = self.calls_per_million().into_iter().filter(|(name, _)| name.starts_with("sqs"));
        let billed = sqs.map(|(name, calls)| match name {
            // The sender sends each message alone.
            "sqs.send (sender)" => calls * chunks,
            // Each message is received once, alone or with others: the bytes of the answer count.
            "sqs.receive" => calls.max(1e6 * message_bytes as f64 / CHUNK_BYTES as f64),
            _ => calls,
        });
        billed.sum()
    }

    /// The cost of a million tasks on a processor, if each message has this many bytes.
    pub fn dollars(&self, prices: &Prices, architecture: Architecture, message_bytes: u64) -> Dollars {
        let calls = self.calls_per_million();
        let millions = |prefix: &str| {
            let counts = calls.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, count)| count);
            counts.sum::<f64>() / 1e6
        };
        let seconds =
            |kind| self.report.ran_ms.get(&kind).copied().unwrap_or(0) as f64 / 1000.0 * self.scale();
        let PerMillion {
            sqs_request,
            lambda_request,
            scheduler_invocation,
            s3_read,
            s3_write,
            dynamodb_write,
            dynamodb_read,
        } = prices.per_million;
        let LambdaPrices { gb_second, consumer_gb, worker_gb } = prices.lambda;
        let gb_second = match architecture {
            Architecture::Arm64 => gb_second.arm64,
            Architecture::X86_64 => gb_second.x86_64,
        };
        let ticks = millions("scheduler");
        Dollars {
            sqs: self.sqs_requests(message_bytes) / 1e6 * sqs_request,
            worker: millions("lambda.run") * lambda_request
                + seconds(Kind::Worker) * worker_gb * gb_second
                + millions("s3.get") * s3_read
                + (millions("s3.put") + millions("s3.delete")) * s3_write,
            runs: millions(WRITE_UNITS) * dynamodb_write + millions("dynamodb.get") * dynamodb_read,
            consumer: ticks * (scheduler_invocation + lambda_request)
                + seconds(Kind::Consumer) * consumer_gb * gb_second,
        }
    }

    /// The factor from the counted tasks to a million tasks.
    fn scale(&self) -> f64 {
        1e6 / f64::from(self.sent.max(1))
    }
}
