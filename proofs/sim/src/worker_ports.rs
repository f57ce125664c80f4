//! The worker's ports on a simulated world. The worker's part of a mutated protocol is here.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use wasq_engine::Child;
use wasq_protocol::{Artifact, DeadLetter, Delivery, Digest, Fingerprint, LiveRecord, TaskName};
use wasq_runtime::{ArtifactError, Finished, Observer, Queue, Registry, Release, WorkerPorts};

use crate::process::Process;
use crate::publisher::{NoSecrets, recompile};
use crate::runner::{ScriptArtifact, ScriptRunner};
use crate::runs::SimRuns;
use crate::scenario::Mutation;
use crate::scheduler::SimTimer;
use crate::sqs::{VISIBILITY_MAX, delete, send_children, send_dead_letters, set_visibility};
use crate::world::VirtualClock;

/// The kinds of a simulated worker's ports.
pub struct SimWorkerPorts;

impl WorkerPorts for SimWorkerPorts {
    type Queue = WorkerQueue;
    type Registry = SimRegistry;
    type SecretStore = NoSecrets;
    type Runs = SimRuns;
    type Timer = SimTimer;
    type Runner = ScriptRunner;
    type Observer = Nobody;
    type Clock = VirtualClock;
}

pub struct Nobody;

impl Observer for Nobody {
    fn finished(&self, _: &Finished<'_>) {}
}

/// The queues, as the worker sees them.
pub struct WorkerQueue {
    process: Arc<Process>,
    /// The sends that a mutated protocol makes after the delete, and should have made before it.
    postponed: Mutex<Vec<Postponed>>,
}

enum Postponed {
    Children(Vec<Child>),
    DeadLetters(Vec<(Delivery, DeadLetter)>),
}

impl WorkerQueue {
    pub fn new(process: Arc<Process>) -> Self {
        Self { process, postponed: Mutex::default() }
    }

    fn mutation(&self) -> Option<Mutation> {
        self.process.world.scenario.mutation
    }

    fn postpone(&self, what: Postponed) {
        self.postponed.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn answered(&self, results: Vec<Result<()>>) -> Vec<Result<()>> {
        match self.mutation() {
            Some(Mutation::EntryFailuresIgnored) => results.into_iter().map(|_| Ok(())).collect(),
            _ => results,
        }
    }
}

fn all_well(count: usize) -> Vec<Result<()>> {
    (0..count).map(|_| Ok(())).collect()
}

impl Queue for WorkerQueue {
    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        if self.mutation() == Some(Mutation::NoHeartbeat) {
            return all_well(receipts.len());
        }
        let entries = receipts.into_iter().map(|receipt| (receipt, lease)).collect();
        self.answered(set_visibility(&self.process, entries).await)
    }

    async fn release(&self, entries: Vec<Release>) -> Vec<Result<()>> {
        let never = self.mutation() == Some(Mutation::NeverReleased);
        let after = |entry: &Release| if never { VISIBILITY_MAX } else { entry.after };
        let entries = entries.iter().map(|entry| (entry.receipt.clone(), after(entry))).collect();
        self.answered(set_visibility(&self.process, entries).await)
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        let results = delete(&self.process, receipts).await;
        let postponed = std::mem::take(&mut *self.postponed.lock().unwrap_or_else(PoisonError::into_inner));
        for what in postponed {
            match what {
                Postponed::Children(children) => send_children(&self.process, children).await,
                Postponed::DeadLetters(letters) => send_dead_letters(&self.process, letters).await,
            };
        }
        self.answered(results)
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        if self.mutation() == Some(Mutation::DeleteBeforeChildren) {
            let count = children.len();
            self.postpone(Postponed::Children(children));
            return all_well(count);
        }
        self.answered(send_children(&self.process, children).await)
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        match self.mutation() {
            Some(Mutation::NoDeadLetters) => all_well(letters.len()),
            Some(Mutation::DeleteBeforeDeadLetter) => {
                let count = letters.len();
                self.postpone(Postponed::DeadLetters(letters));
                all_well(count)
            }
            _ => self.answered(send_dead_letters(&self.process, letters).await),
        }
    }
}

/// The registry, as the worker sees it.
pub struct SimRegistry {
    pub process: Arc<Process>,
}

impl Registry for SimRegistry {
    type Artifact = ScriptArtifact;

    async fn live(&self, task: &TaskName) -> Result<Option<Arc<LiveRecord>>> {
        let key = LiveRecord::key(task);
        let object = self.process.call("s3.get", move |state| state.registry.get(&key)).await?;
        Ok(object.map(|(bytes, _)| serde_json::from_slice(&bytes).map(Arc::new)).transpose()?)
    }

    async fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<ScriptArtifact, ArtifactError> {
        let key = LiveRecord::artifact_key(fingerprint, module);
        let (wanted, expected) = (key.clone(), artifact.sha256);
        let found = self.process.call("s3.get", move |state| {
            let found = state.registry.get(&wanted);
            if found.is_none() && !state.removed.contains(&wanted) {
                state.ledger.violation(format!("the live record names {wanted}, which is not there"));
            }
            found.is_some_and(|(code, _)| Digest::of(&code) == expected)
        });
        match found.await {
            Ok(true) => Ok(ScriptArtifact(key)),
            Ok(false) => {
                self.process.fault();
                Err(ArtifactError::Missing(format!("no {key}")))
            }
            Err(e) => Err(ArtifactError::Unavailable(e)),
        }
    }

    async fn request_artifact(&self, task: &TaskName, unusable: bool) -> Result<()> {
        let (world, task) = (self.process.world.clone(), task.clone());
        self.process
            .call("lambda.invoke", move |_| {
                tokio::spawn(async move { recompile(&world, &task, unusable).await });
            })
            .await
    }
}
