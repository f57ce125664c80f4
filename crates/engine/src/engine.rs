//! The engine: made once per process; loads components, and runs each in a fresh sandbox.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};
use wasq_protocol::{ByteCount, Failure, FailureKind, Outcome, format_duration};

use crate::bindings::wasq::task::outcome::Failure as TaskFailure;
use crate::bindings::{Task, TaskPre};
use crate::capture::RunLog;
use crate::config::{self, Pool};
use crate::host::divide_budget;
use crate::limits::Limits;
use crate::outgoing::{Exchange, HttpClient, Outgoing, Responder};
use crate::resolver::{Resolver, System};
use crate::run::{Report, Run};
use crate::secrets::RunSecrets;
use crate::state::{NewRun, RunState};

/// The length of an epoch: the longest time that a computing task keeps its thread from other tasks.
const EPOCH_TICK: Duration = Duration::from_millis(10);
/// The most data that one call may carry from the guest to the host, roughly in bytes. This is more than any
/// of our limits on the contents of a call, and too little to hurt the process.
const HOSTCALL_BYTES_MAX: usize = 16 << 20;

/// wasmtime's engine, our linker and the HTTP client. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(crate) wasmtime: wasmtime::Engine,
    linker: Arc<Linker<RunState>>,
    http: Exchange,
    limits: Arc<Limits>,
}

/// A component that is linked, type-checked and ready to run.
#[derive(Clone)]
pub struct Module(Arc<TaskPre<RunState>>);

/// Why a component cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Its machine code cannot be read: truncated, damaged, or made for another engine.
    #[error("load the artifact: {0}")]
    Artifact(String),
    /// The file does not begin like a component; the text says what kind of file it is.
    #[error("{0}")]
    NoComponent(String),
    /// It is no valid component.
    #[error("not a valid component: {0}")]
    Component(String),
    /// Its compilation would cost far more than its size suggests; the text names the part and the limit.
    #[error("too costly to compile: {0}")]
    TooCostly(String),
    /// It does not fit the world; the text names the interface and function.
    #[error("the component does not fit the world wasq:task/task: {0}")]
    World(String),
}

impl Engine {
    /// An engine that runs `pool.concurrency` tasks at once. If there is not enough address space for the
    /// pool, memory is allocated on demand: this is slower, and otherwise the same.
    pub fn new(pool: Pool, limits: Limits) -> wasmtime::Result<Self> {
        let wasmtime = match wasmtime::Engine::new(&config::config(Some(pool))?) {
            Ok(engine) => engine,
            Err(e) => {
                tracing::warn!("no pool for {} runs, allocating on demand: {e:#}", pool.concurrency);
                wasmtime::Engine::new(&config::config(None)?)?
            }
        };
        tick_epochs(&wasmtime)?;
        Self::with(wasmtime, limits)
    }

    /// An engine that only compiles; nothing would interrupt a run in it. It has the pool of a worker with
    /// the default caps. So it refuses components that no worker could hold: too many memories or tables, or
    /// too large ones.
    #[cfg(feature = "compiler")]
    pub fn compiler() -> wasmtime::Result<Self> {
        Self::with_compiler(None)
    }

    /// As [`Engine::compiler`], with a cache of compiled functions. The machine code is the same.
    ///
    /// The machine code in the cache is executed, so only this user and this program may write it.
    #[cfg(feature = "compiler")]
    pub fn compiler_with(cache: Arc<dyn wasmtime::CacheStore>) -> wasmtime::Result<Self> {
        Self::with_compiler(Some(cache))
    }

    #[cfg(feature = "compiler")]
    fn with_compiler(cache: Option<Arc<dyn wasmtime::CacheStore>>) -> wasmtime::Result<Self> {
        let pool = Pool { concurrency: 1, memory: wasq_protocol::Caps::default().memory };
        let mut config = config::config(Some(pool))?;
        if let Some(cache) = cache {
            config.enable_incremental_compilation(cache)?;
        }
        Self::with(wasmtime::Engine::new(&config)?, Limits::default())
    }

    /// The same engine, but its tasks reach only this responder.
    pub fn answered_by(self, responder: Arc<dyn Responder>) -> Self {
        Self { http: Exchange::Responder(responder), ..self }
    }

    /// The same engine with another resolver, and so with connections of its own.
    pub fn resolved_by(self, resolver: Arc<dyn Resolver>) -> Self {
        Self { http: Exchange::Network(Arc::new(HttpClient::new(&self.limits, resolver))), ..self }
    }

