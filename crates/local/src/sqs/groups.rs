//! Message groups of FIFO queues. The first message of each group is marked as its head, so that a receive looks at one message
//! for each group, however many lie behind it.

use std::collections::HashSet;

use rusqlite::{Connection, params};

use super::error::SqsError;
use super::received::{Candidate, Received};

/// The first visible messages of each group, up to its first invisible one: a message in flight blocks its group. The group
/// that has been available for the longest comes first, with as many messages as are wanted.
pub(super) fn candidates(
    db: &Connection,
    queue: &str,
    taken: &[Received],
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    // A message that this call itself has taken does not block the messages behind it.
    let mut groups: Vec<String> = taken.iter().filter_map(|message| message.group.clone()).collect();
    let mut heads = db.prepare_cached(
        "SELECT group_id FROM messages WHERE queue = ? AND head = 1 AND visible_ms <= ? ORDER BY visible_ms, seq LIMIT ?",
    )?;
    for group in heads.query_map(params![queue, now, (groups.len() + wanted) as i64], |row| row.get(0))? {
        groups.push(group?);
    }
    let mut in_group = db.prepare_cached(
        "SELECT seq, queue_receives, visible_ms FROM messages
         WHERE queue = ? AND group_id = ? AND dedup_id IS NOT NULL ORDER BY seq",
    )?;
    let (mut seen, mut found) = (HashSet::new(), Vec::new());
    for group in groups.iter().filter(|group| seen.insert(*group)) {
        let mut rows = in_group.query(params![queue, group])?;
        while found.len() < wanted
            && let Some(row) = rows.next()?
        {
            let seq = row.get(0)?;
            if taken.iter().any(|message| message.seq == seq) {
                continue;
            }
            if row.get::<_, i64>(2)? > now {
                break;
            }
            found.push(Candidate { seq, queue_receives: row.get(1)? });
        }
    }
    Ok(found)
}

/// Makes a message that was added to a FIFO queue the head of its group, if it is alone in it.
pub(crate) fn join_group(db: &Connection, seq: i64) -> Result<(), SqsError> {
    db.prepare_cached(
        "UPDATE messages AS new SET head = 1 WHERE seq = ?1 AND seq = (
             SELECT min(seq) FROM messages
             WHERE queue = new.queue AND group_id = new.group_id AND dedup_id IS NOT NULL)",
    )?
    .execute(params![seq])?;
    Ok(())
}

/// Makes the first message of a group its head, after another one was taken out.
pub(crate) fn leave_group(db: &Connection, queue: &str, group: &str) -> Result<(), SqsError> {
    db.prepare_cached(
        "UPDATE messages SET head = 1 WHERE seq = (
             SELECT min(seq) FROM messages WHERE queue = ? AND group_id = ? AND dedup_id IS NOT NULL)",
    )?
    .execute(params![queue, group])?;
    Ok(())
}

/// Deletes a message that was copied into another queue. `copy` is the copy's number.
pub(crate) fn delete_moved(db: &Connection, seq: i64, copy: i64) -> Result<(), SqsError> {
    let (queue, group, fifo): (String, Option<String>, bool) = db
        .prepare_cached("DELETE FROM messages WHERE seq = ? RETURNING queue, group_id, dedup_id IS NOT NULL")?
        .query_row(params![seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    if let Some(group) = group.filter(|_| fifo) {
        join_group(db, copy)?;
        leave_group(db, &queue, &group)?;
    }
    Ok(())
}
