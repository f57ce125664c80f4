//! The table of runs on this machine: rows of the queue's own database, and the newest claims in memory.

mod claims;
mod rows;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use rusqlite::Connection;
use tokio::sync::Notify;
use uuid::Uuid;
use wasq_protocol::{Cancelling, Clock, ItemState, ItemWrite, RunItem, SystemClock, Written};
use wasq_runtime::Runs;

use self::claims::Claims;
use self::rows::{RowWrite, Write, expires_ms, now_ms, prune};
pub(crate) use self::rows::{RunFilter, find, list};
use crate::db::{Db, DbError, Durability};
use crate::timer::forget;

/// The table of runs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct LocalRuns {
    db: Db,
    /// The newest claims. Only calls of the database look at them and add to them, one after the other.
    claims: Claims,
    /// The running messages that somebody asked to cancel, by their ids: their owners.
    cancels: Arc<Mutex<HashMap<String, String>>>,
    asked: Arc<Notify>,
}

/// The pauses of the pruning: after a step, and after the last one.
const PRUNE_PAUSE: Duration = Duration::from_millis(100);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
/// How often a cancel is tried while others write the same item.
const ROUNDS: usize = 10;
/// A claim is written when its run has lasted for this long. Most runs end before, and write one row instead of two.
const CLAIM_AFTER: Duration = Duration::from_millis(50);
/// The pause after claims could not be written.
const FAULT_PAUSE: Duration = Duration::from_secs(1);

impl LocalRuns {
    pub(crate) fn new(db: Db) -> Self {
        Self { db, claims: Claims::default(), cancels: Arc::default(), asked: Arc::default() }
    }

    /// The item of a message, by its own id or the queue's.
    pub(crate) async fn get(&self, id: String) -> Result<Option<RunItem>, DbError> {
        let claims = self.claims.clone();
        self.db
            .call_unsynced(move |db| {
                let stored = find(db, &id)?.filter(|stored| expires_ms(stored) > now_ms());
                Ok(stored.or_else(|| claims.find(&id)))
            })
            .await
    }

