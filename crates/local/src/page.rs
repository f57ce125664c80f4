//! The data of the page, on this machine. Reads go over a connection of their own, so that nobody who looks holds up the queue.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rusqlite::{Connection, params};
use tokio::sync::watch;
use wasq_page::{
    Cancelled, Data, DeadLetters, Letter, LogLine, NotAPlace, Page, Search, Span, Stats, Task, Token, Upload,
};
use wasq_protocol::{
    Clock, DeadLetterAttributes, Digest, LiveRecord, Message, MessageCounts, Overview, RunItem,
    ScheduleState, SystemClock, TaskName,
};

use crate::adapters::TaskQueue;
use crate::data_folder::{LastStack, is_running, registry_path, write_private};
use crate::db;
use crate::folder::write_whole;
use crate::listing::{Listed, list_tasks};
use crate::log::log_files;
use crate::results::Results;
use crate::runs::{LocalRuns, RunFilter, find, list};
use crate::sqs::letters;
use crate::sqs::messages::Send;
use crate::sqs::queues::Queues;
use crate::stack::{DEAD_LETTERS, QUEUE, RETENTION_SECONDS};
use crate::timer::{self, LocalTimer, count_delayed};

/// The data of the page of a stack.
pub(crate) struct LocalPage {
    data: PathBuf,
    /// The tasks folder.
    tasks: PathBuf,
    queues: Queues,
    runs: LocalRuns,
    timer: LocalTimer,
    stats: Stats,
    changes: watch::Sender<u64>,
    /// Set while the stack takes no more messages.
    paused: Arc<AtomicBool>,
    reader: Arc<Mutex<Option<Connection>>>,
}

/// The shortest time between two events of a page.
const EVENT_PAUSE: Duration = Duration::from_secs(1);
/// Without news, a page is shown anew after this: counts change with the time.
const EVENT_EVERY: Duration = Duration::from_secs(10);
/// The files of the log, one for each day, that are searched for the lines of a run, the bytes at the end of each, and the lines that are
/// shown.
const LOG_FILES: usize = 2;
const LOG_BYTES: u64 = 4 << 20;
const LINES_MAX: usize = 500;

impl LocalPage {
    pub(crate) fn new(
        data: PathBuf,
        tasks: PathBuf,
        queue: &TaskQueue,
        runs: LocalRuns,
        timer: LocalTimer,
        results: &Results,
    ) -> Self {
        let (stats, changes) = (results.stats().clone(), results.changes().clone());
        let (queues, paused) = (queue.queues.clone(), queue.paused.clone());
        Self { data, tasks, queues, runs, timer, stats, changes, paused, reader: Arc::default() }
    }

    /// Something has been done that the page shows.
    fn change(&self) {
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Reads from the database, beside the queue.
    async fn read<T: std::marker::Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + std::marker::Send + 'static,
    ) -> Result<T> {
        let (reader, path) = (self.reader.clone(), self.data.join(db::FILE));
        let read = move || {
            let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
            let connection = match reader.take() {
                Some(connection) => connection,
                None => db::reader(&path).with_context(|| format!("open {}", path.display()))?,
            };
            let answer = read(&connection).context("read the queue's database");
            *reader = Some(connection);
            answer
        };
        tokio::task::spawn_blocking(read).await?
    }
}

impl Data for LocalPage {
    async fn overview(&self, span: Span) -> Result<Overview> {
        let now = SystemClock.now();
        let tasks = self.tasks().await?;
        let counts = self.read(move |db| counts(db, i64::try_from(now.ms()).unwrap_or(i64::MAX))).await?;
        let paused = Some(self.paused.load(Ordering::Relaxed));
        Ok(Overview { paused, ..self.stats.overview(span, now, counts, tasks) })
    }

    async fn runs(&self, search: &Search) -> Result<Page> {
        let Search { task, state, kind, parent, within, before } = search.clone();
        let since = within.map(|within| SystemClock.now().minus(within));
        let before = before.map(|before| before.parse().map_err(|_| NotAPlace(before))).transpose()?;
        let filter =
            RunFilter { task, state, kind, parent, since, until: None, before, max: Search::PAGE + 1 };
        let mut runs = self.read(move |db| list(db, &filter)).await?;
        let next = (runs.len() > Search::PAGE).then(|| runs[Search::PAGE - 1].0.to_string());
        runs.truncate(Search::PAGE);
        Ok(Page { runs: runs.into_iter().map(|(_, run)| run).collect(), next, note: None })
    }

