//! How messages ended: kept for a while, so that `wasq enqueue --wait` can show it.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::{End, Ended, RecordLevel, RunRecord, Then};
use wasq_runtime::{Finished, Observer};

use crate::db::{Db, DbError};
use crate::log::Log;

/// The results. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Results {
    db: Db,
    log: Log,
    news: Arc<Notify>,
}

/// Results that are kept; older ones are forgotten.
const KEPT: i64 = 10_000;

impl Results {
    pub(crate) fn new(db: Db, log: Log) -> Self {
        Self { db, log, news: Arc::default() }
    }

    /// How the message with this id (its own or the queue's) ended, as JSON. Waits for it for up to `wait`.
    pub(crate) async fn wait(&self, id: String, wait: Duration) -> Result<Option<String>, DbError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let wanted = id.clone();
            let found = self
                .db
                .call(move |db| {
                    let found = db
                        .prepare_cached(
                            "SELECT result FROM results WHERE id = ?1 OR message_id = ?1 ORDER BY number DESC LIMIT 1",
                        )?
                        .query_row(params![wanted], |row| row.get(0))
                        .optional()?;
                    Ok::<_, DbError>(found)
                })
                .await?;
            if found.is_some() || tokio::time::timeout_at(deadline, news).await.is_err() {
                return Ok(found);
            }
        }
    }
}

impl Observer for Results {
    /// Writes the log, and keeps final results. A message that is tried again has no final result yet.
    fn finished(&self, finished: &Finished<'_>) {
        let Finished { record, outcome } = finished;
        self.log.line(record.to_json());
        tell(record);
        let end = match record.then {
            Then::Done => End::Done,
            Then::DeadLetter => End::DeadLetter,
            Then::Retry | Then::Release => return,
        };
        let (id, message_id) = (record.id.clone(), record.message_id.clone().unwrap_or_default());
        let ended = Ended {
            id: id.clone(),
            message_id: message_id.clone(),
            task: record.task.clone(),
            attempt: record.attempt,
            end,
            result: (*outcome).clone(),
            duration_ms: record.run_ms,
            peak_memory_bytes: record.peak_memory_bytes,
        };
        let result = serde_json::to_string(&ended).expect("string keys");
        let results = self.clone();
        tokio::spawn(async move {
            let kept = results.db.call(move |db| {
                db.prepare_cached("INSERT INTO results (id, message_id, result) VALUES (?, ?, ?)")?
                    .execute(params![id, message_id, result])?;
                let newest = db.last_insert_rowid();
                db.prepare_cached("DELETE FROM results WHERE number <= ?")?
                    .execute(params![newest - KEPT])?;
                Ok::<_, DbError>(())
            });
            if let Err(e) = kept.await {
                tracing::warn!("keep a result: {e}");
            }
            results.news.notify_waiters();
        });
    }
}

/// Repeats a record of the log on stderr, for people.
fn tell(record: &RunRecord) {
    let RunRecord { level, message, id, attempt, run_ms: ms, peak_memory_bytes: peak_memory, .. } = record;
    let task = record.task.as_ref().map_or("-", |task| task.as_str());
    let kind = record.kind.map(|kind| kind.as_str());
    let digest = record.digest.map(|digest| digest.short());
    match level {
        RecordLevel::Info => {
            tracing::info!(target: Log::TOLD, task, id, attempt, ms, peak_memory, digest, "{message}");
        }
        RecordLevel::Warn => {
            tracing::warn!(target: Log::TOLD, task, id, attempt, kind, ms, digest, "{message}");
        }
    }
}
