//! The rows of the table of runs, and the statements.

use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params, params_from_iter};
use wasq_protocol::{Clock, FailureKind, ItemState, RunItem, SystemClock, TaskName, Timestamp, Written};

use super::claims::Claims;
use crate::db::DbError;

/// Which items a list contains. All that is given must hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct RunFilter {
    pub(crate) task: Option<TaskName>,
    pub(crate) state: Option<ItemState>,
    pub(crate) kind: Option<FailureKind>,
    pub(crate) parent: Option<String>,
    /// Only items whose [`RunItem::listed_at`] is not before this.
    pub(crate) since: Option<Timestamp>,
    /// Only items whose [`RunItem::listed_at`] is before this.
    pub(crate) until: Option<Timestamp>,
    /// Only items with a lower number: the next page.
    pub(crate) before: Option<i64>,
    pub(crate) max: usize,
}

/// Ends that are kept at most, those of tasks with `once` or with steps apart.
const KEPT_MAX: i64 = 1_000_000;
/// Rows that one step of the pruning looks at.
const PRUNED_AT_ONCE: i64 = 2000;

/// As [`LocalRuns::get`](super::LocalRuns::get), on any connection.
pub(crate) fn find(db: &Connection, id: &str) -> rusqlite::Result<Option<RunItem>> {
    let by_id = stored(db, id)?;
    Ok(if by_id.is_some() { by_id } else { by_message_id(db, id)? })
}

/// As [`LocalRuns::list`](super::LocalRuns::list), on any connection.
pub(crate) fn list(db: &Connection, filter: &RunFilter) -> rusqlite::Result<Vec<(i64, RunItem)>> {
    let RunFilter { task, state, kind, parent, since, until, before, max } = filter;
    // Ids that begin with a blank are those of turns. The plus keeps SQLite from searching by the id.
    let mut matches = "number < ?1 AND expires_ms > ?2 AND +id >= '!'".to_owned();
    let mut values: Vec<Box<dyn ToSql>> = vec![Box::new(before.unwrap_or(i64::MAX)), Box::new(now_ms())];
    let mut must_be = |column: &str, value: Option<String>| {
        if let Some(value) = value {
            values.push(Box::new(value));
            matches += &format!(" AND {column} = ?{}", values.len());
        }
    };
    must_be("task", task.as_ref().map(ToString::to_string));
    must_be("state", state.map(|state| state.to_string()));
    must_be("kind", kind.map(|kind| kind.to_string()));
    must_be("parent", parent.clone());
    // In the words of the indexes, which SQLite uses only then.
    match state {
        None | Some(ItemState::Done) => {}
        Some(ItemState::Running) => matches += " AND state != 'done'",
        Some(_) if task.is_some() => matches += " AND state NOT IN ('done', 'running')",
        Some(_) => matches += " AND state != 'done'",
    }
    let mut from = "runs";
    if since.is_some() || until.is_some() {
        let ends = until.is_some();
        let (since, until) = (since.map_or(0, ms), until.map_or(i64::MAX, ms));
        values.extend([Box::new(since) as Box<dyn ToSql>, Box::new(until)]);
        let (from_ms, to_ms) = (values.len() - 1, values.len());
        let within = format!("listed_ms >= ?{from_ms} AND listed_ms < ?{to_ms}");
        // The list is in the order of the numbers. Of many runs of that time, the first are soon found by the number. Few are found
        // by their time, and a parent's children by their parent.
        let few = "SELECT count(*) < ?3 FROM
            (SELECT 1 FROM runs INDEXED BY runs_listed WHERE listed_ms >= ?1 AND listed_ms < ?2 LIMIT ?3)";
        let is_few =
            || db.prepare_cached(few)?.query_row(params![since, until, FEW], |row| row.get::<_, bool>(0));
        if parent.is_none() && is_few()? {
            from = "runs INDEXED BY runs_listed";
            matches += &format!(" AND {within}");
        } else {
            // The plus keeps SQLite from searching by the time.
            matches += &format!(" AND +listed_ms >= ?{from_ms} AND +listed_ms < ?{to_ms}");
            if ends && parent.is_none() {
                let last = format!("SELECT max(number) FROM runs INDEXED BY runs_listed WHERE {within}");
                // One bound by the number only: SQLite begins at it.
                matches = matches.replacen("number <", "+number <", 1) + &format!(" AND number <= ({last})");
            }
        }
    }
    values.push(Box::new(i64::try_from(*max).unwrap_or(i64::MAX)));
    // If something is sorted, then only numbers.
    let sql = format!(
        "SELECT number, item FROM runs WHERE number IN
             (SELECT number FROM {from} WHERE {matches} ORDER BY number DESC LIMIT ?{})
         ORDER BY number DESC",
        values.len()
    );
    let mut statement = db.prepare_cached(&sql)?;
    let rows = statement
        .query_map(params_from_iter(values), |row| Ok((row.get(0)?, without_result(item(row, 1)?))))?;
    rows.collect()
}

