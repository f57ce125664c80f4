//! Sending, receiving, deleting and hiding messages: SQS's semantics over the database.
//!
//! Everything here runs inside one transaction and takes the time as a number (milliseconds since the epoch).

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use serde_json::{Map, Value};
use uuid::Uuid;
use wasq_protocol::Digest;

use super::error::SqsError;
use super::fair::Fair;
use super::message_attributes::{self, INVALID_TEXT, md5_hex, valid_text};
use super::queue_attributes::{Number, QueueAttributes};
use super::received::{Candidate, DEDUPLICATION_MS, Receipt, Received, received};
use super::{attempts, fair, groups};
use crate::stack::QUEUE;
use crate::timer::count_delayed;

/// A message that is to be sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Send {
    pub(crate) body: String,
    pub(crate) delay: Option<i64>,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) trace_header: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) deduplication: Option<String>,
}

/// A message that was accepted.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) message_id: String,
    pub(crate) sequence_number: Option<String>,
}

/// How messages are to be received.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    pub(crate) max: usize,
    /// How long they stay invisible; the queue's own time if `None`.
    pub(crate) visibility: Option<Duration>,
    /// Names the process of the stack's own consumer.
    pub(crate) holder: Option<String>,
    /// On a FIFO queue: a call with the id of an earlier one gets the same messages again.
    pub(crate) attempt_id: Option<String>,
    /// Whether the receive is fair between tenants.
    pub(crate) fair: Option<Fair>,
    /// While this is set, there are no messages for this receive.
    pub(crate) paused: Option<Arc<AtomicBool>>,
}

impl Receive {
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.as_ref().is_some_and(|paused| paused.load(Ordering::Relaxed))
    }
}

/// The longest that a message stays invisible, counted from its receive.
const VISIBILITY_MAX_MS: i64 = 43_200_000;

/// The bytes that a message counts for.
pub(crate) fn size(send: &Send) -> Result<usize, SqsError> {
    Ok(send.body.len() + message_attributes::check(&send.attributes)?)
}

/// Checks a message against a queue, before it is sent.
pub(crate) fn check_send(settings: &QueueAttributes, send: &Send) -> Result<(), SqsError> {
    if send.body.is_empty() {
        return Err(SqsError::missing("MessageBody"));
    }
    if !valid_text(&send.body) {
        return Err(SqsError::invalid_contents(INVALID_TEXT));
    }
    let max = settings.number(Number::MaximumMessageSize);
    if size(send)? as u64 > max {
        return Err(SqsError::invalid_value(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {max} bytes."
        )));
    }
    if let Some(delay) = send.delay {
        if !(0..=900).contains(&delay) {
            return Err(SqsError::value("DelaySeconds", delay, "DelaySeconds must be >= 0 and <= 900."));
        }
        if settings.fifo() && delay != 0 {
            let reason = "The request include parameter that is not valid for this queue type.";
            return Err(SqsError::value("DelaySeconds", delay, reason));
        }
    }
    check_token("MessageGroupId", send.group.as_deref())?;
    check_token("MessageDeduplicationId", send.deduplication.as_deref())?;
    if settings.fifo() {
        if send.group.is_none() {
            return Err(SqsError::missing("MessageGroupId"));
        }
        if send.deduplication.is_none() && !settings.content_based_deduplication() {
            return Err(SqsError::invalid_value(
                "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly",
            ));
        }
    } else if let Some(id) = &send.deduplication {
        let reason = "The request includes a parameter that is not valid for this queue type.";
        return Err(SqsError::value("MessageDeduplicationId", id, reason));
    }
    Ok(())
}

/// Checks the id of a receive against a queue.
pub(crate) fn check_attempt_id(settings: &QueueAttributes, attempt_id: Option<&str>) -> Result<(), SqsError> {
    check_token("ReceiveRequestAttemptId", attempt_id)?;
    match attempt_id {
        Some(id) if !settings.fifo() => {
            let reason = "The request include parameter that is not valid for this queue type.";
            Err(SqsError::value("ReceiveRequestAttemptId", id, reason))
        }
        _ => Ok(()),
    }
}

