//! `wasq dlq`: what is in the dead-letter queue, and what becomes of it.
//!
//! SQS cannot be searched: every letter is received, looked at, and released again at the end. What this process holds
//! when it is killed becomes visible again by itself after [`HELD_FOR`].

use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasq_aws::{Counts, Outbound, QueueEndpoint};
use wasq_protocol::{
    Clock, DeadLetterAttributes, Delivery, EarlierEnd, FailureKind, SystemClock, TaskName, Timestamp,
    parse_duration,
};

use crate::args::{Dlq, DlqCommand, Purge, Redrive, Select};
use crate::output::{self, Ended, Progress};
use crate::target::QueueAddress;

/// How long a letter stays invisible to others while it is looked at.
const HELD_FOR: Duration = Duration::from_secs(300);
/// Long enough to ask every one of SQS's servers.
const EMPTY_POLL: Duration = Duration::from_secs(1);
/// The kinds of letters that have none of ours.
pub(crate) const REDRIVE_POLICY: &str = "redrive-policy";
pub(crate) const UNKNOWN: &str = "unknown";
/// As many as one batch call takes.
const BATCH_MAX: usize = 10;

pub(crate) async fn dlq(args: Dlq, json: bool) -> Result<Ended> {
    let mut desk = Desk::open(&args).await?;
    let done = tokio::select! {
        done = desk.run(args.command, json) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow!("interrupted; what was not moved yet is still there")),
    };
    tokio::select! {
        () = desk.release() => {}
        _ = tokio::signal::ctrl_c() => eprintln!("wasq: dead letters stay invisible for up to {} s", HELD_FOR.as_secs()),
    }
    done
}

/// When it is said what was not looked at: by a command that only looks, or before or after letters are moved.
#[derive(Clone, Copy)]
enum When {
    Only,
    Before,
    After,
}

/// One letter.
struct Letter {
    delivery: Delivery,
    notes: DeadLetterAttributes,
}

