//! Queues: the calls of SQS, each a transaction, with long polling on top.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, params};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::{Clock, SystemClock};

use super::error::SqsError;
use super::letters;
use super::messages::{self, Receive, Send, Sent, Visibility};
use super::moves::{self, Start};
use super::permissions::{self, Permission};
use super::queue_attributes::{Number, QueueAttributes};
use super::received::Received;
use super::store::{self, MINUTE_MS, all_attributes, check_redrive, json, load, load_tags};
use crate::db::{Db, DbError, Durability};

/// The queues of a database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queues {
    db: Db,
    /// Wakes the calls that wait for messages of a queue.
    waiting: Arc<Mutex<HashMap<String, Arc<Notify>>>>,
    /// Wakes the loop that works on move tasks.
    moving: Arc<Notify>,
    /// For each queue, how many more messages may be in flight.
    rooms: Arc<Mutex<HashMap<String, Room>>>,
}

/// Messages that may be received before those in flight are counted again.
#[derive(Clone, Copy)]
struct Room {
    left: u64,
    counted_ms: i64,
}

/// The pause between two steps of a move task with a rate limit, and after a fault of the database.
const MOVE_PAUSE: Duration = Duration::from_secs(1);
/// Dead letters that one transaction moves: the queue goes on between two.
const LETTERS_AT_ONCE: usize = 100;
const POLICY: &str = "Policy";
/// The most messages of a queue that may be in flight, as on AWS.
const IN_FLIGHT_MAX: u64 = 120_000;
/// The shortest time between two counts of a queue's messages in flight.
const COUNT_EVERY_MS: i64 = 250;
/// The number of names in `waiting` above which the names that no call waits for are forgotten.
const WAITING_MAX: usize = 1000;

impl Queues {
    pub(crate) fn new(db: Db) -> Self {
        let queues = Self { db, waiting: Arc::default(), moving: Arc::default(), rooms: Arc::default() };
        tokio::spawn(queues.clone().work_on_moves());
        queues
    }

    /// Lets a queue be created again at once after it was deleted; a client has to wait 60 s.
    pub(crate) async fn forget_deletion(&self, name: String) -> Result<(), SqsError> {
        self.db
            .call(move |db| {
                db.execute("DELETE FROM deleted_queues WHERE name = ?", params![name])?;
                Ok(())
            })
            .await
    }

    /// Notes that a stack runs now.
    pub(crate) async fn note_alive(&self) -> Result<(), SqsError> {
        self.db
            .call(move |db| {
                db.execute("INSERT OR REPLACE INTO stack VALUES (1, ?)", params![now()])?;
                Ok(())
            })
            .await
    }

    /// Makes every message younger by the time for which no stack ran: nobody could receive it then, so that time counts
    /// towards no retention. Returns that time.
    pub(crate) async fn skip_downtime(&self) -> Result<Duration, SqsError> {
        self.db
            .call(move |db| {
                let alive: Option<i64> = db.query_row(
                    "SELECT coalesce((SELECT alive_ms FROM stack), (SELECT max(max(sent_ms, received_ms)) FROM messages))",
                    [],
                    |row| row.get(0),
                )?;
                let now = now();
                let down = alive.map_or(0, |alive| (now - alive).max(0));
                db.execute(
                    "UPDATE messages SET sent_ms = sent_ms + ?1,
                        first_received_ms = iif(first_received_ms = 0, 0, first_received_ms + ?1)",
                    params![down],
                )?;
                db.execute("INSERT OR REPLACE INTO stack VALUES (1, ?)", params![now])?;
                Ok(Duration::from_millis(down.unsigned_abs()))
            })
            .await
    }

    /// Creates a queue. A queue that exists already with the same attributes is no error.
    pub(crate) async fn create(
        &self,
        name: String,
        attributes: BTreeMap<String, String>,
        tags: BTreeMap<String, String>,
    ) -> Result<(), SqsError> {
        check_name(&name, &attributes)?;
        check_tags(&name, &tags)?;
        self.db.call(move |db| store::create(db, &name, &attributes, &tags, now())).await
    }

