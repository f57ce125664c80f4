//! One delivery: from its body to an outcome and a verdict.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasq_engine::{Child, Report, Run, RunContext, SecretValues};
use wasq_protocol::{
    Backoff, Clock, Delivery, Digest, Failure, FailureKind, LiveRecord, Message, Outcome, Settings, TaskName,
    Timestamp, traceparent_of,
};

use crate::live::Live;
use crate::ports::{ArtifactError, Ports, Registry, Runner};
use crate::verdict::{AHEAD_MAX, Case, KEPT_MARGIN, Verdict, WAIT_MAX, judge, receives_before_ready};
use crate::worker::{Inner, LEASE_MARGIN};

/// What came of a delivery.
pub(crate) struct Attempt {
    pub(crate) id: String,
    pub(crate) task: Option<TaskName>,
    pub(crate) attempt: u32,
    pub(crate) outcome: Outcome,
    pub(crate) verdict: Verdict,
    pub(crate) children: Vec<Child>,
    pub(crate) digest: Option<Digest>,
    pub(crate) spent: Spent,
    pub(crate) traceparent: Option<String>,
    /// When it was over.
    pub(crate) ended: Instant,
}

/// What a delivery took.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spent {
    /// When its place among the concurrent runs was free.
    pub(crate) placed: Option<Timestamp>,
    /// Waiting for that place, and for memory.
    pub(crate) place: Duration,
    /// Finding out what is live, loading it, and reading its secrets.
    pub(crate) load: Duration,
    /// The run itself.
    pub(crate) run: Duration,
    /// The most memory that the run had, in bytes.
    pub(crate) peak_memory: u64,
    /// HTTP requests that the policy denied.
    pub(crate) denied: u32,
}

impl Attempt {
    /// There was no run.
    fn none(delivery: &Delivery, message: Option<Message>, failure: Failure, verdict: Verdict) -> Self {
        Self {
            id: delivery.id(message.as_ref()),
            task: message.map(|message| message.task),
            attempt: delivery.receive_count,
            outcome: Outcome::Failure(failure),
            verdict,
            children: Vec::new(),
            digest: None,
            spent: Spent::default(),
            traceparent: None,
            ended: Instant::now(),
        }
    }
}

/// Deals with one delivery. `None`: its lease is over or nearly so, and it must not be touched.
pub(crate) async fn attempt<P: Ports>(
    worker: &Inner<P>,
    delivery: &Delivery,
    ends: Timestamp,
) -> Option<Attempt> {
    let (now, instant) = (worker.ports.clock.now(), Instant::now());
    if delivery.lease_until.since(now) < LEASE_MARGIN {
        return None;
    }
    let known_for = now.since(delivery.first_received);
    let message = match Message::parse(&delivery.body) {
        Ok(message) => message,
        Err(e) => {
            let failure = Failure::new(FailureKind::Malformed, e.to_string());
            return Some(Attempt::none(delivery, None, failure, Verdict::DeadLetter));
        }
    };
    let early = message.not_before.map(|at| at.since(now)).unwrap_or_default();
    if message.not_before.is_some_and(|at| at.since(delivery.sent) > AHEAD_MAX) {
        let problem = format!("not_before lies more than {} days ahead", AHEAD_MAX.as_secs() / 86_400);
        let failure = Failure::new(FailureKind::Malformed, problem);
        return Some(Attempt::none(delivery, Some(message), failure, Verdict::DeadLetter));
    }
    if early > Duration::ZERO {
        let failure = Failure::new(FailureKind::Interrupted, "not_before lies ahead");
        return Some(Attempt::none(delivery, Some(message), failure, Verdict::GiveBack(early.min(WAIT_MAX))));
    }
    let id = delivery.id(Some(&message));
    let order = Order {
        message: &message,
        id: &id,
        receive_count: delivery.receive_count,
        first_received: Some(delivery.first_received),
        trace_header: delivery.trace_header.as_deref(),
        now,
        instant,
        ends,
    };
    let traceparent = order.traceparent();
    let ran = run(worker, order).await;
    let verdict = match &ran.outcome {
        Outcome::Success { .. } => Verdict::Done,
        Outcome::Failure(failure) => judge(
            failure,
            &Case {
                attempt: ran.attempt,
                max_attempts: ran.retries.max_attempts,
                backoff: ran.retries.backoff,
                known_for,
                age: now.since(delivery.sent),
                kept_for: worker.settings.retention.saturating_sub(KEPT_MARGIN),
                jitter: fastrand::f64(),
            },
        ),
    };
    Some(Attempt {
        id,
        task: Some(message.task),
        attempt: ran.attempt,
        outcome: ran.outcome,
        verdict,
        children: ran.children,
        digest: ran.digest,
        spent: ran.spent,
        traceparent,
        ended: Instant::now(),
    })
}

