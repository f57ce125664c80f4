//! What the worker needs from the outside.

use std::time::Duration;

use anyhow::Result;
use wasq_engine::{Child, Report, Run};
use wasq_protocol::{
    Artifact, Clock, DeadLetter, Delivery, Digest, Fingerprint, LiveRecord, Outcome, RunRecord, SecretError,
    SecretSource, SecretValue, TaskName,
};

use crate::artifacts::CheckedArtifact;

/// The kinds of port that a worker is made with.
pub trait Ports: 'static {
    /// The queue.
    type Queue: Queue;
    /// What is live.
    type Registry: Registry;
    /// Where secrets are kept.
    type SecretStore: SecretStore;
    /// What runs tasks.
    type Runner: Runner;
    /// Who hears of what was done.
    type Observer: Observer;
    /// The time.
    type Clock: Clock;
}

/// The ports of a worker.
#[derive(Debug)]
pub struct Parts<P: Ports> {
    /// The queue.
    pub queue: P::Queue,
    /// What is live.
    pub registry: P::Registry,
    /// Where secrets are kept.
    pub secrets: P::SecretStore,
    /// What runs tasks.
    pub runner: P::Runner,
    /// Who hears of what was done.
    pub observer: P::Observer,
    /// The time.
    pub clock: P::Clock,
}

/// The queue. Each call is a batch and answers per entry, in order: a failure of one says nothing of the others.
pub trait Queue: Send + Sync + 'static {
    /// Makes messages visible after the given times from now.
    fn set_visibility(&self, entries: Vec<Visibility>) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Deletes messages by receipt handle.
    fn delete(&self, receipts: Vec<String>) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Sends child tasks.
    fn send(&self, children: Vec<Child>) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Sends copies of messages to the dead-letter queue. It does not delete the originals.
    fn send_dead_letters(
        &self,
        letters: Vec<(Delivery, DeadLetter)>,
    ) -> impl Future<Output = Vec<Result<()>>> + Send;
}

/// A change of a message's visibility.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visibility {
    /// The message's receipt handle.
    pub receipt: String,
    /// It becomes visible after this.
    pub after: Duration,
    /// Whether the worker goes on with it: a lease that is extended, not a message that is given back.
    pub held: bool,
}

/// The registry, as far as a worker may read it.
pub trait Registry: Send + Sync + 'static {
    /// What is live under a name; `None` if nothing is.
    fn live(&self, task: &TaskName) -> impl Future<Output = Result<Option<LiveRecord>>> + Send;

    /// A local file with the machine code of a module.
    fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> impl Future<Output = Result<CheckedArtifact, ArtifactError>> + Send;

    /// Asks the publisher to compile what is live under a name for this worker. Returns when it was asked.
    fn request_artifact(&self, task: &TaskName) -> impl Future<Output = Result<()>> + Send;
}

/// Where secrets are kept, as far as a worker may read it.
pub trait SecretStore: Send + Sync + 'static {
    /// The value of a secret, which the task's settings call `name`.
    fn secret(
        &self,
        name: &str,
        from: &SecretSource,
    ) -> impl Future<Output = Result<SecretValue, SecretError>> + Send;
}

/// What loads and runs a task's machine code: wasmtime ([`Wasm`](crate::Wasm)), or a script in the simulator.
pub trait Runner: Send + Sync + 'static {
    /// A module that is loaded and ready to run.
    type Module: Clone + Send + Sync + 'static;

    /// What machine code must have been compiled for.
    fn fingerprint(&self) -> &Fingerprint;

    /// Loads an artifact from a file.
    fn load(
        &self,
        artifact: CheckedArtifact,
    ) -> impl Future<Output = Result<Self::Module, ArtifactError>> + Send;

    /// Runs a module once, in a sandbox of its own. Whatever it does, the answer is a report.
    fn run(&self, module: &Self::Module, run: Run<'_>) -> impl Future<Output = Report> + Send;
}

/// Why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The registry has none, or what it has is damaged.
    #[error("{0}")]
    Missing(String),
    /// The registry did not answer.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

/// Hears of every delivery that was dealt with: writes the log, and on the single machine keeps the results.
pub trait Observer: Send + Sync + 'static {
    /// A delivery was run, or given up, and acknowledged.
    fn finished(&self, finished: &Finished<'_>);
}

/// A delivery that was dealt with, or a direct invoke.
#[derive(Debug)]
pub struct Finished<'a> {
    /// What the log says of it.
    pub record: RunRecord,
    /// How the run ended, or why there was none.
    pub outcome: &'a Outcome,
}
