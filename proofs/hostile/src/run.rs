//! Runs hostile guests in a worker, each in one batch with an honest neighbour.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use wasq_engine::{Addresses, Engine, Limits, LoadError};
use wasq_protocol::{
    Batch, ByteCount, Clock, Invoke, Outcome, RunRecord, Secret, SecretError, SecretSource, SecretStore,
    SecretValue, Settings, SystemClock, TaskName,
};
use wasq_runtime::{Finished, Observer, Wasm, Worker, WorkerParts, WorkerPorts, WorkerSettings};
use wasq_testing::{AcceptingQueue, Compiled, Tasks, delivery, worker_settings};

use crate::corpus::{Code, End, Guest};
use crate::server;

/// A worker as on Lambda, a publisher's compiler, and a hostile server.
pub struct Host {
    worker: Worker<Ports>,
    compiler: Engine,
    verbs: Compiled,
    tasks: Tasks,
    reports: Reports,
    /// The names of the guest and of its neighbour.
    hostile: TaskName,
    neighbour: TaskName,
    server: SocketAddr,
    folder: TempDir,
}

/// The observations of a hostile guest and of its neighbour.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How it ended, in a word: a kind of failure, `refused` or `success`.
    pub end: String,
    /// The message of the failure, the reason of the refusal, or the output.
    pub message: String,
    /// How long it ran, or how long it took to refuse it.
    pub took: Duration,
    /// How long its neighbour ran.
    pub neighbour: Duration,
    /// The differences from the expected result; empty if there are none.
    pub problems: Vec<String>,
}

/// Slots for the guest, its neighbour, and one more.
const SLOTS: u32 = 3;
/// The limits of the guests. They are small, so that the guests reach them soon.
const TIMEOUT: Duration = Duration::from_secs(1);
const MEMORY: ByteCount = ByteCount::mib(32);
const LEASE: Duration = Duration::from_secs(60);

impl Host {
    /// Starts the worker; `verbs` is the tests' guest, as `cargo xtask guests --build` makes it.
    pub async fn start(verbs: &Path) -> Result<Self> {
        let server = server::start().await.context("start the server")?;
        // The only loopback address that is allowed: the hostile server's.
        let addresses =
            Addresses { allow: vec!["127.0.0.1".parse().map_err(|e| anyhow!("{e}"))?], never: Vec::new() };
        let settings = WorkerSettings {
            retention: Duration::from_secs(14 * 24 * 3600),
            ..worker_settings(SLOTS, LEASE)
        };
        let (tasks, reports) = (Tasks::default(), Reports::default());
        let parts = WorkerParts::<Ports> {
            runs: None,
            timer: None,
            queue: AcceptingQueue,
            registry: tasks.clone(),
            secrets: reports.clone(),
            runner: Wasm::new(&settings, Limits { addresses, ..Limits::default() })?,
            observer: reports.clone(),
            clock: SystemClock,
        };
        let worker = Worker::new(parts, settings);
        let wasm = std::fs::read(verbs)
            .with_context(|| format!("read {}; `cargo xtask guests --build` makes it", verbs.display()))?;
        let compiler = Engine::compiler().map_err(|e| anyhow!("start the compiler: {e:#}"))?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let verbs = Compiled::compile(&compiler, &wasm, folder.path())?;
        let name = |name: &str| name.parse::<TaskName>().expect("a name");
        let (hostile, neighbour) = (name("hostile"), name("neighbour"));
        Ok(Self { worker, compiler, verbs, tasks, reports, hostile, neighbour, server, folder })
    }

    /// Compiles a guest while its neighbour runs, and then runs both in one batch.
    pub async fn run(&self, guest: &Guest) -> Result<Seen> {
        let started = Instant::now();
        let neighbour = Settings { timeout: Duration::from_secs(20), ..Settings::default() };
        self.tasks.publish(&self.neighbour, &self.verbs, neighbour);
        let honest = json!({ "task": self.neighbour, "params": { "verb": "alloc", "mib": 4 } });
        let (compiled, beside) = tokio::join!(self.compiled(guest), self.hand_over([honest.to_string()]));
        let (compiled, [beside]) = (compiled?, beside?);
        let mut problems = Vec::new();
        let (end, message, took, neighbour) = match compiled {
            Prepared::Refused(why) => ("refused".to_owned(), why, started.elapsed(), beside),
            Prepared::Ready(compiled, params) => {
                self.tasks.publish(&self.hostile, &compiled, self.settings());
                let hostile = format!("{{\"task\": \"{}\", \"params\": {params}}}", self.hostile);
                let [hostile, neighbour] = self.hand_over([hostile, honest.to_string()]).await?;
                let end = hostile.record.kind.map_or("success".to_owned(), |kind| kind.to_string());
                let message = match hostile.outcome {
                    Outcome::Success { output } => {
                        let mut output = output.get().to_owned();
                        output.truncate(output.floor_char_boundary(200));
                        output
                    }
                    Outcome::Failure(failure) => failure.message,
                };
                (end, message, milliseconds(hostile.record.run_ms), neighbour)
            }
        };
        let expected = match guest.end {
            End::Fails(kind) => kind.as_str(),
            End::Refused => "refused",
            End::Harmless => "success",
        };
        if end != expected {
            problems.push(format!("expected {expected}, found {end}: {message}"));
        } else if !message.contains(guest.says) {
            problems.push(format!("expected a message with {:?} in it, found {message}", guest.says));
        }
        match &neighbour.outcome {
            Outcome::Success { output } => {
                let output: Value = serde_json::from_str(output.get())?;
                ensure!(output == 4 << 20, "the neighbour computed {output}");
            }
            Outcome::Failure(failure) => problems.push(format!("its neighbour failed: {failure}")),
        }
        Ok(Seen { end, message, took, neighbour: milliseconds(neighbour.record.run_ms), problems })
    }

