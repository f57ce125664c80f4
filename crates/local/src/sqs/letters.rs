//! Dead letters, without receiving them: the stack looks at them in its own database, and moves each in one transaction.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};
use wasq_protocol::{Attribute, DeadLetterAttributes};

use super::error::SqsError;
use super::messages::{self, Send};
use super::store::load;
use crate::adapters::{our_attribute, sqs_attribute};

/// A message in a dead-letter queue.
pub(crate) struct StoredLetter {
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) attributes: BTreeMap<String, Attribute>,
}

/// The newest messages of a queue.
pub(crate) fn newest(db: &Connection, queue: &str, max: usize) -> rusqlite::Result<Vec<StoredLetter>> {
    let mut statement = db.prepare_cached(
        "SELECT id, body, attributes FROM messages INDEXED BY messages_sent WHERE queue = ? ORDER BY sent_ms DESC LIMIT ?",
    )?;
    let rows = statement.query_map(params![queue, max as i64], |row| {
        Ok(StoredLetter { message_id: row.get(0)?, body: row.get(1)?, attributes: attributes(row.get(2)?) })
    })?;
    rows.collect()
}

fn attributes(json: String) -> BTreeMap<String, Attribute> {
    let read: Map<String, Value> = serde_json::from_str(&json).unwrap_or_default();
    read.iter().map(|(name, value)| (name.clone(), our_attribute(value))).collect()
}

/// Sends dead letters to a queue, as `wasq dlq redrive` does, and deletes them. Returns how many were there.
pub(crate) fn redrive(
    db: &Connection,
    from: &str,
    to: &str,
    ids: &[String],
    now: i64,
) -> Result<u64, SqsError> {
    let settings = load(db, to)?;
    let mut redriven = 0;
    for id in ids {
        let letter = db
            .prepare_cached("SELECT seq, body, attributes, group_id, trace_header FROM messages WHERE queue = ? AND id = ?")?
            .query_row(params![from, id], |row| {
                let send = Send {
                    body: row.get(1)?,
                    group: row.get(3)?,
                    trace_header: row.get(4)?,
                    ..Send::default()
                };
                Ok((row.get::<_, i64>(0)?, attributes(row.get(2)?), send))
            })
            .optional()?;
        let Some((seq, attributes, send)) = letter else { continue };
        let ours = DeadLetterAttributes::read(&attributes).redriven(id, &attributes);
        let attributes = ours.iter().map(|(name, value)| (name.clone(), sqs_attribute(value))).collect();
        messages::send(db, to, &settings, Send { attributes, ..send }, now)?;
        db.prepare_cached("DELETE FROM messages WHERE seq = ?")?.execute(params![seq])?;
        redriven += 1;
    }
    Ok(redriven)
}

/// Deletes dead letters. Returns how many were there.
pub(crate) fn delete(db: &Connection, queue: &str, ids: &[String]) -> Result<u64, SqsError> {
    let mut deleted = 0;
    for id in ids {
        deleted += db
            .prepare_cached("DELETE FROM messages WHERE queue = ? AND id = ?")?
            .execute(params![queue, id])? as u64;
    }
    Ok(deleted)
}