/// The two queues, and the letters that were taken out to be looked at.
struct Desk {
    /// Where letters are redriven to; `None` if that is not asked for.
    tasks: Option<QueueEndpoint>,
    letters: QueueEndpoint,
    /// The newest receipt handles by the queue's id.
    held: HashMap<String, String>,
    /// When the first of them was taken out.
    since: Instant,
    /// What was sent after this is not meant: a redriven message may be back as a new letter within a second.
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
            eprintln!("no dead letters{}", if select.is_empty() { "" } else { " that match" });
            return Ok(Ended::Well);
        }
        output::text(&format!(
            "{:<20}  {:<16}  {:<24}  {:<36}  {:>8}  REASON\n",
            "FAILED", "KIND", "TASK", "ID", "ATTEMPTS"
        ));
        for letter in &letters {
            let notes = &letter.notes;
            output::text(&format!(
                "{:<20}  {:<16}  {:<24}  {:<36}  {:>8}  {}\n",
                notes.failed.map_or("-".to_owned(), seconds),
                letter.kind(),
                letter.task().map_or("-".to_owned(), |task| task.to_string()),
                letter.id(),
                notes.attempts.map_or("-".to_owned(), |attempts| attempts.to_string()),
                first_line(letter.reason()),
            ));
        }
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

    /// Sends copies into the task queue, then deletes: what dies in between leaves a message in both.
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
            let more = if self.letters.is_fifo() { " (and what their groups hold back)" } else { "" };
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

    /// Takes letters into the hand for longer, if it has been long.
    async fn keep(&self, batch: &[Letter]) {
        if self.since.elapsed() < HELD_FOR / 2 {
            return;
        }
        let entry = |letter: &Letter| (self.receipt(letter), HELD_FOR);
        let entries: Vec<_> = batch.iter().map(entry).collect();
        for error in self.letters.set_visibility(&entries).await.into_iter().filter_map(Result::err) {
            tracing::warn!("a dead letter may be in somebody else's hand: {error:#}");
        }
    }

    /// The newest receipt handle of a letter: SQS need not delete by an older one.
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

    /// Takes every letter into the hand, and returns those that match, the oldest first.
    async fn read(&mut self, select: &Select) -> Result<Vec<Letter>> {
        let matching = self.take(select).await?;
        for id in &select.ids {
            let there = |letter: &Letter| letter.id() == *id || letter.delivery.message_id == *id;
            if !matching.iter().any(there) {
                let unseen = self.unseen().await?;
                let beyond = unseen.map_or(String::new(), |unseen| format!("; {unseen}"));
                bail!("there is no dead letter {id:?} (that matches){beyond}");
            }
        }
        Ok(matching)
    }

    /// Says what was not looked at, if anything. Before letters are moved, because SQS's counts lag behind; but what a FIFO
    /// queue holds back comes only when others are gone.
    async fn mention_unseen(&self, when: When) -> Result<()> {
        let now = match when {
            When::Only => true,
            When::Before => !self.letters.is_fifo(),
            When::After => self.letters.is_fifo(),
        };
        if now && let Some(unseen) = self.unseen().await? {
            eprintln!("wasq: {unseen}");
        }
        Ok(())
    }

    /// What a FIFO queue held back, because others of its group were in the hand.
    async fn read_more(&mut self, select: &Select) -> Result<Vec<Letter>> {
        if self.letters.is_fifo() { self.take(select).await } else { Ok(Vec::new()) }
    }

    /// What there is beyond the letters in the hand.
    async fn unseen(&self) -> Result<Option<String>> {
        let Counts { visible, in_flight } = self.letters.counts().await?;
        let unseen = (visible + in_flight).saturating_sub(self.held.len() as u64);
        let say = || {
            format!(
                "about {unseen} more dead letters were not looked at: another command may hold them (for up to {} s), they came meanwhile, or they come after others of their group",
                HELD_FOR.as_secs()
            )
        };
        Ok((unseen > 0).then(say))
    }

    async fn take(&mut self, select: &Select) -> Result<Vec<Letter>> {
        let filter = Filter::new(select)?;
        let _progress = Progress::start("reading the dead-letter queue".to_owned());
        let mut matching = Vec::new();
        let mut without_news = 0;
        while without_news < 3 {
            let deliveries = self.letters.receive(EMPTY_POLL, HELD_FOR, || SystemClock.now()).await?;
            let mut news = false;
            for delivery in deliveries {
                // What is in the hand already was held for too long, or SQS hands it out twice.
                if self.held.insert(delivery.message_id.clone(), delivery.receipt.clone()).is_some() {
                    continue;
                }
                if delivery.sent > self.opened {
                    continue;
                }
                news = true;
                let notes = DeadLetterAttributes::read(&delivery.attributes);
                let letter = Letter { delivery, notes };
                if filter.matches(&letter) {
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

    /// Puts back what is still in the hand.
    async fn release(&mut self) {
        let entries: Vec<_> = self.held.drain().map(|(_, receipt)| (receipt, Duration::ZERO)).collect();
        let failed = self.letters.set_visibility(&entries).await.into_iter().filter(Result::is_err).count();
        if failed > 0 {
            eprintln!(
                "wasq: {failed} dead letters are visible already, or stay invisible for up to {} s",
                HELD_FOR.as_secs()
            );
        }
    }
}

impl Letter {
    /// What goes back into the task queue.
    fn copy(&self) -> Outbound {
        let Delivery { message_id, body, attributes, group, receipt, trace_header, .. } = &self.delivery;
        Outbound {
            body: body.clone(),
            attributes: self.notes.redriven(message_id, attributes),
            group: group.clone(),
            // Another redrive of it is no repetition of this one.
            deduplication: Some(receipt.chars().filter(char::is_ascii_graphic).take(128).collect()),
            trace_header: trace_header.clone(),
            ..Outbound::default()
        }
    }

    fn id(&self) -> String {
        self.delivery.id(self.message().as_ref())
    }

    fn message(&self) -> Option<wasq_protocol::Message> {
        wasq_protocol::Message::parse(&self.delivery.body).ok()
    }

    fn task(&self) -> Option<TaskName> {
        self.notes.task.clone().or_else(|| self.message().map(|message| message.task))
    }

    fn kind(&self) -> &'static str {
        match (self.notes.kind, self.notes.attempts) {
            (Some(kind), _) => kind.as_str(),
            (None, None) => REDRIVE_POLICY,
            // Another version of wasq put it here.
            (None, Some(_)) => UNKNOWN,
        }
    }

    fn reason(&self) -> &str {
        self.notes.reason.as_deref().unwrap_or("received too often, or put here by hand")
    }

    fn summary(&self) -> Value {
        let DeadLetterAttributes { attempts, failed, .. } = &self.notes;
        json!({
            "id": self.id(),
            "message_id": self.delivery.message_id,
            "task": self.task(),
            "kind": self.kind(),
            "reason": self.reason(),
            "attempts": attempts,
            "failed": failed,
        })
    }

    /// For people: what matters first.
    fn text(&self) -> String {
        let DeadLetterAttributes { attempts, first_received, failed, digest, history, .. } = &self.notes;
        let end = |end: &EarlierEnd| {
            let EarlierEnd { kind, reason, attempts, failed, digest: _ } = end;
            let kind =
                kind.map_or(if *attempts == 0 { REDRIVE_POLICY } else { UNKNOWN }, FailureKind::as_str);
            let at = failed.map_or_else(String::new, |failed| format!("{} ", seconds(failed)));
            format!("{at}{kind} after {attempts} attempts: {reason}")
        };
        let history = history.iter().map(end).collect::<Vec<_>>().join("\n");
        let id = self.id();
        let other_id = Some(&self.delivery.message_id).filter(|message_id| **message_id != id);
        let lines = [
            ("id", Some(id.clone())),
            ("message id", other_id.cloned()),
            ("task", self.task().map(|task| task.to_string())),
            ("kind", Some(self.kind().to_owned())),
            ("reason", Some(self.reason().to_owned())),
            ("attempts", attempts.map(|attempts| attempts.to_string())),
            ("first received", first_received.map(seconds)),
            ("failed", failed.map(seconds)),
            ("module", digest.map(|digest| digest.to_string())),
            ("earlier ends", Some(history).filter(|history| !history.is_empty())),
            ("body", Some(self.delivery.body.clone())),
        ];
        let line = |(name, text): (&str, Option<String>)| {
            Some(format!("{name:<16}{}\n", text?.replace('\n', &format!("\n{:16}", ""))))
        };
        lines.into_iter().filter_map(line).collect()
    }

    fn whole(&self) -> Value {
        let DeadLetterAttributes { first_received, digest, history, .. } = &self.notes;
        let mut whole = self.summary();
        whole["first_received"] = json!(first_received);
        whole["digest"] = json!(digest);
        whole["history"] = if history.is_empty() { Value::Null } else { json!(history) };
        whole["body"] = json!(self.delivery.body);
        whole
    }
}

/// What a letter must be to be meant.
struct Filter<'a> {
    select: &'a Select,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl<'a> Filter<'a> {
    fn new(select: &'a Select) -> Result<Self> {
        let time = |option: &str, text: &Option<String>| {
            text.as_deref().map(|text| time(text).with_context(|| option.to_owned())).transpose()
        };
        Ok(Self { select, since: time("--since", &select.since)?, until: time("--until", &select.until)? })
    }

    fn matches(&self, letter: &Letter) -> bool {
        let Select { ids, task, kind, reason, since: _, until: _ } = self.select;
        let id = letter.id();
        let within = |failed: Timestamp| {
            self.since.is_none_or(|since| failed >= since) && self.until.is_none_or(|until| failed < until)
        };
        (ids.is_empty() || ids.iter().any(|wanted| *wanted == id || *wanted == letter.delivery.message_id))
            && task.as_ref().is_none_or(|task| letter.task().as_ref() == Some(task))
            && (kind.is_empty() || kind.iter().any(|kind| kind == letter.kind()))
            && reason.as_ref().is_none_or(|text| letter.reason().contains(text))
            && (self.since.is_none() && self.until.is_none() || letter.notes.failed.is_some_and(within))
    }
}

/// A point in time, or how long ago it was.
fn time(text: &str) -> Result<Timestamp> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(SystemClock.now().minus(ago));
    }
    match text.parse() {
        Ok(time) => Ok(time),
        Err(_) => {
            bail!("{text:?} is neither a time such as \"2026-11-23T08:30:00Z\" nor a duration such as \"2h\"")
        }
    }
}

fn seconds(time: Timestamp) -> String {
    let text = time.to_string();
    text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z"))
}

fn first_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() > 100 {
        line.chars().take(97).chain("...".chars()).collect()
    } else {
        line.to_owned()
    }
}

/// Asks before something is deleted for good. On a thread of its own, so that ctrl-c is heard meanwhile.
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
        eprintln!("{what}: {count}");
    }
    problems.iter().for_each(|problem| eprintln!("wasq: {problem}"));
    Ok(if problems.is_empty() { Ended::Well } else { Ended::InPart })
}
