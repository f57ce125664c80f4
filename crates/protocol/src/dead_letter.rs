//! The attributes of a message in the dead-letter queue, and the attributes of a redriven message.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::check_id;
use crate::{Attribute, Delivery, Digest, Failure, FailureKind, TaskName, Timestamp};

const KIND: &str = "wasq.kind";
const REASON: &str = "wasq.reason";
const ID: &str = "wasq.id";
const ATTEMPTS: &str = "wasq.attempts";
const TASK: &str = "wasq.task";
const DIGEST: &str = "wasq.digest";
const HISTORY: &str = "wasq.history";
/// The prefix of the names of wasq's own attributes.
const OURS: &str = "wasq.";

/// The reason why a message was moved to the dead-letter queue. The body moves unchanged; these fields become
/// message attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// The last failure.
    pub failure: Failure,
    /// The message's own id: the one that its task saw.
    pub id: String,
    /// The task that it names, if it names one.
    pub task: Option<TaskName>,
    /// How many attempts were made.
    pub attempts: u32,
    /// When it was first received.
    pub first_received: Timestamp,
    /// When it was given up.
    pub failed: Timestamp,
    /// The module that ran last, if one did.
    pub digest: Option<Digest>,
    /// Its earlier ends in the dead-letter queue, oldest first, if it was redriven.
    pub history: Vec<EarlierEnd>,
}

/// An end in the dead-letter queue from which a message was redriven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EarlierEnd {
    /// The kind of failure; `None` if the queue's redrive policy moved the message.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<FailureKind>,
    /// The reason for the failure, shortened.
    pub reason: String,
    /// How many attempts had been made.
    pub attempts: u32,
    /// When it was given up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub failed: Option<Timestamp>,
    /// The module that ran last, if one did.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
}

/// A message attribute of type `String`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextAttribute {
    /// The attribute's name.
    pub name: &'static str,
    /// Its value, free of characters that SQS refuses.
    pub value: String,
}

/// SQS allows 1 MiB for body and attributes together.
const MESSAGE_MAX: usize = 1 << 20;
/// The longest reason, in bytes: enough for a traceback, and short enough to read.
const REASON_MAX: usize = 4096;

impl DeadLetter {
    /// The attributes, the most useful first, as many as fit together with a body of `body_bytes` bytes.
    pub fn attributes(&self, body_bytes: usize) -> Vec<TextAttribute> {
        let mut room = MESSAGE_MAX.saturating_sub(body_bytes);
        let mut attributes = vec![
            text(KIND, self.failure.kind.as_str().to_owned()),
            text(REASON, clean(&self.failure.message)),
            text(ID, clean(&self.id)),
            text(ATTEMPTS, self.attempts()),
        ];
        if let Some(task) = &self.task {
            attributes.push(text(TASK, task.to_string()));
        }
        if let Some(digest) = &self.digest {
            attributes.push(text(DIGEST, digest.to_string()));
        }
        if !self.history.is_empty() {
            attributes.push(text(HISTORY, history(&self.history)));
        }
        attributes.retain(|attribute| {
            let bytes = attribute.name.len() + "String".len() + attribute.value.len();
            let fits = bytes <= room;
            if fits {
                room -= bytes;
            }
            fits
        });
        attributes
    }

    /// The attributes of the copy in the dead-letter queue: ours, and as many of the sender's as fit. Also returns the names
    /// of the sender's attributes that do not fit.
    pub fn copy_attributes(&self, delivery: &Delivery) -> (BTreeMap<String, Attribute>, Vec<String>) {
        let bytes = |name: &str, attribute: &Attribute| {
            let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
            name.len()
                + attribute.data_type.len()
                + length(&attribute.string_value)
                + length(&attribute.binary_value)
        };
        let ours = self.attributes(delivery.body.len()).into_iter();
        let mut attributes: BTreeMap<String, Attribute> =
            ours.map(|attribute| (attribute.name.to_owned(), Attribute::text(attribute.value))).collect();
        let used: usize = attributes.iter().map(|(name, attribute)| bytes(name, attribute)).sum();
        let mut room = MESSAGE_MAX.saturating_sub(delivery.body.len() + used);
        let mut dropped = Vec::new();
        for (name, attribute) in &delivery.attributes {
            if attributes.contains_key(name) {
                continue;
            }
            let bytes = bytes(name, attribute);
            if attributes.len() < ATTRIBUTES_MAX && bytes <= room {
                room -= bytes;
                attributes.insert(name.clone(), attribute.clone());
            } else {
                dropped.push(name.clone());
            }
        }
        (attributes, dropped)
    }

