//! The worker's record of each settled delivery: one JSON line in its log.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Digest, FailureKind, TaskName, Timestamp};

/// A settled delivery, as the log shows it. Times are in milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// When the delivery was settled.
    pub timestamp: Timestamp,
    /// `INFO` or `WARN`, as in every line of the log.
    pub level: RecordLevel,
    /// The text for people: `done`, or the failure and the next step.
    pub message: String,
    /// The task, if the message names one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<TaskName>,
    /// The message's own id: the one that its task sees.
    pub id: String,
    /// The queue's id of the message; none if there was no queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message_id: Option<String>,
    /// The id of the message whose task enqueued this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<String>,
    /// The id of the message at the top of the chain of parents; none if it is this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root: Option<String>,
    /// Which attempt it was; the first is 1.
    pub attempt: u32,
    /// How the run ended.
    pub outcome: RunOutcome,
    /// The kind of failure.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<FailureKind>,
    /// The next step for the message.
    pub then: Then,
    /// From the message's send until a slot among the concurrent runs was free; none if there was no queue.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub queued_ms: Option<f64>,
    /// The wait for a slot in this worker, a part of `queued_ms`.
    pub place_ms: f64,
    /// Finding the live version, and loading it.
    pub load_ms: f64,
    /// The run: instantiation and call.
    pub run_ms: f64,
    /// From the run's end until the message was settled: children, dead letter, delete or visibility.
    pub acknowledge_ms: f64,
    /// The most memory that the run had, over all memories and tables.
    pub peak_memory_bytes: u64,
    /// HTTP requests of the run that the policy denied.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub denied_requests: u32,
    /// The first HTTP requests of the run, at most [`SentRequest::KEPT`].
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub requests: Vec<SentRequest>,
    /// The steps that the run saved, and when.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub steps: Vec<SavedStep>,
    /// The module that ran; none if there was no run.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// Lambda's id of the invoke.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
    /// The trace that the message belongs to (W3C).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub traceparent: Option<String>,
    /// Whether that was made of X-Ray's header, because the message names no trace itself.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub from_xray: bool,
}

/// An HTTP request of a run. Its path is left out: it can hold what nobody else should know.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SentRequest {
    /// The method.
    pub method: String,
    /// Scheme, host and port as the task wrote them, such as `https://api.github.com`.
    pub to: String,
    /// The status of the response, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub status: Option<u16>,
    /// From the begin of the run to the begin of the request, in milliseconds.
    pub began_ms: f64,
    /// Until the head of the response was there, in milliseconds.
    pub took_ms: f64,
}

impl SentRequest {
    /// The requests of a run that are recorded.
    pub const KEPT: usize = 20;
}

/// A step that a run saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SavedStep {
    /// Its name.
    pub name: String,
    /// When it was saved.
    pub at: Timestamp,
}

impl SavedStep {
    /// The steps of a run that are recorded.
    pub const KEPT: usize = 20;
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RecordLevel {
    /// Everything is as expected.
    Info,
    /// Something went wrong.
    Warn,
}

/// How a run ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunOutcome {
    /// The task returned a result.
    Success,
    /// The task returned no result, or there was no run.
    Failure,
}

/// The next step for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    /// It is deleted.
    Done,
    /// It is attempted again.
    Retry,
    /// It is released and comes again; the message is not at fault.
    // The word of the log stays.
    #[serde(rename = "give-back")]
    Release,
    /// It is in the dead-letter queue.
    DeadLetter,
    /// It is deleted, because somebody cancelled it.
    Cancelled,
    /// It left the queue, and is sent again at its `not_before`.
    Delayed,
}

/// The CloudWatch metrics that a record carries. Each combination of name and dimensions is billed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    /// None.
    Off,
    /// Metrics of all tasks together.
    Function,
    /// Metrics of all tasks together, and of each task.
    Task,
}

impl std::str::FromStr for Metrics {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "function" => Ok(Self::Function),
            "task" => Ok(Self::Task),
            _ => Err("expected off, function or task"),
        }
    }
}

impl RunRecord {
    /// The namespace of our metrics in CloudWatch.
    pub const NAMESPACE: &'static str = "wasq";

    /// The record as one JSON line.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("string keys")
    }

    /// The JSON line with metrics in CloudWatch's embedded format. The dimensions are `function`, or
    /// `function` and `task` as well:
    ///
    /// - `run_ms` and `peak_memory_bytes`, if there was a run. The sample count of `run_ms` is the number of
    ///   runs.
    /// - `failed` and `dead_lettered` (0 or 1 each), unless the message is released or delayed.
    ///
    /// [The format](https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html)
    pub fn to_json_with_metrics(&self, metrics: Metrics, function: &str) -> String {
        let mut listed = Vec::new();
        if self.digest.is_some() {
            listed.extend([("run_ms", "Milliseconds"), ("peak_memory_bytes", "Bytes")]);
        }
        if !matches!(self.then, Then::Release | Then::Delayed) {
            listed.extend([("failed", "Count"), ("dead_lettered", "Count")]);
        }
        let mut dimensions = vec![vec!["function"]];
        match metrics {
            _ if listed.is_empty() => return self.to_json(),
            Metrics::Off => return self.to_json(),
            Metrics::Function => {}
            Metrics::Task if self.task.is_none() => {}
            Metrics::Task => dimensions.push(vec!["function", "task"]),
        }
        let mut line = serde_json::to_value(self).expect("string keys");
        line["function"] = function.into();
        line["failed"] = u8::from(self.outcome == RunOutcome::Failure).into();
        line["dead_lettered"] = u8::from(self.then == Then::DeadLetter).into();
        let listed: Vec<_> =
            listed.into_iter().map(|(name, unit)| json!({ "Name": name, "Unit": unit })).collect();
        line["_aws"] = json!({
            "Timestamp": self.timestamp.ms(),
            "CloudWatchMetrics": [{
                "Namespace": Self::NAMESPACE,
                "Dimensions": dimensions,
                "Metrics": listed,
            }],
        });
        Value::to_string(&line)
    }
}
