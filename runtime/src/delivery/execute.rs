//! The fifth stage: the run.

use std::time::Duration;

use wasq_engine::{Child, Report, Run, RunContext};
use wasq_protocol::{Clock, Failure, FailureKind, Outcome, Timestamp};

use crate::delivery::prepare::Prepared;
use crate::ports::{Runner, Runs, WorkerPorts};
use crate::state::WorkerState;

/// A run that has ended.
pub(crate) struct Executed {
    pub(crate) outcome: Outcome,
    pub(crate) children: Vec<Child>,
}

/// The line of the log for the begin of a run.
const BEGINS: &str = "run begins";

/// Runs the module. Its slot and its memory are free again when this returns.
pub(crate) async fn execute<P: WorkerPorts>(
    worker: &WorkerState<P>,
    prepared: Prepared<'_, <P::Runner as Runner>::Module>,
) -> Executed {
    let Prepared { facts, message, live, permits: _permits, module, secrets, timeout, begins, instant } =
        prepared;
    let settings = &live.settings;
    match &message.parent {
        Some(parent) => tracing::info!(parent, "{BEGINS}"),
        None => tracing::info!("{BEGINS}"),
    }
    let run = Run {
        context: RunContext {
            root: message.root.unwrap_or_else(|| facts.id.clone()),
            task: message.task,
            id: facts.id.clone(),
            attempt: facts.attempt,
            max_attempts: settings.max_attempts,
            deadline: begins.plus(timeout),
            parent: message.parent,
            depth: message.depth,
            descendants: message.descendants,
            traceparent: facts.traceparent.clone(),
            trace_header: facts.trace_header.clone(),
        },
        params: message.params.get(),
        settings,
        secrets: &secrets,
        deadline: instant + timeout,
    };
    let running = worker.ports.runner.run(&module, run);
    let report = match (&worker.ports.runs, facts.claim().filter(|claim| claim.certain)) {
        (Some(runs), Some(claim)) => {
            let (id, owner) = (&claim.item.id, claim.item.owner.as_deref().unwrap_or_default());
            tokio::select! {
                biased;
                report = running => Some(report),
                () = runs.cancelled(id, owner) => None,
            }
        }
        _ => Some(running.await),
    };
    let Some(report) = report else {
        let failure = Failure::new(FailureKind::Cancelled, "it was cancelled while it ran");
        return Executed { outcome: Outcome::Failure(failure), children: Vec::new() };
    };
    let Report { mut outcome, mut children, duration, peak_memory, denied, log: _, log_dropped } = report;
    facts.digest = Some(live.record.version.digest);
    facts.usage.run = duration;
    facts.usage.peak_memory = peak_memory;
    facts.usage.denied = denied;
    if !children.is_empty() {
        let now = worker.ports.clock.now();
        let group = facts.delivery.as_ref().and_then(|delivery| delivery.group.clone());
        for child in &mut children {
            set_not_before(child, now);
            child.group.clone_from(&group);
        }
    }
    if log_dropped > 0 {
        tracing::warn!("{log_dropped} log lines beyond the limit were dropped");
    }
    if let Outcome::Failure(failure) = &mut outcome
        && failure.kind == FailureKind::OutOfTime
        && timeout < settings.timeout
    {
        failure.message =
            format!("the worker had less time left than the task may take: {}", failure.message);
    }
    Executed { outcome, children }
}

/// The longest delay of SQS.
const DELAY_MAX: Duration = Duration::from_secs(900);

/// Keeps a child's delay by `not_before`: SQS delays a message by 15 minutes at most, and not at all on FIFO queues.
fn set_not_before(child: &mut Child, now: Timestamp) {
    if child.delay > Duration::ZERO {
        child.message.not_before = Some(now.plus(child.delay));
        child.delay = child.delay.min(DELAY_MAX);
    }
}
