//! The queues' own rows in the database: names, attributes and tags.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::Value;

use super::error::SqsError;
use super::messages;
use super::queue_attributes::{COMPUTED, QueueAttributes, arn_of_queue, normal};

/// A queue may be purged again, and the name of a deleted queue may be used again, after this.
pub(crate) const MINUTE_MS: i64 = 60_000;

pub(crate) fn json(map: &BTreeMap<String, String>) -> String {
    serde_json::to_string(map).expect("string keys")
}

/// The attributes of a queue that were set.
pub(crate) fn load(db: &Connection, name: &str) -> Result<QueueAttributes, SqsError> {
    let attributes: String = db
        .prepare_cached("SELECT attributes FROM queues WHERE name = ?")?
        .query_row(params![name], |row| row.get(0))
        .optional()?
        .ok_or_else(SqsError::no_queue)?;
    Ok(QueueAttributes(serde_json::from_str(&attributes).unwrap_or_default()))
}

/// The tags of a queue.
pub(crate) fn load_tags(db: &Connection, name: &str) -> Result<BTreeMap<String, String>, SqsError> {
    let tags: String = db
        .prepare_cached("SELECT tags FROM queues WHERE name = ?")?
        .query_row(params![name], |row| row.get(0))
        .optional()?
        .ok_or_else(SqsError::no_queue)?;
    Ok(serde_json::from_str(&tags).unwrap_or_default())
}

/// Creates a queue. It is no error if the queue exists with the same attributes.
pub(crate) fn create(
    db: &Connection,
    name: &str,
    attributes: &BTreeMap<String, String>,
    tags: &BTreeMap<String, String>,
    now: i64,
) -> Result<(), SqsError> {
    if messages::queue_exists(db, name)? {
        let existing = all_attributes(db, name, now)?;
        for (attribute, value) in attributes {
            let value = normal(attribute, value);
            if existing.get(attribute).is_none_or(|existing| !same(existing, &value)) {
                return Err(SqsError::queue_name_exists(format!(
                    "A queue already exists with the same name and a different value for attribute {attribute}"
                )));
            }
        }
        return Ok(());
    }
    let deleted_since = now - MINUTE_MS;
    let recently = db
        .prepare_cached("SELECT 1 FROM deleted_queues WHERE name = ? AND deleted_ms > ?")?
        .exists(params![name, deleted_since])?;
    if recently {
        return Err(SqsError::deleted_recently(
            "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
        ));
    }
    let mut settings = QueueAttributes::default();
    settings.set(attributes, false)?;
    check_redrive(db, name, &settings, attributes.get("RedrivePolicy"))?;
    db.execute(
        "INSERT INTO queues (name, attributes, tags, created_ms, modified_ms) VALUES (?, ?, ?, ?, ?)",
        params![name, json(&settings.0), json(tags), now, now],
    )?;
    Ok(())
}

/// Whether two values are equal as texts, or as JSON objects if both are JSON objects.
fn same(a: &str, b: &str) -> bool {
    let json = |text| serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    a == b || json(a).is_some_and(|a| Some(a) == json(b))
}

/// Checks a redrive policy against the other queues: the dead-letter queue must exist, have the same type and
/// allow this source.
pub(crate) fn check_redrive(
    db: &Connection,
    name: &str,
    settings: &QueueAttributes,
    raw: Option<&String>,
) -> Result<(), SqsError> {
    let (Some(raw), Some(redrive)) = (raw, settings.redrive()) else {
        return Ok(());
    };
    let error = |reason: &str| Err(SqsError::value("RedrivePolicy", raw, reason));
    match load(db, &redrive.target) {
        Err(_) => error("Dead letter target does not exist."),
        Ok(target) if target.fifo() != settings.fifo() => {
            error("Dead-letter queue must be same type of queue as the source..")
        }
        Ok(target) if !target.allows_redrive_from(&arn_of_queue(name)) => {
            error("The dead-letter queue's RedriveAllowPolicy does not allow this source queue.")
        }
        Ok(_) => Ok(()),
    }
}

/// All attributes of a queue, also those that SQS computes.
pub(crate) fn all_attributes(
    db: &Connection,
    name: &str,
    now: i64,
) -> Result<BTreeMap<String, String>, SqsError> {
    let settings = load(db, name)?;
    let (visible, in_flight, delayed) = messages::counts(db, name, &settings, now)?;
    let (created, modified): (i64, i64) = db
        .prepare_cached("SELECT created_ms, modified_ms FROM queues WHERE name = ?")?
        .query_row(params![name], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut attributes = settings.all();
    let computed = [
        visible.to_string(),
        delayed.to_string(),
        in_flight.to_string(),
        (created / 1000).to_string(),
        (modified / 1000).to_string(),
        arn_of_queue(name),
    ];
    attributes.extend(COMPUTED.map(str::to_owned).into_iter().zip(computed));
    Ok(attributes)
}
