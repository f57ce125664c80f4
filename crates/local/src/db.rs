//! The database: one SQLite file, one thread that owns its connection.
//!
//! Calls that arrive while a commit is under way share the next one, so that many small writes cost few
//! syncs. A call is answered after its commit: an acknowledged write survives a crash of the machine, not
//! only of the process. What may be undone by a power cut, such as a receive, need not wait for a sync.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

/// Its file in the data folder.
pub(crate) const FILE: &str = "queue.sqlite";

/// A handle to the database; clones share it. The thread ends with the last one.
#[derive(Clone)]
pub(crate) struct Db(mpsc::Sender<Job>);

/// When a commit is synced to the disk.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// Before the call is answered.
    Synced,
    /// With a later one: a power cut can undo it, and a crash of the process cannot.
    Unsynced,
}

/// A call on its way to the database.
struct Job {
    sync: Durability,
    /// Runs inside the transaction. Its `Answer` is called after the commit, with the commit's error if the commit failed.
    work: Box<dyn FnOnce(&Connection) -> Answer + Send>,
}
type Answer = Box<dyn FnOnce(Option<&str>) + Send>;

/// The database did not do its work; the text says why.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the queue's database: {0}")]
pub(crate) struct DbError(String);

impl DbError {
    /// Others changed the same row again and again.
    pub(crate) fn crowded() -> Self {
        Self("others change the same row again and again".to_owned())
    }
}

impl From<rusqlite::Error> for DbError {
    fn from(e: rusqlite::Error) -> Self {
        Self(e.to_string())
    }
}

