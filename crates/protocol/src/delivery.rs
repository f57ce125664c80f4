//! A delivery: one receive of one message, on its way from the queue to the worker.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{DeadLetterAttributes, Message, Timestamp};

/// One receive of one message, with everything that the worker needs to settle it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Wire", into = "Wire")]
pub struct Delivery {
    /// The queue's id of the message.
    pub message_id: String,
    /// The body as the sender sent it, not parsed.
    pub body: String,
    /// The receipt handle of this receive.
    pub receipt: String,
    /// The number of receives of the message, this one included.
    pub receive_count: u32,
    /// When the message becomes visible to others again.
    pub lease_until: Timestamp,
    /// When the message was sent: the queue's retention counts from here.
    pub sent: Timestamp,
    /// When the message was first received.
    pub first_received: Timestamp,
    /// The sender's message attributes, which go along into the dead-letter queue.
    pub attributes: BTreeMap<String, Attribute>,
    /// The message group, if there is one; it goes along into the dead-letter queue.
    pub group: Option<String>,
    /// X-Ray's trace header, if one came with the message.
    pub trace_header: Option<String>,
    /// The number of workers that are known to have died while they ran the message, since a run of it ended last.
    pub deaths: u32,
}

/// After this many deaths of its workers, a message is a dead letter.
pub const DEATHS_MAX: u32 = 3;

/// A message attribute in the format of SQS's own events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attribute {
    /// `String`, `Number` or `Binary`, possibly with a `.suffix`.
    pub data_type: String,
    /// The value of a `String` or `Number`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub string_value: Option<String>,
    /// The value of a `Binary`, in base64.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub binary_value: Option<String>,
}

impl Attribute {
    /// An attribute of type `String`.
    pub fn text(value: impl Into<String>) -> Self {
        Self { data_type: "String".to_owned(), string_value: Some(value.into()), binary_value: None }
    }
}

impl Delivery {
    /// The id that the task sees, the same for every attempt: the sender's, or the one that a redriven message had, or
    /// the queue's.
    pub fn id(&self, message: Option<&Message>) -> String {
        message
            .and_then(|message| message.id.clone())
            .or_else(|| DeadLetterAttributes::read(&self.attributes).id)
            .unwrap_or_else(|| self.message_id.clone())
    }
}

/// The deliveries that the consumer hands to the worker in one invoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The deliveries, all from the worker's own queue.
    pub deliveries: Vec<Delivery>,
}

/// The delivery as JSON. A body that is JSON itself is written as JSON (`message`), any other as a string
/// (`body`). As a string, a body full of quotes would double in size, and an invoke takes 6 MiB for all of a batch.
#[derive(Serialize, Deserialize)]
struct Wire {
    message_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    receipt: String,
    receive_count: u32,
    lease_until: Timestamp,
    first_received: Timestamp,
    sent: Timestamp,
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    attributes: BTreeMap<String, Attribute>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    trace_header: Option<String>,
    #[serde(skip_serializing_if = "is_zero", default)]
    deaths: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl From<Delivery> for Wire {
    fn from(delivery: Delivery) -> Self {
        let Delivery {
            message_id,
            body,
            receipt,
            receive_count,
            lease_until,
            first_received,
            sent,
            attributes,
            group,
            trace_header,
            deaths,
        } = delivery;
        // Surrounding blanks would not survive inside JSON, and a lone `null` would read back as "no message".
        let message = serde_json::from_str::<Box<RawValue>>(&body)
            .ok()
            .filter(|raw| raw.get() == body && body != "null");
        Self {
            message_id,
            body: message.is_none().then_some(body),
            message,
            receipt,
            receive_count,
            lease_until,
            first_received,
            sent,
            attributes,
            group,
            trace_header,
            deaths,
        }
    }
}

impl From<Wire> for Delivery {
    fn from(wire: Wire) -> Self {
        let body = match (wire.message, wire.body) {
            (Some(message), _) => String::from(Box::<str>::from(message)),
            (None, body) => body.unwrap_or_default(),
        };
        Self {
            message_id: wire.message_id,
            body,
            receipt: wire.receipt,
            receive_count: wire.receive_count,
            lease_until: wire.lease_until,
            first_received: wire.first_received,
            sent: wire.sent,
            attributes: wire.attributes,
            group: wire.group,
            trace_header: wire.trace_header,
            deaths: wire.deaths,
        }
    }
}
