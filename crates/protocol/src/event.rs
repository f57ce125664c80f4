//! The events that the worker can be invoked with.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::delivery::Attribute;
use crate::text::Text;
use crate::{Batch, Delivery, Fingerprint, Message, MessageError, Timestamp};

/// The event of one invoke of the worker. Its keys tell the kinds apart.
#[derive(Clone, Debug)]
pub enum WorkerEvent {
    /// A plain message (`task`): run it and answer with its outcome.
    Message(Message),
    /// A batch from the consumer (`deliveries`).
    Batch(Batch),
    /// A batch from an SQS event source mapping (`Records`): answer with the entries that failed.
    EventSource(Batch),
    /// No work (`ping`): an answer shows that there is a worker with time for it.
    Ping,
}

/// Lambda's data about an invoke, apart from the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoke {
    /// When Lambda will cut the invoke off.
    pub ends: Timestamp,
    /// Lambda's id of the invoke.
    pub request_id: Option<String>,
    /// X-Ray's trace header.
    pub trace_header: Option<String>,
}

impl Invoke {
    /// An invoke with a known end; nothing else about it is known.
    pub fn until(ends: Timestamp) -> Self {
        Self { ends, request_id: None, trace_header: None }
    }
}

/// The answer to a ping: the worker's version, its fingerprint, and what it cannot reach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// The worker's version.
    pub version: String,
    /// The fingerprint of the machine code that the worker can run.
    pub fingerprint: Fingerprint,
    /// The services of AWS that the worker needs and cannot connect to, such as `SQS`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unreachable: Vec<String>,
}

/// Why an invoke's payload is no worker event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// The payload is no JSON object, or has none of the keys of a worker event.
    #[error(
        "not a worker event: {0}; expected an object with \"task\" (a message), \"deliveries\" (from the consumer), \"Records\" (from SQS) or \"ping\""
    )]
    Unknown(String),
    /// A plain message of the wrong shape.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A batch of the wrong shape.
    #[error("not a valid {what}: {problem}")]
    Batch {
        /// Which of the two batches it is.
        what: &'static str,
        /// The problem with it.
        problem: String,
    },
}

impl WorkerEvent {
    /// A ping as JSON.
    pub const PING: &str = r#"{"ping":{}}"#;

    /// Reads an invoke's payload, at the time `now`. An event source mapping does not say when its leases end: those of
    /// messages that were received once last for `lease` from then, and those of others count as over at `now`.
    pub fn parse(payload: &str, now: Timestamp, lease: Duration) -> Result<Self, EventError> {
        let Envelope { task, deliveries, records, ping } = match serde_json::from_str(payload) {
            Ok(envelope) => envelope,
            Err(e) => return Self::of_no_batch(payload, &e),
        };
        if task {
            Ok(Self::Message(Message::parse(payload)?))
        } else if let Some(deliveries) = deliveries {
            Ok(Self::Batch(Batch { deliveries }))
        } else if let Some(records) = records {
            let deliveries = records.into_iter().map(|record| record.into_delivery(now, lease));
            Ok(Self::EventSource(Batch { deliveries: deliveries.collect() }))
        } else if ping {
            Ok(Self::Ping)
        } else {
            let keys = keys(payload).unwrap_or_default();
            let found: Vec<_> = keys.keys().take(8).map(String::as_str).collect();
            Err(EventError::Unknown(format!("its keys are {found:?}")))
        }
    }

    /// Reads a payload after `error` stopped the parse as a batch. A payload with the key `task` is a
    /// message, even if it has other keys.
    fn of_no_batch(payload: &str, error: &serde_json::Error) -> Result<Self, EventError> {
        let batch = |what| EventError::Batch { what, problem: error.to_string() };
        match keys(payload) {
            Ok(keys) if keys.contains_key("task") => Ok(Self::Message(Message::parse(payload)?)),
            Ok(keys) if keys.contains_key("deliveries") => Err(batch("consumer batch")),
            Ok(keys) if keys.contains_key("Records") => Err(batch("SQS event")),
            _ => Err(EventError::Unknown(error.to_string())),
        }
    }
}

/// The keys of an event, which should have exactly one of them. Batches are parsed at once, because most
/// events are batches.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default, deserialize_with = "is_there")]
    task: bool,
    #[serde(default, deserialize_with = "is")]
    deliveries: Option<Vec<Delivery>>,
    #[serde(rename = "Records", default, deserialize_with = "is")]
    records: Option<Vec<SqsRecord>>,
    #[serde(default, deserialize_with = "is_there")]
    ping: bool,
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

/// An explicit `null` is an error; an absent key is not.
fn is<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

fn keys(payload: &str) -> serde_json::Result<BTreeMap<String, IgnoredAny>> {
    serde_json::from_str(payload)
}

/// The answer to an event source mapping: the messages that must not be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchResponse {
    /// The messages that were not finished.
    #[serde(rename = "batchItemFailures")]
    pub failures: Vec<BatchItemFailure>,
}

/// One message that was not finished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchItemFailure {
    /// The message's SQS id.
    #[serde(rename = "itemIdentifier")]
    pub message_id: String,
}

/// A record as AWS documents it; keys that wasq does not need are left out.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SqsRecord {
    message_id: String,
    receipt_handle: String,
    body: String,
    attributes: SqsAttributes,
    #[serde(default)]
    message_attributes: BTreeMap<String, Attribute>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SqsAttributes {
    #[serde(deserialize_with = "number")]
    approximate_receive_count: u64,
    #[serde(deserialize_with = "number")]
    approximate_first_receive_timestamp: u64,
    #[serde(deserialize_with = "number")]
    sent_timestamp: u64,
    message_group_id: Option<String>,
    #[serde(rename = "AWSTraceHeader")]
    trace_header: Option<String>,
}

impl SqsRecord {
    fn into_delivery(self, now: Timestamp, lease: Duration) -> Delivery {
        let attributes = self.attributes;
        let first_received = Timestamp::from_ms(attributes.approximate_first_receive_timestamp);
        // SQS reports the time of the first receive only. How long ago a later one was is not known, because Lambda may repeat an
        // invoke within the lease: the worker extends such a lease before it counts on it.
        let is_first = attributes.approximate_receive_count == 1;
        Delivery {
            message_id: self.message_id,
            body: self.body,
            receipt: self.receipt_handle,
            receive_count: u32::try_from(attributes.approximate_receive_count).unwrap_or(u32::MAX),
            lease_until: if is_first { first_received.plus(lease) } else { now },
            first_received,
            sent: Timestamp::from_ms(attributes.sent_timestamp),
            attributes: self.message_attributes,
            group: attributes.message_group_id,
            trace_header: attributes.trace_header,
            deaths: 0,
        }
    }
}

/// SQS writes its numbers as strings.
fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let Text(text) = Text::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| serde::de::Error::custom(format!("expected a whole number in a string, got {text:?}")))
}