/// The most calls that share one commit, so that no call waits long for its answer.
const SHARED_MAX: usize = 256;
/// How long another process may hold the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS queues (
        name TEXT PRIMARY KEY,
        attributes TEXT NOT NULL,      -- JSON object: only the attributes that were set, not the defaults
        tags TEXT NOT NULL,            -- JSON object
        created_ms INTEGER NOT NULL,
        modified_ms INTEGER NOT NULL,
        purged_ms INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE IF NOT EXISTS deleted_queues (
        name TEXT PRIMARY KEY,
        deleted_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE IF NOT EXISTS messages (
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        queue TEXT NOT NULL,
        id TEXT NOT NULL,
        body TEXT NOT NULL,
        attributes TEXT NOT NULL,      -- JSON object in SQS's own form
        trace_header TEXT,
        sent_ms INTEGER NOT NULL,
        visible_ms INTEGER NOT NULL,
        receipt INTEGER NOT NULL DEFAULT 0,          -- changes with every receive; 0: not received in this queue
        received_ms INTEGER NOT NULL DEFAULT 0,      -- the last receive; 0 if its receiver ended the lease
        first_received_ms INTEGER NOT NULL DEFAULT 0,
        receive_count INTEGER NOT NULL DEFAULT 0,    -- across all queues
        queue_receives INTEGER NOT NULL DEFAULT 0,   -- in this queue; a redrive policy counts these
        group_id TEXT,
        dedup_id TEXT,
        source TEXT,                   -- the queue that dead-lettered it
        holder TEXT                    -- the stack's process that received it; NULL for clients
    ) STRICT;
    CREATE INDEX IF NOT EXISTS messages_visible ON messages (queue, visible_ms, seq);
    CREATE INDEX IF NOT EXISTS messages_sent ON messages (queue, sent_ms);
    CREATE TABLE IF NOT EXISTS deduplication (
        queue TEXT NOT NULL,
        scope TEXT NOT NULL,
        dedup_id TEXT NOT NULL,
        message_id TEXT NOT NULL,
        seq INTEGER NOT NULL,
        until_ms INTEGER NOT NULL,
        PRIMARY KEY (queue, scope, dedup_id)
    ) STRICT;
    CREATE TABLE IF NOT EXISTS stack (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        alive_ms INTEGER NOT NULL      -- when a stack was last seen to run on this file
    ) STRICT;
    CREATE TABLE IF NOT EXISTS move_tasks (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        source TEXT NOT NULL,
        destination TEXT,
        per_second INTEGER,
        status TEXT NOT NULL,
        moved INTEGER NOT NULL DEFAULT 0,
        to_move INTEGER NOT NULL,
        failure TEXT,
        started_ms INTEGER NOT NULL
    ) STRICT;
";

/// Changes of the schema since the first version, in order. `user_version` counts those that a file has.
const MIGRATIONS: [&str; 7] = [
    "
    -- On a FIFO queue, 1 for the first message of each group: a receive looks for groups at these only.
    ALTER TABLE messages ADD COLUMN head INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX messages_heads ON messages (queue, visible_ms, seq) WHERE head = 1;
    CREATE INDEX messages_groups ON messages (queue, group_id, seq) WHERE dedup_id IS NOT NULL;
    UPDATE messages SET head = 1 WHERE seq IN (
        SELECT min(seq) FROM messages WHERE dedup_id IS NOT NULL GROUP BY queue, group_id);
    -- How many processes died while they held the message, since it ended last.
    ALTER TABLE messages ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX messages_suspects ON messages (queue, visible_ms, seq) WHERE deaths > 0;
    CREATE TABLE receive_attempts (
        queue TEXT NOT NULL,
        attempt_id TEXT NOT NULL,
        seq INTEGER NOT NULL,          -- a message of this receive
        receipt INTEGER NOT NULL,
        visible_ms INTEGER NOT NULL,   -- the end of the lease that this receive gave
        until_ms INTEGER NOT NULL,     -- when the attempt is forgotten
        PRIMARY KEY (queue, attempt_id, seq)
    ) STRICT;
    CREATE INDEX receive_attempts_until ON receive_attempts (until_ms);
",
    "
    -- Of the stack's own queue: a hash of the message's group, or else of the task that it names.
    ALTER TABLE messages ADD COLUMN tenant INTEGER;
    CREATE INDEX messages_tenants ON messages (tenant, visible_ms) WHERE tenant IS NOT NULL;
    CREATE INDEX messages_held ON messages (tenant) WHERE holder IS NOT NULL;
",
    "
    DROP TABLE IF EXISTS results;
    DROP INDEX messages_held;
    CREATE TABLE runs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,    -- in the order of their first writes
        id TEXT NOT NULL UNIQUE,       -- the message's own id
        message_id TEXT,               -- the queue's id, if it is another
        revision TEXT NOT NULL,
        state TEXT NOT NULL,
        task TEXT,
        kind TEXT,
        parent TEXT,
        expires_ms INTEGER NOT NULL,
        item TEXT NOT NULL             -- the whole item: JSON object
    ) STRICT;
    CREATE INDEX runs_message_id ON runs (message_id) WHERE message_id IS NOT NULL;
",
    "
    -- For lists, which are in the order of the numbers. A run without a parent that is done without a failure is in one of
    -- these only.
    CREATE INDEX runs_task ON runs (task);
    CREATE INDEX runs_state ON runs (state) WHERE state != 'done';
    CREATE INDEX runs_kind ON runs (kind) WHERE kind IS NOT NULL;
    CREATE INDEX runs_parent ON runs (parent) WHERE parent IS NOT NULL;
",
    "
    -- For lists of two conditions. A run that succeeds at once is in none of these at any time.
    CREATE INDEX runs_task_state ON runs (task, state) WHERE state NOT IN ('done', 'running');
    CREATE INDEX runs_task_kind ON runs (task, kind) WHERE kind IS NOT NULL;
",
    "
    -- Messages that wait outside of the queue for their time.
    CREATE TABLE delayed (
        name TEXT PRIMARY KEY,         -- made of the id, the params and the time
        due_ms INTEGER NOT NULL,
        body TEXT NOT NULL,
        group_id TEXT
    ) STRICT;
    CREATE INDEX delayed_due ON delayed (due_ms);
    CREATE TABLE schedules (
        name TEXT PRIMARY KEY,         -- the task, and the schedule's own name if it has one
        task TEXT NOT NULL,
        schedule TEXT NOT NULL,        -- JSON object, as in the live record
        paused INTEGER NOT NULL DEFAULT 0,
        due_ms INTEGER                 -- when it fires next
    ) STRICT;
",
    "
    -- When the run began, or was written last if it has not begun: for lists of a time.
    ALTER TABLE runs ADD COLUMN listed_ms INTEGER NOT NULL DEFAULT 0;
    -- SQLite reads no JSON of more than 1000 levels.
    UPDATE runs SET listed_ms = CAST(round(coalesce(
        unixepoch(coalesce(json_extract(item, '$.started'), json_extract(item, '$.updated')), 'subsec'), 0) * 1000) AS INTEGER)
        WHERE json_valid(item);
    CREATE INDEX runs_listed ON runs (listed_ms);
",
];