    fn with(wasmtime: wasmtime::Engine, limits: Limits) -> wasmtime::Result<Self> {
        let mut linker = Linker::new(&wasmtime);
        wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
        wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
        Task::add_to_linker::<_, HasSelf<RunState>>(&mut linker, |state| state)?;
        let http = Exchange::Network(Arc::new(HttpClient::new(&limits, Arc::new(System::default()))));
        Ok(Self { wasmtime, linker: Arc::new(linker), http, limits: Arc::new(limits) })
    }

    /// Maps an artifact and links it.
    ///
    /// # Safety
    ///
    /// The file must be an artifact that our own publisher made, and must not change while the module lives:
    /// its machine code is executed as it is. First compare its digest with the live record's digest.
    pub unsafe fn load(&self, artifact: &Path) -> Result<Module, LoadError> {
        // Safety: the caller's.
        let component = unsafe { Component::deserialize_file(&self.wasmtime, artifact) }
            .map_err(|e| LoadError::Artifact(format!("{e:#}")))?;
        self.link(&component)
    }

    /// As [`Engine::load`], from memory.
    ///
    /// # Safety
    ///
    /// As for [`Engine::load`].
    pub unsafe fn load_bytes(&self, artifact: &[u8]) -> Result<Module, LoadError> {
        // Safety: the caller's.
        let component = unsafe { Component::deserialize(&self.wasmtime, artifact) }
            .map_err(|e| LoadError::Artifact(format!("{e:#}")))?;
        self.link(&component)
    }

    pub(crate) fn link(&self, component: &Component) -> Result<Module, LoadError> {
        self.linker
            .instantiate_pre(component)
            .and_then(TaskPre::new)
            .map(|task| Module(Arc::new(task)))
            .map_err(|e| LoadError::World(format!("{e:#}")))
    }

    /// Runs a task once, in a sandbox of its own. The answer is always a report, whatever the task does.
    pub async fn run(&self, module: &Module, run: Run<'_>) -> Report {
        let Run { context, params, settings, secrets, steps, deadline, child_checks } = run;
        let started = Instant::now();
        let secrets = RunSecrets::new(&settings.secrets, secrets);
        let context = Arc::new(context);
        let log = RunLog::new(context.clone(), &self.limits, secrets.clone());
        let outgoing = Outgoing::new(
            context.clone(),
            started,
            self.http.clone(),
            settings,
            secrets.clone(),
            log.clone(),
            self.limits.clone(),
        );
        let state = RunState::new(NewRun {
            context,
            log,
            limits: self.limits.clone(),
            memory_bytes_max: settings.memory.0,
            outgoing,
            secrets,
            steps,
            child_checks,
            env: &settings.env,
        });
        let mut store = Store::new(&self.wasmtime, state);
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(HOSTCALL_BYTES_MAX);
        // At every tick, a computing task yields its thread. Its timeout is checked at the same time.
        store.set_epoch_deadline(1);
        store.epoch_deadline_async_yield_and_update(1);
        let ended = tokio::time::timeout_at(deadline, async {
            let task = module.0.instantiate_async(&mut store).await?;
            task.call_run(&mut store, params).await
        })
        .await;
        let duration = started.elapsed();
        let state = store.data_mut();
        state.log.finish();
        let outcome = match ended {
            Ok(Ok(Ok(output))) => self.output(output),
            Ok(Ok(Err(failure))) => Outcome::Failure(task_failure(failure)),
            Ok(Err(error)) => Outcome::Failure(platform_failure(&error, state)),
            Err(_) => Outcome::Failure(Failure::new(
                FailureKind::OutOfTime,
                format!("not done after {}", format_duration(duration)),
            )),
        };
        let steps = state.steps.take();
        let outcome = match (outcome, steps.failed) {
            // The message is not at fault, whatever the task made of it. A result without a step that was refused is none.
            (Outcome::Failure(_), Some(why)) => Outcome::Failure(Failure::new(FailureKind::Unavailable, why)),
            (Outcome::Success { .. }, Some(why)) if steps.refused => {
                Outcome::Failure(Failure::new(FailureKind::Unavailable, why))
            }
            (outcome, _) => outcome,
        };
        // Redact before cutting: half a secret would not be recognised.
        let outcome = cut(state.secrets.redact_outcome(outcome, REASON_BYTES_MAX));
        let mut children = match outcome {
            Outcome::Success { .. } => std::mem::take(&mut state.children),
            Outcome::Failure(_) => Vec::new(),
        };
        divide_budget(&mut children, &state.context, &state.limits);
        let (log, log_dropped) = state.log.take();
        Report {
            outcome,
            children,
            steps: steps.saved,
            log,
            log_dropped,
            duration,
            peak_memory: state.memory.peak,
            denied: state.outgoing.denied(),
            requests: state.outgoing.sent(),
        }
    }