    pub(crate) async fn delete(&self, name: String) -> Result<(), SqsError> {
        self.db
            .call(move |db| {
                load(db, &name)?;
                for sql in [
                    "DELETE FROM queues WHERE name = ?",
                    "DELETE FROM messages WHERE queue = ?",
                    "DELETE FROM deduplication WHERE queue = ?",
                ] {
                    db.execute(sql, params![name])?;
                }
                db.execute("INSERT OR REPLACE INTO deleted_queues VALUES (?, ?)", params![name, now()])?;
                Ok(())
            })
            .await
    }

    pub(crate) async fn exists(&self, name: String) -> Result<(), SqsError> {
        self.db.call(move |db| load(db, &name).map(|_| ())).await
    }

    /// Names of queues that start with `prefix` and come after `after`, in order.
    pub(crate) async fn list(
        &self,
        prefix: String,
        after: String,
        max: usize,
    ) -> Result<Vec<String>, SqsError> {
        self.db
            .call(move |db| {
                let mut statement = db.prepare_cached(
                    "SELECT name FROM queues WHERE substr(name, 1, length(?1)) = ?1 AND name > ?2 ORDER BY name LIMIT ?3",
                )?;
                let rows = statement.query_map(params![prefix, after, max as i64], |row| row.get(0))?;
                Ok(rows.collect::<Result<_, _>>()?)
            })
            .await
    }

    /// The attributes of a queue that `asked` names, or all.
    pub(crate) async fn attributes(
        &self,
        name: String,
        asked: Vec<String>,
    ) -> Result<BTreeMap<String, String>, SqsError> {
        if let Some(unknown) = asked.iter().find(|asked| !QueueAttributes::known(asked)) {
            return Err(SqsError::invalid_attribute_name(format!("Unknown Attribute {unknown}.")));
        }
        self.db
            .call(move |db| {
                let mut attributes = all_attributes(db, &name, now())?;
                if !asked.iter().any(|asked| asked == "All") {
                    attributes.retain(|name, _| asked.contains(name));
                }
                Ok(attributes)
            })
            .await
    }

    pub(crate) async fn set_attributes(
        &self,
        name: String,
        new: BTreeMap<String, String>,
    ) -> Result<(), SqsError> {
        if new.is_empty() {
            return Err(SqsError::missing("Attribute.Name"));
        }
        self.db
            .call(move |db| {
                let mut settings = load(db, &name)?;
                settings.set(&new, true)?;
                check_redrive(db, &name, &settings, new.get("RedrivePolicy"))?;
                db.execute(
                    "UPDATE queues SET attributes = ?, modified_ms = ? WHERE name = ?",
                    params![json(&settings.0), now(), name],
                )?;
                Ok(())
            })
            .await
    }

    /// Adds a statement to a queue's policy.
    pub(crate) async fn add_permission(&self, name: String, permission: Permission) -> Result<(), SqsError> {
        self.change_policy(name, move |policy, name| permissions::with(policy, name, permission)).await
    }

    /// Removes a statement from a queue's policy.
    pub(crate) async fn remove_permission(&self, name: String, label: String) -> Result<(), SqsError> {
        self.change_policy(name, move |policy, name| permissions::without(policy, name, &label)).await
    }

    async fn change_policy(
        &self,
        name: String,
        change: impl FnOnce(Option<&str>, &str) -> Result<String, SqsError> + std::marker::Send + 'static,
    ) -> Result<(), SqsError> {
        self.db
            .call(move |db| {
                let mut settings = load(db, &name)?;
                let policy = change(settings.0.get(POLICY).map(String::as_str), &name)?;
                settings.set(&[(POLICY.to_owned(), policy)].into(), true)?;
                db.execute(
                    "UPDATE queues SET attributes = ? WHERE name = ?",
                    params![json(&settings.0), name],
                )?;
                Ok(())
            })
            .await
    }

    pub(crate) async fn tags(&self, name: String) -> Result<BTreeMap<String, String>, SqsError> {
        self.db.call(move |db| load_tags(db, &name)).await
    }

    /// Changes the tags of a queue; the result must keep SQS's limits.
    pub(crate) async fn change_tags(
        &self,
        name: String,
        change: impl FnOnce(&mut BTreeMap<String, String>) + std::marker::Send + 'static,
    ) -> Result<(), SqsError> {
        self.db
            .call(move |db| {
                let mut tags = load_tags(db, &name)?;
                change(&mut tags);
                check_tags(&name, &tags)?;
                db.execute("UPDATE queues SET tags = ? WHERE name = ?", params![json(&tags), name])?;
                Ok(())
            })
            .await
    }

