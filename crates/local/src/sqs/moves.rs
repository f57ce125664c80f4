//! Message move tasks: bringing dead letters back.
//!
//! A task moves a slice of messages per step, in a transaction each, so that it goes on after a restart and other
//! calls get their turn.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Value, json};
use uuid::Uuid;

use super::error::SqsError;
use super::groups::delete_moved;
use super::messages::{counts, queue_exists};
use super::queue_attributes::{Number, arn_of_queue, queue_of_arn};
use super::store::load;

/// The parameters of a move task.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    pub(crate) source_arn: String,
    pub(crate) destination_arn: Option<String>,
    pub(crate) per_second: Option<i64>,
}

/// Messages that one step moves, at most.
const STEP: i64 = 100;

/// Makes a move task, and returns its handle.
pub(crate) fn start(db: &Connection, start: &Start, now: i64) -> Result<String, SqsError> {
    let Start { source_arn, destination_arn, per_second } = start;
    let source = queue_in("SourceArn", source_arn)?;
    let destination = destination_arn.as_deref().map(|arn| queue_in("DestinationArn", arn)).transpose()?;
    let source_attributes = load(db, &source).map_err(|_| gone("SourceArn"))?;
    if sources_of(db, &source)?.is_empty() {
        return Err(SqsError::invalid_value("Source queue must be configured as a Dead Letter Queue."));
    }
    if let Some(destination) = &destination {
        let settings = load(db, destination).map_err(|_| gone("DestinationArn"))?;
        if *destination == source {
            return Err(SqsError::invalid_value(
                "Source queue arn and destination queue arn cannot be the same.",
            ));
        }
        if settings.fifo() != source_attributes.fifo() {
            return Err(SqsError::invalid_value(
                "The source queue and destination queue must be of the same queue type.",
            ));
        }
    }
    if per_second.is_some_and(|n| !(1..=500).contains(&n)) {
        return Err(SqsError::invalid_value(
            "Value for parameter MaxNumberOfMessagesPerSecond is invalid. Reason: You must enter a number that's between 1 and 500.",
        ));
    }
    let running = db
        .prepare_cached("SELECT 1 FROM move_tasks WHERE source = ? AND status = 'RUNNING'")?
        .exists(params![source])?;
    if running {
        return Err(SqsError::invalid_value(
            "There is already a task running. Only one active task is allowed for a source queue arn at a given time.",
        ));
    }
    let id = Uuid::new_v4().to_string();
    let (to_move, ..) = counts(db, &source, &source_attributes, now)?;
    db.prepare_cached(
        "INSERT INTO move_tasks (id, source, destination, per_second, status, to_move, started_ms)
         VALUES (?, ?, ?, ?, 'RUNNING', ?, ?)",
    )?
    .execute(params![id, source, destination, per_second, to_move, now])?;
    Ok(handle(&id, source_arn))
}

fn handle(id: &str, source_arn: &str) -> String {
    BASE64_STANDARD.encode(json!({ "taskId": id, "sourceArn": source_arn }).to_string())
}

fn queue_in(parameter: &str, arn: &str) -> Result<String, SqsError> {
    queue_of_arn(arn).map(str::to_owned).ok_or_else(|| {
        SqsError::invalid_value(format!(
            "You must use this format to specify the {parameter}: arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
        ))
    })
}

fn gone(parameter: &str) -> SqsError {
    SqsError::not_found(format!(
        "The resource that you specified for the {parameter} parameter doesn't exist."
    ))
}

/// The queues that name `target` as their dead-letter queue.
pub(crate) fn sources_of(db: &Connection, target: &str) -> Result<Vec<String>, SqsError> {
    let mut statement = db.prepare_cached("SELECT name FROM queues ORDER BY name")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    let mut sources = Vec::new();
    for name in names {
        if load(db, &name)?.redrive().is_some_and(|redrive| redrive.target == target) {
            sources.push(name);
        }
    }
    Ok(sources)
}

/// A task that is running: its number, and how many messages it may move per second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) number: i64,
    pub(crate) per_second: Option<i64>,
}