    fn output(&self, output: String) -> Outcome {
        let max = self.limits.output_bytes_max;
        if output.len() > max {
            let message = format!("the result has {} bytes; the most is {max}", output.len());
            return Outcome::Failure(Failure::new(FailureKind::OutputTooLarge, message));
        }
        match serde_json::from_str(&output) {
            Ok(output) => Outcome::Success { output },
            Err(e) => {
                let message = format!("the result is not JSON: {e}");
                Outcome::Failure(Failure::new(FailureKind::OutputNotJson, message))
            }
        }
    }
}

/// Converts a failure that the task itself returned.
fn task_failure(failure: TaskFailure) -> Failure {
    match failure {
        TaskFailure::Retry(reason) => Failure::new(FailureKind::Retry, reason),
        TaskFailure::RetryAfter(after) => Failure {
            kind: FailureKind::Retry,
            message: after.reason,
            retry_after_seconds: Some(after.seconds),
        },
        TaskFailure::Reject(reason) => Failure::new(FailureKind::Reject, reason),
    }
}

/// The bytes of a reason that are kept; the reason goes into log lines and attributes.
const REASON_BYTES_MAX: usize = 4 << 10;

fn cut(mut outcome: Outcome) -> Outcome {
    if let Outcome::Failure(Failure { message, .. }) = &mut outcome
        && message.len() > REASON_BYTES_MAX
    {
        message.truncate(message.floor_char_boundary(REASON_BYTES_MAX));
        message.push_str(" ...");
    }
    outcome
}

/// Describes the failure of a run in which the task could not report a failure itself, such as a trap.
fn platform_failure(error: &wasmtime::Error, state: &RunState) -> Failure {
    if error.is::<PoolConcurrencyLimitError>() {
        let message = format!("no room for another run: {error}");
        return Failure::new(FailureKind::Unavailable, message);
    }
    let memory = &state.memory;
    if let Some(held) = memory.held {
        let most = ByteCount(state.limits.http_held_bytes_max as u64);
        let message = format!(
            "its HTTP requests and responses hold {} of memory; the limit is {most}",
            ByteCount(held)
        );
        return Failure::new(FailureKind::OutOfMemory, message);
    }
    let (kind, mut message) = match memory.refused {
        Some(wanted) => (
            FailureKind::OutOfMemory,
            format!("wanted {} of memory; the limit is {}", ByteCount(wanted), ByteCount(memory.bytes_max)),
        ),
        None => match error.downcast_ref::<Trap>() {
            Some(trap) => (FailureKind::Trap, trap.to_string()),
            None => (FailureKind::Trap, format!("{:#}", error.root_cause())),
        },
    };
    let stderr = state.log.stderr_tail();
    if kind == FailureKind::Trap
        && let Some(panic) = rust_panic(&stderr)
    {
        message = format!("{panic} ({message})");
    } else if !stderr.is_empty() {
        message = format!("{message}; stderr ends: {stderr}");
    }
    Failure::new(kind, message)
}

/// Place and message of the panic with which a task in Rust ends, without the lines that Rust writes around them.
fn rust_panic(stderr: &str) -> Option<String> {
    let (_, panic) = stderr.rsplit_once(" panicked at ")?;
    let (place, rest) = panic.split_once('\n').unwrap_or((panic, ""));
    let message = rest.split("\nnote: run with `RUST_BACKTRACE").next().unwrap_or_default().trim_end();
    Some(format!("panicked at {place} {message}").trim_end().to_owned())
}

/// Starts the thread that advances the epoch, for as long as the engine lives.
fn tick_epochs(engine: &wasmtime::Engine) -> wasmtime::Result<()> {
    let weak = engine.weak();
    std::thread::Builder::new().name("wasq-epochs".to_owned()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(EPOCH_TICK);
        }
    })?;
    Ok(())
}
