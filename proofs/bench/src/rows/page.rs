//! How long the views of the page of `wasq dev` take, with a million runs.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rusqlite::{Connection, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use wasq_protocol::{AttemptEnd, Clock, FailureKind, ItemState, RunItem, SystemClock, TaskName, Timestamp};

use super::{Bench, Rows};
use crate::report::{Table, Target};
use crate::samples::{Samples, digits};

/// Remembered runs, their tasks, and dead letters.
const RUNS: u32 = 1_000_000;
const TASKS: u32 = 20;
const LETTERS: u32 = 1000;
/// The requests of each view.
const REQUESTS: usize = 30;
/// The views, by their addresses.
const VIEWS: [(&str, &str); 14] = [
    ("overview", "/"),
    ("overview of a day", "/?span=day"),
    ("runs", "/runs"),
    ("runs of a task", "/runs?task=task-1"),
    ("runs of a state", "/runs?state=dead"),
    ("runs of a task and a state", "/runs?task=task-1&state=dead"),
    ("runs of a kind of failure", "/runs?kind=reject"),
    ("runs of a parent", "/runs?parent=run-100"),
    ("an old part of the runs", "/runs?before=100000"),
    ("an old part of the runs of a task", "/runs?task=task-1&before=100000"),
    ("one run", "/runs/run-500000"),
    ("tasks", "/tasks"),
    ("dead letters", "/dead"),
    ("send", "/send"),
];

impl Bench<'_> {
    pub(super) fn page(&self) -> Result<Rows> {
        let rows = views(&self.all.wasq, &self.all.noop, &self.folder.path().join("page"))?;
        let slowest = rows.iter().map(|(_, _, times)| times.median()).fold(0.0, f64::max);
        let table = Table {
            title: "The page with a million runs",
            about: format!(
                "Milliseconds from a request to the whole answer, over one connection, from a `wasq dev` that remembers {} \
                 runs of {TASKS} tasks and has {} dead letters. The medians of {REQUESTS} requests.",
                digits(RUNS.into()),
                digits(LETTERS.into()),
            ),
            columns: vec!["view", "address", "ms"],
            rows: rows
                .iter()
                .map(|(view, address, times)| vec![(*view).to_owned(), format!("`{address}`"), times.show()])
                .collect(),
            plot: None,
        };
        let target = Target {
            what: "the slowest view of the page, with a million runs",
            measured: format!("{} ms", digits(slowest)),
            wanted: "<= 100 ms",
            met: Some(slowest <= 100.0),
        };
        Ok((vec![target], vec![table]))
    }
}