/// Runs that are sorted for a list.
const FEW: i64 = 10_000;

fn ms(time: Timestamp) -> i64 {
    i64::try_from(time.ms()).unwrap_or(i64::MAX)
}

pub(super) fn now_ms() -> i64 {
    i64::try_from(SystemClock.now().ms()).expect("the clock ends in the year 9999")
}

pub(super) enum Write {
    /// The first claim of a message.
    Claim(Box<RunItem>),
    Row(Box<RowWrite>),
}

impl Write {
    pub(super) fn put(&self, db: &Connection, claims: &Claims, now: i64) -> Result<Written, DbError> {
        match self {
            Self::Claim(item) => {
                // A row is newer than the claim that it was made of.
                let refused = current(db, &item.id, now)?.or_else(|| claims.add(item));
                Ok(refused.map_or(Written::Yes, |stored| Written::Refused(Some(Box::new(stored)))))
            }
            Self::Row(row) => row.put(db, claims, now),
        }
    }
}

/// A write, as the columns of a row.
pub(super) struct RowWrite {
    pub(super) id: String,
    message_id: Option<String>,
    revision: String,
    state: &'static str,
    task: Option<TaskName>,
    kind: Option<&'static str>,
    parent: Option<String>,
    expires_ms: i64,
    listed_ms: i64,
    item: String,
    /// The revision that it replaces.
    pub(super) replaces: Option<String>,
}

impl RowWrite {
    pub(super) fn of(item: &RunItem, replaces: Option<String>) -> Self {
        Self {
            id: item.id.clone(),
            message_id: item.message_id.clone().filter(|message_id| *message_id != item.id),
            revision: item.revision.clone(),
            state: item.state.as_str(),
            task: item.task.clone(),
            kind: item.kind.map(FailureKind::as_str),
            parent: item.parent.clone(),
            expires_ms: expires_ms(item),
            listed_ms: ms(item.listed_at()),
            item: serde_json::to_string(item).expect("string keys"),
            replaces,
        }
    }

    pub(super) fn put(&self, db: &Connection, claims: &Claims, now: i64) -> Result<Written, DbError> {
        let written = match &self.replaces {
            // The claim may have been written meanwhile.
            Some(replaced) if claims.has(&self.id, replaced) => match self.insert(db, now)? {
                0 => self.update(db, replaced)?,
                written => written,
            },
            Some(replaced) => self.update(db, replaced)?,
            None if claims.has_any(&self.id) => 0,
            None => self.insert(db, now)?,
        };
        if written > 0 {
            return Ok(Written::Yes);
        }
        let stored = current(db, &self.id, now)?.or_else(|| claims.get(&self.id));
        Ok(Written::Refused(stored.map(Box::new)))
    }

