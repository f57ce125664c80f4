//! The table of runs on this machine: rows of the queue's own database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use tokio::sync::Notify;
use uuid::Uuid;
use wasq_protocol::{
    Cancelling, Clock, FailureKind, ItemState, ItemWrite, RunItem, SystemClock, TaskName, Written,
};
use wasq_runtime::Runs;

use crate::db::{Db, DbError};
use crate::timer::forget;

/// The table of runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LocalRuns {
    db: Db,
    /// The running messages that somebody asked to cancel, by their ids: their owners.
    cancels: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Notify>,
}

/// Which items a list contains. All that is given must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunFilter {
    pub(crate) task: Option<TaskName>,
    pub(crate) state: Option<ItemState>,
    pub(crate) kind: Option<FailureKind>,
    pub(crate) parent: Option<String>,
    /// Only items with a lower number: the next page.
    pub(crate) before: Option<i64>,
    pub(crate) max: usize,
}

/// Ends that are kept at most, those of tasks with `once` or with steps apart.
const KEPT_MAX: i64 = 1_000_000;
/// Rows that one step of the pruning looks at, and the pauses after a step.
const PRUNED_AT_ONCE: i64 = 2000;
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How often a cancel is tried while others write the same item.
const ROUNDS: usize = 10;

impl LocalRuns {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, cancels: Arc::default(), asked: Arc::default() }
    }

    /// The item of a message, by its own id or the queue's.
    pub(crate) async fn get(&self, id: String) -> Result<Option<RunItem>, DbError> {
        self.db.call_unsynced(move |db| Ok(find(db, &id)?)).await
    }

    /// The items that match, newest first, each with its number. Their results and steps are left out: they may be large.
    pub(crate) async fn list(&self, filter: RunFilter) -> Result<Vec<(i64, RunItem)>, DbError> {
        self.db.call_unsynced(move |db| Ok(list(db, &filter)?)).await
    }

    /// Cancels a message, by its own id or the queue's. The answer says what was written, or why it cannot be cancelled.
    pub(crate) async fn cancel(&self, id: String) -> Result<Result<RunItem, ItemState>, DbError> {
        for _ in 0..ROUNDS {
            let stored = self.get(id.clone()).await?;
            let own_id = stored.as_ref().map_or_else(|| id.clone(), |stored| stored.id.clone());
            let revision = Uuid::new_v4().simple().to_string();
            let write = match RunItem::cancel(stored.as_ref(), &own_id, revision, SystemClock.now()) {
                Cancelling::Ended(state) => return Ok(Err(state)),
                Cancelling::Write(write) => *write,
            };
            let item = write.item.clone();
            let row = RowWrite::of(&write);
            let kept_as = stored.as_ref().and_then(RunItem::kept_as);
            let written = self.db.call(move |db| {
                let written = row.put(db, now_ms())?;
                if let (Written::Yes, Some(kept_as)) = (&written, kept_as) {
                    forget(db, &kept_as)?;
                }
                Ok::<_, DbError>(written)
            });
            let written = written.await?;
            if matches!(written, Written::Yes) {
                if let (true, Some(owner)) = (item.cancel, &item.owner) {
                    self.cancels().insert(own_id, owner.clone());
                    self.asked.notify_waiters();
                }
                return Ok(Ok(item));
            }
        }
        Err(DbError::crowded())
    }

    /// Lets the messages be claimed that an earlier process of this stack was running: it is gone.
    pub(crate) async fn release_running(&self) -> Result<(), DbError> {
        self.db
            .call(|db| {
                db.execute(
                    "UPDATE runs SET item = json_remove(item, '$.lease_until') WHERE state = 'running'",
                    [],
                )?;
                Ok(())
            })
            .await
    }

    /// Deletes what is forgotten, for ever.
    pub(crate) async fn prune(self) {
        let mut from = 0;
        loop {
            let step = self.db.call(move |db| prune(db, from, now_ms())).await;
            match step {
                Ok(Some(next)) => {
                    from = next;
                    tokio::time::sleep(PRUNE_PAUSE).await;
                }
                Ok(None) => {
                    from = 0;
                    tokio::time::sleep(PRUNE_EVERY).await;
                }
                Err(e) => {
                    tracing::warn!("{e}");
                    tokio::time::sleep(PRUNE_EVERY).await;
                }
            }
        }
    }

    fn cancels(&self) -> MutexGuard<'_, HashMap<String, String>> {
        self.cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Runs for LocalRuns {
    async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        let ended =
            writes.iter().filter(|write| write.item.state.is_end()).map(|write| write.item.id.clone());
        let ended: Vec<String> = ended.collect();
        // After a power cut, a message without its claim is claimed again. Everything else must stay.
        let is_claim =
            |write: &ItemWrite| write.item.state == ItemState::Running && write.item.steps.is_empty();
        let claims = writes.iter().all(is_claim);
        // Made here, because the database has one thread only.
        let count = writes.len();
        let rows: Vec<RowWrite> = writes.iter().map(RowWrite::of).collect();
        let put = move |db: &Connection| {
            let now = now_ms();
            Ok::<_, DbError>(rows.iter().map(|row| row.put(db, now)).collect::<Vec<_>>())
        };
        let written = if claims { self.db.call_unsynced(put).await } else { self.db.call(put).await };
        if !ended.is_empty() {
            let mut cancels = self.cancels();
            if !cancels.is_empty() {
                ended.iter().for_each(|id| {
                    cancels.remove(id);
                });
            }
        }
        match written {
            Ok(written) => written.into_iter().map(|written| written.map_err(Into::into)).collect(),
            Err(e) => (0..count).map(|_| Err(e.clone().into())).collect(),
        }
    }

    async fn cancelled(&self, id: &str, owner: &str) {
        loop {
            let mut asked = std::pin::pin!(self.asked.notified());
            asked.as_mut().enable();
            if self.cancels().get(id).is_some_and(|asked| asked == owner) {
                return;
            }
            asked.await;
        }
    }
}

