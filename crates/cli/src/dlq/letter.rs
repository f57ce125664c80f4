//! A dead letter, as commands select and show it.

use serde_json::{Value, json};
use wasq_aws::Outbound;
use wasq_protocol::{DeadLetterAttributes, Delivery, EarlierEnd, FailureKind, TaskName, Timestamp};

use crate::time::time;

/// The filter for dead letters. A dead letter must match every option that is given.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Select {
    /// Ids of dead letters: the id that the task knows, or the queue's message id
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Only dead letters of this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<TaskName>,
    /// Only this kind of failure, such as retry, reject or trap; `redrive-policy` for messages that SQS
    /// itself moved. Can be given several times
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Vec<LetterKind>,
    /// Only dead letters with this text in the reason
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Only failures at or after this time, such as 2026-11-23T08:30:00Z, or within a duration before now,
    /// such as 2h. Messages that SQS itself moved carry no time and never match
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Only failures before this time, in the same form
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<Timestamp>,
}

impl Select {
    /// Whether no filter is given: every dead letter matches.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { ids, task, kind, reason, since, until } = self;
        ids.is_empty()
            && task.is_none()
            && kind.is_empty()
            && reason.is_none()
            && since.is_none()
            && until.is_none()
    }

    /// Whether a letter matches every option that is given.
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let Self { ids, task, kind, reason, since, until } = self;
        let id = letter.id();
        let within = |failed: Timestamp| {
            since.is_none_or(|since| failed >= since) && until.is_none_or(|until| failed < until)
        };
        (ids.is_empty() || ids.iter().any(|wanted| *wanted == id || *wanted == letter.delivery.message_id))
            && task.as_ref().is_none_or(|task| letter.task().as_ref() == Some(task))
            && (kind.is_empty() || kind.contains(&letter.kind()))
            && reason.as_ref().is_none_or(|text| letter.reason().contains(text))
            && (since.is_none() && until.is_none() || letter.notes.failed.is_some_and(within))
    }
}

/// The kind of a dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LetterKind {
    /// A run failed, or no task could run the message.
    Failure(FailureKind),
    /// SQS itself moved the message, by the queue's redrive policy.
    RedrivePolicy,
    /// Another version of wasq moved it, for a reason that this version does not know.
    Unknown,
}

impl LetterKind {
    fn all() -> impl Iterator<Item = Self> {
        FailureKind::ALL.into_iter().map(Self::Failure).chain([Self::RedrivePolicy, Self::Unknown])
    }

    /// Its name in lists and options.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Failure(kind) => kind.as_str(),
            Self::RedrivePolicy => "redrive-policy",
            Self::Unknown => "unknown",
        }
    }

    /// The kind of an end: the failure's, if it is known, and how many attempts were counted.
    fn of(kind: Option<FailureKind>, attempts: Option<u32>) -> Self {
        match (kind, attempts) {
            (Some(kind), _) => Self::Failure(kind),
            (None, None) => Self::RedrivePolicy,
            (None, Some(_)) => Self::Unknown,
        }
    }
}

/// Parses a kind. A misspelt kind is an error: it would match nothing, as if there were no dead letters.
fn kind(text: &str) -> Result<LetterKind, String> {
    LetterKind::all().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let kinds: Vec<_> = LetterKind::all().map(LetterKind::as_str).collect();
        format!("one of {}", kinds.join(", "))
    })
}

/// One letter.
pub(crate) struct Letter {
    pub(crate) delivery: Delivery,
    pub(crate) notes: DeadLetterAttributes,
}

impl Letter {
    pub(crate) fn of(delivery: Delivery) -> Self {
        let notes = DeadLetterAttributes::read(&delivery.attributes);
        Self { delivery, notes }
    }

    /// The copy that goes back to the task queue.
    pub(crate) fn copy(&self) -> Outbound {
        let Delivery { message_id, body, attributes, group, receipt, trace_header, .. } = &self.delivery;
        Outbound {
            body: body.clone(),
            attributes: self.notes.redriven(message_id, attributes),
            group: group.clone(),
            // A later redrive of the same message must not count as a duplicate of this one.
            deduplication: Some(receipt.chars().filter(char::is_ascii_graphic).take(128).collect()),
            trace_header: trace_header.clone(),
            ..Outbound::default()
        }
    }

