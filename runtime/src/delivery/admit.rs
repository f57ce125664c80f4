//! The second stage: a slot, the live record, and memory. Until then a delivery holds nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::SemaphorePermit;
use tokio::time::Instant;
use wasq_protocol::{Failure, FailureKind, Message, TaskName};

use crate::delivery::facts::{Facts, Retries};
use crate::delivery::receive::Received;
use crate::live_records::Live;
use crate::ports::{Registry, WorkerPorts};
use crate::slots::Slot;
use crate::state::WorkerState;

/// A message that may run as soon as its module is loaded.
pub(crate) struct Admitted<'a> {
    pub(crate) facts: &'a mut Facts,
    pub(crate) message: Message,
    pub(crate) live: Arc<Live>,
    pub(crate) permits: Permits<'a>,
}

/// The slot and the memory of a run, for as long as this lives.
pub(crate) struct Permits<'a> {
    _slot: Slot<'a>,
    _memory: SemaphorePermit<'a>,
}

/// A run that has waited for memory no longer than this keeps its live record.
const LIVE_WAIT: Duration = Duration::from_millis(10);

/// How long a message waits for a task that is being built. The message is woken when the task is live, and each receive
/// before that may count as an attempt: the wait is long.
const EXPECTED_WAIT_SECONDS: u32 = 60;

/// Waits for a slot, reads what is live, and waits for the memory that the task may have.
pub(crate) async fn admit<'a, P: WorkerPorts>(
    worker: &'a WorkerState<P>,
    facts: &'a mut Facts,
    received: Received,
) -> Result<Admitted<'a>, Failure> {
    let Received { message, early } = received;
    if early > Duration::ZERO {
        tokio::time::sleep(early).await;
    }
    // The slot first: the live record must be that of the moment when the run starts.
    let slot = worker.slots.take(&message.task).await;
    // Each look at the clock costs a hundredth of a short run: there are few.
    let mut taken = Instant::now();
    facts.usage.slot_wait = taken - facts.instant;
    facts.usage.slot_taken = Some(facts.received.plus(facts.usage.slot_wait));
    let mut live = find_live(worker, &message.task, taken).await?;
    // Before the module is loaded: a run that waits should hold nothing.
    let wanted = live.settings.memory;
    let memory = match worker.memory.try_take(wanted) {
        Some(memory) => memory,
        None => {
            let waiting = Instant::now();
            let memory = worker.memory.take(wanted).await;
            taken = Instant::now();
            let waited = taken - waiting;
            facts.usage.slot_wait += waited;
            if waited > worker.settings.live_ttl.max(LIVE_WAIT) {
                // There may be another version by now.
                live = find_live(worker, &message.task, taken).await?;
            }
            memory
        }
    };
    facts.retries = Some(Retries::of(&live.settings));
    Ok(Admitted { facts, message, live, permits: Permits { _slot: slot, _memory: memory } })
}

/// Finds the live version of a task. The failure says why it cannot be run.
async fn find_live<P: WorkerPorts>(
    worker: &WorkerState<P>,
    task: &TaskName,
    now: Instant,
) -> Result<Arc<Live>, Failure> {
    match worker.live.get(&worker.ports.registry, task, now).await {
        Ok(Some(live)) => Ok(live),
        Ok(None) => Err(match worker.ports.registry.expected(task) {
            Some(why) => Failure {
                retry_after_seconds: Some(EXPECTED_WAIT_SECONDS),
                ..Failure::new(FailureKind::Unavailable, why)
            },
            None => Failure::new(
                FailureKind::UnknownTask,
                format!("no task named {task} is live: upload {task}.wasm, or correct the name"),
            ),
        }),
        Err(e) => {
            tracing::error!("the registry does not answer: {e:#}");
            Err(Failure::new(FailureKind::Unavailable, format!("{e:#}")))
        }
    }
}