/// As [`LocalRuns::get`], on any connection.
pub(crate) fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<RunItem>> {
    let by_id = stored(db, id)?;
    Ok(if by_id.is_some() { by_id } else { by_message_id(db, id)? })
}

/// As [`LocalRuns::list`], on any connection.
pub(crate) fn list(db: &Connection, filter: &RunFilter) -> rusqlite::Result<Vec<(i64, RunItem)>> {
    let RunFilter { task, state, kind, parent, before, max } = filter;
    // Ids that begin with a blank are those of turns. The plus keeps SQLite from searching by the id.
    let mut sql =
        "SELECT number, item FROM runs WHERE number < ?1 AND expires_ms > ?2 AND +id >= '!'".to_owned();
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(before.unwrap_or(i64::MAX)), Box::new(now_ms())];
    let mut must_be = |column: &str, value: Option<String>| {
        if let Some(value) = value {
            values.push(Box::new(value));
            sql += &format!(" AND {column} = ?{}", values.len());
        }
    };
    must_be("task", task.as_ref().map(ToString::to_string));
    must_be("state", state.map(|state| state.to_string()));
    must_be("kind", kind.map(|kind| kind.to_string()));
    must_be("parent", parent.clone());
    // In the words of the indexes, which SQLite uses only then.
    match state {
        None | Some(ItemState::Done) => {}
        Some(ItemState::Running) => sql += " AND state != 'done'",
        Some(_) if task.is_some() => sql += " AND state NOT IN ('done', 'running')",
        Some(_) => sql += " AND state != 'done'",
    }
    values.push(Box::new(i64::try_from(*max).unwrap_or(i64::MAX)));
    sql += &format!(" ORDER BY number DESC LIMIT ?{}", values.len());
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement
        .query_map(params_from_iter(values), |row| Ok((row.get(0)?, without_result(item(row, 1)?))))?;
    rows.collect()
}

fn now_ms() -> i64 {
    i64::try_from(SystemClock.now().ms()).expect("the clock ends in the year 9999")
}

