//! The data of a store: everything of one run, and nothing of any other run.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::bindings::wasq::task::outcome;
use crate::capture::{Lines, RunLog};
use crate::holdings::Holdings;
use crate::limits::{Limits, MemoryMeter};
use crate::outgoing::Outgoing;
use crate::run::{CheckChild, Child, RunContext};
use crate::secrets::RunSecrets;
use crate::steps::{RunSteps, Steps};

/// The data of a run's store.
pub(crate) struct RunState {
    pub(crate) context: Arc<RunContext>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) memory: MemoryMeter,
    pub(crate) log: RunLog,
    pub(crate) children: Vec<Child>,
    pub(crate) children_bytes: usize,
    pub(crate) child_checks: Option<Weak<dyn CheckChild>>,
    pub(crate) outgoing: Outgoing,
    pub(crate) secrets: RunSecrets,
    pub(crate) steps: RunSteps,
    /// The task's own variables.
    env: BTreeMap<String, String>,
    /// Made when the task first uses it: many tasks never do, and it takes longer to make than all the other
    /// fields.
    wasi: Option<WasiCtx>,
    wasi_http: WasiHttpCtx,
    holdings: Holdings,
    table: ResourceTable,
}

/// Host resources (streams, requests, ...) that a guest may hold at once.
const RESOURCES_MAX: usize = 10_000;

/// The random bytes of one call. Making them keeps a thread busy.
const RANDOM_BYTES_MAX: u64 = 1 << 20;

/// A run for which a [`RunState`] is made.
pub(crate) struct NewRun<'a> {
    pub(crate) context: Arc<RunContext>,
    pub(crate) log: RunLog,
    pub(crate) limits: Arc<Limits>,
    pub(crate) memory_bytes_max: u64,
    pub(crate) outgoing: Outgoing,
    pub(crate) secrets: RunSecrets,
    pub(crate) steps: Steps,
    pub(crate) child_checks: Option<Weak<dyn CheckChild>>,
    pub(crate) env: &'a BTreeMap<String, String>,
}

impl RunState {
    pub(crate) fn new(run: NewRun<'_>) -> Self {
        let NewRun { context, log, limits, memory_bytes_max, outgoing, secrets, steps, child_checks, env } =
            run;
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES_MAX);
        let mut wasi_http = WasiHttpCtx::new();
        wasi_http.set_field_size_limit(limits.http_header_bytes_max);
        Self {
            memory: MemoryMeter::new(memory_bytes_max, &limits),
            context,
            limits,
            log,
            children: Vec::new(),
            children_bytes: 0,
            child_checks,
            outgoing,
            secrets,
            steps: RunSteps::new(steps),
            env: env.clone(),
            wasi: None,
            wasi_http,
            holdings: Holdings::default(),
            table,
        }
    }
}

impl WasiView for RunState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { wasi, log, env, secrets, table, .. } = self;
        WasiCtxView { ctx: wasi.get_or_insert_with(|| denied(log, env, secrets)), table }
    }
}

/// WASI with two streams and some variables. Nothing is inherited: no environment, arguments, files or
/// sockets. Everything that this function does not name is denied.
fn denied(log: &RunLog, env: &BTreeMap<String, String>, secrets: &RunSecrets) -> WasiCtx {
    let mut wasi = WasiCtx::builder();
    wasi.stdout(Lines::stdout(log)).stderr(Lines::stderr(log));
    let own = env.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in own.chain(secrets.env()) {
        wasi.env(name, value);
    }
    wasi.max_random_size(RANDOM_BYTES_MAX);
    wasi.allow_tcp(false).allow_udp(false).build()
}

impl WasiHttpView for RunState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        if let Some(held) = self.holdings.bound(&mut self.table, self.limits.http_held_bytes_max) {
            self.memory.held.get_or_insert(held as u64);
        }
        WasiHttpCtxView { ctx: &mut self.wasi_http, table: &mut self.table, hooks: &mut self.outgoing }
    }
}

/// An interface of types only.
impl outcome::Host for RunState {}