impl Db {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connection =
            open(path).with_context(|| format!("open the queue's database {}", path.display()))?;
        let (sender, jobs) = mpsc::channel();
        std::thread::Builder::new()
            .name("wasq-db".to_owned())
            .spawn(move || serve(&connection, &jobs))
            .context("start the database's thread")?;
        Ok(Self(sender))
    }

    /// Runs `call` in a transaction, and returns its answer when it is committed and synced. An `Err` rolls it back.
    pub(crate) async fn call<T, E>(
        &self,
        call: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.call_whole(|connection| in_savepoint(connection, call), Durability::Synced).await
    }

    /// As [`Self::call`], without the sync: a power cut can undo it, and a crash of the process cannot. A later call that is synced
    /// also syncs this one.
    pub(crate) async fn call_unsynced<T, E>(
        &self,
        call: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        self.call_whole(|connection| in_savepoint(connection, call), Durability::Unsynced).await
    }

    /// As [`Self::call`], for a call that does not fail half-way, such as one whose statements stand for themselves: nothing of it is
    /// rolled back, which saves time.
    pub(crate) async fn call_whole<T, E>(
        &self,
        call: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        sync: Durability,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<DbError> + Send + 'static,
    {
        let (sender, answer) = oneshot::channel();
        let work = Box::new(move |connection: &Connection| {
            let result = call(connection);
            let answer: Answer = Box::new(move |failed: Option<&str>| {
                let result = match failed {
                    None => result,
                    Some(e) => Err(DbError(format!("commit: {e}")).into()),
                };
                // The caller may be gone; the work is done in any case.
                let _ = sender.send(result);
            });
            answer
        });
        let gone = || DbError("it does not answer".to_owned());
        self.0.send(Job { sync, work }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

/// Opens the database for reading, beside the queue.
pub(crate) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    set_synced(&connection, true)?;
    connection.execute_batch(SCHEMA)?;
    migrate(&connection)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let done: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, migration) in (1..).zip(MIGRATIONS).skip(done as usize) {
        connection.execute_batch(&format!("BEGIN; {migration}; PRAGMA user_version = {version}; COMMIT"))?;
    }
    Ok(())
}

/// In the write-ahead log, `full` syncs each commit: an acknowledged message survives a power cut.
fn set_synced(connection: &Connection, synced: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if synced { "full" } else { "normal" })
}

/// Does the jobs, as they come, in transactions of several.
fn serve(connection: &Connection, jobs: &mpsc::Receiver<Job>) {
    let mut synced_now = true;
    let mut left = VecDeque::new();
    while let Some(first) = left.pop_front().or_else(|| jobs.recv().ok()) {
        left.push_front(first);
        left.extend(std::iter::from_fn(|| jobs.try_recv().ok()).take(SHARED_MAX.saturating_sub(left.len())));
        // The mode cannot change within a transaction.
        let synced = left.iter().any(|job| job.sync == Durability::Synced);
        let begun = match synced == synced_now {
            true => Ok(()),
            false => set_synced(connection, synced),
        };
        let begun = begun.and_then(|()| {
            synced_now = synced;
            connection.execute_batch("BEGIN IMMEDIATE")
        });
        match begun {
            Ok(()) => transaction(connection, jobs, &mut left, synced),
            Err(e) => {
                // Dropping the jobs answers them: their callers see that they were not done.
                tracing::error!("begin a transaction: {e}");
                left.clear();
            }
        }
    }
}