/// A write, as the columns of a row.
struct RowWrite {
    id: String,
    message_id: Option<String>,
    revision: String,
    state: &'static str,
    task: Option<TaskName>,
    kind: Option<&'static str>,
    parent: Option<String>,
    expires_ms: i64,
    item: String,
    /// The revision that it replaces.
    replaces: Option<String>,
}

impl RowWrite {
    fn of(ItemWrite { item, replaces }: &ItemWrite) -> Self {
        Self {
            id: item.id.clone(),
            message_id: item.message_id.clone().filter(|message_id| *message_id != item.id),
            revision: item.revision.clone(),
            state: item.state.as_str(),
            task: item.task.clone(),
            kind: item.kind.map(FailureKind::as_str),
            parent: item.parent.clone(),
            expires_ms: i64::try_from(item.expires.saturating_mul(1000)).unwrap_or(i64::MAX),
            item: serde_json::to_string(item).expect("string keys"),
            replaces: replaces.clone(),
        }
    }

    fn put(&self, db: &Connection, now: i64) -> Result<Written, DbError> {
        let written = match &self.replaces {
            Some(replaced) => self.update(db, replaced)?,
            None => match self.insert(db)? {
                0 => {
                    let expired = db
                        .prepare_cached("DELETE FROM runs WHERE id = ? AND expires_ms <= ?")?
                        .execute(params![self.id, now])?;
                    if expired > 0 { self.insert(db)? } else { 0 }
                }
                written => written,
            },
        };
        Ok(if written > 0 { Written::Yes } else { Written::Refused(stored(db, &self.id)?.map(Box::new)) })
    }

    fn update(&self, db: &Connection, replaced: &str) -> rusqlite::Result<usize> {
        let Self { id, message_id, revision, state, task, kind, parent, expires_ms, item, replaces: _ } =
            self;
        let task = task.as_ref().map(TaskName::as_str);
        let values = params![id, message_id, revision, state, kind, expires_ms, item, replaced, task, parent];
        // Few items change their task: the indexes by task and parent stay as they are.
        let mut update = db.prepare_cached(
            "UPDATE runs SET message_id = ?2, revision = ?3, state = ?4, kind = ?5, expires_ms = ?6, item = ?7
             WHERE id = ?1 AND revision = ?8 AND task IS ?9 AND parent IS ?10",
        )?;
        match update.execute(values)? {
            0 => db
                .prepare_cached(
                    "UPDATE runs SET message_id = ?2, revision = ?3, state = ?4, kind = ?5, expires_ms = ?6, item = ?7,
                         task = ?9, parent = ?10
                     WHERE id = ?1 AND revision = ?8",
                )?
                .execute(values),
            updated => Ok(updated),
        }
    }