    fn update(&self, db: &Connection, replaced: &str) -> rusqlite::Result<usize> {
        let Self {
            id,
            message_id,
            revision,
            state,
            task,
            kind,
            parent,
            expires_ms,
            listed_ms,
            item,
            replaces: _,
        } = self;
        let task = task.as_ref().map(TaskName::as_str);
        let values = params![
            id, message_id, revision, state, kind, expires_ms, item, replaced, task, parent, listed_ms
        ];
        // Few items change their task or their time: the indexes of these stay as they are.
        let mut update = db.prepare_cached(
            "UPDATE runs SET message_id = ?2, revision = ?3, state = ?4, kind = ?5, expires_ms = ?6, item = ?7
             WHERE id = ?1 AND revision = ?8 AND task IS ?9 AND parent IS ?10 AND listed_ms = ?11",
        )?;
        match update.execute(values)? {
            0 => db
                .prepare_cached(
                    "UPDATE runs SET message_id = ?2, revision = ?3, state = ?4, kind = ?5, expires_ms = ?6, item = ?7,
                         task = ?9, parent = ?10, listed_ms = ?11
                     WHERE id = ?1 AND revision = ?8",
                )?
                .execute(values),
            updated => Ok(updated),
        }
    }

    /// Inserts the row if there is none, or an expired one.
    pub(super) fn insert(&self, db: &Connection, now: i64) -> rusqlite::Result<usize> {
        let inserted = self.insert_absent(db)?;
        if inserted > 0 {
            return Ok(inserted);
        }
        let expired = db
            .prepare_cached("DELETE FROM runs WHERE id = ? AND expires_ms <= ?")?
            .execute(params![self.id, now])?;
        if expired > 0 { self.insert_absent(db) } else { Ok(0) }
    }

    fn insert_absent(&self, db: &Connection) -> rusqlite::Result<usize> {
        let Self {
            id,
            message_id,
            revision,
            state,
            task,
            kind,
            parent,
            expires_ms,
            listed_ms,
            item,
            replaces: _,
        } = self;
        let task = task.as_ref().map(TaskName::as_str);
        db.prepare_cached(
            "INSERT INTO runs (id, message_id, revision, state, task, kind, parent, expires_ms, item, listed_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) ON CONFLICT DO NOTHING",
        )?
        .execute(params![id, message_id, revision, state, task, kind, parent, expires_ms, item, listed_ms])
    }
}

pub(super) fn expires_ms(item: &RunItem) -> i64 {
    i64::try_from(item.expires.saturating_mul(1000)).unwrap_or(i64::MAX)
}

/// The row of a message, if it is not expired.
fn current(db: &Connection, id: &str, now: i64) -> rusqlite::Result<Option<RunItem>> {
    Ok(stored(db, id)?.filter(|stored| expires_ms(stored) > now))
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
    RunItem { params_json: None, result: None, unsent: Vec::new(), steps: Vec::new(), ..item }
}

fn item(row: &Row<'_>, column: usize) -> rusqlite::Result<RunItem> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(e)))
}

/// Looks at the next rows. Returns the number from which to go on; `None` after the last one.
pub(super) fn prune(db: &Connection, from: i64, now: i64) -> Result<Option<i64>, DbError> {
    let (last, seen): (Option<i64>, i64) = db
        .prepare_cached(
            "SELECT max(number), count(*) FROM (SELECT number FROM runs WHERE number > ? ORDER BY number LIMIT ?)",
        )?
        .query_row(params![from, PRUNED_AT_ONCE], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let Some(last) = last else { return Ok(None) };
    let newest: i64 = db.query_row("SELECT max(number) FROM runs", [], |row| row.get(0))?;
    db.prepare_cached(
        "DELETE FROM runs WHERE number > ?1 AND number <= ?2 AND (expires_ms <= ?3
             OR number <= ?4 AND state IN ('done', 'dead', 'cancelled') AND CASE WHEN json_valid(item)
                THEN json_extract(item, '$.once') IS NULL AND json_extract(item, '$.steps') IS NULL ELSE 0 END)",
    )?
    .execute(params![from, last, now, newest - KEPT_MAX])?;
    Ok((seen == PRUNED_AT_ONCE).then_some(last))
}
