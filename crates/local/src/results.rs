//! How messages end, for those who wait for it: `wasq enqueue --wait`, and the log.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{OptionalExtension, params};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use wasq_page::{EndedRun, Stats};
use wasq_protocol::{
    Clock, Digest, End, Ended, ItemState, Outcome, RecordLevel, RunItem, RunRecord, SystemClock, Then,
    Unfinished,
};
use wasq_runtime::{Finished, Observer};
use wasq_telemetry::Exporter;

use crate::db::{Db, DbError};
use crate::log::Log;
use crate::runs::LocalRuns;

/// The ends of messages. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Results {
    db: Db,
    runs: LocalRuns,
    log: Log,
    news: Arc<Notify>,
    /// How often something has happened that the page shows.
    changes: watch::Sender<u64>,
    stats: Stats,
    exporter: Option<Exporter>,
    latest: Arc<Mutex<Latest>>,
}

/// The ends and failures that the table of runs does not know, by the queue's ids of the messages.
#[derive(Default)]
struct Latest {
    /// How many failures there have been.
    count: u64,
    /// The last failures of messages that will be tried again.
    unfinished: HashMap<String, Unfinished>,
    /// The ends of messages that were given up without a run.
    strangers: HashMap<String, Ended>,
}

/// A message that somebody waits for.
#[derive(Clone, Debug)]
pub(crate) struct Awaited {
    /// The queue's id.
    pub(crate) message_id: String,
    /// The message's own id, if it has one.
    pub(crate) id: Option<String>,
    /// The digest of its task and params, if the client knows it.
    pub(crate) params: Option<Digest>,
}

/// The answer to a client that waits for a message.
pub(crate) enum Waited {
    /// It has ended.
    Ended(Ended),
    /// It has not ended, and there is news.
    Unfinished(Unfinished),
    /// There is no news.
    Nothing,
}

/// Entries of [`Latest`] that are kept. If there are more, all are forgotten: they are only told to those who wait.
const LATEST_MAX: usize = 10_000;

impl Results {
    pub(crate) fn new(db: Db, runs: LocalRuns, log: Log, exporter: Option<Exporter>) -> Self {
        Self {
            db,
            runs,
            log,
            news: Arc::default(),
            changes: watch::Sender::new(1),
            stats: Stats::since(SystemClock.now()),
            exporter,
            latest: Arc::default(),
        }
    }

    /// How the runs went.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How often something has happened that the page shows: deliveries that were settled, and acts.
    pub(crate) fn changes(&self) -> &watch::Sender<u64> {
        &self.changes
    }

    /// Returns the end or the news of a message. Waits for up to `wait` for its end, or for news of it with a number higher
    /// than `seen`.
    pub(crate) async fn wait(&self, awaited: Awaited, seen: u64, wait: Duration) -> Result<Waited, DbError> {
        let deadline = Instant::now() + wait;
        loop {
            let mut news = std::pin::pin!(self.news.notified());
            news.as_mut().enable();
            if let Some(ended) = self.ended(&awaited).await? {
                return Ok(Waited::Ended(ended));
            }
            if let Some(mut unfinished) = self.unfinished(&awaited.message_id, seen) {
                unfinished.next_ms = self.next_ms(&awaited.message_id).await?;
                return Ok(Waited::Unfinished(unfinished));
            }
            if tokio::time::timeout_at(deadline, news).await.is_err() {
                return Ok(Waited::Nothing);
            }
        }
    }

    async fn ended(&self, awaited: &Awaited) -> Result<Option<Ended>, DbError> {
        let Awaited { message_id, id, params } = awaited;
        if let Some(ended) = self.latest().strangers.get(message_id) {
            return Ok(Some(ended.clone()));
        }
        let item = self.runs.get(id.as_ref().unwrap_or(message_id).clone()).await?;
        // An earlier message with this id may have failed, or have had other params: that says nothing of this one.
        let this = |item: &RunItem| match &item.message_id {
            // A message without an id of its own has that of its first send, also after a delay.
            Some(last) if last != message_id && item.id != *message_id => {
                let stays = matches!(item.state, ItemState::Done | ItemState::Cancelled);
                stays && (params.is_none() || item.params.is_none() || item.params == *params)
            }
            _ => true,
        };
        Ok(item.filter(this).and_then(|item| Ended::of(&item)))
    }

