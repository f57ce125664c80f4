//! Time: messages that wait outside of the queue, and schedules. Both are rows of the database, so they survive a restart.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::Notify;
use tokio::time::sleep;
use wasq_protocol::{Clock, Digest, Missed, Schedule, ScheduleState, SystemClock, TaskName, Timestamp};
use wasq_publisher::Scheduler;
use wasq_runtime::{Delayed, Timer};
use wasq_schedule::Firings;

use crate::db::{Db, DbError};
use crate::sqs::error::SqsError;
use crate::sqs::messages::{self, Send};
use crate::sqs::queues::Queues;
use crate::sqs::store;
use crate::stack::QUEUE;

/// The timer of a stack. Clones share everything.
#[derive(Clone)]
pub(crate) struct LocalTimer {
    db: Db,
    queues: Queues,
    /// Notified when something may be due sooner than before.
    changed: Arc<Notify>,
}

/// Messages that one transaction sends: the queue goes on between two.
const AT_ONCE: i64 = 500;
/// The longest sleep: the clock may be set, and the machine may have slept.
const LOOK: Duration = Duration::from_secs(10);
/// The pause after a fault of the database.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

/// The result of one look at the clock.
struct Looked {
    sent: usize,
    /// When something is due next.
    next: Option<Timestamp>,
}

impl LocalTimer {
    pub(crate) fn new(db: Db, queues: Queues) -> Self {
        Self { db, queues, changed: Arc::default() }
    }

