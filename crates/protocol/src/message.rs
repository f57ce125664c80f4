//! The message that a sender puts into the queue.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::text::Text;
use crate::{TaskName, Timestamp};

/// The longest time from the send to a `not_before`: a leap year. EventBridge Scheduler keeps the message until then.
pub const AHEAD_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

/// The longest time from the send to a `not_before` for which a message can wait in its queue. The shortest retention that we work
/// with is four days.
pub const AHEAD_IN_QUEUE: Duration = Duration::from_secs(3 * 24 * 3600);

/// The largest body that can wait outside of the queue, in bytes. EventBridge Scheduler takes 256 KB.
pub const DELAYED_BYTES_MAX: usize = 250_000;

/// Whether a message can wait outside of its queue, also if its id must be added to its body.
pub fn can_leave_the_queue(body_bytes: usize) -> bool {
    const ID_BYTES_MAX: usize = 150;
    body_bytes + ID_BYTES_MAX <= DELAYED_BYTES_MAX
}

/// The largest message body, in bytes. SQS takes 1 MiB including attributes, and a dead letter has attributes of ours.
pub const MAX_MESSAGE_BYTES: usize = 1_000_000;

/// A message as its sender wrote it: the task to run, and its params.
///
/// ```
/// let message = wasq_protocol::Message::parse(r#"{"task": "github_repositories", "params": {"user": "javimb"}}"#)?;
/// assert_eq!(message.task.as_str(), "github_repositories");
/// assert_eq!(message.params.get(), r#"{"user": "javimb"}"#);
/// # Ok::<(), wasq_protocol::MessageError>(())
/// ```
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// The task to run.
    pub task: TaskName,
    /// The task's input, as the sender's own JSON text, so that no digit of a number is lost.
    pub params: Box<RawValue>,
    /// The sender's own id, by which the task can recognise a repetition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Run no earlier than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// The id of the message whose task sent this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The id of the message at the top of the chain of parents.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root: Option<String>,
    /// How many parents are above this message.
    #[serde(skip_serializing_if = "is_zero")]
    pub depth: u32,
    /// How many messages this one may still cause, its children, their children and so on together. wasq writes it into
    /// children; without it, the message has the budget of a root.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub descendants: Option<u32>,
    /// W3C trace context.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// Keys that wasq does not know: kept, ignored, and warned about in the log.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, Box<RawValue>>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// The reason why a message body is not valid: the problem, and its JSON path (`$` is the whole body).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageError {
    /// The JSON path of the offending value, such as `$.task`.
    pub path: String,
    /// The problem with that value.
    pub problem: String,
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid message: at {}: {}", self.path, self.problem)
    }
}

impl std::error::Error for MessageError {}

impl Message {
    /// A message for `task` with nothing but params.
    pub fn new(task: TaskName, params: Box<RawValue>) -> Self {
        Self {
            task,
            params,
            id: None,
            not_before: None,
            parent: None,
            root: None,
            depth: 0,
            descendants: None,
            traceparent: None,
            unknown: BTreeMap::new(),
        }
    }

    /// Reads a message body.
    pub fn parse(body: &str) -> Result<Self, MessageError> {
        let at = |path: &str, problem: String| MessageError { path: path.to_owned(), problem };
        if body.len() > MAX_MESSAGE_BYTES {
            return Err(at(
                "$",
                format!("the body has {} bytes; the most is {MAX_MESSAGE_BYTES}", body.len()),
            ));
        }
        let Entries { task, params, id, not_before, parent, root, depth, descendants, traceparent, unknown } =
            serde_json::from_str(body).map_err(|e| at("$", no_entries(body, &e)))?;

        let Some(Text(task)) = value(task, "task")? else {
            let problem = format!("missing; a message looks like {EXAMPLE}");
            return Err(at("$.task", problem));
        };
        let task = task.parse().map_err(|e| at("$.task", format!("{e}: {task:?}")))?;
        let id = value::<String>(id, "id")?;
        if let Some(id) = &id {
            check_id(id).map_err(|problem| at("$.id", problem))?;
        }
        let not_before = match value(not_before, "not_before")? {
            Some(Text(text)) => Some(text.parse().map_err(|e| at("$.not_before", e))?),
            None => None,
        };
        Ok(Self {
            task,
            params: params.map_or_else(empty_object, ToOwned::to_owned),
            id,
            not_before,
            parent: value(parent, "parent")?,
            root: value(root, "root")?,
            depth: value(depth, "depth")?.unwrap_or(0),
            descendants: value(descendants, "descendants")?,
            traceparent: value(traceparent, "traceparent")?,
            unknown: unknown.into_iter().map(|(key, value)| (key.into_owned(), value.to_owned())).collect(),
        })
    }