/// Measures each view of the page of a `wasq dev` that it starts in a folder: its name, its address, and milliseconds.
pub(crate) fn views(
    wasq: &Path,
    noop: &Path,
    place: &Path,
) -> Result<Vec<(&'static str, &'static str, Samples)>> {
    let tasks = place.join("tasks");
    std::fs::create_dir_all(&tasks)?;
    std::fs::copy(noop, tasks.join("task-7.wasm")).context("put a task into the folder")?;
    // The first one makes the database.
    let dev = Dev::start(wasq, place)?;
    let live = place.join("data/registry/live/task-7.json");
    let started = Instant::now();
    while !live.exists() {
        ensure!(started.elapsed() < Duration::from_secs(60), "the task does not go live");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(dev);
    fill(&place.join("data/queue.sqlite"))?;
    let dev = Dev::start(wasq, place)?;
    // It counts the newest runs for the overview first.
    std::thread::sleep(Duration::from_secs(5));
    Runtime::new()?.block_on(async {
        let mut page = dev.page().await?;
        let mut rows = Vec::new();
        for (view, address) in VIEWS {
            // The first request finds nothing in the caches.
            page.get(address).await?;
            let mut times = Vec::with_capacity(REQUESTS);
            for _ in 0..REQUESTS {
                times.push(page.get(address).await?);
            }
            rows.push((view, address, Samples::new(times)));
        }
        Ok(rows)
    })
}

/// Writes runs and dead letters into the database of a `wasq dev` that has ended.
fn fill(database: &Path) -> Result<()> {
    let mut connection = Connection::open(database).context("open the database of `wasq dev`")?;
    let transaction = connection.transaction()?;
    let now = SystemClock.now();
    {
        let mut insert = transaction.prepare(
            "INSERT INTO runs (id, message_id, revision, state, task, kind, parent, expires_ms, item)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for number in 0..RUNS {
            let item = item(number, now)?;
            insert.execute(params![
                item.id,
                item.message_id,
                item.revision,
                item.state.as_str(),
                item.task.as_ref().map(TaskName::as_str),
                item.kind.map(FailureKind::as_str),
                item.parent,
                i64::try_from(item.expires * 1000)?,
                serde_json::to_string(&item)?,
            ])?;
        }
        let mut insert = transaction.prepare(
            "INSERT INTO messages (queue, id, body, attributes, sent_ms, visible_ms) VALUES ('wasq-dead-letters', ?1, ?2, '{}', ?3, ?3)",
        )?;
        for number in 0..LETTERS {
            let body =
                format!(r#"{{"task":"task-{}","params":{{"user":"javimb-{number}"}}}}"#, number % TASKS);
            insert.execute(params![format!("letter-{number}"), body, i64::try_from(now.ms())?])?;
        }
    }
    transaction.commit().context("fill the database of `wasq dev`")
}

/// One of the runs: of each hundred, two are dead, one waits for its next attempt, and ten have a parent.
fn item(number: u32, now: Timestamp) -> Result<RunItem> {
    let ago = |seconds: u64| now.minus(Duration::from_secs(seconds));
    // The newest ended now, and the oldest a day ago.
    let ended = ago(u64::from(RUNS - number) * 24 * 3600 / u64::from(RUNS));
    let (state, kind) = match number % 100 {
        1 | 2 => (ItemState::Dead, Some(FailureKind::Reject)),
        3 => (ItemState::Retrying, Some(FailureKind::Retry)),
        _ => (ItemState::Done, None),
    };
    let mut item = RunItem::new(format!("run-{number}"), state, ended);
    item.task = Some(format!("task-{}", number % TASKS).parse().context("a name")?);
    item.params_json = Some(RawValue::from_string(format!(r#"{{"user":"javimb-{number}"}}"#))?);
    item.message_id = Some(format!("00000000-0000-0000-0000-{number:012}"));
    item.revision = format!("{number:032x}");
    item.attempts = 1;
    item.sent = Some(ended.minus(Duration::from_secs(1)));
    item.started = item.sent;
    item.ended = state.is_end().then_some(ended);
    if (10..20).contains(&(number % 100)) {
        item.parent = Some(format!("run-{}", number / 100 * 100));
    }
    if let Some(kind) = kind {
        item.set_failure(kind, "no such user");
    } else {
        item.result = Some(RawValue::from_string(r#"["https://github.com/javimb/wasq"]"#.to_owned())?);
    }
    let reason = item.reason.clone();
    let (run_ms, peak_memory_bytes) = (12.5, 1_114_632);
    item.add_attempt(AttemptEnd {
        attempt: 1,
        ended,
        run_ms,
        peak_memory_bytes,
        kind,
        reason,
        module: None,
        request_id: None,
    });
    item.keep_for(Duration::from_secs(7 * 24 * 3600), now);
    Ok(item)
}

/// A `wasq dev`, ended when it is dropped.
struct Dev {
    process: Child,
    said: Said,
    _stdout: BufReader<ChildStdout>,
}

/// The line that it prints when it is ready.
#[derive(Deserialize)]
struct Said {
    page: String,
}

impl Dev {
    fn start(wasq: &Path, place: &Path) -> Result<Self> {
        let mut process = Command::new(wasq)
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--log", "error", "--tasks"])
            .arg(place.join("tasks"))
            .arg("--data")
            .arg(place.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", wasq.display()))?;
        let mut stdout = BufReader::new(process.stdout.take().context("its stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line).context("read what wasq dev says")?;
        let said = serde_json::from_str(&line).with_context(|| format!("read what wasq dev says: {line}"))?;
        Ok(Self { process, said, _stdout: stdout })
    }

    /// Its page, over a connection that stays open.
    async fn page(&self) -> Result<Page> {
        let address = self.said.page.strip_prefix("http://").context("an address")?;
        let (host, token) = address.split_once("/?token=").context("an address with a token")?;
        let port = host.rsplit(':').next().context("a port")?;
        let stream = TcpStream::connect(host).await.context("connect to the page")?;
        stream.set_nodelay(true)?;
        let (requests, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Page { requests, host: host.to_owned(), cookie: format!("wasq-page-{port}={token}") })
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Page {
    requests: SendRequest<Empty<Bytes>>,
    host: String,
    cookie: String,
}

impl Page {
    /// Reads a view. Returns the milliseconds that it took.
    async fn get(&mut self, address: &str) -> Result<f64> {
        self.requests.ready().await?;
        let request = Request::get(address).header("host", &self.host).header("cookie", &self.cookie);
        let started = Instant::now();
        let response = self.requests.send_request(request.body(Empty::new())?).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        let took = started.elapsed();
        ensure!(status.is_success(), "{address}: {status}: {}", String::from_utf8_lossy(&body));
        Ok(took.as_secs_f64() * 1000.0)
    }
}