/// A message that is to be run.
pub(crate) struct Order<'a> {
    pub(crate) message: &'a Message,
    pub(crate) id: &'a str,
    pub(crate) receive_count: u32,
    /// `None` for a direct invoke, which is its own first attempt.
    pub(crate) first_received: Option<Timestamp>,
    /// X-Ray's, beside the message.
    pub(crate) trace_header: Option<&'a str>,
    /// When it was given.
    pub(crate) now: Timestamp,
    /// The same moment, to measure from.
    pub(crate) instant: Instant,
    /// When the worker must be done.
    pub(crate) ends: Timestamp,
}

impl Order<'_> {
    /// The message's own trace, or X-Ray's.
    pub(crate) fn traceparent(&self) -> Option<String> {
        self.message.traceparent.clone().or_else(|| self.trace_header.and_then(traceparent_of))
    }
}

/// A message that was run, or why it was not.
pub(crate) struct Ran {
    pub(crate) outcome: Outcome,
    pub(crate) attempt: u32,
    pub(crate) retries: Retries,
    pub(crate) children: Vec<Child>,
    pub(crate) digest: Option<Digest>,
    pub(crate) spent: Spent,
}

/// How often the task's settings let a message be tried, and after which waits.
pub(crate) struct Retries {
    max_attempts: u32,
    backoff: Backoff,
}

impl Retries {
    fn of(settings: &Settings) -> Self {
        Self { max_attempts: settings.max_attempts, backoff: settings.backoff }
    }
}

impl Ran {
    /// It was not run.
    fn not(failure: Failure, attempt: u32, spent: Spent) -> Self {
        Self {
            outcome: Outcome::Failure(failure),
            attempt,
            retries: Retries::of(&Settings::default()),
            children: Vec::new(),
            digest: None,
            spent,
        }
    }
}

/// Finds the module that a message names, and runs it, unless the worker is told to stop.
pub(crate) async fn run<P: Ports>(worker: &Inner<P>, order: Order<'_>) -> Ran {
    let receive_count = order.receive_count;
    tokio::select! {
        biased;
        // First, because what ends without waiting need not listen.
        ran = run_to_its_end(worker, order) => ran,
        () = worker.stopped() => Ran::not(stopping(), receive_count, Spent::default()),
    }
}

fn stopping() -> Failure {
    Failure::new(FailureKind::Interrupted, "the worker is stopping")
}

// Each look at the clock costs a hundredth of a short run: there are few.
async fn run_to_its_end<P: Ports>(worker: &Inner<P>, order: Order<'_>) -> Ran {
    let traceparent = order.traceparent();
    let Order { message, id, receive_count, first_received, trace_header, now, instant: asked, ends } = order;
    let task = &message.task;
    for key in message.unknown.keys() {
        tracing::warn!(%task, id, "the message has an unknown key {key:?}, which is ignored");
    }
    // A place first: the live record must be the one of the moment when the run starts.
    let mut spent = Spent::default();
    let _place = worker.places.acquire().await.expect("the semaphore is never closed");
    let mut placed = Instant::now();
    spent.place = placed - asked;
    spent.placed = Some(now.plus(spent.place));
    let mut live = match live(worker, task, id, placed).await {
        Ok(live) => live,
        Err(failure) => return Ran::not(failure, receive_count, spent),
    };
    // Before anything is loaded: what waits should hold nothing.
    let wanted = live.settings.memory;
    let _memory = match worker.memory.try_take(wanted) {
        Some(memory) => memory,
        None => {
            let waiting = Instant::now();
            let memory = worker.memory.take(wanted).await;
            placed = Instant::now();
            let waited = placed - waiting;
            spent.place += waited;
            if waited > worker.settings.live_ttl.max(LIVE_WAIT) {
                // There may be another version by now.
                live = match self::live(worker, task, id, placed).await {
                    Ok(live) => live,
                    Err(failure) => return Ran::not(failure, receive_count, spent),
                };
            }
            memory
        }
    };
    let Live { record, settings } = &*live;
    let fingerprint = worker.ports.runner.fingerprint();
    let artifact = record.version.artifacts.get(fingerprint);
    let loaded = match artifact {
        Some(artifact) => worker.modules.get(&worker.ports, &record.version.digest, artifact).await,
        None => Err(ArtifactError::Missing(format!("{task} is not compiled for {fingerprint}"))),
    };
    let unspent =
        first_received.map_or(0, |first| waited_for_task(record, first) + waited_for_time(message, first));
    let attempt = receive_count.saturating_sub(unspent).max(1);
    let secrets = match &loaded {
        Ok(_) => worker.secrets.of(&worker.ports.secrets, settings).await,
        Err(_) => Ok(SecretValues::new()),
    };
    let ready = Instant::now();
    spent.load = (ready - asked).saturating_sub(spent.place);
    let module = match loaded {
        Ok(module) => module,
        Err(e) => return Ran::not(artifact_failure(worker, task, e).await, attempt, spent),
    };
    let secrets = match secrets {
        Ok(secrets) => secrets,
        Err(e) => {
            tracing::error!(%task, id, "{e}");
            return Ran::not(Failure::new(FailureKind::Unavailable, e.to_string()), attempt, spent);
        }
    };

    let now = now.plus(ready - asked);
    let left = ends.since(now);
    if left < settings.timeout && spent.place > LATE {
        let why = "the worker was busy until it had less time left than the task may take";
        return Ran::not(Failure::new(FailureKind::Unavailable, why), attempt, spent);
    }
    // Whose place was another run's that has just been ended must not begin in its stead.
    if worker.is_stopped() {
        return Ran::not(stopping(), attempt, spent);
    }
    let timeout = settings.timeout.min(left);
    let run = Run {
        context: RunContext {
            task: task.clone(),
            id: id.to_owned(),
            attempt,
            max_attempts: settings.max_attempts,
            deadline: now.plus(timeout),
            parent: message.parent.clone(),
            root: message.root.clone().unwrap_or_else(|| id.to_owned()),
            depth: message.depth,
            traceparent,
            trace_header: trace_header.map(str::to_owned),
        },
        params: message.params.get(),
        settings,
        secrets: &secrets,
        deadline: ready + timeout,
    };
    let Report { mut outcome, children, duration, peak_memory, denied, log: _, log_dropped } =
        worker.ports.runner.run(&module, run).await;
    (spent.run, spent.peak_memory, spent.denied) = (duration, peak_memory, denied);
    let children = if children.is_empty() {
        children
    } else {
        let now = worker.ports.clock.now();
        children.into_iter().map(|child| by_not_before(child, now)).collect()
    };
    if log_dropped > 0 {
        tracing::warn!(%task, id, "{log_dropped} log lines beyond the limit were dropped");
    }
    if let Outcome::Failure(failure) = &mut outcome
        && failure.kind == FailureKind::OutOfTime
        && timeout < settings.timeout
    {
        failure.message =
            format!("the worker had less time left than the task may take: {}", failure.message);
    }
    Ran {
        outcome,
        attempt,
        retries: Retries::of(settings),
        children,
        digest: Some(record.version.digest),
        spent,
    }
}