    /// Sends what is due, for ever.
    pub(crate) async fn run(self) {
        loop {
            let pause = match self.look().await {
                // There may be more.
                Ok(Looked { sent, .. }) if sent >= AT_ONCE as usize => continue,
                Ok(Looked { next, .. }) => {
                    let next = next.map(|next| next.since(SystemClock.now()));
                    next.map_or(LOOK, |next| next.min(LOOK))
                }
                Err(e) => {
                    tracing::error!("the timer: {e}");
                    FAULT_PAUSE
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    async fn look(&self) -> Result<Looked, SqsError> {
        let looked = self.db.call(|db| {
            let now = SystemClock.now();
            let sent = send_due(db, now)? + fire_due(db, now)?;
            Ok::<_, SqsError>(Looked { sent, next: next_due(db)? })
        });
        let looked = looked.await?;
        self.queues.wake(QUEUE, looked.sent);
        Ok(looked)
    }

    /// All schedules, in the order of their names.
    pub(crate) async fn schedules(&self) -> Result<Vec<ScheduleState>, DbError> {
        self.db.call(|db| list(db).map_err(DbError::from)).await
    }

    /// Pauses a schedule, or lets it go on. Returns whether there is such a schedule.
    pub(crate) async fn pause(&self, name: String, paused: bool) -> Result<bool, DbError> {
        let done = self.db.call(move |db| {
            let Some(schedule) = find(db, &name)? else { return Ok::<_, DbError>(false) };
            // A firing during the pause is not missed, because it was not wanted.
            let next = due(&schedule, SystemClock.now());
            db.execute(
                "UPDATE schedules SET paused = ?, due_ms = ? WHERE name = ?",
                params![paused, next, name],
            )?;
            Ok(true)
        });
        let done = done.await?;
        self.changed.notify_one();
        Ok(done)
    }
}

impl Timer for LocalTimer {
    async fn keep(&self, messages: Vec<Delayed>) -> Vec<Result<()>> {
        let count = messages.len();
        let kept = self.db.call(move |db| {
            for message in messages {
                db.prepare_cached(
                    "INSERT OR IGNORE INTO delayed (name, due_ms, body, group_id) VALUES (?, ?, ?, ?)",
                )?
                .execute(params![
                    message.name.to_string(),
                    ms(message.at),
                    message.body,
                    message.group
                ])?;
            }
            Ok::<_, DbError>(())
        });
        let kept = kept.await;
        self.changed.notify_one();
        (0..count).map(|_| kept.as_ref().map(|_| ()).map_err(|e| anyhow!("{e}"))).collect()
    }
}

impl Scheduler for LocalTimer {
    fn refusal(&self, _: &Schedule) -> Option<String> {
        None
    }

    async fn set(&self, task: &TaskName, schedules: &[Schedule]) -> Result<()> {
        let (task, schedules) = (task.clone(), schedules.to_vec());
        let set = self.db.call(move |db| {
            let now = SystemClock.now();
            let names: Vec<String> = schedules.iter().map(|schedule| schedule.full_name(&task)).collect();
            let kept = serde_json::to_string(&names).expect("strings");
            db.execute(
                "DELETE FROM schedules WHERE task = ?1 AND name NOT IN (SELECT value FROM json_each(?2))",
                params![task.as_str(), kept],
            )?;
            for (name, schedule) in names.iter().zip(&schedules) {
                if find(db, name)?.as_ref() == Some(schedule) {
                    continue;
                }
                let text = serde_json::to_string(schedule).expect("string keys");
                db.execute(
                    "INSERT INTO schedules (name, task, schedule, due_ms) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (name) DO UPDATE SET schedule = ?3, due_ms = ?4",
                    params![name, task.as_str(), text, due(schedule, now)],
                )?;
            }
            Ok::<_, DbError>(())
        });
        set.await?;
        self.changed.notify_one();
        Ok(())
    }
}

/// Forgets a message that waits, because it was cancelled.
pub(crate) fn forget(db: &Connection, kept_as: &Digest) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM delayed WHERE name = ?")?.execute([kept_as.to_string()])?;
    Ok(())
}

/// The number of messages that wait outside of the queue.
pub(crate) fn count_delayed(db: &Connection) -> rusqlite::Result<i64> {
    db.prepare_cached("SELECT count(*) FROM delayed")?.query_row([], |row| row.get(0))
}

/// All schedules, in the order of their names.
pub(crate) fn list(db: &Connection) -> rusqlite::Result<Vec<ScheduleState>> {
    let mut rows =
        db.prepare_cached("SELECT name, task, schedule, paused, due_ms FROM schedules ORDER BY name")?;
    let mut states = Vec::new();
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (task, schedule): (String, String) = (row.get(1)?, row.get(2)?);
        let paused: bool = row.get(3)?;
        let due: Option<i64> = row.get(4)?;
        if let (Ok(task), Ok(schedule)) = (task.parse(), serde_json::from_str(&schedule)) {
            let next = due.filter(|_| !paused).map(timestamp);
            states.push(ScheduleState { name: row.get(0)?, task, schedule, paused, next });
        }
    }
    Ok(states)
}

fn ms(time: Timestamp) -> i64 {
    i64::try_from(time.ms()).expect("the clock ends in the year 9999")
}

fn timestamp(ms: i64) -> Timestamp {
    Timestamp::from_ms(u64::try_from(ms).unwrap_or(0))
}

/// When a schedule fires next. The publisher has checked that it does.
fn due(schedule: &Schedule, now: Timestamp) -> Option<i64> {
    Firings::of(schedule).ok()?.after(now).map(ms)
}

fn find(db: &Connection, name: &str) -> rusqlite::Result<Option<Schedule>> {
    let text: Option<String> = db
        .prepare_cached("SELECT schedule FROM schedules WHERE name = ?")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn send(db: &Connection, body: String, group: Option<String>, now: Timestamp) -> Result<(), SqsError> {
    let settings = store::load(db, QUEUE)?;
    messages::send(db, QUEUE, &settings, Send { body, group, ..Send::default() }, ms(now))?;
    Ok(())
}

/// Sends the messages whose time has come to the queue.
fn send_due(db: &Connection, now: Timestamp) -> Result<usize, SqsError> {
    let mut due = db.prepare_cached(
        "DELETE FROM delayed WHERE name IN (SELECT name FROM delayed WHERE due_ms <= ?1 ORDER BY due_ms LIMIT ?2)
         RETURNING body, group_id",
    )?;
    let messages: Vec<(String, Option<String>)> = due
        .query_map(params![ms(now), AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let count = messages.len();
    for (body, group) in messages {
        send(db, body, group, now)?;
    }
    Ok(count)
}

/// Sends messages of the schedules that are due. Of several firings that one schedule has missed, the last one counts.
fn fire_due(db: &Connection, now: Timestamp) -> Result<usize, SqsError> {
    let mut due_now =
        db.prepare_cached("SELECT name, task, schedule, paused, due_ms FROM schedules WHERE due_ms <= ?")?;
    let rows: Vec<(String, String, String, bool, i64)> = due_now
        .query_map([ms(now)], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut sent = 0;
    for (name, task, schedule, paused, due_ms) in rows {
        let parsed = (task.parse::<TaskName>(), serde_json::from_str::<Schedule>(&schedule));
        let firings = parsed.1.as_ref().ok().and_then(|schedule| Firings::of(schedule).ok());
        let ((Ok(task), Ok(schedule)), Some(firings)) = (parsed, firings) else {
            // Another version of wasq has written it.
            tracing::error!("the schedule {name} cannot be read, and fires no more: publish its task again");
            db.prepare_cached("UPDATE schedules SET due_ms = NULL WHERE name = ?")?.execute([name])?;
            continue;
        };
        let before = timestamp(due_ms).minus(Duration::from_millis(1));
        if let Some(last) = firings.last_between(before, now).filter(|_| !paused) {
            if now.since(last) <= Schedule::LATE || schedule.missed == Missed::Run {
                send(db, schedule.body(&task, &last.to_string()), Some(task.to_string()), now)?;
                sent += 1;
            } else {
                tracing::info!(
                    "the schedule {name} was to fire at {last}; it is left out, because it is late"
                );
            }
        }
        db.prepare_cached("UPDATE schedules SET due_ms = ? WHERE name = ?")?
            .execute(params![firings.after(now).map(ms), name])?;
    }
    Ok(sent)
}

fn next_due(db: &Connection) -> Result<Option<Timestamp>, SqsError> {
    let next: Option<i64> = db
        .prepare_cached(
            "SELECT min(due) FROM (SELECT min(due_ms) AS due FROM delayed UNION ALL SELECT min(due_ms) FROM schedules)",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(next.map(timestamp))
}
