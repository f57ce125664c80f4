//! The events that the publisher's Lambda can be invoked with.

use serde_json::Value;
use wasq_protocol::{PublishRequest, TaskName};

/// The event of one invoke of the publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PublisherEvent {
    /// Objects in the tasks bucket were written or removed: the tasks that they belong to.
    Changed(Vec<TaskName>),
    /// A worker wants an artifact.
    Recompile(PublishRequest),
    /// The schedule asks for what was missed.
    Sweep,
}

impl PublisherEvent {
    /// Reads an invoke's payload. Keys that belong to no task are left out, with a warning in the log.
    pub fn parse(payload: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(payload).map_err(|e| format!("not JSON: {e}"))?;
        if let Some(records) = value.get("Records").and_then(Value::as_array) {
            let mut tasks: Vec<TaskName> = Vec::new();
            for record in records {
                let key = record.pointer("/s3/object/key").and_then(Value::as_str);
                let key = key.ok_or("a record has no s3.object.key: not an S3 event")?;
                match Self::task_of(key) {
                    Ok(task) if tasks.contains(&task) => {}
                    Ok(task) => tasks.push(task),
                    Err(why) => tracing::warn!(key, "object ignored: {why}"),
                }
            }
            return Ok(Self::Changed(tasks));
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