fn check_token(parameter: &str, value: Option<&str>) -> Result<(), SqsError> {
    match value {
        Some(v) if v.is_empty() || v.len() > 128 || !v.bytes().all(|b| b.is_ascii_graphic()) => {
            let reason = format!(
                "{parameter} can only include alphanumeric and punctuation characters. 1 to 128 in length."
            );
            Err(SqsError::value(parameter, v, &reason))
        }
        _ => Ok(()),
    }
}

/// Sends a message that [`check_send`] has passed.
pub(crate) fn send(
    db: &Connection,
    queue: &str,
    settings: &QueueAttributes,
    send: Send,
    now: i64,
) -> Result<Sent, SqsError> {
    let fifo = settings.fifo();
    let tenant = if queue == QUEUE { fair::tenant(&send) } else { None };
    let dedup_id = if fifo {
        Some(send.deduplication.unwrap_or_else(|| Digest::of(send.body.as_bytes()).to_string()))
    } else {
        None
    };
    let scope = match &send.group {
        Some(group) if settings.deduplicates_by_group() => group.as_str(),
        _ => "",
    };
    if let Some(dedup_id) = &dedup_id {
        let known = db
            .prepare_cached(
                "SELECT message_id, seq FROM deduplication
                 WHERE queue = ? AND scope = ? AND dedup_id = ? AND until_ms > ?",
            )?
            .query_row(params![queue, scope, dedup_id, now], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        if let Some((message_id, seq)) = known {
            return Ok(Sent { message_id, sequence_number: Some(sequence_number(seq)) });
        }
    }
    // A message of a FIFO queue has the queue's delay, and no own one.
    let delay = send.delay.filter(|_| !fifo).unwrap_or(settings.number(Number::DelaySeconds) as i64);
    let delay_ms = delay * 1000;
    let message_id = Uuid::new_v4().to_string();
    db.prepare_cached(
        "INSERT INTO messages (queue, id, body, attributes, trace_header, sent_ms, visible_ms, group_id, dedup_id, tenant)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        queue,
        message_id,
        send.body,
        Value::Object(send.attributes).to_string(),
        send.trace_header,
        now,
        now + delay_ms,
        send.group,
        dedup_id,
        tenant,
    ])?;
    let seq = db.last_insert_rowid();
    if fifo {
        groups::join_group(db, seq)?;
    }
    if let Some(dedup_id) = &dedup_id {
        db.prepare_cached("INSERT OR REPLACE INTO deduplication VALUES (?, ?, ?, ?, ?, ?)")?
            .execute(params![queue, scope, dedup_id, message_id, seq, now + DEDUPLICATION_MS])?;
    }
    Ok(Sent { message_id, sequence_number: fifo.then(|| sequence_number(seq)) })
}

/// SQS writes sequence numbers with 20 digits.
pub(crate) fn sequence_number(seq: i64) -> String {
    format!("{seq:020}")
}

/// Messages that were received, and the queue to which others were moved instead, if any were, with their number.
pub(crate) type Receipts = (Vec<Received>, Option<(String, usize)>);