    /// Sends messages, each on its own: one that SQS would refuse does not keep the others back. On a FIFO queue the
    /// first fault refuses them all, as on AWS.
    pub(crate) async fn send(
        &self,
        queue: String,
        messages: Vec<Send>,
    ) -> Result<Vec<Result<Sent, SqsError>>, SqsError> {
        let name = queue.clone();
        let count = messages.len();
        let sent = self
            .db
            .call(move |db| {
                let settings = load(db, &name)?;
                let checked = |message: &Send| messages::check_send(&settings, message);
                if settings.fifo() {
                    messages.iter().try_for_each(checked)?;
                }
                let send = |message: Send| {
                    checked(&message)?;
                    messages::send(db, &name, &settings, message, now())
                };
                Ok::<_, SqsError>(messages.into_iter().map(send).collect())
            })
            .await?;
        self.wake(&queue, count);
        Ok(sent)
    }

    /// Receives messages, waiting for the first one for up to `wait` (the queue's own time if `None`).
    pub(crate) async fn receive(
        &self,
        queue: String,
        receive: Receive,
        wait: Option<Duration>,
    ) -> Result<Vec<Received>, SqsError> {
        let started = Instant::now();
        loop {
            let notify = self.notify(&queue);
            // Listening before looking: a message that is sent in between wakes us.
            let mut woken = std::pin::pin!(notify.notified());
            woken.as_mut().enable();
            let (name, mut receive, rooms) = (queue.clone(), receive.clone(), self.rooms.clone());
            // After a power cut the messages are visible as before.
            let ((received, moved_to), next, queue_wait) = self
                .db
                .call_unsynced(move |db| {
                    let now = now();
                    let settings = load(db, &name)?;
                    messages::check_attempt_id(&settings, receive.attempt_id.as_deref())?;
                    let wait =
                        wait.unwrap_or_else(|| settings.seconds(Number::ReceiveMessageWaitTimeSeconds));
                    if receive.is_paused() {
                        return Ok(((Vec::new(), None), None, wait));
                    }
                    let mut rooms = rooms.lock().unwrap_or_else(PoisonError::into_inner);
                    let room = count_room(db, &mut rooms, &name, now)?;
                    // SQS says it only to a short poll of a standard queue.
                    if room.left == 0 && wait.is_zero() && !settings.fifo() {
                        return Err(SqsError::over_limit("Too many messages are in flight."));
                    }
                    receive.max = receive.max.min(usize::try_from(room.left).unwrap_or(usize::MAX));
                    let received = messages::receive(db, &name, &settings, &receive, now)?;
                    room.left = room.left.saturating_sub(received.0.len() as u64);
                    let next = messages::next_visible(db, &name, now)?.map(|at| at - now);
                    Ok::<_, SqsError>((received, next, wait))
                })
                .await?;
            if let Some((target, count)) = moved_to {
                self.wake(&target, count);
            }
            let deadline = started + queue_wait;
            if !received.is_empty() || Instant::now() >= deadline {
                return Ok(received);
            }
            let next = next.map(|ms| Instant::now() + Duration::from_millis(u64::try_from(ms).unwrap_or(0)));
            let until = next.map_or(deadline, |next| next.min(deadline));
            let _ = tokio::time::timeout_at(until, woken).await;
        }
    }

