//! The fourth stage: the module, its secrets, and the time that the run may take.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasq_engine::SecretValues;
use wasq_protocol::{Failure, FailureKind, Message, TaskName, Timestamp};

use crate::delivery::admit::{Admitted, Permits};
use crate::delivery::facts::Facts;
use crate::delivery::stopping;
use crate::live_records::Live;
use crate::ports::{ArtifactError, Registry, Runner, WorkerPorts};
use crate::state::WorkerState;
use crate::verdict::receives_that_waited;

/// A run that can begin.
pub(crate) struct Prepared<'a, M> {
    pub(crate) facts: &'a mut Facts,
    pub(crate) message: Message,
    pub(crate) live: Arc<Live>,
    pub(crate) permits: Permits<'a>,
    pub(crate) module: M,
    pub(crate) secrets: SecretValues,
    /// How long the run may take: the task's timeout, or less if the worker ends before.
    pub(crate) timeout: Duration,
    /// When it begins.
    pub(crate) begins: Timestamp,
    /// The same moment, to measure from.
    pub(crate) instant: Instant,
}

/// A run that waited this long for its slot, and would be cut short, is left to another worker.
const LATE: Duration = Duration::from_secs(1);

/// Loads the module and reads its secrets.
pub(crate) async fn prepare<'a, P: WorkerPorts>(
    worker: &WorkerState<P>,
    admitted: Admitted<'a>,
    ends: Timestamp,
) -> Result<Prepared<'a, <P::Runner as Runner>::Module>, Failure> {
    let Admitted { facts, message, live, permits } = admitted;
    let counted = facts.claim().is_some_and(|claim| claim.certain);
    if let Some(delivery) = facts.delivery.as_ref().filter(|_| !counted) {
        let waited = receives_that_waited(delivery, live.record.first_published, facts.not_before);
        let attempt = delivery.receive_count.saturating_sub(waited).max(1);
        if attempt != facts.attempt {
            facts.attempt = attempt;
            facts.span.record("attempt", attempt);
        }
    }
    let loaded = load(worker, &message.task, &live).await;
    let instant = Instant::now();
    facts.usage.load = (instant - facts.instant).saturating_sub(facts.usage.slot_wait);
    let (module, secrets) = loaded?;

    let begins = facts.received.plus(instant - facts.instant);
    let left = ends.since(begins);
    if left < live.settings.timeout && facts.usage.slot_wait > LATE {
        let why = "the worker was busy until it had less time left than the task may take";
        return Err(Failure::new(FailureKind::Unavailable, why));
    }
    // Another worker may claim the message when the claim is over.
    if let Some(claim) = facts.claim().filter(|claim| claim.certain)
        && claim.lasts_from(begins) < live.settings.timeout
    {
        let why = "preparing the run took so long that another worker may soon claim the message";
        return Err(Failure::new(FailureKind::Unavailable, why));
    }
    // A stop frees slots by ending their runs: no other run may begin in them.
    if worker.is_stopped() {
        return Err(stopping());
    }
    let timeout = live.settings.timeout.min(left);
    Ok(Prepared { facts, message, live, permits, module, secrets, timeout, begins, instant })
}

async fn load<P: WorkerPorts>(
    worker: &WorkerState<P>,
    task: &TaskName,
    live: &Live,
) -> Result<(<P::Runner as Runner>::Module, SecretValues), Failure> {
    let version = &live.record.version;
    let fingerprint = worker.ports.runner.fingerprint();
    let module = match version.artifacts.get(fingerprint) {
        Some(artifact) => worker.modules.get(&worker.ports, &version.digest, artifact).await,
        None => Err(ArtifactError::Missing(format!("{task} is not compiled for {fingerprint}"))),
    };
    let module = match module {
        Ok(module) => module,
        Err(e) => return Err(no_artifact(worker, task, e).await),
    };
    let secrets = worker.secrets.of(&worker.ports.secrets, &live.settings).await.map_err(|e| {
        tracing::error!("{e}");
        Failure::new(FailureKind::Unavailable, e.to_string())
    })?;
    Ok((module, secrets))
}

/// Says why there is no machine code, and asks for it where asking helps.
async fn no_artifact<P: WorkerPorts>(
    worker: &WorkerState<P>,
    task: &TaskName,
    error: ArtifactError,
) -> Failure {
    let (why, unusable) = match error {
        ArtifactError::Unavailable(e) => {
            tracing::error!("the artifact cannot be read: {e:#}");
            return Failure::new(FailureKind::Unavailable, format!("{e:#}"));
        }
        ArtifactError::Missing(why) => (why, false),
        ArtifactError::Unusable(why) => (why, true),
    };
    if worker.asks_for(task) {
        tracing::warn!("{why}; asking the publisher for it");
        if let Err(e) = worker.ports.registry.request_artifact(task, unusable).await {
            tracing::error!("the publisher could not be asked: {e:#}");
            worker.asks_again(task);
        }
    }
    Failure::new(FailureKind::ArtifactMissing, why)
}
