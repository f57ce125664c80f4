//! Runs hostile guests in a worker, each in one batch with an honest neighbour.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;
use wasq_engine::{Addresses, Child, Engine, fingerprint};
use wasq_protocol::{
    Artifact, Batch, ByteCount, Caps, Clock, DeadLetter, Delivery, Digest, Fingerprint, Invoke, LiveRecord,
    Outcome, RunRecord, Secret, SecretError, SecretSource, SecretValue, Settings, SystemClock, TaskName,
    Timestamp, Version, WORLD,
};
use wasq_runtime::{
    ArtifactError, CheckedArtifact, Checks, Finished, Observer, Parts, Ports, Queue, Registry, SecretStore,
    Visibility, Wasm, Worker, WorkerSettings,
};

use crate::corpus::{Code, End, Guest};
use crate::server;

/// A worker as Lambda has it, a publisher's compiler, and a server that means harm.
pub struct Host {
    worker: Worker<Local>,
    compiler: Engine,
    verbs: Published,
    surroundings: Surroundings,
    server: SocketAddr,
    folder: TempDir,
}

/// What was seen of a hostile guest, and of its neighbour.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How it ended, in a word: a kind of failure, `refused` or `success`.
    pub end: String,
    /// What was said of it: the limit, and what was reached.
    pub message: String,
    /// How long it ran, or how long it took to refuse it.
    pub took: Duration,
    /// How long its neighbour ran.
    pub neighbour: Duration,
    /// In what this was not as it must be; empty if it was.
    pub problems: Vec<String>,
}

/// Places for the guest, its neighbour, and one to spare.
const PLACES: u32 = 3;
/// Few: what the guests were is not to be kept.
const MODULES_MAX: usize = 4;
/// What the guests are given. Small, so that they are at their limits soon.
const TIMEOUT: Duration = Duration::from_secs(1);
const MEMORY: ByteCount = ByteCount::mib(32);
const LEASE: Duration = Duration::from_secs(60);

const HOSTILE: &str = "hostile";
const NEIGHBOUR: &str = "neighbour";

impl Host {
    /// Starts the worker; `verbs` is the tests' guest, as `cargo xtask guests --build` makes it.
    pub async fn start(verbs: &Path) -> Result<Self> {
        let server = server::start().await.context("start the server")?;
        // Of loopback, only the server that means harm.
        let addresses =
            Addresses { allow: vec!["127.0.0.1".parse().map_err(|e| anyhow!("{e}"))?], never: Vec::new() };
        let settings = WorkerSettings {
            concurrency: PLACES,
            memory: ByteCount::mib(4096),
            modules_max: MODULES_MAX,
            modules_bytes_max: ByteCount::mib(200),
            live_ttl: Duration::ZERO,
            secret_ttl: Duration::ZERO,
            lease: LEASE,
            retention: Duration::from_secs(14 * 24 * 3600),
            caps: Caps::default(),
        };
        let surroundings = Surroundings::default();
        let parts = Parts {
            queue: surroundings.clone(),
            registry: surroundings.clone(),
            secrets: surroundings.clone(),
            runner: Wasm::new(&settings, addresses)?,
            observer: surroundings.clone(),
            clock: SystemClock,
        };
        let worker = Worker::new(parts, settings);
        let wasm = std::fs::read(verbs)
            .with_context(|| format!("read {}; `cargo xtask guests --build` makes it", verbs.display()))?;
        let compiler = Engine::compiler().map_err(|e| anyhow!("start the compiler: {e:#}"))?;
        let folder = tempfile::tempdir().context("make a folder")?;
        let verbs = compile(&compiler, &wasm, folder.path().join("verbs.cwasm"))?.map_err(|e| anyhow!(e))?;
        Ok(Self { worker, compiler, verbs, surroundings, server, folder })
    }

