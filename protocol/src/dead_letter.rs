//! What stands beside a message in the dead-letter queue.

use crate::{Digest, Failure, TaskName, Timestamp};

/// Why a message was moved to the dead-letter queue. The body moves unchanged; this becomes message attributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// What went wrong last.
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
/// The most of a reason that is kept: enough for a traceback, little enough to read.
const REASON_MAX: usize = 4096;

impl DeadLetter {
    /// The attributes, the most useful first, as many as fit beside `body_bytes` bytes of body.
    pub fn attributes(&self, body_bytes: usize) -> Vec<TextAttribute> {
        let mut room = MESSAGE_MAX.saturating_sub(body_bytes);
        let mut attributes = vec![
            text("wasq.kind", self.failure.kind.as_str().to_owned()),
            text("wasq.reason", clean(&self.failure.message)),
            text("wasq.id", clean(&self.id)),
            text("wasq.attempts", self.history()),
        ];
        if let Some(task) = &self.task {
            attributes.push(text("wasq.task", task.to_string()));
        }
        if let Some(digest) = &self.digest {
            attributes.push(text("wasq.digest", digest.to_string()));
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

    fn history(&self) -> String {
        serde_json::json!({
            "attempts": self.attempts,
            "first_received": self.first_received,
            "failed": self.failed,
        })
        .to_string()
    }
}

fn text(name: &'static str, value: String) -> TextAttribute {
    TextAttribute { name, value }
}

/// SQS takes the characters of XML 1.0 only, and no empty values.
fn clean(value: &str) -> String {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    let mut cleaned: String = value.chars().map(|c| if allowed(c) { c } else { '\u{fffd}' }).collect();
    if cleaned.len() > REASON_MAX {
        let end = cleaned.floor_char_boundary(REASON_MAX - 4);
        cleaned.truncate(end);
        cleaned.push_str(" ...");
    }
    if cleaned.is_empty() {
        cleaned.push('-');
    }
    cleaned
}