/// Who has waited no longer than this for memory takes the live record that it has.
const LIVE_WAIT: Duration = Duration::from_millis(10);

/// What is live under a name, or why it cannot be run.
async fn live<P: Ports>(
    worker: &Inner<P>,
    task: &TaskName,
    id: &str,
    now: Instant,
) -> Result<Arc<Live>, Failure> {
    match worker.live.get(&worker.ports.registry, task, now).await {
        Ok(Some(live)) => Ok(live),
        Ok(None) => Err(Failure::new(
            FailureKind::UnknownTask,
            format!("no task named {task} is live: upload {task}.wasm, or correct the name"),
        )),
        Err(e) => {
            tracing::error!(%task, id, "the registry does not answer: {e:#}");
            Err(Failure::new(FailureKind::Unavailable, format!("{e:#}")))
        }
    }
}

/// A run that waited this long for its place, and would be cut short, is left to another worker: it did nothing wrong.
const LATE: Duration = Duration::from_secs(1);

/// A delay holds by `not_before` in any case: SQS delays a message by 15 minutes at most, and not at all on FIFO queues.
fn by_not_before(mut child: Child, now: Timestamp) -> Child {
    if child.delay > Duration::ZERO {
        child.message.not_before = Some(now.plus(child.delay));
        child.delay = child.delay.min(DELAY_MAX);
    }
    child
}

const DELAY_MAX: Duration = Duration::from_secs(900);

/// How many receives a message spent waiting for its task to be published.
fn waited_for_task(record: &LiveRecord, first_received: Timestamp) -> u32 {
    receives_before_ready(record.first_published.since(first_received))
}

/// How many receives it spent waiting for its `not_before`: one for each wait, of which none is longer than 12 h.
fn waited_for_time(message: &Message, first_received: Timestamp) -> u32 {
    let wait = message.not_before.map(|at| at.since(first_received)).unwrap_or_default();
    u32::try_from(wait.as_millis().div_ceil(WAIT_MAX.as_millis())).unwrap_or(u32::MAX)
}

/// Says why there is no machine code, and asks for it where asking helps.
async fn artifact_failure<P: Ports>(worker: &Inner<P>, task: &TaskName, error: ArtifactError) -> Failure {
    match error {
        ArtifactError::Unavailable(e) => {
            tracing::error!(%task, "the artifact cannot be read: {e:#}");
            Failure::new(FailureKind::Unavailable, format!("{e:#}"))
        }
        ArtifactError::Missing(why) => {
            tracing::warn!(%task, "{why}; asking the publisher for it");
            if let Err(e) = worker.ports.registry.request_artifact(task).await {
                tracing::error!(%task, "the publisher could not be asked: {e:#}");
            }
            Failure::new(FailureKind::ArtifactMissing, why)
        }
    }
}
