//! `wasq dlq`: lists, shows, redrives and deletes dead letters.
//!
//! SQS cannot be searched: the command receives every letter, looks at it, and releases it at the end. If
//! this process is killed, the letters that it holds become visible again after [`HELD_FOR`].

mod letter;

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Subcommand;
use serde_json::json;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasq_aws::{Counts, QueueEndpoint};
use wasq_protocol::{Clock, SystemClock, Timestamp};

use crate::output::{self, Ended, Progress, tell};
use crate::target::{QueueAddress, QueueArgs};

pub(crate) use letter::Letter;

use letter::{Select, cause, first_line, seconds};

#[derive(Debug, clap::Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The dead-letter queue; without this, the one that the queue's redrive policy names
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) dead_letter_url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, one a line
    Ls(Select),
    /// Show everything about dead letters: reason, attempts, history and body
    Show(Select),
    /// Send dead letters back to the queue, with the ids that their tasks know and the history of their
    /// failures
    ///
    /// Each copy is sent before the dead letter is deleted. If the command is killed between the two, the
    /// message is in both queues, and runs again.
    Redrive(Redrive),
    /// Delete dead letters for good
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// The time for which a received letter stays invisible to others.
const HELD_FOR: Duration = Duration::from_secs(300);
/// Long enough to ask every one of SQS's servers.
const EMPTY_POLL: Duration = Duration::from_secs(1);
/// The most entries that one batch call takes.
const BATCH_MAX: usize = 10;
/// The length of a reason in a list.
const REASON_CHARS: usize = 100;
const REASON_CHARS_MIN: usize = 20;

pub(crate) async fn dlq(args: Dlq, json: bool) -> Result<Ended> {
    let mut desk = Desk::open(&args).await?;
    let done = tokio::select! {
        done = desk.run(args.command, json) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted; dead letters that were not moved yet are still there")),
    };
    tokio::select! {
        () = desk.release() => {}
        _ = tokio::signal::ctrl_c() => tell!("wasq: dead letters stay invisible for up to {} s", HELD_FOR.as_secs()),
    }
    done
}

/// The moment to report letters that were not looked at: in a command that only reads, or before or after
/// letters are moved.
#[derive(Clone, Copy)]
enum When {
    Only,
    Before,
    After,
}

/// The two queues, and the letters that this command holds.
struct Desk {
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

impl Desk {
    async fn open(args: &Dlq) -> Result<Self> {
        let Dlq { command, queue, dead_letter_url } = args;
        let (tasks, letters) = match dead_letter_url {
            Some(url) => {
                let letters = QueueAddress::of(url.clone());
                let tasks = match command {
                    DlqCommand::Redrive(_) => Some(queue.clone().address().await?),
                    _ => None,
                };
                if let Some(tasks) = &tasks {
                    ensure!(
                        tasks.local == letters.local,
                        "{} and {} are not at the same endpoint: name both queues, by --queue-url and --dead-letter-url",
                        tasks.url,
                        letters.url
                    );
                }
                let client = letters.client().await;
                let tasks = tasks.map(|tasks| QueueEndpoint::new(client.clone(), tasks.url));
                (tasks, QueueEndpoint::new(client, letters.url))
            }
            None => {
                let (tasks, letters) = queue.clone().address().await?.queues().await?;
                (Some(tasks), letters)
            }
        };
        Ok(Self { tasks, letters, held: HashMap::new(), since: Instant::now(), opened: SystemClock.now() })
    }

    async fn run(&mut self, command: DlqCommand, json: bool) -> Result<Ended> {
        match command {
            DlqCommand::Ls(select) => self.ls(&select, json).await,
            DlqCommand::Show(select) => self.show(&select, json).await,
            DlqCommand::Redrive(Redrive { select, all }) => {
                ensure!(all || !select.is_empty(), "redrive which? Name ids or a filter, or --all");
                self.redrive(&select, json).await
            }
            DlqCommand::Purge(Purge { select, all, yes }) => {
                ensure!(all || !select.is_empty(), "delete which? Name ids or a filter, or --all");
                self.purge(&select, yes, json).await
            }
        }
    }