    /// Compiles a guest while its neighbour runs, and then runs both in one batch.
    pub async fn run(&self, guest: &Guest) -> Result<Seen> {
        let started = Instant::now();
        let neighbour = Settings { timeout: Duration::from_secs(20), ..Settings::default() };
        self.surroundings.publish(NEIGHBOUR, &self.verbs, neighbour);
        let honest = json!({ "task": NEIGHBOUR, "params": { "verb": "alloc", "mib": 4 } });
        let (compiled, beside) = tokio::join!(self.compiled(guest), self.hand_over([honest.to_string()]));
        let (compiled, [beside]) = (compiled?, beside?);
        let mut problems = Vec::new();
        let (end, message, took, neighbour) = match compiled {
            Err(why) => ("refused".to_owned(), why, started.elapsed(), beside),
            Ok((published, params)) => {
                self.surroundings.publish(HOSTILE, &published, self.settings());
                let hostile = format!("{{\"task\": \"{HOSTILE}\", \"params\": {params}}}");
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

    /// Compiles a guest as the publisher would, and says with which params it is run; or why it is refused.
    async fn compiled(&self, guest: &Guest) -> Result<Result<(Published, String), String>> {
        let wasm = match &guest.code {
            Code::Verb(params) => {
                let server = format!("http://{}", self.server);
                let params = params.to_string().replace("http://SERVER", &server);
                return Ok(Ok((self.verbs.clone(), params.replace("SERVER", &self.server.to_string()))));
            }
            Code::Text(text) => wat::parse_str(text).context(guest.name)?,
            Code::Binary(wasm) => wasm.clone(),
        };
        let (compiler, path) = (self.compiler.clone(), self.folder.path().join("hostile.cwasm"));
        let compiling = tokio::task::spawn_blocking(move || compile(&compiler, &wasm, path));
        let compiled = compiling.await.context("the compiler panicked")??;
        Ok(compiled.map(|published| (published, "{}".to_owned())))
    }

    fn settings(&self) -> Settings {
        let server = format!("http://{}", self.server);
        let hosts =
            [server.as_str(), "http://169.254.169.254", "http://localhost:1", "http://[::ffff:10.0.0.1]"];
        let allow_hosts = hosts.map(|host| host.parse().expect("a valid entry")).into();
        // As many as there can be, so that all that a guest says is searched for them.
        let secrets = (0..32).map(|i| {
            let from = format!("ssm:/wasq/{i}").parse().expect("a source");
            (format!("SECRET_{i}"), Secret { from, expose: true, hosts: Vec::new() })
        });
        let secrets = secrets.collect();
        Settings { timeout: TIMEOUT, memory: MEMORY, allow_hosts, secrets, ..Settings::default() }
    }

    /// Hands messages over in one batch, as the consumer does, and waits until the worker has dealt with all of them.
    async fn hand_over<const N: usize>(&self, bodies: [String; N]) -> Result<[Told; N]> {
        let now = SystemClock.now();
        let deliveries = bodies.into_iter().enumerate().map(|(i, body)| Delivery {
            message_id: i.to_string(),
            body,
            receipt: i.to_string(),
            receive_count: 1,
            lease_until: now.plus(LEASE),
            first_received: now,
            sent: now,
            attributes: Default::default(),
            group: None,
            trace_header: None,
        });
        let event = serde_json::to_string(&Batch { deliveries: deliveries.collect() })?;
        self.worker.handle(&event, Invoke::until(now.plus(LEASE))).await?;
        let mut told = std::mem::take(&mut *self.surroundings.0.told.lock().expect("nobody panics with it"));
        told.sort_by(|one, other| one.record.id.cmp(&other.record.id));
        let count = told.len();
        <[Told; N]>::try_from(told).map_err(|_| anyhow!("{N} deliveries, and the worker told of {count}"))
    }
}

fn milliseconds(ms: f64) -> Duration {
    Duration::from_secs_f64(ms / 1000.0)
}

/// Compiles a component into a file; the inner error is its own fault.
fn compile(compiler: &Engine, wasm: &[u8], path: PathBuf) -> Result<Result<Published, String>> {
    let machine_code = match compiler.compile(wasm) {
        Ok(machine_code) => machine_code,
        Err(e) => return Ok(Err(e.to_string())),
    };
    // A file for each, written once: it may still be mapped.
    let sha256 = Digest::of(&machine_code);
    let path = path.with_extension(format!("{sha256}.cwasm"));
    if !path.exists() {
        std::fs::write(&path, &machine_code).with_context(|| format!("write {}", path.display()))?;
    }
    let artifact = Artifact { sha256, bytes: machine_code.len() as u64, compiled: Timestamp::from_ms(0) };
    Ok(Ok(Published { digest: Digest::of(wasm), artifact, path }))
}

/// A component that was compiled.
#[derive(Clone)]
struct Published {
    digest: Digest,
    artifact: Artifact,
    path: PathBuf,
}

/// What the worker told of a delivery.
struct Told {
    record: RunRecord,
    outcome: Outcome,
}

/// Everything around the worker: a queue that takes all, a registry with what was published last, and what was told.
#[derive(Clone, Default)]
struct Surroundings(Arc<State>);

#[derive(Default)]
struct State {
    live: Mutex<HashMap<TaskName, (LiveRecord, PathBuf)>>,
    told: Mutex<Vec<Told>>,
}

impl Surroundings {
    fn publish(&self, task: &str, published: &Published, settings: Settings) {
        let Published { digest, artifact, path } = published.clone();
        let task: TaskName = task.parse().expect("a name");
        let long_ago = Timestamp::from_ms(0);
        let version = Version {
            version: 1,
            digest,
            world: WORLD.to_owned(),
            settings,
            published: long_ago,
            artifacts: [(fingerprint(), artifact)].into(),
        };
        let record = LiveRecord {
            task: task.clone(),
            version,
            first_published: long_ago,
            removed: None,
            history: Vec::new(),
        };
        self.0.live.lock().expect("nobody panics with it").insert(task, (record, path));
    }
}

struct Local;

impl Ports for Local {
    type Queue = Surroundings;
    type Registry = Surroundings;
    type SecretStore = Surroundings;
    type Runner = Wasm;
    type Observer = Surroundings;
    type Clock = SystemClock;
}

impl Queue for Surroundings {
    async fn set_visibility(&self, entries: Vec<Visibility>) -> Vec<Result<()>> {
        entries.iter().map(|_| Ok(())).collect()
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        receipts.iter().map(|_| Ok(())).collect()
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        children.iter().map(|_| Ok(())).collect()
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        letters.iter().map(|_| Ok(())).collect()
    }
}

impl Registry for Surroundings {
    async fn live(&self, task: &TaskName) -> Result<Option<LiveRecord>> {
        let live = self.0.live.lock().expect("nobody panics with it");
        Ok(live.get(task).map(|(record, _)| record.clone()))
    }

    async fn artifact(
        &self,
        _: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        let path = {
            let live = self.0.live.lock().expect("nobody panics with it");
            let found = live.values().find(|(record, _)| record.version.digest == *module);
            found.map(|(_, path)| path.clone())
        };
        let path = path.ok_or_else(|| ArtifactError::Missing("it is not there".to_owned()))?;
        Checks::default().check(path, artifact).await
    }

    async fn request_artifact(&self, _: &TaskName) -> Result<()> {
        Ok(())
    }
}

impl SecretStore for Surroundings {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        Ok(SecretValue::new(format!("-----a value-----\nof several lines\n{from}\n")))
    }
}

impl Observer for Surroundings {
    fn finished(&self, finished: &Finished<'_>) {
        let told = Told { record: finished.record.clone(), outcome: finished.outcome.clone() };
        self.0.told.lock().expect("nobody panics with it").push(told);
    }
}