    /// The task that a body names; none if it names none by a valid name. The rest of the body need not be valid.
    pub fn task_in(body: &str) -> Option<TaskName> {
        let Entries { task, .. } = serde_json::from_str(body).ok()?;
        let Text(task) = serde_json::from_str(task?.get()).ok()?;
        task.parse().ok()
    }

    /// The message as JSON text.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a message has string keys only")
    }
}

const EXAMPLE: &str = r#"{"task": "NAME", "params": {}}"#;

/// The reason why a body has no entries. Computed only after a parse has failed: a check before each parse
/// would cost time for every message.
fn no_entries(body: &str, error: &serde_json::Error) -> String {
    match serde_json::from_str::<&RawValue>(body) {
        Err(e) => format!("not JSON: {e}"),
        Ok(value) if !value.get().starts_with('{') => {
            format!("expected an object such as {EXAMPLE}, got {}", kind(value))
        }
        Ok(_) => error.to_string(),
    }
}

/// Checks a message's id: 1-128 printable ASCII characters, because it goes into log lines, attributes and file names.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() || id.len() > 128 || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("an id has 1-128 printable ASCII characters and no blanks, not {id:?}"));
    }
    Ok(())
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".to_owned()).expect("{} is JSON")
}

/// The value of a known key; an explicit `null` counts as absent.
fn value<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>, key: &str) -> Result<Option<T>, MessageError> {
    let Some(raw) = raw else {
        return Ok(None);
    };
    serde_json::from_str(raw.get()).map_err(|_| MessageError {
        path: format!("$.{key}"),
        problem: format!("expected {}, got {}", expected(key), kind(raw)),
    })
}

fn expected(key: &str) -> &'static str {
    match key {
        "depth" | "descendants" => "a whole number from 0 to 4294967295",
        _ => "a string",
    }
}

/// The type of a JSON value in words, with the value itself if it is short.
fn kind(value: &RawValue) -> String {
    let text = value.get();
    let what = match text.as_bytes().first() {
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    if text.len() <= 40 { format!("{what}: {text}") } else { what.to_owned() }
}

/// The entries of a message, values unparsed.
#[derive(Default)]
struct Entries<'a> {
    task: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    not_before: Option<&'a RawValue>,
    parent: Option<&'a RawValue>,
    root: Option<&'a RawValue>,
    depth: Option<&'a RawValue>,
    descendants: Option<&'a RawValue>,
    traceparent: Option<&'a RawValue>,
    unknown: BTreeMap<Cow<'a, str>, &'a RawValue>,
}

impl<'a> Entries<'a> {
    /// Stores a value under its key, and returns the value that was there before.
    fn put(&mut self, key: &Cow<'a, str>, value: &'a RawValue) -> Option<&'a RawValue> {
        let place = match &**key {
            "task" => &mut self.task,
            "params" => &mut self.params,
            "id" => &mut self.id,
            "not_before" => &mut self.not_before,
            "parent" => &mut self.parent,
            "root" => &mut self.root,
            "depth" => &mut self.depth,
            "descendants" => &mut self.descendants,
            "traceparent" => &mut self.traceparent,
            _ => return self.unknown.insert(key.clone(), value),
        };
        place.replace(value)
    }
}

impl<'de> Deserialize<'de> for Entries<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EntriesVisitor;
        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<'de>, A::Error> {
                let mut entries = Entries::default();
                while let Some((Text(key), value)) = map.next_entry()? {
                    // A key that occurs twice is ambiguous.
                    if entries.put(&key, value).is_some() {
                        return Err(serde::de::Error::custom(format!("the key {key:?} occurs twice")));
                    }
                }
                Ok(entries)
            }
        }
        deserializer.deserialize_map(EntriesVisitor)
    }
}