    /// Deletes messages by receipt handle, each on its own.
    pub(crate) async fn delete_messages(
        &self,
        queue: String,
        handles: Vec<String>,
        sync: Durability,
    ) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        let (name, count) = (queue.clone(), handles.len());
        let delete = move |db: &Connection| {
            let settings = load(db, &name)?;
            let delete = |handle: &String| messages::delete(db, &name, &settings, handle, now());
            Ok::<_, SqsError>(handles.iter().map(delete).collect())
        };
        let deleted = match sync {
            Durability::Synced => self.db.call(delete).await?,
            Durability::Unsynced => self.db.call_unsynced(delete).await?,
        };
        // On a FIFO queue this may unblock groups.
        self.wake(&queue, count);
        Ok(deleted)
    }

    /// Lets messages become visible after some seconds, each on its own.
    pub(crate) async fn set_visibility(
        &self,
        queue: String,
        entries: Vec<Visibility>,
    ) -> Result<Vec<Result<(), SqsError>>, SqsError> {
        let (name, count) = (queue.clone(), entries.len());
        let set = self
            .db
            .call_unsynced(move |db| {
                let settings = load(db, &name)?;
                let set = |entry: &Visibility| messages::set_visibility(db, &name, &settings, entry, now());
                Ok::<_, SqsError>(entries.iter().map(set).collect())
            })
            .await?;
        self.wake(&queue, count);
        Ok(set)
    }

    /// Sends dead letters to a queue, by their message ids, and deletes them. Returns how many were sent.
    pub(crate) async fn redrive(&self, from: &str, to: &str, ids: &[String]) -> Result<u64, SqsError> {
        let mut redriven = 0;
        for some in ids.chunks(LETTERS_AT_ONCE) {
            let (some, from, to) = (some.to_vec(), from.to_owned(), to.to_owned());
            redriven += self.db.call(move |db| letters::redrive(db, &from, &to, &some, now())).await?;
        }
        self.wake(to, usize::try_from(redriven).unwrap_or(usize::MAX));
        Ok(redriven)
    }

    /// Deletes dead letters by their message ids. Returns how many were deleted.
    pub(crate) async fn delete_letters(&self, queue: &str, ids: &[String]) -> Result<u64, SqsError> {
        let mut deleted = 0;
        for some in ids.chunks(LETTERS_AT_ONCE) {
            let (some, queue) = (some.to_vec(), queue.to_owned());
            deleted += self.db.call(move |db| letters::delete(db, &queue, &some, now())).await?;
        }
        Ok(deleted)
    }

    /// Makes the messages of a task visible that were received, and that nobody holds. A message with
    /// `not_before` stays.
    pub(crate) async fn wake_waiting(&self, queue: String, task: String) -> Result<(), SqsError> {
        let name = queue.clone();
        let woken = self
            .db
            .call(move |db| {
                db.execute(
                    "UPDATE messages SET visible_ms = ?1
                     WHERE queue = ?2 AND visible_ms > ?1 AND receipt != 0 AND holder IS NULL AND json_valid(body)
                     AND json_extract(body, '$.task') = ?3 AND json_extract(body, '$.not_before') IS NULL",
                    params![now(), name, task],
                )
                .map_err(|e| SqsError::from(DbError::from(e)))
            })
            .await?;
        self.wake(&queue, woken);
        Ok(())
    }

    pub(crate) async fn purge(&self, queue: String) -> Result<(), SqsError> {
        self.db
            .call(move |db| {
                load(db, &queue)?;
                let now = now();
                let purged = db.execute(
                    "UPDATE queues SET purged_ms = ?1 WHERE name = ?2 AND purged_ms <= ?1 - ?3",
                    params![now, queue, MINUTE_MS],
                )?;
                if purged == 0 {
                    return Err(SqsError::purge_in_progress(format!(
                        "Only one PurgeQueue operation on {queue} is allowed every 60 seconds."
                    )));
                }
                db.execute("DELETE FROM messages WHERE queue = ?", params![queue])?;
                db.execute("DELETE FROM deduplication WHERE queue = ?", params![queue])?;
                Ok(())
            })
            .await
    }

    /// The queues that name this one as their dead-letter queue.
    pub(crate) async fn dead_letter_sources(&self, queue: String) -> Result<Vec<String>, SqsError> {
        self.db
            .call(move |db| {
                load(db, &queue)?;
                moves::sources_of(db, &queue)
            })
            .await
    }

    pub(crate) async fn start_move(&self, start: Start) -> Result<String, SqsError> {
        let handle = self.db.call(move |db| moves::start(db, &start, now())).await?;
        self.moving.notify_one();
        Ok(handle)
    }

    pub(crate) async fn list_moves(&self, source_arn: String, max: i64) -> Result<Vec<Value>, SqsError> {
        self.db.call(move |db| moves::list(db, &source_arn, max)).await
    }

    pub(crate) async fn cancel_move(&self, handle: String) -> Result<i64, SqsError> {
        self.db.call(move |db| moves::cancel(db, &handle)).await
    }

    /// Makes the messages visible again that an earlier process of this stack held. That process is gone, and works on nothing
    /// any more. It died: the receive does not count, and the message may be the reason.
    pub(crate) async fn release_held(&self, queue: String, holder: String) -> Result<usize, SqsError> {
        self.db
            .call(move |db| {
                let now = now();
                let released = db.execute(
                    "UPDATE messages SET visible_ms = min(visible_ms, ?2), holder = NULL, deaths = deaths + 1,
                         receive_count = receive_count - 1, queue_receives = queue_receives - 1
                     WHERE queue = ?1 AND holder IS NOT NULL AND holder <> ?3",
                    params![queue, now, holder],
                )?;
                Ok(released)
            })
            .await
    }

    /// Works on the move tasks, those of an earlier process included, for ever.
    async fn work_on_moves(self) {
        loop {
            let Ok(running) = self.db.call(moves::running).await else {
                tokio::time::sleep(MOVE_PAUSE).await;
                continue;
            };
            if running.is_empty() {
                self.moving.notified().await;
                continue;
            }
            let mut pause = running.iter().any(|task| task.per_second.is_some());
            for task in running {
                match self.db.call(move |db| moves::step(db, task, now())).await {
                    Ok(into) => into.iter().for_each(|(queue, count)| self.wake(queue, *count)),
                    Err(_) => pause = true,
                }
            }
            if pause {
                tokio::time::sleep(MOVE_PAUSE).await;
            }
        }
    }

    fn notify(&self, queue: &str) -> Arc<Notify> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() > WAITING_MAX {
            waiting.retain(|_, notify| Arc::strong_count(notify) > 1);
        }
        waiting.entry(queue.to_owned()).or_default().clone()
    }

    /// Wakes a waiting call for each of `messages` that may be visible now. The other calls go on waiting.
    pub(crate) fn wake(&self, queue: &str, messages: usize) {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(notify) = waiting.get(queue) {
            // At most as many as calls wait: the map holds one reference itself.
            for _ in 0..messages.min(Arc::strong_count(notify)) {
                notify.notify_one();
            }
        }
    }
}

