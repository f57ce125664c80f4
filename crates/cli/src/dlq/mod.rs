//! `wasq dlq`: lists, shows, redrives and deletes dead letters.
//!
//! SQS cannot be searched: the command receives every letter, looks at it, and releases it at the end. If
//! this process is killed, the letters that it holds become visible again after `HELD_FOR`.

mod desk;
mod letter;

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Subcommand;
use serde_json::json;
use tokio::sync::oneshot;
use wasq_aws::QueueEndpoint;

use crate::output::{self, Ended, Progress, tell};
use crate::target::{QueueAddress, QueueArgs};

pub(crate) use desk::{Desk, Moved};
pub(crate) use letter::{Letter, Select};

use desk::HELD_FOR;
use letter::{cause, first_line, seconds};

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

/// The length of a reason in a list.
const REASON_CHARS: usize = 100;
const REASON_CHARS_MIN: usize = 20;

pub(crate) async fn dlq(args: Dlq, json: bool) -> Result<Ended> {
    let mut desk = open(&args).await?;
    let done = tokio::select! {
        done = run(&mut desk, args.command, json) => done,
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

async fn open(args: &Dlq) -> Result<Desk> {
    let Dlq { command, queue, dead_letter_url } = args;
    let Some(url) = dead_letter_url else {
        let (tasks, letters) = queue.clone().address().await?.queues().await?;
        return Ok(Desk::new(Some(tasks), letters));
    };
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
    Ok(Desk::new(tasks, QueueEndpoint::new(client, letters.url)))
}

async fn run(desk: &mut Desk, command: DlqCommand, json: bool) -> Result<Ended> {
    match command {
        DlqCommand::Ls(select) => {
            let letters = read(desk, &select).await?;
            mention_unseen(desk, When::Only).await?;
            ls(&letters, &select, json);
            Ok(Ended::Well)
        }
        DlqCommand::Show(select) => {
            let letters = read(desk, &select).await?;
            mention_unseen(desk, When::Only).await?;
            show(&letters, json);
            Ok(Ended::Well)
        }
        DlqCommand::Redrive(Redrive { select, all }) => {
            ensure!(all || !select.is_empty(), "redrive which? Name ids or a filter, or --all");
            let letters = read(desk, &select).await?;
            mention_unseen(desk, When::Before).await?;
            let progress = Progress::start(format!("redriving {} dead letters", letters.len()));
            let moved = desk.redrive(letters, &select).await?;
            drop(progress);
            mention_unseen(desk, When::After).await?;
            report(json, "redriven", moved)
        }
        DlqCommand::Purge(Purge { select, all, yes }) => {
            ensure!(all || !select.is_empty(), "delete which? Name ids or a filter, or --all");
            let letters = read(desk, &select).await?;
            mention_unseen(desk, When::Before).await?;
            if !letters.is_empty() && !yes {
                let more = if desk.is_fifo() { " (and those behind them in their groups)" } else { "" };
                confirm(format!("{} dead letters{more}", letters.len())).await?;
            }
            let moved = desk.purge(letters, &select).await?;
            mention_unseen(desk, When::After).await?;
            report(json, "deleted", moved)
        }
    }
}

fn ls(letters: &[Letter], select: &Select, json: bool) {
    if json {
        let letters: Vec<_> = letters.iter().map(Letter::summary).collect();
        output::value(&json!({ "dead_letters": letters }));
    } else if letters.is_empty() {
        tell!("no dead letters{}", if select.is_empty() { "" } else { " that match" });
    } else {
        let width = std::io::stdout().is_terminal().then(terminal_width).flatten();
        output::text(&table(letters, width));
    }
}

fn show(letters: &[Letter], json: bool) {
    if json {
        let letters: Vec<_> = letters.iter().map(Letter::whole).collect();
        output::value(&json!({ "dead_letters": letters }));
        return;
    }
    let texts: Vec<_> = letters.iter().map(Letter::text).collect();
    output::text(&texts.join("\n"));
}

/// Receives every letter, and returns the letters that match, the oldest first.
async fn read(desk: &mut Desk, select: &Select) -> Result<Vec<Letter>> {
    let progress = Progress::start("reading the dead-letter queue".to_owned());
    let matching = desk.take(select, usize::MAX).await?;
    drop(progress);
    for id in &select.ids {
        let there = |letter: &Letter| letter.id() == *id || letter.delivery.message_id == *id;
        if !matching.iter().any(there) {
            let unseen = desk.unseen().await?;
            let beyond = unseen.map_or(String::new(), |unseen| format!("; {unseen}"));
            bail!("no dead letter with the id {id:?} matches{beyond}");
        }
    }
    Ok(matching)
}

/// Reports letters that were not looked at, if any. The report comes before letters are moved, because
/// SQS's counts lag behind. For a FIFO queue it comes after, because letters that are held back come only
/// when others are gone.
async fn mention_unseen(desk: &Desk, when: When) -> Result<()> {
    let now = match when {
        When::Only => true,
        When::Before => !desk.is_fifo(),
        When::After => desk.is_fifo(),
    };
    if now && let Some(unseen) = desk.unseen().await? {
        tell!("wasq: {unseen}");
    }
    Ok(())
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

fn report(json: bool, what: &str, moved: Moved) -> Result<Ended> {
    let Moved { count, problems } = moved;
    if json {
        output::value(&json!({ what: count, "problems": problems }));
    } else {
        tell!("{what}: {count}");
    }
    problems.iter().for_each(|problem| tell!("wasq: {problem}"));
    Ok(if problems.is_empty() { Ended::Well } else { Ended::InPart })
}