    async fn run(&self, id: &str) -> Result<Option<RunItem>> {
        let id = id.to_owned();
        self.read(move |db| find(db, &id)).await
    }

    async fn log(&self, run: &RunItem) -> Result<Vec<LogLine>> {
        let (data, id) = (self.data.clone(), run.id.clone());
        tokio::task::spawn_blocking(move || log_of(&data, &id)).await?
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        let data = self.data.clone();
        let listed = tokio::task::spawn_blocking(move || list_tasks(&data)).await??;
        Ok(listed.into_iter().filter_map(Listed::for_page).collect())
    }

    async fn module(&self, digest: &Digest) -> Result<Vec<u8>> {
        let path = registry_path(&self.data).join(LiveRecord::module_key(digest));
        tokio::fs::read(&path).await.with_context(|| format!("read {}", path.display()))
    }

    async fn upload(&self, upload: Upload) -> Result<()> {
        let (tasks, Upload { task, module, settings }) = (self.tasks.clone(), upload);
        let write = move || {
            // Settings first, so that the module never runs without them.
            if let Some(settings) = settings {
                write_whole(&tasks.join(format!("{task}.toml")), settings.as_bytes())?;
            }
            write_whole(&tasks.join(format!("{task}.wasm")), &module)
        };
        tokio::task::spawn_blocking(write).await??;
        self.change();
        Ok(())
    }

    async fn schedules(&self) -> Result<Vec<ScheduleState>> {
        self.read(timer::list).await
    }

    async fn pause(&self, paused: bool) -> Result<()> {
        self.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.queues.wake(QUEUE, usize::MAX);
        }
        self.change();
        Ok(())
    }

    async fn pause_schedule(&self, schedule: &ScheduleState, paused: bool) -> Result<bool> {
        let done = self.timer.pause(schedule.name.clone(), paused).await?;
        self.change();
        Ok(done)
    }

    async fn remove(&self, task: &TaskName) -> Result<()> {
        // The module first: settings alone have no effect.
        for name in [format!("{task}.wasm"), format!("{task}.toml")] {
            match tokio::fs::remove_file(self.tasks.join(&name)).await {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(e).with_context(|| format!("delete {name} from the tasks folder"));
                }
                _ => {}
            }
        }
        self.change();
        Ok(())
    }

    async fn dead_letters(&self) -> Result<DeadLetters> {
        let stored = self.read(|db| letters::newest(db, DEAD_LETTERS, Letter::SHOWN_MAX)).await?;
        let letter = |stored: letters::StoredLetter| Letter {
            notes: DeadLetterAttributes::read(&stored.attributes),
            message_id: stored.message_id,
            body: stored.body,
            body_bytes: stored.body_bytes,
        };
        Ok(DeadLetters { letters: stored.into_iter().map(letter).collect(), note: None })
    }

    async fn send(&self, message: Message) -> Result<String> {
        let send = Send { body: message.to_json(), ..Send::default() };
        let sent = self.queues.send(QUEUE.to_owned(), vec![send]).await.map_err(|e| anyhow!("{e}"))?;
        let sent = sent.into_iter().next().context("the queue answers for each message")?;
        self.change();
        Ok(sent.map_err(|e| anyhow!("{e}"))?.message_id)
    }

    async fn cancel(&self, id: &str) -> Result<Cancelled> {
        let cancelled = self.runs.cancel(id.to_owned()).await?;
        self.change();
        Ok(match cancelled {
            Ok(_) => Cancelled::Yes,
            Err(state) => Cancelled::Ended(state),
        })
    }

    async fn redrive(&self, letters: Vec<String>) -> Result<u64> {
        let redriven = self.queues.redrive(DEAD_LETTERS, QUEUE, &letters).await;
        self.change();
        redriven.map_err(|e| anyhow!("{e}"))
    }

    async fn delete(&self, letters: Vec<String>) -> Result<u64> {
        let deleted = self.queues.delete_letters(DEAD_LETTERS, &letters).await;
        self.change();
        deleted.map_err(|e| anyhow!("{e}"))
    }

    fn changes(&self) -> u64 {
        *self.changes.borrow()
    }

    async fn changed(&self, seen: u64) -> u64 {
        tokio::time::sleep(EVENT_PAUSE).await;
        let mut changes = self.changes.subscribe();
        let _ = tokio::time::timeout(EVENT_EVERY, changes.wait_for(|changes| *changes > seen)).await;
        *changes.borrow()
    }
}