/// The room for messages in flight. They are counted again when it is used up.
fn count_room<'a>(
    db: &Connection,
    rooms: &'a mut HashMap<String, Room>,
    queue: &str,
    now: i64,
) -> Result<&'a mut Room, SqsError> {
    let room = rooms.entry(queue.to_owned()).or_insert(Room { left: 0, counted_ms: 0 });
    if room.left == 0 && now >= room.counted_ms + COUNT_EVERY_MS {
        *room = Room {
            left: IN_FLIGHT_MAX.saturating_sub(messages::in_flight(db, queue, now)?),
            counted_ms: now,
        };
    }
    Ok(room)
}

/// Milliseconds since the epoch, in SQLite's type.
fn now() -> i64 {
    i64::try_from(SystemClock.now().ms()).expect("the clock ends in the year 9999")
}

fn check_name(name: &str, attributes: &BTreeMap<String, String>) -> Result<(), SqsError> {
    let plain = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    };
    let fifo = attributes.get("FifoQueue").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    if fifo {
        if name.len() <= 80 && name.strip_suffix(".fifo").is_some_and(plain) {
            return Ok(());
        }
        return Err(SqsError::invalid_value(
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in length",
        ));
    }
    if name.len() <= 80 && plain(name) {
        return Ok(());
    }
    Err(SqsError::invalid_value(
        "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
    ))
}

fn check_tags(queue: &str, tags: &BTreeMap<String, String>) -> Result<(), SqsError> {
    if tags.len() > 50 {
        return Err(SqsError::invalid_value(format!("Too many tags added for queue {queue}.")));
    }
    if tags.keys().any(|key| key.is_empty() || key.chars().count() > 128) {
        return Err(SqsError::invalid_value("Tag keys must be between 1 and 128 characters in length."));
    }
    if tags.values().any(|value| value.chars().count() > 256) {
        return Err(SqsError::invalid_value("Tag values must be between 0 and 256 characters in length."));
    }
    Ok(())
}
