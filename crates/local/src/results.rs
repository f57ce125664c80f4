//! How messages ended: kept for a while, so that `wasq enqueue --wait` can show it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::{Clock, End, Ended, Outcome, RecordLevel, RunRecord, SystemClock, Then, Unfinished};
use wasq_runtime::{Finished, Observer};

use crate::db::{Db, DbError};
use crate::log::Log;

/// The results. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Results {
    db: Db,
    log: Log,
    news: Arc<Notify>,
    unfinished: Arc<Mutex<Latest>>,
}

/// The last failures of messages that will be tried again, by the queue's ids.
#[derive(Default)]
struct Latest {
    /// How many there have been.
    count: u64,
    by_message: HashMap<String, Unfinished>,
}

/// The answer to a client that waits for a message.
pub(crate) enum Waited {
    /// It has ended: [`Ended`] as JSON.
    Ended(String),
    /// It has not ended, and there is news.
    Unfinished(Unfinished),
    /// There is no news.
    Nothing,
}

/// Results that are kept; older ones are forgotten.
const KEPT: i64 = 10_000;
/// Failures that are kept. If there are more, all are forgotten: they are only told to those who wait.
const UNFINISHED_MAX: usize = 10_000;

impl Results {
    pub(crate) fn new(db: Db, log: Log) -> Self {
        Self { db, log, news: Arc::default(), unfinished: Arc::default() }
    }

    /// Returns the end or the news of the message with this id (its own or the queue's). Waits for up to `wait`
    /// for its end, or for news of it with a number higher than `seen`.
    pub(crate) async fn wait(&self, id: String, seen: u64, wait: Duration) -> Result<Waited, DbError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            let (wanted, unfinished) = (id.clone(), self.unfinished(&id, seen));
            let (ended, visible_ms) = self
                .db
                .call(move |db| {
                    let ended: Option<String> = db
                        .prepare_cached(
                            "SELECT result FROM results WHERE id = ?1 OR message_id = ?1 ORDER BY number DESC LIMIT 1",
                        )?
                        .query_row(params![wanted], |row| row.get(0))
                        .optional()?;
                    let visible_ms: Option<i64> = match (&ended, &unfinished) {
                        (None, Some(_)) => db
                            .prepare_cached("SELECT visible_ms FROM messages WHERE id = ?1 AND holder IS NULL")?
                            .query_row(params![wanted], |row| row.get(0))
                            .optional()?,
                        _ => None,
                    };
                    Ok::<_, DbError>((ended, visible_ms))
                })
                .await?;
            if let Some(ended) = ended {
                return Ok(Waited::Ended(ended));
            }
            if let Some(mut unfinished) = self.unfinished(&id, seen) {
                let now = SystemClock.now().ms();
                unfinished.next_ms = visible_ms
                    .and_then(|ms| u64::try_from(ms).ok())
                    .map(|visible| visible.saturating_sub(now));
                return Ok(Waited::Unfinished(unfinished));
            }
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                return Ok(Waited::Nothing);
            }
        }
    }

    fn unfinished(&self, message_id: &str, seen: u64) -> Option<Unfinished> {
        let latest = self.latest();
        latest.by_message.get(message_id).filter(|unfinished| unfinished.number > seen).cloned()
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the failure of a message that is tried again.
    fn note(&self, record: &RunRecord, outcome: &Outcome) {
        let (Some(message_id), Outcome::Failure(failure)) = (&record.message_id, outcome) else { return };
        let mut latest = self.latest();
        if latest.by_message.len() >= UNFINISHED_MAX {
            latest.by_message.clear();
        }
        latest.count += 1;
        let unfinished = Unfinished {
            number: latest.count,
            attempt: record.attempt,
            failure: failure.clone(),
            next_ms: None,
        };
        latest.by_message.insert(message_id.clone(), unfinished);
        drop(latest);
        self.news.notify_waiters();
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
            Then::Retry | Then::Release => return self.note(record, outcome),
        };
        let (id, message_id) = (record.id.clone(), record.message_id.clone().unwrap_or_default());
        self.latest().by_message.remove(&message_id);
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