/// Does the jobs that are left, and those that come meanwhile. In a transaction that is not synced, one that wants to be is left for
/// the next.
fn transaction(connection: &Connection, jobs: &mpsc::Receiver<Job>, left: &mut VecDeque<Job>, synced: bool) {
    let mut answers = Vec::new();
    let mut lost = false;
    while answers.len() < SHARED_MAX {
        let Some(job) = left.pop_front().or_else(|| jobs.try_recv().ok()) else { break };
        if job.sync == Durability::Synced && !synced {
            left.push_front(job);
            break;
        }
        answers.push((job.work)(connection));
        // On a full disk SQLite may roll everything back by itself: nothing of this transaction is kept then.
        lost = connection.is_autocommit();
        if lost {
            break;
        }
    }
    let failed = if lost {
        Some("the transaction was rolled back".to_owned())
    } else {
        connection.execute_batch("COMMIT").err().map(|e| e.to_string())
    };
    if failed.is_some() && !connection.is_autocommit() {
        let _ = connection.execute_batch("ROLLBACK");
    }
    for answer in answers {
        answer(failed.as_deref());
    }
}

/// One call's own part of the shared transaction.
fn in_savepoint<T, E: From<DbError>>(
    connection: &Connection,
    call: impl FnOnce(&Connection) -> Result<T, E>,
) -> Result<T, E> {
    let execute = |sql: &str| {
        let done = connection.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
        done.map(drop).map_err(DbError::from)
    };
    execute("SAVEPOINT call")?;
    let result = call(connection);
    if result.is_err() {
        execute("ROLLBACK TO call")?;
    }
    execute("RELEASE call")?;
    result
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::{MIGRATIONS, SCHEMA, migrate};

    #[test]
    fn a_file_of_each_earlier_version_is_brought_up_to_date() {
        for version in 0..=MIGRATIONS.len() {
            let db = Connection::open_in_memory().unwrap();
            db.execute_batch(SCHEMA).unwrap();
            for (number, migration) in (1..).zip(MIGRATIONS).take(version) {
                db.execute_batch(&format!("{migration}; PRAGMA user_version = {number}")).unwrap();
            }
            // The table of runs came with the third change.
            let has_runs = version >= 3;
            if has_runs {
                let deep = format!(
                    r#"{{"updated": "2026-11-27T20:00:00Z", "result": {}1{}}}"#,
                    "[".repeat(2000),
                    "]".repeat(2000)
                );
                let items = [
                    ("begun", r#"{"started": "2026-11-27T19:58:00.6Z", "updated": "2026-11-27T20:00:00Z"}"#),
                    ("waits", r#"{"updated": "2026-11-27T20:00:00.001Z"}"#),
                    ("deep", &deep),
                ];
                for (id, item) in items {
                    let insert = "INSERT INTO runs (id, revision, state, expires_ms, item) VALUES (?, 'r', 'done', 0, ?)";
                    db.execute(insert, [id, item]).unwrap();
                }
            }
            migrate(&db).unwrap();
            let mut select = db.prepare("SELECT id, listed_ms FROM runs ORDER BY number").unwrap();
            let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
            let rows: Vec<(String, i64)> = rows.collect::<Result<_, _>>().unwrap();
            let expected = [("begun", 1_795_809_480_600), ("waits", 1_795_809_600_001), ("deep", 0)];
            let expected = expected.map(|(id, ms)| (id.to_owned(), ms));
            match version {
                0..3 => assert_eq!(rows, []),
                3..7 => assert_eq!(rows, expected, "from version {version}"),
                _ => assert_eq!(rows.len(), 3),
            }
        }
    }
}
