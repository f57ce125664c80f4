//! The memory of a run: one item for each message, by the message's own id.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Digest, FailureKind, Message, TaskName, Timestamp};

/// Everything that is remembered about one message: the item of the table of runs.
///
/// Workers claim the item before they run the message, and write its end into it. On one machine the item is a row of
/// SQLite, on AWS an item of DynamoDB with the same names.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunItem {
    /// The message's own id: the key.
    pub id: String,
    /// Changes with every write. A write names the revision that it replaces.
    pub revision: String,
    /// How far the message has come.
    pub state: ItemState,
    /// The task that it names; none if it names none, or if it was cancelled before a worker had it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub task: Option<TaskName>,
    /// The queue's id of the message that was claimed last; none for a direct invoke.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message_id: Option<String>,
    /// The digest of task and params. Another message with the same id must have the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub params: Option<Digest>,
    /// The params, as the sender's JSON text, if they are short.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "also_null")]
    pub params_json: Option<Box<RawValue>>,
    /// Runs that ended in a success or a failure, and the one that is under way.
    pub attempts: u32,
    /// Runs that were cut off: their worker did not write how they ended.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub cut_off: u32,
    /// Those of them that were cut off one after the other while their message ran alone, without anybody seeing how they ended.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub cut_off_alone: u32,
    /// No other message of its event runs beside it, and nobody sees it if its worker dies.
    #[serde(skip_serializing_if = "is_false", default)]
    pub alone: bool,
    /// Names the delivery that runs it, or ran it last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub owner: Option<String>,
    /// While the state is `running`: another worker may claim it after this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lease_until: Option<Timestamp>,
    /// Somebody asked to cancel it while it was running.
    #[serde(skip_serializing_if = "is_false", default)]
    pub cancel: bool,
    /// The setting `once` of its task, when it was claimed last.
    #[serde(skip_serializing_if = "is_false", default)]
    pub once: bool,
    /// The module that ran last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<Digest>,
    /// The id of the message whose task sent this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<String>,
    /// The id of the message at the top of the chain of parents; none if it is this one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub root: Option<String>,
    /// The kind of the last failure, if the last run failed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<FailureKind>,
    /// The reason for the last failure, shortened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The task's result, as its own JSON text, if the state is `done`.
    #[serde(skip_serializing_if = "Option::is_none", default, deserialize_with = "also_null")]
    pub result: Option<Box<RawValue>>,
    /// The key of the object that holds the result and the children, if they are too large for the table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub large: Option<String>,
    /// The children that the successful run enqueued, until all are sent.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unsent: Vec<UnsentChild>,
    /// The steps that its runs saved, oldest first. A later run does not execute them again.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub steps: Vec<Step>,
    /// The first of its children.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub children: Vec<ChildRef>,
    /// How many children it has.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub children_count: u32,
    /// The last attempts that ended, oldest first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub history: Vec<AttemptEnd>,
    /// When the message was sent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sent: Option<Timestamp>,
    /// When its first attempt began.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub started: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ended: Option<Timestamp>,
    /// While the state is `waiting` or `retrying`: when it comes again.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Timestamp>,
    /// When it was written last.
    pub updated: Timestamp,
    /// When it is forgotten, in seconds since 1970: an item that is older counts as absent.
    pub expires: u64,
    /// The fields that a later version of wasq has written. They stay when this version writes the item.
    #[serde(flatten)]
    pub others: BTreeMap<String, Value>,
}

/// How far a message has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    /// A worker had it, and could not run it, or its time has not come. It comes again.
    Waiting,
    /// A worker runs it.
    Running,
    /// An attempt failed. It comes again.
    Retrying,
    /// Its task succeeded.
    Done,
    /// It was given up: it is in the dead-letter queue, or on its way there.
    Dead,
    /// It was cancelled.
    Cancelled,
}

impl ItemState {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Waiting, Self::Running, Self::Retrying, Self::Done, Self::Dead, Self::Cancelled];

    /// Whether nothing follows this state, unless the message is sent again.
    pub fn is_end(self) -> bool {
        match self {
            Self::Waiting | Self::Running | Self::Retrying => false,
            Self::Done | Self::Dead | Self::Cancelled => true,
        }
    }

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

impl std::fmt::Display for ItemState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for ItemState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = || Self::ALL.map(Self::as_str).join(", ");
        Self::ALL
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("expected one of {}", words()))
    }
}

/// A child that is not sent yet, with all that its send needs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct UnsentChild {
    /// Its message body: a JSON text.
    pub body: String,
    /// Its delay, in seconds.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub delay_seconds: u32,
    /// Its message group.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub group: Option<String>,
    /// X-Ray's trace header.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace_header: Option<String>,
}

/// A child, by its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChildRef {
    /// The child's own id.
    pub id: String,
    /// Its task.
    pub task: TaskName,
}

