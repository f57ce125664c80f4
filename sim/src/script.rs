//! Scripted tasks: what stands in the place of wasm. A message's params say what its run does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use wasq_engine::{Child, Report, Run};
use wasq_protocol::{Failure, FailureKind, Fingerprint, Message, Outcome, TaskName};
use wasq_runtime::{ArtifactError, CheckedArtifact, Runner};

use crate::ledger::Expected;
use crate::process::Process;
use crate::world::{CODE, MAX_ATTEMPTS, Mutation, TIMEOUT};

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// How long it takes, in milliseconds.
    pub ms: u64,
    /// What it says in the end.
    pub says: Says,
    /// The children that it enqueues, whatever it says.
    #[serde(default)]
    pub children: u32,
}

/// What a run says in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Says {
    /// It succeeds.
    Ok,
    /// It fails so often, and then succeeds.
    Fails(u32),
    /// As `Fails(1)`, and asks for a wait of so many seconds.
    Waits(u32),
    /// It always fails.
    Never,
    /// It always traps.
    Traps,
    /// It says that it can never succeed.
    Rejects,
    /// It goes on for ever.
    Hangs,
}

impl Script {
    /// Any script: most do well, some fail in every way there is, some take longer than a lease.
    pub fn any(rng: &mut Rng) -> Self {
        let ms = match rng.u32(..100) {
            0..75 => rng.u64(1..500),
            75..92 => rng.u64(500..10_000),
            _ => rng.u64(10_000..100_000),
        };
        let says = match rng.u32(..100) {
            0..72 => Says::Ok,
            72..82 => Says::Fails(rng.u32(1..MAX_ATTEMPTS)),
            82..85 => Says::Waits(rng.u32(1..400)),
            85..90 => Says::Never,
            90..93 => Says::Traps,
            93..97 => Says::Rejects,
            _ => Says::Hangs,
        };
        let children = if rng.u32(..12) == 0 { rng.u32(1..15) } else { 0 };
        Self { ms, says, children }
    }

    /// A short run that succeeds.
    pub fn quick(rng: &mut Rng) -> Self {
        Self { ms: rng.u64(1..200), says: Says::Ok, children: 0 }
    }

    /// What it comes to where nothing disturbs it.
    pub fn expected(&self) -> Expected {
        let (failures, success) = match self.says {
            Says::Ok => (0, true),
            Says::Fails(times) => (times, true),
            Says::Waits(_) => (1, true),
            Says::Never | Says::Traps | Says::Hangs => (MAX_ATTEMPTS, false),
            Says::Rejects => (1, false),
        };
        Expected { failures, success }
    }

    /// Whether every run of it succeeds.
    pub fn healthy(&self) -> bool {
        self.says == Says::Ok
    }

    /// The script as params.
    pub fn params(&self) -> Box<RawValue> {
        serde_json::value::to_raw_value(self).expect("string keys")
    }

    fn outcome(&self, failed: u32) -> Outcome {
        let failure = |kind| Outcome::Failure(Failure::new(kind, "as the script says"));
        match self.says {
            Says::Fails(times) if failed < times => failure(FailureKind::Retry),
            Says::Waits(seconds) if failed == 0 => Outcome::Failure(Failure {
                retry_after_seconds: Some(seconds),
                ..Failure::new(FailureKind::Retry, "as the script says")
            }),
            Says::Never => failure(FailureKind::Retry),
            Says::Traps => failure(FailureKind::Trap),
            Says::Rejects => failure(FailureKind::Reject),
            Says::Hangs => failure(FailureKind::OutOfTime),
            Says::Ok | Says::Fails(_) | Says::Waits(_) => {
                Outcome::Success { output: RawValue::NULL.to_owned() }
            }
        }
    }
}

/// Runs scripts.
pub struct ScriptRunner {
    pub process: Arc<Process>,
    pub fingerprint: Fingerprint,
}

impl Runner for ScriptRunner {
    type Module = ();

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn load(&self, artifact: CheckedArtifact) -> Result<(), ArtifactError> {
        self.process.step().await;
        let key = artifact.path().to_string_lossy().into_owned();
        let code = self.process.world.state(|state| state.registry.get(&key));
        match code {
            Some((code, _)) if code.starts_with(CODE) => Ok(()),
            _ => Err(ArtifactError::Missing(format!("{key} is missing or damaged"))),
        }
    }

    async fn run(&self, (): &(), run: Run<'_>) -> Report {
        let script: Script = serde_json::from_str(run.params).expect("only scripts are sent to known tasks");
        let started = Instant::now();
        let children: Vec<Child> = (0..script.children).map(|n| child(&run, n)).collect();
        if self.process.world.scenario.mutation == Some(Mutation::EagerChildren) {
            crate::adapters::send_children(&self.process, children.clone()).await;
        }
        let ids = children.iter().filter_map(|child| child.message.id.clone()).collect();
        let outcome =
            play(&self.process, Part { id: &run.context.id, script: &script, ids, deadline: run.deadline })
                .await;
        // The children of a failed run as well: it is the worker that must not send them.
        let duration = started.elapsed();
        Report { outcome, children, log: Vec::new(), log_dropped: 0, duration, peak_memory: 0, denied: 0 }
    }
}

/// One run of a script.
pub struct Part<'a> {
    /// The message's own id.
    pub id: &'a str,
    pub script: &'a Script,
    /// The ids of the children that it enqueues.
    pub ids: BTreeSet<String>,
    pub deadline: Instant,
}

/// Plays a script once, and tells the ledger.
pub async fn play(process: &Arc<Process>, part: Part<'_>) -> Outcome {
    let Part { id, script, ids, deadline } = part;
    let world = &process.world;
    let failed = world.state(|state| {
        if process.stale().contains(id) {
            state
                .ledger
                .violation(format!("{id} was run although its lease was over when the worker got it"));
        }
        state.ledger.started(id, world.now())
    });
    let running = Running { process: process.clone(), id: Some(id.to_owned()) };
    process.step().await;
    let takes = match script.says {
        Says::Hangs => TIMEOUT * 2,
        _ => Duration::from_millis(script.ms),
    };
    let ends = Instant::now() + takes;
    tokio::time::sleep_until(ends.min(deadline)).await;
    process.step().await;
    let outcome = match deadline < ends {
        true => Outcome::Failure(Failure::new(FailureKind::OutOfTime, "its time was up")),
        false => script.outcome(failed),
    };
    running.ended(matches!(outcome, Outcome::Success { .. }), ids);
    outcome
}

/// The same child for the same ordinal, as the engine makes them.
fn child(run: &Run<'_>, ordinal: u32) -> Child {
    let context = &run.context;
    let task: TaskName = "work".parse().expect("a name");
    let script = Script { ms: 5 + u64::from(ordinal), says: Says::Ok, children: 0 };
    let mut message = Message::new(task, script.params());
    message.id = Some(format!("{}.{ordinal}", context.id));
    message.parent = Some(context.id.clone());
    message.root = Some(context.root.clone());
    message.depth = context.depth + 1;
    Child { message, delay: Duration::ZERO, trace_header: None }
}

/// A run that is under way: one that is dropped was cut off.
struct Running {
    process: Arc<Process>,
    id: Option<String>,
}

impl Running {
    fn ended(mut self, success: bool, children: BTreeSet<String>) {
        let id = self.id.take().expect("a run ends once");
        self.process.world.state(|state| state.ended(&id, Some(success), children));
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.process.world.state(|state| {
                state.ended(&id, None, BTreeSet::new());
            });
        }
    }
}
