//! The fifth stage: the run.

use std::time::Duration;

use tokio::sync::mpsc;
use wasq_engine::{Child, Report, Run, RunContext, SaveStep, Steps};
use wasq_protocol::{Clock, Failure, FailureKind, Outcome, Step, Timestamp};

use crate::delivery::Facts;
use crate::delivery::prepare::Prepared;
use crate::ports::{Runner, Runs, WorkerPorts};
use crate::runs::{Claim, save_step};
use crate::state::WorkerState;

/// A run that has ended.
pub(crate) struct Executed {
    pub(crate) outcome: Outcome,
    pub(crate) children: Vec<Child>,
}

/// The line of the log for the begin of a run.
const BEGINS: &str = "run begins";

/// Why a task cannot have steps.
const NO_ANSWER: &str = "steps need the table of runs, and it does not answer";
const NO_TABLE: &str =
    "steps need the table of runs, and this worker has none: `wasq deploy --runs on` adds one";

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
    let (steps, saves) = steps_of(worker, facts);
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
        steps,
        deadline: instant + timeout,
        child_checks: Some(worker.child_checks.clone()),
    };
    let running = worker.ports.runner.run(&module, run);
    let report = match (&worker.ports.runs, facts.claim_mut(), saves) {
        (Some(runs), Some(claim), Some(saves)) => {
            let (id, owner) = (claim.item.id.clone(), claim.item.owner.clone().unwrap_or_default());
            tokio::select! {
                biased;
                report = running => Some(report),
                () = store_steps(worker, runs, claim, saves) => None,
                () = runs.cancelled(&id, &owner) => None,
            }
        }
        _ => Some(running.await),
    };
    let Some(report) = report else {
        let failure = Failure::new(FailureKind::Cancelled, "it was cancelled while it ran");
        return Executed { outcome: Outcome::Failure(failure), children: Vec::new() };
    };
    let Report {
        mut outcome,
        mut children,
        steps: _,
        duration,
        peak_memory,
        denied,
        requests,
        log: _,
        log_dropped,
    } = report;
    facts.digest = Some(live.record.version.digest);
    facts.usage.run = duration;
    facts.usage.peak_memory = peak_memory;
    facts.usage.denied = denied;
    facts.usage.requests = requests;
    if !children.is_empty() {
        let now = worker.ports.clock.now();
        let group = facts.delivery.as_ref().and_then(|delivery| delivery.group.clone());
        for child in &mut children {
            set_not_before(child, now);
            child.group.clone_from(&group);
            // The child has X-Ray's header as well. As a context of its own it would say that somebody wants no traces.
            if facts.from_xray && child.message.traceparent.as_deref().is_some_and(|own| own.ends_with("-00"))
            {
                child.message.traceparent = None;
            }
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

/// The steps of a message for its run, and the receiver of those that the run saves.
fn steps_of<P: WorkerPorts>(
    worker: &WorkerState<P>,
    facts: &Facts,
) -> (Steps, Option<mpsc::Receiver<SaveStep>>) {
    match (&worker.ports.runs, facts.claim()) {
        (Some(_), Some(claim)) if claim.certain => {
            let (store, saves) = mpsc::channel(1);
            let known = claim.item.steps.iter().map(|step| (step.name.clone(), step.value.clone()));
            (Steps::Stored(known.collect(), store), Some(saves))
        }
        (Some(_), _) => (Steps::Unavailable(NO_ANSWER.into()), None),
        (None, _) => (Steps::Unavailable(NO_TABLE.into()), None),
    }
}

/// Stores the steps of a run, for as long as it lasts.
async fn store_steps<P: WorkerPorts>(
    worker: &WorkerState<P>,
    runs: &P::Runs,
    claim: &mut Claim,
    mut saves: mpsc::Receiver<SaveStep>,
) {
    while let Some(SaveStep { name, value, stored }) = saves.recv().await {
        let step = Step { name, value, attempt: claim.item.attempts, saved: worker.ports.clock.now() };
        // In a box, because few runs have steps, and each run carries this future. The run may have ended meanwhile, with its time.
        let _ = stored.send(Box::pin(save_step(runs, claim, step)).await);
    }
    // The run saves no more steps, and goes on.
    std::future::pending().await
}

/// The longest delay of SQS.
const DELAY_MAX: Duration = Duration::from_secs(900);

/// Keeps a child's delay by `not_before`: SQS delays a message by 15 minutes at most, and not at all on FIFO queues. A child that waits
/// longer is sent without a delay, so that it leaves the queue at once, and is known.
fn set_not_before(child: &mut Child, now: Timestamp) {
    if child.delay > Duration::ZERO {
        child.message.not_before = Some(now.plus(child.delay));
        if child.delay > DELAY_MAX {
            child.delay = Duration::ZERO;
        }
    }
}