    /// Compiles a guest as the publisher would.
    async fn compiled(&self, guest: &Guest) -> Result<Prepared> {
        let wasm = match &guest.code {
            Code::Verb(params) => {
                let server = format!("http://{}", self.server);
                let params = params.to_string().replace("http://SERVER", &server);
                let params = params.replace("SERVER", &self.server.to_string());
                return Ok(Prepared::Ready(self.verbs.clone(), params));
            }
            Code::Text(text) => wat::parse_str(text).context(guest.name)?,
            Code::Binary(wasm) => wasm.clone(),
        };
        let (compiler, folder) = (self.compiler.clone(), self.folder.path().to_owned());
        let compiling = tokio::task::spawn_blocking(move || Compiled::compile(&compiler, &wasm, &folder));
        match compiling.await.context("the compiler panicked")? {
            Ok(compiled) => Ok(Prepared::Ready(compiled, "{}".to_owned())),
            Err(e) if e.is::<LoadError>() => Ok(Prepared::Refused(e.to_string())),
            Err(e) => Err(e),
        }
    }

    fn settings(&self) -> Settings {
        let server = format!("http://{}", self.server);
        let hosts =
            [server.as_str(), "http://169.254.169.254", "http://localhost:1", "http://[::ffff:10.0.0.1]"];
        let allow_hosts = hosts.map(|host| host.parse().expect("a valid entry")).into();
        // The maximum number of secrets, so that the worker searches the guest's texts for all of them.
        let secrets = (0..32).map(|i| {
            let from = format!("ssm:/wasq/{i}").parse().expect("a source");
            (format!("SECRET_{i}"), Secret { from, expose: true, hosts: Vec::new() })
        });
        let secrets = secrets.collect();
        Settings { timeout: TIMEOUT, memory: MEMORY, allow_hosts, secrets, ..Settings::default() }
    }

    /// Hands messages over in one batch, as the consumer does, and waits until the worker has dealt with all of them.
    async fn hand_over<const N: usize>(&self, bodies: [String; N]) -> Result<[Told; N]> {
        let deliveries = bodies.into_iter().enumerate();
        let deliveries = deliveries.map(|(i, body)| delivery(&i.to_string(), body, LEASE));
        let event = serde_json::to_string(&Batch { deliveries: deliveries.collect() })?;
        self.worker.handle(&event, Invoke::until(SystemClock.now().plus(LEASE))).await?;
        let mut told = std::mem::take(&mut *self.reports.0.lock().expect("nobody panics with it"));
        told.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        let count = told.len();
        <[Told; N]>::try_from(told).map_err(|_| anyhow!("{N} deliveries, but the worker reported {count}"))
    }
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

/// A guest before its run.
enum Prepared {
    /// Its component, and the params of its run.
    Ready(Compiled, String),
    /// The reason for its refusal.
    Refused(String),
}

/// The worker's report of a delivery.
struct Told {
    record: RunRecord,
    outcome: Outcome,
}

/// The worker's reports, and a value for every secret.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Told>>>);

impl SecretStore for Reports {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        Ok(SecretValue::new(format!("-----a value-----\nof several lines\n{from}\n")))
    }
}

impl Observer for Reports {
    fn finished(&self, finished: &Finished<'_>) {
        let told = Told { record: finished.record.clone(), outcome: finished.outcome.clone() };
        self.0.lock().expect("nobody panics with it").push(told);
    }
}

/// The kinds of the worker's ports.
struct Ports;

impl WorkerPorts for Ports {
    type Runs = std::convert::Infallible;
    type Timer = std::convert::Infallible;
    type Queue = AcceptingQueue;
    type Registry = Tasks;
    type SecretStore = Reports;
    type Runner = Wasm;
    type Observer = Reports;
    type Clock = SystemClock;
}