fn counts(db: &Connection, now: i64) -> rusqlite::Result<MessageCounts> {
    // As SQS counts: without what is older than the queue keeps.
    let sql = "SELECT count(*) FILTER (WHERE visible_ms <= ?2), count(*) FILTER (WHERE visible_ms > ?2 AND receipt <> 0),
                   count(*) FILTER (WHERE visible_ms > ?2 AND receipt = 0)
               FROM messages WHERE queue = ?1 AND sent_ms >= ?3";
    let kept_since = now - i64::from(RETENTION_SECONDS) * 1000;
    let of = |queue: &str| {
        db.prepare_cached(sql)?.query_row(params![queue, now, kept_since], |row| {
            let count = |at| Ok::<_, rusqlite::Error>(u64::try_from(row.get::<_, i64>(at)?).unwrap_or(0));
            Ok([count(0)?, count(1)?, count(2)?])
        })
    };
    let ([waiting, in_flight, delayed], dead) = (of(QUEUE)?, of(DEAD_LETTERS)?);
    let outside = u64::try_from(count_delayed(db)?).unwrap_or(0);
    Ok(MessageCounts {
        waiting,
        in_flight,
        delayed: delayed + outside,
        delayed_or_more: false,
        dead: dead.iter().sum(),
    })
}

/// The lines of a message at the end of the log.
fn log_of(data: &Path, id: &str) -> Result<Vec<LogLine>> {
    // The newest file may have begun a moment ago: the lines can be at the end of the one before.
    let mut files = log_files(data)?;
    let mut text = String::new();
    for path in files.split_off(files.len().saturating_sub(LOG_FILES)) {
        let mut file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG_BYTES)))?;
        let mut bytes = Vec::new();
        file.take(LOG_BYTES).read_to_end(&mut bytes)?;
        text += &String::from_utf8_lossy(&bytes);
        text.push('\n');
    }
    // A cheap look before each line is read.
    let wanted = serde_json::to_string(id)?;
    let mut lines: Vec<LogLine> = text
        .lines()
        .filter(|line| line.contains(&wanted))
        .filter_map(|line| LogLine::read(line, id))
        .collect();
    if lines.len() > LINES_MAX {
        lines.drain(..lines.len() - LINES_MAX);
    }
    Ok(lines)
}

/// A token that nobody can guess.
pub fn fresh_token() -> Token {
    Token::new(uuid::Uuid::new_v4().simple().to_string())
}

/// The address that opens the page of the `wasq dev` with this data folder; none if it does not run.
pub fn page_url(data: &Path) -> Option<String> {
    let LastStack { listen, .. } = LastStack::of(data).filter(|_| is_running(data))?;
    Some(url(listen, &stored_token(data)?))
}

/// The address of a page on this machine, with its token.
pub(crate) fn url(mut address: SocketAddr, token: &Token) -> String {
    if address.ip().is_unspecified() {
        address.set_ip(Ipv4Addr::LOCALHOST.into());
    }
    format!("http://{address}/?token={}", token.as_str())
}

/// The token of a stack's page: the same after a restart, so that a bookmark still opens it.
pub(crate) fn token(data: &Path) -> Result<Token> {
    if let Some(token) = stored_token(data) {
        return Ok(token);
    }
    let token = fresh_token();
    write_private(&data.join(TOKEN), token.as_str().as_bytes())?;
    Ok(token)
}

/// The file of the token in the data folder.
const TOKEN: &str = "page-token";

fn stored_token(data: &Path) -> Option<Token> {
    let text = std::fs::read_to_string(data.join(TOKEN)).ok()?;
    (text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| Token::new(text))
}