    fn insert(&self, db: &Connection) -> rusqlite::Result<usize> {
        let Self { id, message_id, revision, state, task, kind, parent, expires_ms, item, replaces: _ } =
            self;
        let task = task.as_ref().map(TaskName::as_str);
        db.prepare_cached(
            "INSERT INTO runs (id, message_id, revision, state, task, kind, parent, expires_ms, item)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, message_id, revision, state, task, kind, parent, expires_ms, item])
    }
}

fn stored(db: &Connection, id: &str) -> rusqlite::Result<Option<RunItem>> {
    let mut statement = db.prepare_cached("SELECT item FROM runs WHERE id = ?")?;
    statement.query_row(params![id], |row| item(row, 0)).optional()
}

fn by_message_id(db: &Connection, message_id: &str) -> rusqlite::Result<Option<RunItem>> {
    let mut statement = db.prepare_cached("SELECT item FROM runs WHERE message_id = ?")?;
    statement.query_row(params![message_id], |row| item(row, 0)).optional()
}

fn without_result(item: RunItem) -> RunItem {
    RunItem { result: None, unsent: Vec::new(), steps: Vec::new(), ..item }
}

fn item(row: &Row<'_>, column: usize) -> rusqlite::Result<RunItem> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// Looks at the next rows. Returns the number from which to go on; `None` after the last one.
fn prune(db: &Connection, from: i64, now: i64) -> Result<Option<i64>, DbError> {
    let (last, seen): (Option<i64>, i64) = db
        .prepare_cached(
            "SELECT max(number), count(*) FROM (SELECT number FROM runs WHERE number > ? ORDER BY number LIMIT ?)",
        )?
        .query_row(params![from, PRUNED_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    let newest: i64 = db.query_row("SELECT max(number) FROM runs", [], |row| row.get(0))?;
    db.prepare_cached(
        "DELETE FROM runs WHERE number > ?1 AND number <= ?2 AND (expires_ms <= ?3
             OR number <= ?4 AND state IN ('done', 'dead', 'cancelled') AND json_extract(item, '$.once') IS NULL
             AND json_extract(item, '$.steps') IS NULL)",
    )?
    .execute(params![from, last, now, newest - KEPT_MAX])?;
    Ok((seen == PRUNED_AT_ONCE).then_some(last))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// The messages for which two workers race.
    const RACES: u32 = 5_000;

    fn table() -> (LocalRuns, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder");
        (LocalRuns::new(Db::open(&folder.path().join("queue.sqlite")).expect("it opens")), folder)
    }

    fn item(id: &str, state: ItemState, owner: &str) -> RunItem {
        let mut item = RunItem::new(id.to_owned(), state, SystemClock.now());
        item.owner = Some(owner.to_owned());
        item.revision = format!("{owner} {state}");
        item.keep_for(Duration::from_secs(3600), SystemClock.now());
        item
    }

    /// Claims an item and commits its end, as a worker does. Returns whether both were written.
    async fn run(runs: &LocalRuns, id: &str, owner: &str) -> bool {
        let claim = item(id, ItemState::Running, owner);
        let replaces = Some(claim.revision.clone());
        let written = runs.put(&[ItemWrite { item: claim, replaces: None }]).await.remove(0);
        if !matches!(written, Ok(Written::Yes)) {
            return false;
        }
        let end = ItemWrite { item: item(id, ItemState::Done, owner), replaces };
        matches!(runs.put(&[end]).await.remove(0), Ok(Written::Yes))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn of_two_workers_that_claim_an_id_one_commits() {
        let (runs, _folder) = table();
        let commits = AtomicU32::new(0);
        for first in (0..RACES).step_by(500) {
            let races = (first..first + 500).map(|number| {
                let (runs, commits) = (&runs, &commits);
                async move {
                    let id = format!("m{number}");
                    let (one, other) = tokio::join!(run(runs, &id, "one"), run(runs, &id, "other"));
                    assert!(one != other, "{id}: {one} {other}");
                    commits.fetch_add(1, Ordering::Relaxed);
                }
            });
            futures_util::future::join_all(races).await;
        }
        assert_eq!(commits.into_inner(), RACES);
        let done =
            RunFilter { state: Some(ItemState::Done), max: RACES as usize + 1, ..RunFilter::default() };
        assert_eq!(runs.list(done).await.expect("a list").len(), RACES as usize);
    }

    #[tokio::test]
    async fn what_is_forgotten_is_absent_and_pruned() {
        let (runs, _folder) = table();
        let mut old = item("old", ItemState::Done, "one");
        old.expires = 1;
        let put = |item| {
            let runs = runs.clone();
            async move { runs.put(&[ItemWrite { item, replaces: None }]).await.remove(0).expect("it answers") }
        };
        assert!(matches!(put(old.clone()).await, Written::Yes));
        assert!(matches!(put(item("new", ItemState::Done, "one")).await, Written::Yes));
        // A forgotten item does not stand in the way of another.
        assert!(matches!(put(old).await, Written::Yes));
        let listed = runs.list(RunFilter { max: 10, ..RunFilter::default() }).await.expect("a list");
        assert_eq!(listed.iter().map(|(_, item)| item.id.as_str()).collect::<Vec<_>>(), ["new"]);
        let next = runs.db.call(|db| prune(db, 0, now_ms())).await.expect("it answers");
        assert_eq!(next, None);
        assert!(runs.get("old".to_owned()).await.expect("it answers").is_none());
        assert!(runs.get("new".to_owned()).await.expect("it answers").is_some());
    }
}
