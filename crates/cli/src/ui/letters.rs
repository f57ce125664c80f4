//! The dead letters of a deployment, for the page.
//!
//! SQS cannot be searched: the letters are received, looked at and released. They are remembered for a while, so that pages that are shown
//! anew do not receive them again and again.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::Mutex;
use tokio::time::Instant;
use wasq_aws::QueueEndpoint;
use wasq_page::{DeadLetters, Letter};

use crate::dlq::{self, Desk, Moved, Select};

/// The dead letters of a deployment.
pub(super) struct Letters {
    tasks: QueueEndpoint,
    letters: QueueEndpoint,
    /// The letters that were seen last. Locked while letters are received: two desks would not see each other's.
    seen: Mutex<Option<(Instant, DeadLetters)>>,
}

/// How long the letters that were seen are shown.
const FRESH: Duration = Duration::from_secs(30);
/// The bytes of a body that are kept.
const BODY_BYTES: usize = 16 << 10;

impl Letters {
    pub(super) fn new(tasks: QueueEndpoint, letters: QueueEndpoint) -> Self {
        Self { tasks, letters, seen: Mutex::new(None) }
    }

    /// The letters that SQS hands out first, at most [`Letter::SHOWN_MAX`], the newest of them first.
    pub(super) async fn all(&self) -> Result<DeadLetters> {
        let mut seen = self.seen.lock().await;
        if let Some((at, letters)) = &*seen
            && at.elapsed() < FRESH
        {
            return Ok(letters.clone());
        }
        let mut desk = Desk::new(None, self.letters.clone());
        let taken = desk.take(&Select::default(), Letter::SHOWN_MAX).await;
        let unseen = desk.unseen().await;
        desk.release().await;
        let mut letters: Vec<Letter> = taken?.into_iter().map(shown).collect();
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.notes.failed));
        letters.truncate(Letter::SHOWN_MAX);
        let letters = DeadLetters { letters, note: unseen? };
        *seen = Some((Instant::now(), letters.clone()));
        Ok(letters)
    }

    /// Waits until no letter is held.
    pub(super) async fn idle(&self) {
        let _idle = self.seen.lock().await;
    }

    /// Sends letters back to the queue. Returns how many were there.
    pub(super) async fn redrive(&self, ids: Vec<String>) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut seen = self.seen.lock().await;
        *seen = None;
        let (mut desk, select, max) =
            (Desk::new(Some(self.tasks.clone()), self.letters.clone()), only(&ids), ids.len());
        let moved = match desk.take(&select, max).await {
            Ok(letters) => desk.redrive(these(letters, &ids), &select).await,
            Err(e) => Err(e),
        };
        desk.release().await;
        count(moved?, "sent back")
    }

    /// Deletes letters for good. Returns how many were there.
    pub(super) async fn delete(&self, ids: Vec<String>) -> Result<u64> {
        if ids.is_empty() {
            return Ok(0);
        }
        let mut seen = self.seen.lock().await;
        *seen = None;
        let (mut desk, select, max) = (Desk::new(None, self.letters.clone()), only(&ids), ids.len());
        let moved = match desk.take(&select, max).await {
            Ok(letters) => desk.purge(these(letters, &ids), &select).await,
            Err(e) => Err(e),
        };
        desk.release().await;
        count(moved?, "deleted")
    }
}

/// Selects letters by the queue's ids of them: at least one, because no id selects every letter.
fn only(ids: &[String]) -> Select {
    Select { ids: ids.to_vec(), ..Select::default() }
}

/// Without letters whose tasks know them by one of these ids.
fn these(mut letters: Vec<dlq::Letter>, ids: &[String]) -> Vec<dlq::Letter> {
    letters.retain(|letter| ids.contains(&letter.delivery.message_id));
    letters
}

fn count(moved: Moved, what: &str) -> Result<u64> {
    let Moved { count, problems } = moved;
    if let Some(problem) = problems.first() {
        bail!("{count} {what}; problems with {}: {problem}", problems.len());
    }
    Ok(count as u64)
}

/// A letter without the end of a large body: a thousand of them are in memory.
fn shown(letter: dlq::Letter) -> Letter {
    let dlq::Letter { delivery, notes } = letter;
    let (message_id, mut body) = (delivery.message_id, delivery.body);
    let body_bytes = body.len() as u64;
    body.truncate(body.floor_char_boundary(BODY_BYTES.min(body.len())));
    Letter { message_id, body_bytes, body, notes }
}
