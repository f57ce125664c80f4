//! Dead letters, without receiving them: the stack looks at them in its own database, and moves them in transactions.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use serde_json::{Map, Value, json};
use wasq_protocol::{Attribute, DeadLetterAttributes};

use super::error::SqsError;
use super::messages::{self, Send};
use super::store::load;
use crate::adapters::{our_attribute, sqs_attribute};

/// A message in a dead-letter queue.
pub(crate) struct StoredLetter {
    pub(crate) message_id: String,
    /// The beginning of its body.
    pub(crate) body: String,
    pub(crate) body_bytes: u64,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

/// The characters of a body that are read.
const BODY_CHARS: i64 = 20_000;

/// The newest messages of a queue.
pub(crate) fn newest(db: &Connection, queue: &str, max: usize) -> rusqlite::Result<Vec<StoredLetter>> {
    let mut statement = db.prepare_cached(
        "SELECT id, substr(body, 1, ?3), length(CAST(body AS BLOB)), attributes FROM messages INDEXED BY messages_sent
         WHERE queue = ?1 ORDER BY sent_ms DESC LIMIT ?2",
    )?;
    let rows = statement.query_map(params![queue, max as i64, BODY_CHARS], |row| {
        let body_bytes: i64 = row.get(2)?;
        Ok(StoredLetter {
            message_id: row.get(0)?,
            body: row.get(1)?,
            body_bytes: u64::try_from(body_bytes).unwrap_or(0),
            attributes: attributes(row.get(3)?),
        })
    })?;
    rows.collect()
}

fn attributes(json: String) -> BTreeMap<String, Attribute> {
    let read: Map<String, Value> = serde_json::from_str(&json).unwrap_or_default();
    read.iter().map(|(name, value)| (name.clone(), our_attribute(value))).collect()
}

/// Sends dead letters to a queue, as `wasq dlq redrive` does, and deletes them. Letters that a client holds stay. Returns how many
/// were sent.
pub(crate) fn redrive(
    db: &Connection,
    from: &str,
    to: &str,
    ids: &[String],
    now: i64,
) -> Result<u64, SqsError> {
    let settings = load(db, to)?;
    let mut found = Vec::new();
    {
        let mut statement = db.prepare_cached(
            "SELECT seq, id, body, attributes, group_id, trace_header FROM messages
             WHERE queue = ?1 AND visible_ms <= ?2 AND id IN (SELECT value FROM json_each(?3)) ORDER BY seq",
        )?;
        let rows = statement.query_map(params![from, now, json!(ids).to_string()], |row| {
            let send =
                Send { body: row.get(2)?, group: row.get(4)?, trace_header: row.get(5)?, ..Send::default() };
            Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, attributes(row.get(3)?), send))
        })?;
        for row in rows {
            found.push(row?);
        }
    }
    let count = found.len() as u64;
    for (seq, id, attributes, send) in found {
        let ours = DeadLetterAttributes::read(&attributes).redriven(&id, &attributes);
        let attributes = ours.iter().map(|(name, value)| (name.clone(), sqs_attribute(value))).collect();
        messages::send(db, to, &settings, Send { attributes, ..send }, now)?;
        db.prepare_cached("DELETE FROM messages WHERE seq = ?")?.execute(params![seq])?;
    }
    Ok(count)
}

/// Deletes dead letters. Letters that a client holds stay. Returns how many were deleted.
pub(crate) fn delete(db: &Connection, queue: &str, ids: &[String], now: i64) -> Result<u64, SqsError> {
    let deleted = db
        .prepare_cached(
            "DELETE FROM messages WHERE queue = ?1 AND visible_ms <= ?2 AND id IN (SELECT value FROM json_each(?3))",
        )?
        .execute(params![queue, now, json!(ids).to_string()])?;
    Ok(deleted as u64)
}
