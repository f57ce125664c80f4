//! Receives of FIFO queues that are repeated with the id of an earlier one, as after an answer that was lost.

use rusqlite::{Connection, params};

use super::error::SqsError;
use super::received::{DEDUPLICATION_MS, Received, received};

/// Notes the messages of a receive, for another call with the same id.
pub(super) fn remember(
    db: &Connection,
    queue: &str,
    attempt_id: &str,
    received: &[Received],
    now: i64,
) -> Result<(), SqsError> {
    db.prepare_cached("DELETE FROM receive_attempts WHERE until_ms <= ?")?.execute(params![now])?;
    for message in received {
        db.prepare_cached(
            "INSERT OR REPLACE INTO receive_attempts
             SELECT ?1, ?2, seq, receipt, visible_ms, ?4 FROM messages WHERE seq = ?3",
        )?
        .execute(params![queue, attempt_id, message.seq, now + DEDUPLICATION_MS])?;
    }
    Ok(())
}

/// The messages of an earlier receive with this id, with the same receipt handles and new leases. `None` if there was none.
pub(super) fn received_before(
    db: &Connection,
    queue: &str,
    attempt_id: &str,
    visible_ms: i64,
    now: i64,
) -> Result<Option<Vec<Received>>, SqsError> {
    let mut attempt = db.prepare_cached(
        "SELECT a.seq, a.receipt, m.receipt IS a.receipt AND m.visible_ms = a.visible_ms AND m.visible_ms > ?3
         FROM receive_attempts a LEFT JOIN messages m ON m.seq = a.seq
         WHERE a.queue = ?1 AND a.attempt_id = ?2 AND a.until_ms > ?3 ORDER BY a.seq",
    )?;
    let rows = attempt
        .query_map(params![queue, attempt_id, now], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(i64, i64, Option<bool>)>, _>>()?;
    if rows.is_empty() {
        return Ok(None);
    }
    if rows.iter().any(|(.., unchanged)| *unchanged != Some(true)) {
        let reason =
            "The receiveRequestAttemptId is not valid anymore since the receive call is not retryable.";
        return Err(SqsError::value("ReceiveRequestAttemptId", attempt_id, reason));
    }
    let again = rows.into_iter().map(|(seq, receipt, _)| {
        let message = db
            .prepare_cached(
                "UPDATE messages SET visible_ms = ?2 WHERE seq = ?1
                 RETURNING id, body, attributes, trace_header, sent_ms, first_received_ms, receive_count, group_id, dedup_id, source, deaths, tenant",
            )?
            .query_row(params![seq, visible_ms], |row| received(row, seq, queue, receipt, visible_ms))?;
        Ok::<_, SqsError>(message)
    });
    let again = again.collect::<Result<Vec<_>, _>>()?;
    remember(db, queue, attempt_id, &again, now)?;
    Ok(Some(again))
}
