//! wasq's worker with nothing around it: a queue, a registry and a log that take no time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::Instant;
use wasq_engine::{
    Addresses, Child, Engine, Limits, Module, Pool, Run, RunContext, SecretValues, fingerprint,
};
use wasq_protocol::{
    Artifact, Batch, ByteCount, Caps, Clock, DeadLetter, Delivery, Digest, Fingerprint, Invoke, LiveRecord,
    Outcome, SecretError, SecretSource, SecretValue, Settings, SystemClock, TaskName, Timestamp, Version,
    WORLD,
};
use wasq_runtime::{
    Answer, ArtifactError, CheckedArtifact, Checks, Finished, Observer, Parts, Ports, Queue, Registry,
    SecretStore, Visibility, Wasm, Worker, WorkerSettings,
};

/// Long enough for every run here.
const LEASE: Duration = Duration::from_secs(600);

/// A component that was compiled as the publisher does it.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) task: TaskName,
    pub(crate) module: Digest,
    pub(crate) artifact: Artifact,
    pub(crate) path: PathBuf,
}

impl Compiled {
    /// Compiles a component into `FOLDER/SHA256.cwasm`, as the worker's cache names it.
    pub(crate) fn new(task: &str, wasm: &Path, folder: &Path) -> Result<Self> {
        let wasm = std::fs::read(wasm).with_context(|| format!("read {}", wasm.display()))?;
        let compiler = Engine::compiler().map_err(|e| anyhow!("start the compiler: {e:#}"))?;
        let machine_code = compiler.compile(&wasm).with_context(|| format!("compile {task}"))?;
        let sha256 = Digest::of(&machine_code);
        let path = folder.join(format!("{sha256}.cwasm"));
        std::fs::write(&path, &machine_code).with_context(|| format!("write {}", path.display()))?;
        let bytes = machine_code.len() as u64;
        let artifact = Artifact { sha256, bytes, compiled: Timestamp::from_ms(0) };
        Ok(Self { task: task.parse()?, module: Digest::of(&wasm), artifact, path })
    }

    /// What another process has compiled.
    pub(crate) fn read(task: &str, path: &Path) -> Result<Self> {
        let machine_code = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let sha256 = Digest::of(&machine_code);
        let artifact = Artifact { sha256, bytes: machine_code.len() as u64, compiled: Timestamp::from_ms(0) };
        Ok(Self { task: task.parse()?, module: sha256, artifact, path: path.to_owned() })
    }

    /// The live record that the publisher would write.
    pub(crate) fn record(&self) -> LiveRecord {
        let long_ago = Timestamp::from_ms(0);
        let version = Version {
            version: 1,
            digest: self.module,
            world: WORLD.to_owned(),
            settings: Settings::default(),
            published: long_ago,
            artifacts: [(fingerprint(), self.artifact)].into(),
        };
        LiveRecord {
            task: self.task.clone(),
            version,
            first_published: long_ago,
            removed: None,
            history: Vec::new(),
        }
    }
}

/// The engine alone: what the worker calls for each run.
pub(crate) struct EngineAlone {
    engine: Engine,
    module: Module,
    task: TaskName,
    settings: Settings,
    secrets: SecretValues,
}

impl EngineAlone {
    pub(crate) fn new(compiled: &Compiled, concurrency: u32) -> Result<Self> {
        let engine = engine(concurrency)?;
        let module = load(&engine, &compiled.path)?;
        let (task, settings, secrets) = (compiled.task.clone(), Settings::default(), SecretValues::default());
        Ok(Self { engine, module, task, settings, secrets })
    }

    /// One run in a fresh sandbox.
    pub(crate) async fn run(&self, params: &str) -> Result<()> {
        let context = RunContext {
            task: self.task.clone(),
            id: "0".to_owned(),
            attempt: 1,
            max_attempts: 5,
            deadline: SystemClock.now().plus(LEASE),
            parent: None,
            root: "0".to_owned(),
            depth: 0,
            traceparent: None,
            trace_header: None,
        };
        let deadline = Instant::now() + LEASE;
        let run = Run { context, params, settings: &self.settings, secrets: &self.secrets, deadline };
        succeeded(&self.engine.run(&self.module, run).await.outcome)
    }
}

