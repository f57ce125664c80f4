//! wasq's worker with nothing around it: a queue, a registry and a log that take no time.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tokio::time::Instant;
use wasq_engine::{Engine, Limits, Module, Pool, Run, RunContext, SecretValues, Steps};
use wasq_protocol::{
    Batch, ByteCount, Caps, Clock, Invoke, ItemWrite, LiveRecord, Outcome, RunItem, SecretError,
    SecretSource, SecretStore, SecretValue, Settings, SystemClock, TaskName, Written,
};
use wasq_runtime::{
    Answer, Finished, Observer, Runs, Wasm, Worker, WorkerParts, WorkerPorts, WorkerSettings,
};
use wasq_testing::{AcceptingQueue, Tasks, delivery, worker_settings};

/// Long enough for every run here.
const LEASE: Duration = Duration::from_secs(600);

/// A compiled component, and the name of its task.
#[derive(Clone, Debug)]
pub(crate) struct Compiled {
    pub(crate) task: TaskName,
    pub(crate) code: wasq_testing::Compiled,
}

impl Compiled {
    /// Compiles a component into a file in `folder`.
    pub(crate) fn new(task: &str, wasm: &Path, folder: &Path) -> Result<Self> {
        let wasm = std::fs::read(wasm).with_context(|| format!("read {}", wasm.display()))?;
        let compiler = Engine::compiler().map_err(|e| anyhow!("start the compiler: {e:#}"))?;
        let code = wasq_testing::Compiled::compile(&compiler, &wasm, folder);
        Ok(Self { task: task.parse()?, code: code.with_context(|| format!("compile {task}"))? })
    }

    /// A component that another process has compiled.
    pub(crate) fn read(task: &str, path: &Path) -> Result<Self> {
        Ok(Self { task: task.parse()?, code: wasq_testing::Compiled::read(path)? })
    }

    /// The live record that the publisher would write.
    pub(crate) fn record(&self) -> LiveRecord {
        self.code.record(&self.task, Settings::default())
    }
}

/// The engine alone, which the worker calls for each run.
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
        let module = load(&engine, &compiled.code.path)?;
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
            descendants: None,
            traceparent: None,
            trace_header: None,
        };
        let deadline = Instant::now() + LEASE;
        let (settings, secrets, steps) = (&self.settings, &self.secrets, Steps::default());
        let run = Run { context, params, settings, secrets, steps, deadline, child_checks: None };
        succeeded(&self.engine.run(&self.module, run).await.outcome)
    }
}

/// An engine with `concurrency` slots, as a worker has it.
pub(crate) fn engine(concurrency: u32) -> Result<Engine> {
    let pool = Pool { concurrency, memory: Caps::default().memory };
    Engine::new(pool, Limits::default()).map_err(|e| anyhow!("start the engine: {e:#}"))
}

/// Maps and links the artifact that [`Compiled`] made.
pub(crate) fn load(engine: &Engine, artifact: &Path) -> Result<Module> {
    // Safety: compiled by ourselves, a moment ago, and nobody else has it.
    Ok(unsafe { engine.load(artifact) }?)
}

/// The whole worker, from an invoke's payload to its answer.
#[derive(Clone)]
pub(crate) struct WorkerAlone {
    worker: Worker<Ports>,
    task: TaskName,
    table: Option<Table>,
}

impl WorkerAlone {
    /// A worker without a table of runs.
    pub(crate) fn new(compiled: Compiled, concurrency: u32) -> Result<Self> {
        Self::with_table(compiled, concurrency, None)
    }

    /// A worker with a table of runs that takes no time.
    pub(crate) fn remembering(compiled: Compiled, concurrency: u32) -> Result<Self> {
        Self::with_table(compiled, concurrency, Some(Table::default()))
    }

    fn with_table(compiled: Compiled, concurrency: u32, table: Option<Table>) -> Result<Self> {
        let settings = WorkerSettings {
            memory: ByteCount(u64::MAX),
            modules_max: 64,
            live_ttl: Duration::from_secs(1),
            secret_ttl: Duration::from_secs(300),
            ..worker_settings(concurrency, LEASE)
        };
        let Compiled { task, code } = compiled;
        let registry = Tasks::default();
        registry.publish(&task, &code, Settings::default());
        let parts = WorkerParts::<Ports> {
            runs: table.clone(),
            timer: None,
            queue: AcceptingQueue,
            registry,
            secrets: Nobody,
            runner: Wasm::new(&settings, Limits::default())?,
            observer: Nobody,
            clock: SystemClock,
        };
        Ok(Self { worker: Worker::new(parts, settings), task, table })
    }

    /// The payload of an invoke with one message.
    pub(crate) fn message(&self, params: &str) -> String {
        format!(r#"{{"task":"{}","params":{params}}}"#, self.task)
    }

    /// The payload of an invoke with a batch from the consumer.
    pub(crate) fn batch(&self, params: &str, messages: usize) -> Result<String> {
        let deliveries = (0..messages).map(|i| delivery(&i.to_string(), self.message(params), LEASE));
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

    /// Answers one invoke whose messages the table of runs does not know yet.
    pub(crate) async fn handle_new(&self, payload: &str) -> Result<()> {
        if let Some(table) = &self.table {
            table.forget();
        }
        self.handle(payload).await
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

/// A table of runs in memory.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<String, RunItem>>>);

impl Table {
    fn forget(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl Runs for Table {
    const PARAMS_MAX: usize = 256;

    async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let write = |ItemWrite { item, replaces }: &ItemWrite| {
            let stored = items.get(&item.id);
            if stored.map(|stored| &stored.revision) != replaces.as_ref() {
                return Ok(Written::Refused(stored.cloned().map(Box::new)));
            }
            items.insert(item.id.clone(), item.clone());
            Ok(Written::Yes)
        };
        writes.iter().map(write).collect()
    }

    async fn cancelled(&self, _: &str, _: &str) {
        std::future::pending().await
    }
}

/// No task here has secrets, and nobody reads the log.
struct Nobody;

impl SecretStore for Nobody {
    async fn secret(&self, _: &str, _: &SecretSource) -> Result<SecretValue, SecretError> {
        unreachable!("no task here has secrets")
    }
}

impl Observer for Nobody {
    fn finished(&self, _: &Finished<'_>) {}
}

/// The kinds of the worker's ports.
struct Ports;

impl WorkerPorts for Ports {
    type Runs = Table;
    type Timer = std::convert::Infallible;
    type Queue = AcceptingQueue;
    type Registry = Tasks;
    type SecretStore = Nobody;
    type Runner = Wasm;
    type Observer = Nobody;
    type Clock = SystemClock;
}
