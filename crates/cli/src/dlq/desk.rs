//! The desk: the dead letters that a command holds while it looks at them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;
use wasq_aws::{Counts, QueueEndpoint};
use wasq_protocol::{Clock, SystemClock, Timestamp};

use super::letter::{Letter, Select};
use crate::output::tell;

/// The two queues, and the letters that this command holds.
pub(crate) struct Desk {
    /// The queue that letters are redriven to; `None` if no redrive is asked for.
    tasks: Option<QueueEndpoint>,
    letters: QueueEndpoint,
    /// The newest receipt handles of the letters that are held, by the queue's message id.
    held: HashMap<String, String>,
    /// The start of this command, before it received the first letter.
    since: Instant,
    /// Letters sent after this time are ignored: a redriven message may be back as a new letter within a
    /// second.
    opened: Timestamp,
}

/// Letters that were moved or deleted, and what went wrong with others.
#[derive(Debug, Default)]
pub(crate) struct Moved {
    pub(crate) count: usize,
    pub(crate) problems: Vec<String>,
}

/// The time for which a received letter stays invisible to others.
pub(super) const HELD_FOR: Duration = Duration::from_secs(300);
/// Long enough to ask every one of SQS's servers.
const EMPTY_POLL: Duration = Duration::from_secs(1);
/// The most entries that one batch call takes.
const BATCH_MAX: usize = 10;

impl Desk {
    /// A desk that holds no letter yet. Without the task queue, nothing can be redriven.
    pub(crate) fn new(tasks: Option<QueueEndpoint>, letters: QueueEndpoint) -> Self {
        Self { tasks, letters, held: HashMap::new(), since: Instant::now(), opened: SystemClock.now() }
    }

    /// Whether the dead-letter queue is a FIFO queue.
    pub(super) fn is_fifo(&self) -> bool {
        self.letters.is_fifo()
    }

    /// Sends copies to the task queue, then deletes the letters. A crash between the two leaves a message in
    /// both queues.
    pub(crate) async fn redrive(&mut self, mut letters: Vec<Letter>, select: &Select) -> Result<Moved> {
        let tasks = self.tasks.clone().context("the task queue is not known")?;
        let mut moved = Moved::default();
        while !letters.is_empty() {
            for batch in letters.chunks(BATCH_MAX) {
                self.keep(batch).await;
                let copies = batch.iter().map(Letter::copy).collect();
                let sent = tasks.send(copies).await;
                let mut done = Vec::new();
                for (letter, sent) in batch.iter().zip(sent) {
                    match sent {
                        Ok(()) => done.push(letter),
                        Err(e) => {
                            moved.problems.push(format!("{}: {e:#}; it is still a dead letter", letter.id()));
                        }
                    }
                }
                moved.count += done.len();
                self.delete(&done, &mut moved.problems, "it is in both queues now").await;
            }
            letters = self.take_more(select).await?;
        }
        Ok(moved)
    }

    /// Deletes letters for good.
    pub(crate) async fn purge(&mut self, mut letters: Vec<Letter>, select: &Select) -> Result<Moved> {
        let mut moved = Moved::default();
        while !letters.is_empty() {
            for batch in letters.chunks(BATCH_MAX) {
                self.keep(batch).await;
                let batch: Vec<_> = batch.iter().collect();
                moved.count += self.delete(&batch, &mut moved.problems, "it is still there").await;
            }
            letters = self.take_more(select).await?;
        }
        Ok(moved)
    }

    /// Holds letters for another [`HELD_FOR`], if half of it has passed since the start.
    async fn keep(&self, batch: &[Letter]) {
        if self.since.elapsed() < HELD_FOR / 2 {
            return;
        }
        let entry = |letter: &Letter| (self.receipt(letter), HELD_FOR);
        let entries: Vec<_> = batch.iter().map(entry).collect();
        for error in self.letters.set_visibility(&entries).await.into_iter().filter_map(Result::err) {
            tracing::warn!("a dead letter may be visible to others already: {error:#}");
        }
    }

    /// The newest receipt handle of a letter. SQS may ignore a delete with an older one.
    fn receipt(&self, letter: &Letter) -> String {
        let newest = self.held.get(&letter.delivery.message_id);
        newest.unwrap_or(&letter.delivery.receipt).clone()
    }

    /// Returns how many were deleted.
    async fn delete(&mut self, letters: &[&Letter], problems: &mut Vec<String>, so: &str) -> usize {
        let receipts: Vec<String> = letters.iter().map(|letter| self.receipt(letter)).collect();
        let mut deleted = 0;
        for (letter, result) in letters.iter().zip(self.letters.delete(&receipts).await) {
            match result {
                Ok(()) => {
                    self.held.remove(&letter.delivery.message_id);
                    deleted += 1;
                }
                Err(e) => problems.push(format!("{}: {e:#}; {so}", letter.id())),
            }
        }
        deleted
    }

    /// The letters that a FIFO queue held back while this command held others of their group.
    async fn take_more(&mut self, select: &Select) -> Result<Vec<Letter>> {
        if self.letters.is_fifo() { self.take(select, usize::MAX).await } else { Ok(Vec::new()) }
    }

    /// A sentence about the letters that this command does not hold; `None` if it holds all.
    pub(crate) async fn unseen(&self) -> Result<Option<String>> {
        let Counts { visible, in_flight, delayed: _ } = self.letters.counts().await?;
        let unseen = (visible + in_flight).saturating_sub(self.held.len() as u64);
        let say = || {
            format!(
                "about {unseen} more dead letters were not looked at: another command may hold them (for up to {} s), they arrived after this command started, or they wait behind others of their group",
                HELD_FOR.as_secs()
            )
        };
        Ok((unseen > 0).then(say))
    }

    /// Receives letters until `max` of them match, or until every letter was looked at. Returns those that match, the oldest first.
    pub(crate) async fn take(&mut self, select: &Select, max: usize) -> Result<Vec<Letter>> {
        let mut matching = Vec::new();
        let mut without_news = 0;
        while without_news < 3 && matching.len() < max {
            let deliveries = self.letters.receive(EMPTY_POLL, HELD_FOR, || SystemClock.now()).await?;
            let mut news = false;
            for delivery in deliveries {
                // This command has the letter already: the hold has ended, or SQS delivered the letter twice.
                if self.held.insert(delivery.message_id.clone(), delivery.receipt.clone()).is_some() {
                    continue;
                }
                if delivery.sent > self.opened {
                    continue;
                }
                news = true;
                let letter = Letter::of(delivery);
                if select.matches(&letter) {
                    matching.push(letter);
                }
            }
            without_news = if news { 0 } else { without_news + 1 };
            if !news && self.letters.counts().await?.visible == 0 {
                break;
            }
        }
        // A FIFO queue has its own order, which must survive a redrive.
        if !self.letters.is_fifo() {
            matching.sort_by_key(|letter| (letter.notes.failed, letter.id()));
        }
        Ok(matching)
    }

    /// Releases the letters that this command still holds.
    pub(crate) async fn release(&mut self) {
        let entries: Vec<_> = self.held.drain().map(|(_, receipt)| (receipt, Duration::ZERO)).collect();
        let failed = self.letters.set_visibility(&entries).await.into_iter().filter(Result::is_err).count();
        if failed > 0 {
            tell!(
                "wasq: {failed} dead letters are visible already, or stay invisible for up to {} s",
                HELD_FOR.as_secs()
            );
        }
    }
}