    /// The items that match, newest first, each with its number. Their params, results and steps are left out: they may be large. A claim
    /// is listed when it is written.
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
            let row = RowWrite::of(&write.item, write.replaces.clone());
            let kept_as = stored.as_ref().and_then(RunItem::kept_as);
            let claims = self.claims.clone();
            let written = self.db.call(move |db| {
                let written = row.put(db, &claims, now_ms())?;
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
                    "UPDATE runs SET item = json_remove(item, '$.lease_until') WHERE state = 'running' AND json_valid(item)",
                    [],
                )?;
                Ok(())
            })
            .await
    }

    /// Writes claims whose runs last, for ever.
    pub(crate) async fn write_claims(self) {
        loop {
            self.claims.wait().await;
            tokio::time::sleep(CLAIM_AFTER).await;
            if let Err(e) = self.write_older_than(CLAIM_AFTER).await {
                tracing::warn!("{e}");
                tokio::time::sleep(FAULT_PAUSE).await;
            }
        }
    }

    /// Writes the claims that have been in memory for longer than `age`.
    async fn write_older_than(&self, age: Duration) -> Result<(), DbError> {
        let claims = self.claims.clone();
        let write = move |db: &Connection| {
            let lasting = claims.older_than(age);
            for claim in &lasting {
                RowWrite::of(claim, None).insert(db, now_ms())?;
            }
            Ok::<_, DbError>(lasting)
        };
        let written = self.db.call_unsynced(write).await?;
        written.iter().for_each(|claim| self.claims.remove(&claim.id, &claim.revision));
        Ok(())
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
    const PARAMS_MAX: usize = 8 << 10;

    async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        let ended =
            writes.iter().filter(|write| write.item.state.is_end()).map(|write| write.item.id.clone());
        let ended: Vec<String> = ended.collect();
        // After a power cut, a message without its claim is claimed again. Everything else must stay.
        let is_claim =
            |write: &ItemWrite| write.item.state == ItemState::Running && write.item.steps.is_empty();
        let sync = if writes.iter().all(is_claim) { Durability::Unsynced } else { Durability::Synced };
        let count = writes.len();
        // The rows are made here, because the database has one thread only.
        let writes: Vec<Write> = writes
            .iter()
            .map(|write| match is_claim(write) && write.replaces.is_none() {
                true => Write::Claim(Box::new(write.item.clone())),
                false => Write::Row(Box::new(RowWrite::of(&write.item, write.replaces.clone()))),
            })
            .collect();
        let claims = self.claims.clone();
        let put = move |db: &Connection| {
            let now = now_ms();
            let written = writes.iter().map(|write| write.put(db, &claims, now)).collect::<Vec<_>>();
            Ok::<_, DbError>((writes, written))
        };
        // Each write stands for itself.
        let put = self.db.call_whole(put, sync).await;
        let written = put.map(|(writes, written)| {
            for (write, written) in writes.iter().zip(&written) {
                if let (Write::Row(row), Ok(Written::Yes)) = (write, written)
                    && let Some(replaced) = &row.replaces
                {
                    self.claims.remove(&row.id, replaced);
                }
            }
            written
        });
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use wasq_protocol::Timestamp;

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
                    // Claims are written meanwhile.
                    let writing = async {
                        if number % 2 == 0 {
                            runs.write_older_than(Duration::ZERO).await.expect("it answers");
                        }
                    };
                    let (one, other, ()) =
                        tokio::join!(run(runs, &id, "one"), run(runs, &id, "other"), writing);
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
    async fn a_claim_is_written_when_its_run_lasts() {
        let (runs, _folder) = table();
        let rows = || async {
            let count = |db: &Connection| {
                Ok::<_, DbError>(db.query_row("SELECT count(*) FROM runs", [], |row| row.get::<_, i64>(0))?)
            };
            runs.db.call(count).await.expect("it answers")
        };
        let claim = |id| ItemWrite { item: item(id, ItemState::Running, "one"), replaces: None };
        assert!(run(&runs, "short", "one").await);
        assert!(matches!(runs.put(&[claim("long")]).await.remove(0), Ok(Written::Yes)));
        assert_eq!(rows().await, 1);
        // Nobody can see that it is not written: another worker is refused, and it can be found and cancelled.
        let Ok(Written::Refused(Some(stored))) = runs.put(&[claim("long")]).await.remove(0) else {
            panic!("two workers have claimed the message");
        };
        assert_eq!(stored.owner.as_deref(), Some("one"));
        assert!(runs.get("long".to_owned()).await.expect("it answers").is_some());
        runs.write_older_than(Duration::ZERO).await.expect("it answers");
        assert_eq!(rows().await, 2);
        let cancelled = runs.cancel("long".to_owned()).await.expect("it answers").expect("it runs");
        assert!(cancelled.cancel);
        // Its worker sees that somebody has changed the item, and writes over that.
        let end =
            |replaces| ItemWrite { item: item("long", ItemState::Done, "one"), replaces: Some(replaces) };
        let of_claim = end("one running".to_owned());
        assert!(matches!(runs.put(&[of_claim]).await.remove(0), Ok(Written::Refused(Some(_)))));
        assert!(matches!(runs.put(&[end(cancelled.revision)]).await.remove(0), Ok(Written::Yes)));
    }

    #[tokio::test]
    async fn a_claim_in_memory_is_cancelled_and_replaces_an_expired_row() {
        let (runs, _folder) = table();
        let claim = |id| ItemWrite { item: item(id, ItemState::Running, "one"), replaces: None };
        assert!(matches!(runs.put(&[claim("m")]).await.remove(0), Ok(Written::Yes)));
        assert!(runs.cancel("m".to_owned()).await.expect("it answers").expect("it runs").cancel);
        let end =
            ItemWrite { item: item("m", ItemState::Done, "one"), replaces: Some("one running".to_owned()) };
        let Ok(Written::Refused(Some(stored))) = runs.put(&[end]).await.remove(0) else {
            panic!("the mark of the cancel is lost");
        };
        assert!(stored.cancel);
        // An expired row does not stand in the way of a claim, nor of its end.
        let mut old = item("old", ItemState::Done, "zero");
        old.expires = 1;
        let old = ItemWrite { item: old, replaces: None };
        assert!(matches!(runs.put(&[old]).await.remove(0), Ok(Written::Yes)));
        assert!(run(&runs, "old", "one").await);
    }

    #[tokio::test]
    async fn a_list_of_a_time() {
        let (runs, _folder) = table();
        let minute = |minute: u64| Timestamp::from_ms(1_790_000_000_000 + minute * 60_000);
        let writes = (0..12_000).map(|number| {
            let begun = minute(number / 10);
            let mut item =
                RunItem { started: Some(begun), ..item(&number.to_string(), ItemState::Done, "one") };
            item.task = (number % 2 == 0).then(|| "even".parse().expect("a name"));
            ItemWrite { item, replaces: None }
        });
        for write in runs.put(&writes.collect::<Vec<_>>()).await {
            assert!(matches!(write, Ok(Written::Yes)));
        }
        // It begins at last, long after it was remembered first.
        let waits = ItemWrite {
            item: RunItem { updated: minute(5), ..item("late", ItemState::Waiting, "w") },
            replaces: None,
        };
        assert!(matches!(runs.put(&[waits]).await.remove(0), Ok(Written::Yes)));
        let ids = async |since: Option<u64>, until: Option<u64>, task: Option<&str>, before: Option<i64>| {
            let filter = RunFilter {
                task: task.map(|task| task.parse().expect("a name")),
                since: since.map(minute),
                until: until.map(minute),
                before,
                max: 3,
                ..RunFilter::default()
            };
            let listed = runs.list(filter).await.expect("a list");
            listed.into_iter().map(|(_, item)| item.id).collect::<Vec<_>>()
        };
        // Few match, and more than are sorted.
        assert_eq!(ids(Some(100), Some(101), None, None).await, ["1009", "1008", "1007"]);
        assert_eq!(ids(Some(100), Some(101), Some("even"), None).await, ["1008", "1006", "1004"]);
        assert_eq!(ids(Some(100), Some(101), None, Some(1003)).await, ["1001", "1000"]);
        assert_eq!(ids(Some(20), Some(1100), None, None).await, ["10999", "10998", "10997"]);
        assert_eq!(ids(Some(20), Some(1100), Some("even"), Some(10_999)).await, ["10996", "10994", "10992"]);
        assert_eq!(ids(Some(5), Some(6), None, None).await[0], "late");
        assert_eq!(ids(None, Some(0), None, None).await, [""; 0]);
        assert_eq!(ids(Some(1200), None, None, None).await, [""; 0]);
        let begins = RunItem { started: Some(minute(1300)), ..item("late", ItemState::Running, "r") };
        let write = ItemWrite { item: begins, replaces: Some("w waiting".to_owned()) };
        assert!(matches!(runs.put(&[write]).await.remove(0), Ok(Written::Yes)));
        assert_eq!(ids(Some(1200), None, None, None).await, ["late"]);
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