    async fn ls(&mut self, select: &Select, json: bool) -> Result<Ended> {
        let letters = self.read(select).await?;
        self.mention_unseen(When::Only).await?;
        if json {
            let letters: Vec<_> = letters.iter().map(Letter::summary).collect();
            output::value(&json!({ "dead_letters": letters }));
            return Ok(Ended::Well);
        }
        if letters.is_empty() {
            tell!("no dead letters{}", if select.is_empty() { "" } else { " that match" });
            return Ok(Ended::Well);
        }
        let width = std::io::stdout().is_terminal().then(terminal_width).flatten();
        output::text(&table(&letters, width));
        Ok(Ended::Well)
    }

    async fn show(&mut self, select: &Select, json: bool) -> Result<Ended> {
        let letters = self.read(select).await?;
        self.mention_unseen(When::Only).await?;
        if json {
            let letters: Vec<_> = letters.iter().map(Letter::whole).collect();
            output::value(&json!({ "dead_letters": letters }));
            return Ok(Ended::Well);
        }
        let texts: Vec<_> = letters.iter().map(Letter::text).collect();
        output::text(&texts.join("\n"));
        Ok(Ended::Well)
    }

    /// Sends copies to the task queue, then deletes the letters. A crash between the two leaves a message in
    /// both queues.
    async fn redrive(&mut self, select: &Select, json: bool) -> Result<Ended> {
        let tasks = self.tasks.clone().context("the task queue is not known")?;
        let mut letters = self.read(select).await?;
        self.mention_unseen(When::Before).await?;
        let mut redriven = 0;
        let mut problems = Vec::new();
        while !letters.is_empty() {
            let _progress = Progress::start(format!("redriving {} dead letters", letters.len()));
            for batch in letters.chunks(BATCH_MAX) {
                self.keep(batch).await;
                let copies = batch.iter().map(Letter::copy).collect();
                let sent = tasks.send(copies).await;
                let mut done = Vec::new();
                for (letter, sent) in batch.iter().zip(sent) {
                    match sent {
                        Ok(()) => done.push(letter),
                        Err(e) => problems.push(format!("{}: {e:#}; it is still a dead letter", letter.id())),
                    }
                }
                redriven += done.len();
                self.delete(&done, &mut problems, "it is in both queues now").await;
            }
            letters = self.read_more(select).await?;
        }
        self.mention_unseen(When::After).await?;
        report(json, "redriven", redriven, problems)
    }