/// A step that a run has saved.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Its value, as the task's own JSON text.
    pub value: Box<RawValue>,
    /// The attempt that saved it.
    pub attempt: u32,
    /// When it was saved.
    pub saved: Timestamp,
}

/// The end of one attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptEnd {
    /// Which attempt it was; the first is 1.
    pub attempt: u32,
    /// When it ended.
    pub ended: Timestamp,
    /// How long its run took, in milliseconds.
    pub run_ms: f64,
    /// The most memory that its run had, in bytes.
    pub peak_memory_bytes: u64,
    /// The kind of failure; none if it succeeded.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub kind: Option<FailureKind>,
    /// The reason for the failure, shortened.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The module that ran.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub module: Option<Digest>,
    /// Lambda's id of the invoke: its lines of the log have it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
}

/// An item to write.
#[derive(Clone, Debug)]
pub struct ItemWrite {
    /// The item, with a revision of its own.
    pub item: RunItem,
    /// The revision that it replaces; `None` if there should be no item.
    pub replaces: Option<String>,
}

/// The table's answer to a write.
#[derive(Clone, Debug)]
pub enum Written {
    /// The item is stored.
    Yes,
    /// The table holds this item, or none. It is unchanged.
    Refused(Option<Box<RunItem>>),
    /// The table holds another item, and it cannot be read. The text says why.
    Unreadable(String),
}

/// Attempts that an item keeps. Of earlier ones it keeps the number only.
const HISTORY_MAX: usize = 20;
/// Children that an item keeps the ids of.
const CHILDREN_MAX: usize = 100;
/// The longest reason, in bytes.
const REASON_MAX: usize = 1024;
/// Larger items keep their result, and the children that are not sent, in S3.
const LARGE: usize = 300 << 10;

impl RunItem {
    /// An item without a past.
    pub fn new(id: String, state: ItemState, now: Timestamp) -> Self {
        Self {
            id,
            revision: String::new(),
            state,
            task: None,
            message_id: None,
            params: None,
            params_json: None,
            attempts: 0,
            cut_off: 0,
            cut_off_alone: 0,
            alone: false,
            owner: None,
            lease_until: None,
            cancel: false,
            once: false,
            module: None,
            parent: None,
            root: None,
            kind: None,
            reason: None,
            result: None,
            large: None,
            unsent: Vec::new(),
            steps: Vec::new(),
            children: Vec::new(),
            children_count: 0,
            history: Vec::new(),
            sent: None,
            started: None,
            ended: None,
            next: None,
            updated: now,
            expires: 0,
            others: BTreeMap::new(),
        }
    }

    /// How words begin that EventBridge Scheduler replaces in a message body.
    pub const WORD: &str = "<aws.scheduler.";
    /// The same in JSON, and no such word.
    pub const ESCAPED_WORD: &str = "\\u003caws.scheduler.";

    /// The id of the item that says which firing of a schedule runs. No message has such an id, because it begins with a blank.
    pub fn turn_id(schedule: &str) -> String {
        format!(" turn of {schedule}")
    }

    /// Whether it is the item of a message, and not one of wasq's own.
    pub fn is_of_message(&self) -> bool {
        !self.id.starts_with(' ')
    }

    /// The digest of a message's task and params.
    pub fn params_digest(message: &Message) -> Digest {
        let mut hasher = crate::Hasher::default();
        hasher.update(message.task.as_str().as_bytes());
        hasher.update(b"\0");
        let params = message.params.get();
        // EventBridge Scheduler replaces words that begin so. A message that waits there has the sign escaped, and is the same.
        if params.contains(Self::ESCAPED_WORD) {
            hasher.update(params.replace(Self::ESCAPED_WORD, Self::WORD).as_bytes());
        } else {
            hasher.update(params.as_bytes());
        }
        hasher.finish()
    }

    /// Notes the task and the params of a message. Params with more than `max` bytes are not kept, but for their digest.
    pub fn set_message(&mut self, message: &Message, max: usize) {
        self.task = Some(message.task.clone());
        self.params = Some(Self::params_digest(message));
        self.params_json = (message.params.get().len() <= max).then(|| message.params.clone());
    }

    /// The name under which the timer keeps a message: another id, other params or another time have another name.
    pub fn delayed_name(id: &str, params: &Digest, at: Timestamp) -> Digest {
        Digest::of(format!("{id}\0{params}\0{}", at.ms()).as_bytes())
    }

    /// The name under which the timer keeps this message, if it does.
    pub fn kept_as(&self) -> Option<Digest> {
        let is_kept = self.state == ItemState::Waiting && self.kind == Some(FailureKind::Delayed);
        Some(Self::delayed_name(&self.id, self.params.as_ref().filter(|_| is_kept)?, self.next?))
    }

    /// Whether somebody asked to cancel the message while this owner runs it.
    pub fn is_to_be_cancelled(&self, owner: &str) -> bool {
        self.cancel && self.state == ItemState::Running && self.owner.as_deref() == Some(owner)
    }

