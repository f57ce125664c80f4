//! The port: what the page shows, and what it can do.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use wasq_protocol::{
    DeadLetterAttributes, Digest, FailureKind, ItemState, LiveRecord, Message, Overview, Rejection, RunItem,
    ScheduleState, SentRequest, TaskName,
};

/// The queue, the runs and the tasks behind the page.
pub trait Data: Send + Sync + 'static {
    /// The state of the whole over a span of time.
    fn overview(&self, span: Span) -> impl Future<Output = Result<Overview>> + Send;

    /// The newest runs that match.
    fn runs(&self, search: &Search) -> impl Future<Output = Result<Page>> + Send;

    /// A run by the message's own id, or by the id that the queue gave it.
    fn run(&self, id: &str) -> impl Future<Output = Result<Option<RunItem>>> + Send;

    /// The last lines of the log of a run's message, oldest first.
    fn log(&self, run: &RunItem) -> impl Future<Output = Result<Vec<LogLine>>> + Send;

    /// All tasks, by name.
    fn tasks(&self) -> impl Future<Output = Result<Vec<Task>>> + Send;

    /// All schedules, in the order of their names.
    fn schedules(&self) -> impl Future<Output = Result<Vec<ScheduleState>>> + Send;

    /// Takes no more messages from the queue, or takes them again.
    fn pause(&self, paused: bool) -> impl Future<Output = Result<()>> + Send;

    /// Pauses a schedule, or lets it go on. Returns whether it is there.
    fn pause_schedule(
        &self,
        schedule: &ScheduleState,
        paused: bool,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// A component of the registry.
    fn module(&self, digest: &Digest) -> impl Future<Output = Result<Vec<u8>>> + Send;

    /// Puts a component where the publisher finds it.
    fn upload(&self, upload: Upload) -> impl Future<Output = Result<()>> + Send;

    /// Takes a task's upload away, so that the publisher removes the task.
    fn remove(&self, task: &TaskName) -> impl Future<Output = Result<()>> + Send;

    /// The dead letters.
    fn dead_letters(&self) -> impl Future<Output = Result<DeadLetters>> + Send;

    /// Sends a message. Returns the queue's id of it.
    fn send(&self, message: Message) -> impl Future<Output = Result<String>> + Send;

    /// Cancels a message.
    fn cancel(&self, id: &str) -> impl Future<Output = Result<Cancelled>> + Send;

    /// Sends dead letters back to the queue, by the queue's ids of them. Returns how many were there.
    fn redrive(&self, letters: Vec<String>) -> impl Future<Output = Result<u64>> + Send;

    /// Deletes dead letters, by the queue's ids of them. Returns how many were there.
    fn delete(&self, letters: Vec<String>) -> impl Future<Output = Result<u64>> + Send;

    /// How often something has changed so far.
    fn changes(&self) -> u64;

    /// Waits until something has changed more often than `seen`, or for some seconds. Returns how often it has.
    fn changed(&self, seen: u64) -> impl Future<Output = u64> + Send;
}

/// A [`Search::before`] that no page has named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAPlace(pub String);

impl std::fmt::Display for NotAPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} is no place in this list.", self.0)
    }
}

impl std::error::Error for NotAPlace {}

/// The span of time of an overview.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Span {
    /// The last hour, in slices of a minute.
    #[default]
    Hour,
    /// The last day, in slices of 24 minutes.
    Day,
}

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            _ => Err("expected hour or day"),
        }
    }
}

impl Span {
    /// The word for an address.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// The slices of each span.
    pub const SLICES: usize = 60;

    /// The length of one slice.
    pub fn slice(self) -> Duration {
        match self {
            Self::Hour => Duration::from_secs(60),
            Self::Day => Duration::from_secs(24 * 60),
        }
    }
}

/// The runs that a list contains. All that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The task.
    pub task: Option<TaskName>,
    /// The state.
    pub state: Option<ItemState>,
    /// The kind of the last failure.
    pub kind: Option<FailureKind>,
    /// The id of the parent.
    pub parent: Option<String>,
    /// Only runs that began, or were written last if none has begun, within this time before now.
    pub within: Option<Duration>,
    /// Go on after the page that named this.
    pub before: Option<String>,
}

impl Search {
    /// The runs of one page.
    pub const PAGE: usize = 50;
}