    async fn purge(&mut self, select: &Select, yes: bool, json: bool) -> Result<Ended> {
        let mut letters = self.read(select).await?;
        self.mention_unseen(When::Before).await?;
        if !letters.is_empty() && !yes {
            let more = if self.letters.is_fifo() { " (and those behind them in their groups)" } else { "" };
            confirm(format!("{} dead letters{more}", letters.len())).await?;
        }
        let mut deleted = 0;
        let mut problems = Vec::new();
        while !letters.is_empty() {
            for batch in letters.chunks(BATCH_MAX) {
                self.keep(batch).await;
                let batch: Vec<_> = batch.iter().collect();
                deleted += self.delete(&batch, &mut problems, "it is still there").await;
            }
            letters = self.read_more(select).await?;
        }
        self.mention_unseen(When::After).await?;
        report(json, "deleted", deleted, problems)
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

    /// Receives every letter, and returns the letters that match, the oldest first.
    async fn read(&mut self, select: &Select) -> Result<Vec<Letter>> {
        let matching = self.take(select).await?;
        for id in &select.ids {
            let there = |letter: &Letter| letter.id() == *id || letter.delivery.message_id == *id;
            if !matching.iter().any(there) {
                let unseen = self.unseen().await?;
                let beyond = unseen.map_or(String::new(), |unseen| format!("; {unseen}"));
                bail!("no dead letter with the id {id:?} matches{beyond}");
            }
        }
        Ok(matching)
    }

    /// Reports letters that were not looked at, if any. The report comes before letters are moved, because
    /// SQS's counts lag behind. For a FIFO queue it comes after, because letters that are held back come only
    /// when others are gone.
    async fn mention_unseen(&self, when: When) -> Result<()> {
        let now = match when {
            When::Only => true,
            When::Before => !self.letters.is_fifo(),
            When::After => self.letters.is_fifo(),
        };
        if now && let Some(unseen) = self.unseen().await? {
            tell!("wasq: {unseen}");
        }
        Ok(())
    }

    /// The letters that a FIFO queue held back while this command held others of their group.
    async fn read_more(&mut self, select: &Select) -> Result<Vec<Letter>> {
        if self.letters.is_fifo() { self.take(select).await } else { Ok(Vec::new()) }
    }

    /// A sentence about the letters that this command does not hold; `None` if it holds all.
    async fn unseen(&self) -> Result<Option<String>> {
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

    async fn take(&mut self, select: &Select) -> Result<Vec<Letter>> {
        let _progress = Progress::start("reading the dead-letter queue".to_owned());
        let mut matching = Vec::new();
        let mut without_news = 0;
        while without_news < 3 {
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
    async fn release(&mut self) {
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

/// The width of the terminal, in columns.
fn terminal_width() -> Option<usize> {
    terminal_size::terminal_size().map(|(width, _)| usize::from(width.0))
}

/// Dead letters, one a line. In a terminal, the reason is cut so that a line fits; otherwise it is cut to 100
/// characters.
fn table(letters: &[Letter], width: Option<usize>) -> String {
    let rows = letters.iter().map(|letter| {
        let notes = &letter.notes;
        [
            notes.failed.map_or("-".to_owned(), seconds),
            letter.kind().as_str().to_owned(),
            letter.task().map_or("-".to_owned(), |task| task.to_string()),
            letter.id().to_owned(),
            notes.attempts.map_or("-".to_owned(), |attempts| attempts.to_string()),
        ]
    });
    let rows: Vec<_> = std::iter::once(["FAILED", "KIND", "TASK", "ID", "ATTEMPTS"].map(str::to_owned))
        .chain(rows)
        .collect();
    let longest =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 5] = std::array::from_fn(longest);
    let taken: usize = widths.iter().map(|width| width + 2).sum();
    // A reason of a few letters says nothing: then the line is longer than the terminal.
    let left = width.map_or(REASON_CHARS, |width| width.saturating_sub(taken).max(REASON_CHARS_MIN));
    let causes = letters.iter().map(|letter| first_line(&cause(letter.reason()), left));
    let causes = std::iter::once("REASON".to_owned()).chain(causes);
    let lines = rows.iter().zip(causes).map(|(row, cause)| {
        let cells: String = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}  ")).collect();
        format!("{cells}{cause}\n")
    });
    lines.collect()
}

/// Asks before something is deleted for good. A thread of its own reads the answer, so that ctrl-c works
/// while it waits.
async fn confirm(what: String) -> Result<()> {
    ensure!(std::io::stdin().is_terminal(), "{what} would be deleted for good: say so by --yes");
    let (sender, answer) = oneshot::channel();
    std::thread::spawn(move || {
        eprint!("delete {what} for good? [y/N] ");
        let _ = std::io::stderr().flush();
        let mut answer = String::new();
        let read = std::io::stdin().read_line(&mut answer).map(|_| answer);
        // Nobody waits for it after ctrl-c.
        let _ = sender.send(read);
    });
    let answer = answer.await?.context("read the answer")?;
    ensure!(answer.trim().eq_ignore_ascii_case("y"), "nothing was deleted");
    Ok(())
}

fn report(json: bool, what: &str, count: usize, problems: Vec<String>) -> Result<Ended> {
    if json {
        output::value(&json!({ what: count, "problems": problems }));
    } else {
        tell!("{what}: {count}");
    }
    problems.iter().for_each(|problem| tell!("wasq: {problem}"));
    Ok(if problems.is_empty() { Ended::Well } else { Ended::InPart })
}