    /// Whether the item is forgotten at this time.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.saturating_mul(1000) <= now.ms()
    }

    /// Lets the item be forgotten after this time from now.
    pub fn keep_for(&mut self, keep: Duration, now: Timestamp) {
        self.expires = now.plus(keep).ms().div_ceil(1000);
    }

    /// Its time in lists: when its first attempt began, or when it was written last if none has begun.
    pub fn listed_at(&self) -> Timestamp {
        self.started.unwrap_or(self.updated)
    }

    /// Adds the end of an attempt to its history.
    pub fn add_attempt(&mut self, mut end: AttemptEnd) {
        end.reason = end.reason.as_deref().map(shortened);
        if self.history.len() >= HISTORY_MAX {
            self.history.remove(0);
        }
        self.history.push(end);
    }

    /// Adds a step. One that has its name is replaced.
    pub fn add_step(&mut self, step: Step) {
        self.steps.retain(|other| other.name != step.name);
        self.steps.push(step);
    }

    /// Sets its last failure.
    pub fn set_failure(&mut self, kind: FailureKind, reason: &str) {
        self.kind = Some(kind);
        self.reason = Some(shortened(reason));
    }

    /// Sets its children. Their messages are kept until they are sent.
    pub fn set_children(&mut self, children: Vec<(ChildRef, UnsentChild)>) {
        self.children_count = u32::try_from(children.len()).unwrap_or(u32::MAX);
        let (refs, unsent): (Vec<_>, Vec<_>) = children.into_iter().unzip();
        self.children = refs.into_iter().take(CHILDREN_MAX).collect();
        self.unsent = unsent;
    }

    /// Whether the item is too large for DynamoDB, which takes 400 KB.
    pub fn is_large(&self) -> bool {
        let children: usize = self.unsent.iter().map(|child| child.body.len()).sum();
        let steps: usize = self.steps.iter().map(|step| step.value.get().len()).sum();
        let reasons: usize = self.history.iter().filter_map(|end| end.reason.as_ref()).map(String::len).sum();
        let result = self.result.as_ref().map_or(0, |result| result.get().len());
        let most_of_it = result + children + steps + reasons;
        // As JSON it has about as many bytes as in the table. Few items need to be written for that.
        most_of_it > LARGE / 4 && serde_json::to_string(self).is_ok_and(|json| json.len() > LARGE)
    }
}

fn shortened(reason: &str) -> String {
    reason[..reason.floor_char_boundary(REASON_MAX)].to_owned()
}

/// Reads a JSON text: `null` is one, too.
fn also_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(deserializer).map(Some)
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// The answer to a request to cancel a message.
#[derive(Clone, Debug)]
pub enum Cancelling {
    /// This is to be written. A message that runs is ended by its worker soon after.
    Write(Box<ItemWrite>),
    /// The message has ended in this state, and can no longer be cancelled.
    Ended(ItemState),
}

impl RunItem {
    /// Longer than any queue of SQS keeps a message. A cancelled message that no worker had is remembered for so long.
    pub const LONGEST_IN_QUEUES: Duration = Duration::from_secs(15 * 24 * 3600);

    /// Cancels a message. `stored` is its item, if there is one. `revision` is a token that no other write has.
    pub fn cancel(stored: Option<&RunItem>, id: &str, revision: String, now: Timestamp) -> Cancelling {
        let Some(stored) = stored.filter(|stored| !stored.is_expired(now)) else {
            let mut item =
                RunItem { revision, ended: Some(now), ..Self::new(id.to_owned(), ItemState::Cancelled, now) };
            item.keep_for(Self::LONGEST_IN_QUEUES, now);
            return Cancelling::Write(Box::new(ItemWrite { item, replaces: None }));
        };
        let mut item = RunItem { revision, updated: now, ..stored.clone() };
        match stored.state {
            ItemState::Done | ItemState::Dead => return Cancelling::Ended(stored.state),
            ItemState::Cancelled => return Cancelling::Ended(ItemState::Cancelled),
            ItemState::Running => item.cancel = true,
            ItemState::Waiting | ItemState::Retrying => {
                item.state = ItemState::Cancelled;
                item.ended = Some(now);
                // A message that is delayed is sent to its queue at its time.
                let sent_within = item.next.take().map(|next| next.since(now)).unwrap_or_default();
                item.keep_for(Self::LONGEST_IN_QUEUES + sent_within, now);
            }
        }
        Cancelling::Write(Box::new(ItemWrite { item, replaces: Some(stored.revision.clone()) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_is_as_large_as_its_json() {
        let with_child = |body: String| {
            let mut item = RunItem::new("a".to_owned(), ItemState::Done, Timestamp::from_ms(0));
            item.unsent = vec![UnsentChild { body, delay_seconds: 0, group: None, trace_header: None }];
            item
        };
        assert!(!with_child("x".repeat(290 << 10)).is_large());
        // Each quotation mark becomes two bytes.
        assert!(with_child("\"".repeat(290 << 10)).is_large());
        assert!(with_child("x".repeat(310 << 10)).is_large());
    }
}