/// A part of a list of runs, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// The runs, without their results.
    pub runs: Vec<RunItem>,
    /// Names the next part; `None` after the last one.
    pub next: Option<String>,
    /// A sentence about runs that are not in the list, though they match.
    pub note: Option<String>,
}

/// A line of the log.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// When it was written, as RFC 3339.
    pub at: String,
    /// Its level, in upper case.
    pub level: String,
    /// Which attempt wrote it.
    pub attempt: Option<u64>,
    /// The text.
    pub text: String,
    /// The first HTTP requests of the run, if the line is that of its end.
    pub requests: Vec<SentRequest>,
    /// How long the stages of the delivery took, if the line is that of its end.
    pub stages: Option<Stages>,
}

/// The times of one delivery, in milliseconds; [`RunRecord`](wasq_protocol::RunRecord) says from when to when each is.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
pub struct Stages {
    /// From the message's send until a slot was free.
    pub queued_ms: Option<f64>,
    /// The wait for a slot in this worker, a part of `queued_ms`.
    pub place_ms: f64,
    /// Loading the task.
    pub load_ms: f64,
    /// The run.
    pub run_ms: f64,
    /// Settling the message.
    pub acknowledge_ms: f64,
}

impl LogLine {
    /// A line of the log if it is one of the message with this id; `line` is JSON, as every program of wasq writes it.
    pub fn read(line: &str, id: &str) -> Option<Self> {
        #[derive(Deserialize)]
        struct Line {
            timestamp: String,
            level: String,
            #[serde(default)]
            message: String,
            id: Option<String>,
            attempt: Option<u64>,
            #[serde(default)]
            requests: Vec<SentRequest>,
            #[serde(flatten)]
            stages: Option<Stages>,
        }
        let line: Line = serde_json::from_str(line).ok()?;
        (line.id.as_deref() == Some(id)).then_some(Self {
            at: line.timestamp,
            level: line.level,
            attempt: line.attempt,
            text: line.message,
            requests: line.requests,
            stages: line.stages,
        })
    }
}

/// A task: live, removed, or with a refused upload.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its name.
    pub name: TaskName,
    /// Its record, if there was ever a version.
    pub record: Option<LiveRecord>,
    /// Its last upload, if that was refused.
    pub rejected: Option<Rejection>,
}

/// A component that is to be published.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The task that it becomes.
    pub task: TaskName,
    /// The component.
    pub module: Vec<u8>,
    /// The text of its settings; `None`: those of the last upload stay.
    pub settings: Option<String>,
}

/// Dead letters.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    /// At most [`Letter::SHOWN_MAX`], newest first.
    pub letters: Vec<Letter>,
    /// A sentence about letters that are not among them.
    pub note: Option<String>,
}

/// A dead letter.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The queue's id of it.
    pub message_id: String,
    /// The message as its sender sent it, or the beginning of it.
    pub body: String,
    /// The bytes of the whole message.
    pub body_bytes: u64,
    /// The notes of wasq in its attributes.
    pub notes: DeadLetterAttributes,
}

impl Letter {
    /// The letters that are shown.
    pub const SHOWN_MAX: usize = 1000;

    /// The task that it names.
    pub fn task(&self) -> Option<TaskName> {
        self.notes.task.clone().or_else(|| Message::task_in(&self.body))
    }

    /// The id that its task knows.
    pub fn id(&self) -> String {
        let own = || Message::parse(&self.body).ok().and_then(|message| message.id);
        self.notes.id.clone().or_else(own).unwrap_or_else(|| self.message_id.clone())
    }

    /// Why it is a dead letter, in a word.
    pub fn kind(&self) -> &'static str {
        match (self.notes.kind, self.notes.attempts) {
            (Some(kind), _) => kind.as_str(),
            (None, Some(_)) => "unknown",
            (None, None) => "redrive-policy",
        }
    }

    /// Why it is a dead letter.
    pub fn reason(&self) -> &str {
        self.notes.reason.as_deref().unwrap_or("received too often, or put here by hand")
    }
}

/// Dead letters of the same task, with the same kind and the same first line of the reason.
#[derive(Clone, Debug)]
pub struct Group {
    /// The task that they name.
    pub task: Option<TaskName>,
    /// The kind.
    pub kind: &'static str,
    /// The first line of the reason.
    pub reason: String,
    /// The letters, newest first.
    pub letters: Vec<Letter>,
}

/// The answer to a cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled, or it will be soon.
    Yes,
    /// It has ended in this state.
    Ended(ItemState),
}