/// Receives messages. One that was received too often moves to the dead-letter queue instead.
pub(crate) fn receive(
    db: &Connection,
    queue: &str,
    settings: &QueueAttributes,
    receive: &Receive,
    now: i64,
) -> Result<Receipts, SqsError> {
    let kept_since = now - settings.number(Number::MessageRetentionPeriod) as i64 * 1000;
    expire(db, queue, settings, kept_since)?;
    let visibility = receive.visibility.unwrap_or_else(|| settings.seconds(Number::VisibilityTimeout));
    let visible_ms = now + i64::try_from(visibility.as_millis()).unwrap_or(VISIBILITY_MAX_MS);
    if let Some(attempt_id) = &receive.attempt_id
        && let Some(again) = attempts::received_before(db, queue, attempt_id, visible_ms, now)?
    {
        return Ok((again, None));
    }
    let redrive = settings.redrive();
    let mut received: Vec<Received> = Vec::new();
    let mut moved_to: Option<(String, usize)> = None;
    loop {
        let wanted = receive.max - received.len();
        let candidates = if let Some(holder) = &receive.holder
            && let Some(suspects) = suspects(db, queue, holder, now)?
        {
            // Nothing travels with it.
            if received.is_empty() { suspects } else { Vec::new() }
        } else if settings.fifo() {
            groups::candidates(db, queue, &received, wanted, now)?
        } else if let Some(fair) = &receive.fair {
            fair::candidates(db, queue, fair, wanted, now)?
        } else {
            oldest(db, queue, wanted, now)?
        };
        let mut moved = false;
        for Candidate { seq, queue_receives } in candidates {
            match &redrive {
                Some(redrive)
                    if queue_receives >= redrive.receives_max && queue_exists(db, &redrive.target)? =>
                {
                    dead_letter(db, seq, queue, &redrive.target, now)?;
                    moved = true;
                    moved_to.get_or_insert_with(|| (redrive.target.clone(), 0)).1 += 1;
                }
                // With a visibility of zero, a message that was just taken is a candidate again.
                _ if received.iter().any(|message| message.seq == seq) => {}
                _ => received.push(take(db, seq, queue, visible_ms, receive.holder.as_deref(), now)?),
            }
        }
        // Look again only if dead letters have left room for other messages.
        if !moved || received.len() == receive.max {
            break;
        }
    }
    if let Some(attempt_id) = &receive.attempt_id {
        attempts::remember(db, queue, attempt_id, &received, now)?;
    }
    Ok((received, moved_to))
}

/// Deletes the messages that were sent before.
fn expire(db: &Connection, queue: &str, settings: &QueueAttributes, kept_since: i64) -> Result<(), SqsError> {
    if !settings.fifo() {
        db.prepare_cached("DELETE FROM messages WHERE queue = ? AND sent_ms < ?")?
            .execute(params![queue, kept_since])?;
        return Ok(());
    }
    let groups = db
        .prepare_cached("DELETE FROM messages WHERE queue = ? AND sent_ms < ? RETURNING group_id")?
        .query_map(params![queue, kept_since], |row| row.get(0))?
        .collect::<Result<HashSet<String>, _>>()?;
    groups.iter().try_for_each(|group| groups::leave_group(db, queue, group))
}