    /// How long it is until a message is tried again, if no worker has it.
    async fn next_ms(&self, message_id: &str) -> Result<Option<u64>, DbError> {
        let message_id = message_id.to_owned();
        let visible_ms: Option<i64> = self
            .db
            .call(move |db| {
                let visible = db
                    .prepare_cached("SELECT visible_ms FROM messages WHERE id = ?1 AND holder IS NULL")?
                    .query_row(params![message_id], |row| row.get(0))
                    .optional()?;
                Ok::<_, DbError>(visible)
            })
            .await?;
        let now = SystemClock.now().ms();
        Ok(visible_ms.and_then(|ms| u64::try_from(ms).ok()).map(|visible| visible.saturating_sub(now)))
    }

    fn unfinished(&self, message_id: &str, seen: u64) -> Option<Unfinished> {
        let latest = self.latest();
        latest.unfinished.get(message_id).filter(|unfinished| unfinished.number > seen).cloned()
    }

    fn latest(&self) -> MutexGuard<'_, Latest> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the failure of a message that is tried again.
    fn note(&self, record: &RunRecord, outcome: &Outcome) {
        let (Some(message_id), Outcome::Failure(failure)) = (&record.message_id, outcome) else { return };
        let mut latest = self.latest();
        if latest.unfinished.len() >= LATEST_MAX {
            latest.unfinished.clear();
        }
        latest.count += 1;
        let unfinished = Unfinished {
            number: latest.count,
            attempt: record.attempt,
            failure: failure.clone(),
            next_ms: None,
        };
        latest.unfinished.insert(message_id.clone(), unfinished);
        drop(latest);
        self.news.notify_waiters();
    }
}

impl Results {
    /// Counts a run for the page. The wait of a later attempt is the task's own backoff.
    fn count(&self, record: &RunRecord) {
        let RunRecord { task: Some(task), digest: Some(_ran), timestamp, kind, queued_ms, run_ms, .. } =
            record
        else {
            return;
        };
        let wait_ms = queued_ms.filter(|_| record.attempt == 1);
        self.stats.count(&EndedRun { task, ended: *timestamp, kind: *kind, wait_ms, run_ms: *run_ms });
    }
}

impl Observer for Results {
    /// Writes the log, and wakes those who wait.
    fn finished(&self, finished: &Finished<'_>) {
        let Finished { record, outcome } = finished;
        self.log.line(record.to_json());
        if let Some(exporter) = &self.exporter {
            exporter.observe(record);
        }
        self.count(record);
        self.changes.send_modify(|changes| *changes += 1);
        tell(record);
        let end = match record.then {
            Then::Done => End::Done,
            Then::DeadLetter => End::DeadLetter,
            Then::Cancelled => End::Cancelled,
            Then::Retry | Then::Release | Then::Delayed => return self.note(record, outcome),
        };
        let message_id = record.message_id.clone().unwrap_or_default();
        let mut latest = self.latest();
        latest.unfinished.remove(&message_id);
        // Its item may be another message's.
        if record.then == Then::DeadLetter && record.digest.is_none() {
            if latest.strangers.len() >= LATEST_MAX {
                latest.strangers.clear();
            }
            let ended = Ended {
                id: record.id.clone(),
                message_id: message_id.clone(),
                task: record.task.clone(),
                attempt: record.attempt,
                end,
                result: (*outcome).clone(),
                duration_ms: record.run_ms,
                peak_memory_bytes: record.peak_memory_bytes,
            };
            latest.strangers.insert(message_id, ended);
        }
        drop(latest);
        self.news.notify_waiters();
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