/// The tasks that are running.
pub(crate) fn running(db: &Connection) -> Result<Vec<Running>, SqsError> {
    let mut statement = db.prepare_cached(
        "SELECT number, per_second FROM move_tasks WHERE status = 'RUNNING' ORDER BY number",
    )?;
    let rows = statement.query_map([], |row| Ok(Running { number: row.get(0)?, per_second: row.get(1)? }))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Moves one slice of a task. Returns the queues that messages came into, with the number of messages.
pub(crate) fn step(db: &Connection, task: Running, now: i64) -> Result<BTreeMap<String, usize>, SqsError> {
    let (source, destination): (String, Option<String>) = db
        .prepare_cached("SELECT source, destination FROM move_tasks WHERE number = ?")?
        .query_row(params![task.number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let limit = task.per_second.unwrap_or(STEP).min(STEP);
    let messages = db
        .prepare_cached(
            "SELECT seq, source FROM messages WHERE queue = ? AND visible_ms <= ? ORDER BY seq LIMIT ?",
        )?
        .query_map(params![source, now, limit], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, Option<String>)>, _>>()?;
    if messages.is_empty() {
        end(db, task, "COMPLETED", None)?;
        return Ok(BTreeMap::new());
    }
    let mut into = BTreeMap::new();
    for (seq, dead_letter_source) in messages {
        let Some(target) = destination.clone().or(dead_letter_source) else {
            end(db, task, "FAILED", Some("CouldNotDetermineMessageSource"))?;
            return Ok(into);
        };
        if !queue_exists(db, &target)? {
            end(db, task, "FAILED", Some("AWS.SimpleQueueService.NonExistentQueue"))?;
            return Ok(into);
        }
        move_one(db, seq, &target, now)?;
        db.prepare_cached("UPDATE move_tasks SET moved = moved + 1 WHERE number = ?")?
            .execute(params![task.number])?;
        *into.entry(target).or_default() += 1;
    }
    Ok(into)
}

/// A moved message is a new one: with a new id, a new time, and no receives.
fn move_one(db: &Connection, seq: i64, target: &str, now: i64) -> Result<(), SqsError> {
    let delay_ms = load(db, target)?.number(Number::DelaySeconds) as i64 * 1000;
    db.prepare_cached(
        "INSERT INTO messages (queue, id, body, attributes, trace_header, sent_ms, visible_ms, group_id, dedup_id, tenant)
         SELECT ?2, ?3, body, attributes, trace_header, ?4, ?5, group_id, dedup_id, tenant FROM messages WHERE seq = ?1",
    )?
    .execute(params![seq, target, Uuid::new_v4().to_string(), now, now + delay_ms])?;
    delete_moved(db, seq, db.last_insert_rowid())
}

fn end(db: &Connection, task: Running, status: &str, failure: Option<&str>) -> Result<(), SqsError> {
    db.prepare_cached("UPDATE move_tasks SET status = ?, failure = ? WHERE number = ?")?.execute(params![
        status,
        failure,
        task.number
    ])?;
    Ok(())
}

/// The newest tasks of a queue, as SQS lists them.
pub(crate) fn list(db: &Connection, source_arn: &str, max: i64) -> Result<Vec<Value>, SqsError> {
    let source = queue_in("SourceArn", source_arn)?;
    if !queue_exists(db, &source)? {
        return Err(gone("SourceArn"));
    }
    let mut statement = db.prepare_cached(
        "SELECT id, status, destination, per_second, moved, to_move, failure, started_ms
         FROM move_tasks WHERE source = ? ORDER BY number DESC LIMIT ?",
    )?;
    let rows = statement.query_map(params![source, max], |row| {
        let (id, status): (String, String) = (row.get(0)?, row.get(1)?);
        let mut task = json!({
            "Status": status,
            "SourceArn": source_arn,
            "ApproximateNumberOfMessagesMoved": row.get::<_, i64>(4)?,
            "ApproximateNumberOfMessagesToMove": row.get::<_, i64>(5)?,
            "StartedTimestamp": row.get::<_, i64>(7)?,
        });
        if status == "RUNNING" {
            task["TaskHandle"] = handle(&id, source_arn).into();
        }
        if let Some(destination) = row.get::<_, Option<String>>(2)? {
            task["DestinationArn"] = arn_of_queue(&destination).into();
        }
        if let Some(per_second) = row.get::<_, Option<i64>>(3)? {
            task["MaxNumberOfMessagesPerSecond"] = per_second.into();
        }
        if let Some(failure) = row.get::<_, Option<String>>(6)? {
            task["FailureReason"] = failure.into();
        }
        Ok(task)
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Ends a running task early. Returns how many messages it moved.
pub(crate) fn cancel(db: &Connection, handle: &str) -> Result<i64, SqsError> {
    let invalid = || SqsError::invalid_value("Value for parameter TaskHandle is invalid.");
    let decoded = BASE64_STANDARD.decode(handle).map_err(|_| invalid())?;
    let decoded: Value = serde_json::from_slice(&decoded).map_err(|_| invalid())?;
    let id = decoded.get("taskId").and_then(Value::as_str).ok_or_else(invalid)?;
    let source = decoded.get("sourceArn").and_then(Value::as_str).and_then(queue_of_arn);
    if !source.map_or(Ok(false), |source| queue_exists(db, source))? {
        return Err(gone("SourceArn"));
    }
    db.prepare_cached(
        "UPDATE move_tasks SET status = 'CANCELLED' WHERE id = ? AND status = 'RUNNING' RETURNING moved",
    )?
    .query_row(params![id], |row| row.get(0))
    .optional()?
    .ok_or_else(|| SqsError::not_found("Task does not exist."))
}