/// The messages that have been visible for the longest.
pub(super) fn oldest(
    db: &Connection,
    queue: &str,
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    let mut statement = db.prepare_cached(
        "SELECT seq, queue_receives FROM messages WHERE queue = ? AND visible_ms <= ? ORDER BY visible_ms, seq LIMIT ?",
    )?;
    let rows = statement.query_map(params![queue, now, wanted as i64], |row| {
        Ok(Candidate { seq: row.get(0)?, queue_receives: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// While a message may be what kills its process, it is received alone: after all others have ended, and no other until it has
/// ended. `None`: there is no such message.
fn suspects(
    db: &Connection,
    queue: &str,
    holder: &str,
    now: i64,
) -> Result<Option<Vec<Candidate>>, SqsError> {
    let any = db
        .prepare_cached(
            "SELECT max(visible_ms > ?2 AND holder IS ?3) FROM messages WHERE queue = ?1 AND deaths > 0",
        )?
        .query_row(params![queue, now, holder], |row| row.get::<_, Option<bool>>(0))?;
    let Some(is_held) = any else { return Ok(None) };
    let first = db
        .prepare_cached(
            "SELECT seq, queue_receives FROM messages
             WHERE queue = ? AND visible_ms <= ? AND deaths > 0 ORDER BY visible_ms, seq LIMIT 1",
        )?
        .query_row(params![queue, now], |row| Ok(Candidate { seq: row.get(0)?, queue_receives: row.get(1)? }))
        .optional()?;
    let others_are_held = || -> Result<bool, SqsError> {
        let mut held = db.prepare_cached(
            "SELECT 1 FROM messages WHERE queue = ? AND visible_ms > ? AND holder IS ? LIMIT 1",
        )?;
        Ok(held.exists(params![queue, now, holder])?)
    };
    match first {
        _ if is_held => Ok(Some(Vec::new())),
        Some(_) if others_are_held()? => Ok(Some(Vec::new())),
        first => Ok(first.map(|first| vec![first])),
    }
}

/// Leases one message.
fn take(
    db: &Connection,
    seq: i64,
    queue: &str,
    visible_ms: i64,
    holder: Option<&str>,
    now: i64,
) -> Result<Received, SqsError> {
    // Receipts are never 0, and fit into SQLite's signed numbers.
    let receipt = fastrand::i64(1..);
    let received = db
        .prepare_cached(
            "UPDATE messages SET visible_ms = ?2, receipt = ?3, received_ms = iif(?2 > ?4, ?4, 0), holder = ?5,
                 first_received_ms = iif(first_received_ms = 0, ?4, first_received_ms),
                 receive_count = receive_count + 1, queue_receives = queue_receives + 1
             WHERE seq = ?1
             RETURNING id, body, attributes, trace_header, sent_ms, first_received_ms, receive_count, group_id, dedup_id, source, deaths, tenant",
        )?
        .query_row(params![seq, visible_ms, receipt, now, holder], |row| received(row, seq, queue, receipt, visible_ms))?;
    Ok(received)
}

pub(crate) fn queue_exists(db: &Connection, queue: &str) -> Result<bool, SqsError> {
    Ok(db.prepare_cached("SELECT 1 FROM queues WHERE name = ?")?.exists(params![queue])?)
}

/// Moves a message that was received too often. A standard queue's message keeps its time of sending, as on AWS.
fn dead_letter(db: &Connection, seq: i64, queue: &str, target: &str, now: i64) -> Result<(), SqsError> {
    // A new row: in its new queue the message comes behind those that are there.
    db.prepare_cached(
        "INSERT INTO messages (queue, id, body, attributes, trace_header, sent_ms, visible_ms, received_ms,
             first_received_ms, receive_count, group_id, dedup_id, source, tenant)
         SELECT ?2, id, body, attributes, trace_header, iif(dedup_id IS NULL, sent_ms, ?4), ?4, received_ms,
             first_received_ms, receive_count, group_id, iif(dedup_id IS NULL, NULL, id), ?3, tenant
         FROM messages WHERE seq = ?1",
    )?
    .execute(params![seq, target, queue, now])?;
    groups::delete_moved(db, seq, db.last_insert_rowid())
}

/// Deletes a message. On a standard queue an old handle deletes it as well, and deleting twice is no error, as on AWS.
pub(crate) fn delete(
    db: &Connection,
    queue: &str,
    settings: &QueueAttributes,
    handle: &str,
    now: i64,
) -> Result<(), SqsError> {
    let Receipt { seq, receipt, .. } = Receipt::decode(handle, queue)?;
    if settings.fifo() {
        let held = db
            .prepare_cached("SELECT receipt, visible_ms FROM messages WHERE seq = ? AND queue = ?")?
            .query_row(params![seq, queue], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)))
            .optional()?;
        if held.is_some_and(|(current, visible_ms)| current != receipt || visible_ms <= now) {
            return Err(SqsError::value("ReceiptHandle", handle, "The receipt handle has expired."));
        }
    }
    let group: Option<Option<String>> = db
        .prepare_cached("DELETE FROM messages WHERE seq = ? AND queue = ? RETURNING group_id")?
        .query_row(params![seq, queue], |row| row.get(0))
        .optional()?;
    match group.flatten().filter(|_| settings.fifo()) {
        Some(group) => groups::leave_group(db, queue, &group),
        None => Ok(()),
    }
}

/// A change of a message's visibility.
#[derive(Clone, Debug)]
pub(crate) struct Visibility {
    pub(crate) handle: String,
    pub(crate) seconds: i64,
    /// The receiver goes on working on the message.
    pub(crate) held: bool,
    /// A run of it has ended: it is not what kills its process.
    pub(crate) ended: bool,
}

/// Lets a message become visible some seconds from now.
pub(crate) fn set_visibility(
    db: &Connection,
    queue: &str,
    settings: &QueueAttributes,
    entry: &Visibility,
    now: i64,
) -> Result<(), SqsError> {
    let Visibility { handle, seconds, .. } = entry;
    let seconds = *seconds;
    if !(0..=43_200).contains(&seconds) {
        return Err(SqsError::value("VisibilityTimeout", seconds, "Must be between 0 and 43200."));
    }
    let Receipt { seq, receipt, .. } = Receipt::decode(handle, queue)?;
    let held = db
        .prepare_cached("SELECT receipt, received_ms, visible_ms, holder IS NULL FROM messages WHERE seq = ? AND queue = ?")?
        .query_row(params![seq, queue], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    // On a standard queue an older handle is as good as the newest one. But if our own worker has the message, an earlier
    // attempt must not take it away.
    let held = held.filter(|(current, _, visible_ms, is_clients): &(i64, i64, i64, bool)| {
        if settings.fifo() {
            *current == receipt && *visible_ms > now
        } else {
            *current == receipt || *is_clients
        }
    });
    let Some((_, received_ms, visible_ms, _)) = held else {
        let reason = "Message does not exist or is not available for visibility timeout change.";
        return Err(SqsError::value("ReceiptHandle", handle, reason));
    };
    if visible_ms <= now {
        // SQS says nothing if the lease ended by itself.
        return match received_ms {
            0 => Err(SqsError::not_in_flight(format!(
                "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message is not in flight."
            ))),
            _ => Ok(()),
        };
    }
    let visible_ms = now + seconds * 1000;
    if visible_ms > received_ms + VISIBILITY_MAX_MS {
        let reason = "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]";
        return Err(SqsError::value("VisibilityTimeout", seconds, reason));
    }
    let received_ms = if seconds == 0 { 0 } else { received_ms };
    db.prepare_cached("UPDATE messages SET visible_ms = ?, received_ms = ?, holder = iif(?, holder, NULL), deaths = iif(?, 0, deaths) WHERE seq = ?")?
        .execute(params![visible_ms, received_ms, entry.held, entry.ended, seq])?;
    Ok(())
}

/// When the next invisible message of a queue becomes visible.
pub(crate) fn next_visible(db: &Connection, queue: &str, now: i64) -> Result<Option<i64>, SqsError> {
    let next = db
        .prepare_cached("SELECT min(visible_ms) FROM messages WHERE queue = ? AND visible_ms > ?")?
        .query_row(params![queue, now], |row| row.get(0))?;
    Ok(next)
}

/// The number of messages that are in flight.
pub(crate) fn in_flight(db: &Connection, queue: &str, now: i64) -> Result<u64, SqsError> {
    let count: i64 = db
        .prepare_cached("SELECT count(*) FROM messages WHERE queue = ? AND visible_ms > ? AND receipt <> 0")?
        .query_row(params![queue, now], |row| row.get(0))?;
    Ok(count.unsigned_abs())
}

/// The numbers of messages that are visible, in flight, and delayed.
pub(crate) fn counts(
    db: &Connection,
    queue: &str,
    settings: &QueueAttributes,
    now: i64,
) -> Result<(i64, i64, i64), SqsError> {
    let kept_since = now - settings.number(Number::MessageRetentionPeriod) as i64 * 1000;
    let (visible, in_flight, delayed): (i64, i64, i64) = db
        .prepare_cached(
            "SELECT count(*) FILTER (WHERE visible_ms <= ?2),
                    count(*) FILTER (WHERE visible_ms > ?2 AND receipt <> 0),
                    count(*) FILTER (WHERE visible_ms > ?2 AND receipt = 0)
             FROM messages WHERE queue = ?1 AND sent_ms >= ?3",
        )?
        .query_row(params![queue, now, kept_since], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    // Messages that wait outside of the queue are delayed as well.
    let outside = if queue == QUEUE { count_delayed(db)? } else { 0 };
    Ok((visible, in_flight, delayed + outside))
}

/// The digest by which a client checks a body.
pub(crate) fn body_digest(body: &str) -> String {
    md5_hex(body.as_bytes())
}
