//! Runs scripts, where production runs wasm.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio::time::Instant;
use wasq_engine::{Child, NotStored, Report, Run, SaveStep, StepValues, Steps};
use wasq_protocol::{Failure, FailureKind, Fingerprint, Message, Outcome, TaskName};
use wasq_runtime::{ArtifactError, Runner};

use crate::process::Process;
use crate::scenario::{CODE, Mutation, TIMEOUT};
use crate::script::{Says, Script};
use crate::sqs::send_children;

/// The machine code of a script, by its key in the registry.
pub struct ScriptArtifact(pub String);

/// The fingerprint that scripts are compiled for.
pub fn fingerprint() -> Fingerprint {
    Fingerprint("script".to_owned())
}

/// Runs scripts.
pub struct ScriptRunner {
    pub process: Arc<Process>,
    pub fingerprint: Fingerprint,
}

impl Runner for ScriptRunner {
    type Module = ();
    type Artifact = ScriptArtifact;

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn load(&self, ScriptArtifact(key): ScriptArtifact) -> Result<(), ArtifactError> {
        self.process.step().await;
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
            send_children(&self.process, children.clone()).await;
        }
        let ids = children.iter().filter_map(|child| child.message.id.clone()).collect();
        let Run { context, steps, deadline, .. } = run;
        let outcome =
            play(&self.process, Part { id: &context.id, script: &script, ids, steps, deadline }).await;
        // A failed run reports its children too: the worker must not send them.
        let duration = started.elapsed();
        Report {
            outcome,
            children,
            steps: StepValues::new(),
            log: Vec::new(),
            log_dropped: 0,
            duration,
            peak_memory: 0,
            denied: 0,
            requests: Vec::new(),
        }
    }
}

/// One run of a script.
pub struct Part<'a> {
    /// The message's own id.
    pub id: &'a str,
    pub script: &'a Script,
    /// The ids of the children that it enqueues.
    pub ids: BTreeSet<String>,
    /// The steps of its message.
    pub steps: Steps,
    pub deadline: Instant,
}

/// Plays a script once, and tells the ledger.
pub async fn play(process: &Arc<Process>, part: Part<'_>) -> Outcome {
    let Part { id, script, ids, steps, deadline } = part;
    let world = &process.world;
    let failed = world.state(|state| {
        if process.stale().contains(id) {
            state
                .ledger
                .violation(format!("{id} was run although its lease was over when the worker got it"));
        }
        state.started(id)
    });
    let running = Running { process: process.clone(), id: Some(id.to_owned()) };
    process.step().await;
    if let Err(failure) = take_steps(process, id, script.steps, steps).await {
        return Outcome::Failure(failure);
    }
    let takes = match script.says {
        Says::Hangs => TIMEOUT * 2,
        _ => Duration::from_millis(script.ms),
    };
    let ends = Instant::now() + takes;
    tokio::time::sleep_until(ends.min(deadline)).await;
    if script.says == Says::Kills {
        process.killed_by(id);
    }
    process.step().await;
    let outcome = match deadline < ends {
        true => Outcome::Failure(Failure::new(FailureKind::OutOfTime, "its time was up")),
        false => script.outcome(failed),
    };
    running.ended(matches!(outcome, Outcome::Success { .. }), ids);
    outcome
}

/// Takes the steps of a script, without those that an earlier run saved.
async fn take_steps(process: &Process, id: &str, count: u32, steps: Steps) -> Result<(), Failure> {
    let unavailable = |why: String| Err(Failure::new(FailureKind::Unavailable, why));
    for name in (0..count).map(|number| number.to_string()) {
        let (known, store) = match &steps {
            Steps::Unavailable(why) => return unavailable(why.clone().into_owned()),
            Steps::Reported(_) => return Ok(()),
            Steps::Stored(known, store) => (known, store),
        };
        if known.contains_key(&name) {
            process.world.state(|state| state.ledger.spared());
            continue;
        }
        process.step().await;
        process.world.state(|state| state.ledger.executed(id, &name));
        process.step().await;
        let (stored, answer) = oneshot::channel();
        let save = SaveStep { name, value: RawValue::NULL.to_owned(), stored };
        let sent = store.send(save).await;
        match sent.ok().and(answer.await.ok()) {
            Some(Ok(())) => {}
            Some(Err(NotStored::Lost)) => {
                return Err(Failure::new(FailureKind::Trap, "another delivery has the message"));
            }
            Some(Err(NotStored::Unavailable(why))) => return unavailable(why),
            None => return unavailable("the worker stops".to_owned()),
        }
    }
    Ok(())
}

/// Returns the same child for the same ordinal, as the engine does.
fn child(run: &Run<'_>, ordinal: u32) -> Child {
    let context = &run.context;
    let task: TaskName = "work".parse().expect("a name");
    let script = Script { ms: 5 + u64::from(ordinal), says: Says::Ok, children: 0, steps: 0 };
    let mut message = Message::new(task, script.params());
    message.id = Some(format!("{}.{ordinal}", context.id));
    message.parent = Some(context.id.clone());
    message.root = Some(context.root.clone());
    message.depth = context.depth + 1;
    Child { message, delay: Duration::ZERO, trace_header: None, group: None }
}

/// A run that is under way. If it is dropped before it ended, it was cut off.
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
