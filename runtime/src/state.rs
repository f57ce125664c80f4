//! The state that all deliveries of a worker share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasq_engine::{CheckChild, ChildCheck};
use wasq_protocol::{ByteCount, Caps, TaskName};

use crate::live_records::LiveRecords;
use crate::modules::Modules;
use crate::ports::{Runner, WorkerParts, WorkerPorts};
use crate::secrets::SecretCache;
use crate::slots::Slots;

/// How a worker works.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Slots: tasks that run at once, over all invokes of this process.
    pub concurrency: u32,
    /// Memory for all tasks that run at once, by what their settings allow. One task alone may have more.
    pub memory: ByteCount,
    /// Modules that are kept loaded.
    pub modules_max: usize,
    /// The machine code of all loaded modules together.
    pub modules_bytes_max: ByteCount,
    /// How long a live record is used: a new version runs after this at the latest.
    pub live_ttl: Duration,
    /// How long the value of a secret is used: a changed value is used after this at the latest.
    pub secret_ttl: Duration,
    /// The queue's visibility timeout: how long each lease lasts.
    pub lease: Duration,
    /// How long the queue keeps a message after its send.
    pub retention: Duration,
    /// The most that the operator allows any task.
    pub caps: Caps,
}

pub(crate) struct WorkerState<P: WorkerPorts> {
    pub(crate) ports: WorkerParts<P>,
    pub(crate) live: LiveRecords,
    pub(crate) modules: Modules<<P::Runner as Runner>::Module>,
    pub(crate) secrets: SecretCache,
    pub(crate) slots: Slots,
    pub(crate) memory: MemoryBudget,
    pub(crate) settings: WorkerSettings,
    /// Deliveries in this worker: running, or waiting for a slot.
    in_flight: AtomicU64,
    /// When the publisher was last asked to compile a task.
    asked_for: Mutex<HashMap<TaskName, Instant>>,
    stop: CancellationToken,
    /// This state, for runs that send messages.
    pub(crate) child_checks: Weak<dyn CheckChild>,
}

impl<P: WorkerPorts> CheckChild for WorkerState<P> {
    fn check_child<'a>(&'a self, task: &'a TaskName, params: &'a str) -> ChildCheck<'a> {
        Box::pin(async move {
            // If the task is not live, or the registry does not answer, the worker that has the message next knows more.
            let Ok(Some(live)) = self.live.get(&self.ports.registry, task, Instant::now()).await else {
                return Ok(());
            };
            let Some(schema) = &live.params else { return Ok(()) };
            schema.check(params).map_err(|mismatch| format!("they do not fit the task {task}: {mismatch}"))
        })
    }
}

/// The publisher is asked for an artifact once in this time, however many deliveries miss it: it may be compiling.
const ASK_EVERY: Duration = Duration::from_secs(30);

impl<P: WorkerPorts> WorkerState<P> {
    /// `this` is the state itself.
    pub(crate) fn new(ports: WorkerParts<P>, settings: WorkerSettings, this: &Weak<Self>) -> Self {
        Self {
            child_checks: this.clone(),
            ports,
            live: LiveRecords::new(settings.live_ttl, settings.caps),
            modules: Modules::new(settings.modules_max, settings.modules_bytes_max),
            secrets: SecretCache::new(settings.secret_ttl),
            slots: Slots::new(settings.concurrency),
            memory: MemoryBudget::new(settings.memory),
            settings,
            in_flight: AtomicU64::new(0),
            asked_for: Mutex::default(),
            stop: CancellationToken::new(),
        }
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn count_in(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count_out(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether the publisher should be asked to compile a task now. If so, it counts as asked.
    pub(crate) fn asks_for(&self, task: &TaskName) -> bool {
        let mut asked_for = self.asked_for.lock().unwrap_or_else(PoisonError::into_inner);
        asked_for.retain(|_, asked| asked.elapsed() < ASK_EVERY);
        let asks = !asked_for.contains_key(task);
        if asks {
            asked_for.insert(task.clone(), Instant::now());
        }
        asks
    }

    /// Takes back that the publisher was asked.
    pub(crate) fn asks_again(&self, task: &TaskName) {
        self.asked_for.lock().unwrap_or_else(PoisonError::into_inner).remove(task);
    }

    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Returns when the worker is told to stop.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

/// The memory of all runs together. It is granted in the order of the requests, so that a large task is not passed by for ever.
pub(crate) struct MemoryBudget {
    mib: Semaphore,
    mib_max: u32,
}

impl MemoryBudget {
    fn new(memory: ByteCount) -> Self {
        let mib_max = u32::try_from(memory.0 >> 20).unwrap_or(u32::MAX).clamp(1, MIB_MAX);
        Self { mib: Semaphore::new(mib_max as usize), mib_max }
    }

    /// The memory of a run, for as long as the permit lives; `None` if the run must wait for it.
    pub(crate) fn try_take(&self, memory: ByteCount) -> Option<SemaphorePermit<'_>> {
        self.mib.try_acquire_many(self.mib(memory)).ok()
    }

    /// Waits for the memory of a run, and keeps it for as long as the permit lives.
    pub(crate) async fn take(&self, memory: ByteCount) -> SemaphorePermit<'_> {
        self.mib.acquire_many(self.mib(memory)).await.expect("the semaphore is never closed")
    }

    fn mib(&self, memory: ByteCount) -> u32 {
        u32::try_from(memory.0.div_ceil(1 << 20)).unwrap_or(u32::MAX).min(self.mib_max)
    }
}

/// 1 PiB: no machine has more, and tokio counts no further.
const MIB_MAX: u32 = 1 << 28;
