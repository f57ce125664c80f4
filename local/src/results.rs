//! How messages ended: kept for a while, so that `wasq enqueue --wait` can show it.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::{End, Ended};
use wasq_runtime::{Finished, Observer, Verdict};

use crate::db::{Db, DbError};

/// The results. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Results {
    db: Db,
    news: Arc<Notify>,
}

/// Results that are kept; older ones are forgotten.
const KEPT: i64 = 10_000;

impl Results {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, news: Arc::default() }
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
    /// Keeps final results; what is tried again has none yet.
    fn finished(&self, finished: &Finished<'_>) {
        let end = match finished.verdict {
            Verdict::Done => End::Done,
            Verdict::DeadLetter => End::DeadLetter,
            Verdict::Retry(_) | Verdict::GiveBack(_) => return,
        };
        let (id, message_id) = (finished.id.to_owned(), finished.delivery.message_id.clone());
        let ended = Ended {
            id: id.clone(),
            message_id: message_id.clone(),
            task: finished.task.cloned(),
            attempt: finished.attempt,
            end,
            result: finished.outcome.clone(),
            duration_ms: finished.duration.as_secs_f64() * 1000.0,
            peak_memory_bytes: finished.peak_memory,
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
