//! The ports: the traits by which the worker reaches the outside.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wasq_engine::{Child, Report, Run};
use wasq_protocol::{
    Artifact, Clock, DeadLetter, Delivery, Digest, Fingerprint, ItemWrite, LiveRecord, Outcome, RunRecord,
    SecretStore, TaskName, Timestamp, Written,
};

/// The kinds of a worker's ports.
pub trait WorkerPorts: 'static {
    /// The queue.
    type Queue: Queue;
    /// The registry.
    type Registry: Registry;
    /// The secret store.
    type SecretStore: SecretStore;
    /// The table of runs.
    type Runs: Runs;
    /// The timer.
    type Timer: Timer;
    /// The runner; it loads the registry's artifacts.
    type Runner: Runner<Artifact = <Self::Registry as Registry>::Artifact>;
    /// The observer.
    type Observer: Observer;
    /// The time.
    type Clock: Clock;
}

/// A worker's ports.
#[derive(Debug)]
pub struct WorkerParts<P: WorkerPorts> {
    /// The queue.
    pub queue: P::Queue,
    /// The registry.
    pub registry: P::Registry,
    /// The secret store.
    pub secrets: P::SecretStore,
    /// The table of runs; `None` if runs are not remembered.
    pub runs: Option<P::Runs>,
    /// The timer; `None` if messages wait in the queue for their time.
    pub timer: Option<P::Timer>,
    /// The runner.
    pub runner: P::Runner,
    /// The observer.
    pub observer: P::Observer,
    /// The time.
    pub clock: P::Clock,
}

/// The queue. Each call takes a batch and returns one result for each entry, in order. The entries fail
/// independently of each other.
pub trait Queue: Send + Sync + 'static {
    /// Extends the leases of messages that the worker goes on with, by receipt handle: each lasts for `lease` from now.
    fn extend(&self, receipts: Vec<String>, lease: Duration) -> impl Future<Output = Vec<Result<()>>> + Send;

    /// Releases messages: each becomes visible to receivers after its time from now.
    fn release(&self, entries: Vec<Release>) -> impl Future<Output = Vec<Result<()>>> + Send;

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

/// A message that the worker releases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release {
    /// The message's receipt handle.
    pub receipt: String,
    /// How long from now until it is visible.
    pub after: Duration,
    /// Whether a run of it has ended.
    pub ran: bool,
}

/// The part of the registry that a worker may read.
pub trait Registry: Send + Sync + 'static {
    /// The machine code of a module on this machine, as the [`Runner`] loads it.
    type Artifact: Send;

    /// Returns the live record under a name; `None` if there is none. One that has not changed may be returned again.
    fn live(&self, task: &TaskName) -> impl Future<Output = Result<Option<Arc<LiveRecord>>>> + Send;

    /// The machine code of a module. Its digest is the one that `artifact` names.
    fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> impl Future<Output = Result<Self::Artifact, ArtifactError>> + Send;

    /// Why messages for a task that is not live should wait for it, if they should. On one machine, its project
    /// may be under construction.
    fn expected(&self, _task: &TaskName) -> Option<String> {
        None
    }

    /// Asks the publisher to compile the live module of a task for this worker. Does not wait for the result. `unusable`: the
    /// registry has an artifact, and it is no good.
    fn request_artifact(&self, task: &TaskName, unusable: bool) -> impl Future<Output = Result<()>> + Send;
}

/// The table of runs: one item for each message, by its own id. It knows no rules: it compares revisions and writes.
pub trait Runs: Send + Sync + 'static {
    /// Items keep params of up to this many bytes.
    const PARAMS_MAX: usize;

    /// Writes items, each on its own, and returns one result for each, in order. An item is written only over the revision that
    /// it replaces; one that replaces none, only if there is no item with its id, or an expired one.
    fn put(&self, writes: &[ItemWrite]) -> impl Future<Output = Vec<Result<Written>>> + Send;

    /// Waits until somebody asks to cancel the message with this id, while this owner runs it.
    fn cancelled(&self, id: &str, owner: &str) -> impl Future<Output = ()> + Send;
}

/// No table: for ports without a memory of runs.
impl Runs for Infallible {
    const PARAMS_MAX: usize = 0;

    async fn put(&self, _: &[ItemWrite]) -> Vec<Result<Written>> {
        match *self {}
    }

    async fn cancelled(&self, _: &str, _: &str) {
        match *self {}
    }
}

/// Keeps messages outside of the queue until their time comes, and sends each to the queue then.
pub trait Timer: Send + Sync + 'static {
    /// Keeps messages, each on its own, and returns one result for each, in order. To keep a message that is kept already is no
    /// error, and changes nothing.
    fn keep(&self, messages: Vec<Delayed>) -> impl Future<Output = Vec<Result<()>>> + Send;
}

/// No timer: for ports whose messages wait in the queue.
impl Timer for Infallible {
    async fn keep(&self, _: Vec<Delayed>) -> Vec<Result<()>> {
        match *self {}
    }
}

/// A message that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delayed {
    /// Names the message: another message has another name, also one with the same id.
    pub name: Digest,
    /// The message body to send, with the message's own id in it.
    pub body: String,
    /// The message's group.
    pub group: Option<String>,
    /// When to send it.
    pub at: Timestamp,
}

/// The runner loads and runs a task's machine code: wasmtime ([`Wasm`](crate::Wasm)), or a
/// script in the simulator.
pub trait Runner: Send + Sync + 'static {
    /// A module that is loaded and ready to run.
    type Module: Clone + Send + Sync + 'static;

    /// The machine code that it loads.
    type Artifact: Send;

    /// The engine that machine code must have been compiled for.
    fn fingerprint(&self) -> &Fingerprint;

    /// Loads an artifact.
    fn load(
        &self,
        artifact: Self::Artifact,
    ) -> impl Future<Output = Result<Self::Module, ArtifactError>> + Send;

    /// Runs a module once, in its own sandbox. Every end of the run, a crash included, becomes a report.
    fn run(&self, module: &Self::Module, run: Run<'_>) -> impl Future<Output = Report> + Send;
}

/// The reason why there is no machine code.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// The registry has no artifact, or a damaged one.
    #[error("{0}")]
    Missing(String),
    /// The artifact is whole, and cannot be loaded.
    #[error("{0}")]
    Unusable(String),
    /// The registry did not answer.
    #[error("{0:#}")]
    Unavailable(anyhow::Error),
}

/// Hears of every delivery that was settled: writes the log, and on the single machine keeps the results.
pub trait Observer: Send + Sync + 'static {
    /// A delivery or a direct invoke was settled.
    fn finished(&self, finished: &Finished<'_>);
}

/// A delivery that was settled, or a direct invoke.
#[derive(Debug)]
pub struct Finished<'a> {
    /// The log record.
    pub record: RunRecord,
    /// The outcome of the run, or the reason why there was none.
    pub outcome: &'a Outcome,
}