    pub(super) fn id(&self) -> String {
        self.delivery.id(self.message().as_ref())
    }

    fn message(&self) -> Option<wasq_protocol::Message> {
        wasq_protocol::Message::parse(&self.delivery.body).ok()
    }

    pub(super) fn task(&self) -> Option<TaskName> {
        self.notes.task.clone().or_else(|| self.message().map(|message| message.task))
    }

    pub(super) fn kind(&self) -> LetterKind {
        LetterKind::of(self.notes.kind, self.notes.attempts)
    }

    pub(super) fn reason(&self) -> &str {
        self.notes.reason.as_deref().unwrap_or("received too often, or put here by hand")
    }

    pub(super) fn summary(&self) -> Value {
        let DeadLetterAttributes { attempts, failed, .. } = &self.notes;
        json!({
            "id": self.id(),
            "message_id": self.delivery.message_id,
            "task": self.task(),
            "kind": self.kind().as_str(),
            "reason": self.reason(),
            "attempts": attempts,
            "failed": failed,
        })
    }

    /// Text for people, with the most important lines first.
    pub(super) fn text(&self) -> String {
        let DeadLetterAttributes { attempts, first_received, failed, digest, history, .. } = &self.notes;
        let end = |end: &EarlierEnd| {
            let EarlierEnd { kind, reason, attempts, failed, digest: _ } = end;
            let kind = LetterKind::of(*kind, Some(*attempts).filter(|attempts| *attempts > 0)).as_str();
            let at = failed.map_or_else(String::new, |failed| format!("{} ", seconds(failed)));
            format!("{at}{kind} after {attempts} attempts: {reason}")
        };
        let history = history.iter().map(end).collect::<Vec<_>>().join("\n");
        let id = self.id();
        let other_id = Some(&self.delivery.message_id).filter(|message_id| **message_id != id);
        let lines = [
            ("id", Some(id.clone())),
            ("message id", other_id.cloned()),
            ("task", self.task().map(|task| task.to_string())),
            ("kind", Some(self.kind().as_str().to_owned())),
            ("reason", Some(self.reason().to_owned())),
            ("attempts", attempts.map(|attempts| attempts.to_string())),
            ("first received", first_received.map(seconds)),
            ("failed", failed.map(seconds)),
            ("module", digest.map(|digest| digest.to_string())),
            ("earlier ends", Some(history).filter(|history| !history.is_empty())),
            ("body", Some(self.delivery.body.clone())),
        ];
        let line = |(name, text): (&str, Option<String>)| {
            Some(format!("{name:<16}{}\n", text?.replace('\n', &format!("\n{:16}", ""))))
        };
        lines.into_iter().filter_map(line).collect()
    }

    pub(super) fn whole(&self) -> Value {
        let DeadLetterAttributes { first_received, digest, history, .. } = &self.notes;
        let mut whole = self.summary();
        whole["first_received"] = json!(first_received);
        whole["digest"] = json!(digest);
        whole["history"] = if history.is_empty() { Value::Null } else { json!(history) };
        whole["body"] = json!(self.delivery.body);
        whole
    }
}

pub(super) fn seconds(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

pub(super) fn first_line(text: &str, chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > chars {
        line.chars().take(chars - 3).chain("...".chars()).collect()
    } else {
        line.to_owned()
    }
}

/// The line of a reason that says why. Of a crash, it is what the task wrote last.
pub(super) fn cause(reason: &str) -> String {
    let Some((_, last)) = reason.split_once("stderr ends: ") else { return reason.to_owned() };
    let mut lines = last.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.next().unwrap_or(reason).to_owned()
}

#[cfg(test)]
mod tests {
    use super::{cause, first_line};

    #[test]
    fn the_cause_of_a_crash_is_the_line_that_says_why() {
        assert_eq!(cause("wasm trap; stderr ends: out of luck\nmore"), "out of luck");
        assert_eq!(cause("no such user"), "no such user");
        assert_eq!(first_line("abcdefgh\nx", 6), "abc...");
    }
}