/// An engine with so many places, as a worker has it.
pub(crate) fn engine(concurrency: u32) -> Result<Engine> {
    let pool = Pool { concurrency, memory: Caps::default().memory };
    Engine::new(pool, Limits::default()).map_err(|e| anyhow!("start the engine: {e:#}"))
}

/// Maps and links what [`Compiled`] made.
pub(crate) fn load(engine: &Engine, artifact: &Path) -> Result<Module> {
    // Safety: compiled by ourselves, a moment ago, and nobody else has it.
    Ok(unsafe { engine.load(artifact) }?)
}

/// The whole worker, from an invoke's payload to its answer.
#[derive(Clone)]
pub(crate) struct WorkerAlone {
    worker: Worker<Nothing>,
    task: TaskName,
}

impl WorkerAlone {
    pub(crate) fn new(compiled: Compiled, concurrency: u32) -> Result<Self> {
        let settings = WorkerSettings {
            concurrency,
            memory: ByteCount(u64::MAX),
            modules_max: 64,
            modules_bytes_max: ByteCount::mib(200),
            live_ttl: Duration::from_secs(1),
            secret_ttl: Duration::from_secs(300),
            lease: LEASE,
            retention: Duration::from_secs(14 * 24 * 3600),
            caps: Caps::default(),
        };
        let (task, around) = (compiled.task.clone(), Around(Arc::new(compiled)));
        let parts = Parts {
            queue: around.clone(),
            registry: around.clone(),
            secrets: around.clone(),
            runner: Wasm::new(&settings, Addresses::default())?,
            observer: around,
            clock: SystemClock,
        };
        Ok(Self { worker: Worker::new(parts, settings), task })
    }

    /// The payload of an invoke with one message.
    pub(crate) fn message(&self, params: &str) -> String {
        format!(r#"{{"task":"{}","params":{params}}}"#, self.task)
    }

    /// The payload of an invoke with a batch of the consumer's.
    pub(crate) fn batch(&self, params: &str, messages: usize) -> Result<String> {
        let now = SystemClock.now();
        let deliveries = (0..messages).map(|i| Delivery {
            message_id: i.to_string(),
            body: self.message(params),
            receipt: i.to_string(),
            receive_count: 1,
            lease_until: now.plus(LEASE),
            first_received: now,
            sent: now,
            attributes: Default::default(),
            group: None,
            trace_header: None,
        });
        Ok(serde_json::to_string(&Batch { deliveries: deliveries.collect() })?)
    }

    /// Answers one invoke.
    pub(crate) async fn handle(&self, payload: &str) -> Result<()> {
        match self.worker.handle(payload, Invoke::until(SystemClock.now().plus(LEASE))).await? {
            Answer::Outcome(outcome) => succeeded(&outcome),
            Answer::Batch { unfinished } if unfinished.is_empty() => Ok(()),
            other => bail!("the worker answered {other:?}"),
        }
    }

    /// Runs under way.
    pub(crate) fn in_flight(&self) -> u64 {
        self.worker.in_flight()
    }
}

fn succeeded(outcome: &Outcome) -> Result<()> {
    match outcome {
        Outcome::Success { .. } => Ok(()),
        Outcome::Failure(failure) => bail!("the task failed: {failure}"),
    }
}

/// A queue that takes all, and a registry with one task.
#[derive(Clone)]
struct Around(Arc<Compiled>);

struct Nothing;

impl Ports for Nothing {
    type Queue = Around;
    type Registry = Around;
    type SecretStore = Around;
    type Runner = Wasm;
    type Observer = Around;
    type Clock = SystemClock;
}

impl Queue for Around {
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

impl Registry for Around {
    async fn live(&self, task: &TaskName) -> Result<Option<LiveRecord>> {
        Ok((self.0.task == *task).then(|| self.0.record()))
    }

    async fn artifact(
        &self,
        _: &Fingerprint,
        _: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        Checks::default().check(self.0.path.clone(), artifact).await
    }

    async fn request_artifact(&self, _: &TaskName) -> Result<()> {
        bail!("nobody compiles here")
    }
}

impl SecretStore for Around {
    async fn secret(&self, _: &str, _: &SecretSource) -> Result<SecretValue, SecretError> {
        unreachable!("no task here has secrets")
    }
}

impl Observer for Around {
    fn finished(&self, _: &Finished<'_>) {}
}
