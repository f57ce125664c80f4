//! The events that the publisher's Lambda can be invoked with.

use serde_json::Value;
use wasq_protocol::{PublishRequest, TaskName, Version};

use crate::ports::Uploader;

/// The event of one invoke of the publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublisherEvent {
    /// Objects in the tasks bucket were written or removed: one change for each task that they belong to.
    Changed(Vec<Change>),
    /// A worker wants an artifact.
    Recompile(PublishRequest),
    /// The schedule asks for what was missed.
    Sweep,
}

/// Objects of one task were written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The task.
    pub task: TaskName,
    /// The writers of the task's objects. A removal has no uploader.
    pub uploaders: Vec<Uploader>,
}

impl PublisherEvent {
    /// Reads an invoke's payload. Keys that belong to no task are left out, with a warning in the log.
    pub fn parse(payload: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(payload).map_err(|e| format!("not JSON: {e}"))?;
        if let Some(records) = value.get("Records").and_then(Value::as_array) {
            let mut changes: Vec<Change> = Vec::new();
            for record in records {
                let key = record.pointer("/s3/object/key").and_then(Value::as_str);
                let key = key.ok_or("a record has no s3.object.key: not an S3 event")?;
                let task = match Self::task_of(key) {
                    Ok(task) => task,
                    Err(why) => {
                        tracing::warn!(key, "object ignored: {why}");
                        continue;
                    }
                };
                let uploader = uploader(record);
                match changes.iter_mut().find(|change| change.task == task) {
                    Some(change) => change.uploaders.extend(uploader),
                    None => changes.push(Change { task, uploaders: Vec::from_iter(uploader) }),
                }
            }
            return Ok(Self::Changed(changes));
        }
        if value.get("sweep").is_some() {
            return Ok(Self::Sweep);
        }
        let request: PublishRequest = serde_json::from_value(value).map_err(|e| {
            format!("neither an S3 event nor {{\"recompile\": \"TASK\"}} nor {{\"sweep\": {{}}}}: {e}")
        })?;
        Ok(Self::Recompile(request))
    }

    /// The task that an object in the tasks bucket belongs to, by its key: `NAME.wasm` or `NAME.toml`.
    ///
    /// S3 encodes keys in events as in a URL; a task name has no character that this would change.
    pub fn task_of(key: &str) -> Result<TaskName, String> {
        let name = key
            .strip_suffix(".wasm")
            .or_else(|| key.strip_suffix(".toml"))
            .ok_or("its name does not end in .wasm or .toml")?;
        name.parse().map_err(|e| format!("{e}"))
    }
}

/// The uploader in a record of an S3 event, if it names one.
fn uploader(record: &Value) -> Option<Uploader> {
    let text = |pointer| record.pointer(pointer).and_then(Value::as_str);
    let name = text("/userIdentity/principalId")?.chars().filter(|c| !c.is_control());
    Some(Uploader {
        name: name.take(Version::UPLOADER_CHARS_MAX).collect(),
        etag: text("/s3/object/eTag")?.to_owned(),
        at: text("/eventTime")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(payload: &str) -> Vec<Change> {
        match PublisherEvent::parse(payload).expect("an S3 event") {
            PublisherEvent::Changed(changes) => changes,
            other => panic!("not a change: {other:?}"),
        }
    }

    #[test]
    fn an_event_says_who_wrote_which_state() {
        let found = changes(
            r#"{"Records": [
                {"eventTime": "2026-11-27T09:00:00.000Z", "userIdentity": {"principalId": "AWS:AROAEXAMPLE:javimb"}, "s3": {"object": {"key": "hello.toml", "eTag": "1a"}}},
                {"eventTime": "2026-11-27T09:00:00.000Z", "userIdentity": {"principalId": "AWS:AIDAEXAMPLE\n"}, "s3": {"object": {"key": "hello.wasm", "eTag": "2b"}}},
                {"eventTime": "2026-11-27T09:00:00.000Z", "userIdentity": {"principalId": "AWS:AIDAEXAMPLE"}, "s3": {"object": {"key": "gone.wasm"}}}
            ]}"#,
        );
        let at = "2026-11-27T09:00:00Z".parse().expect("a time");
        let uploader = |name: &str, etag: &str| Uploader { name: name.to_owned(), etag: etag.to_owned(), at };
        let of_hello = vec![uploader("AWS:AROAEXAMPLE:javimb", "1a"), uploader("AWS:AIDAEXAMPLE", "2b")];
        let task = |name: &str| name.parse().expect("a name");
        assert_eq!(
            found,
            [
                Change { task: task("hello"), uploaders: of_hello },
                Change { task: task("gone"), uploaders: Vec::new() },
            ]
        );
    }
}