    fn attempts(&self) -> String {
        let attempts = Attempts {
            attempts: self.attempts,
            first_received: Some(self.first_received),
            failed: Some(self.failed),
        };
        serde_json::to_string(&attempts).expect("string keys")
    }
}

/// `wasq.attempts` as JSON.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Attempts {
    attempts: u32,
    first_received: Option<Timestamp>,
    failed: Option<Timestamp>,
}

/// The attributes of a message in the dead-letter queue, as they are read. Each of them may be missing: SQS's
/// own redrive policy, or a person, may have put the message there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DeadLetterAttributes {
    /// The kind of failure.
    pub kind: Option<FailureKind>,
    /// The reason for the failure.
    pub reason: Option<String>,
    /// The message's own id: the one that its task saw.
    pub id: Option<String>,
    /// The task that it names.
    pub task: Option<TaskName>,
    /// How many attempts were made.
    pub attempts: Option<u32>,
    /// When it was first received.
    pub first_received: Option<Timestamp>,
    /// When it was given up.
    pub failed: Option<Timestamp>,
    /// The module that ran last.
    pub digest: Option<Digest>,
    /// Its earlier ends, oldest first.
    pub history: Vec<EarlierEnd>,
}

/// The most attributes that SQS takes.
const ATTRIBUTES_MAX: usize = 10;
/// The number of earlier ends that are kept; the oldest are dropped first.
const HISTORY_MAX: usize = 10;
/// The longest reason of an earlier end, in bytes.
const EARLIER_REASON_MAX: usize = 200;

impl DeadLetterAttributes {
    /// Reads the attributes of a message.
    pub fn read(attributes: &BTreeMap<String, Attribute>) -> Self {
        let text = |name: &str| attributes.get(name).and_then(|attribute| attribute.string_value.as_deref());
        let Attempts { attempts, first_received, failed } =
            text(ATTEMPTS).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        Self {
            kind: text(KIND).and_then(|kind| FailureKind::ALL.into_iter().find(|k| k.as_str() == kind)),
            reason: text(REASON).map(str::to_owned),
            id: text(ID).filter(|id| check_id(id).is_ok()).map(str::to_owned),
            task: text(TASK).and_then(|task| task.parse().ok()),
            attempts: text(ATTEMPTS).is_some().then_some(attempts),
            first_received,
            failed,
            digest: text(DIGEST).and_then(|digest| digest.parse().ok()),
            history: text(HISTORY).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default(),
        }
    }

    /// The attributes of a message that goes back into the task queue: the sender's own, the id that its task
    /// knows, and its history with this end added. `message_id` is the queue's id of the dead letter; it is
    /// used if there is no other id.
    pub fn redriven(
        &self,
        message_id: &str,
        attributes: &BTreeMap<String, Attribute>,
    ) -> BTreeMap<String, Attribute> {
        let mut earlier = self.history.clone();
        earlier.push(EarlierEnd {
            kind: self.kind,
            reason: cut(
                self.reason.as_deref().unwrap_or("moved by the queue's redrive policy"),
                EARLIER_REASON_MAX,
            ),
            attempts: self.attempts.unwrap_or(0),
            failed: self.failed,
            digest: self.digest,
        });
        let theirs = attributes.iter().filter(|(name, _)| !name.starts_with(OURS));
        let mut redriven: BTreeMap<_, _> =
            theirs.map(|(name, value)| (name.clone(), value.clone())).collect();
        // A message that the queue itself moved may already have ten attributes of its sender, the most that
        // SQS takes.
        if redriven.len() < ATTRIBUTES_MAX {
            redriven.insert(ID.to_owned(), Attribute::text(self.id.as_deref().unwrap_or(message_id)));
        }
        if redriven.len() < ATTRIBUTES_MAX {
            redriven.insert(HISTORY.to_owned(), Attribute::text(history(&earlier)));
        }
        redriven
    }
}

/// The newest ends, as JSON: as many as fit.
fn history(ends: &[EarlierEnd]) -> String {
    let mut newest = &ends[ends.len().saturating_sub(HISTORY_MAX)..];
    loop {
        let json = serde_json::to_string(newest).expect("string keys");
        if json.len() <= REASON_MAX || newest.is_empty() {
            return clean(&json);
        }
        newest = &newest[1..];
    }
}

fn text(name: &'static str, value: String) -> TextAttribute {
    TextAttribute { name, value }
}

/// SQS takes the characters of XML 1.0 only, and no empty values.
fn clean(value: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let cleaned: String = value.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect();
    let mut cleaned = cut(&cleaned, REASON_MAX);
    if cleaned.is_empty() {
        cleaned.push('-');
    }
    cleaned
}

fn cut(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(bytes_max - 4);
    format!("{} ...", &text[..end])
}
