//! The worker on a queue that keeps a record of every call, with a real engine and a real guest.

mod delayed;
mod events;
mod records;
mod runs;
mod secrets;
mod settling;
mod spans;
mod steps;

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use wasq_engine::{Child, Engine, Limits};
use wasq_protocol::{
    Artifact, Batch, ByteCount, Clock, DeadLetter, Delivery, Digest, Fingerprint, Invoke, LiveRecord,
    RunRecord, SecretError, SecretSource, SecretStore, SecretValue, Settings, SystemClock, TaskName,
};
use wasq_runtime::{
    ArtifactError, CheckedArtifact, Delayed, Finished, Observer, Queue, Registry, Release, Timer, Wasm,
    Worker, WorkerParts, WorkerPorts, WorkerSettings,
};
use wasq_testing::{Compiled, Tasks, read_guest, worker_settings};

use crate::runs::TestRuns;

/// How long each lease lasts.
const LEASE: Duration = Duration::from_secs(30);

/// A queue that records every call, and fails the calls that the test tells it to fail.
#[derive(Clone, Default)]
struct Recorder(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    calls: Vec<String>,
    /// Words: a call that contains one fails.
    broken: Vec<&'static str>,
    children: Vec<Child>,
    told: Vec<RunRecord>,
    secrets: BTreeMap<String, Result<String, SecretError>>,
}

impl Recorder {
    fn note(&self, call: String) -> Result<()> {
        let mut record = self.0.lock().expect("no panic");
        let fails = record.broken.iter().any(|word| call.contains(word));
        record.calls.push(call);
        if fails { Err(anyhow!("as told")) } else { Ok(()) }
    }

    fn break_on(&self, word: &'static str) {
        self.0.lock().expect("no panic").broken.push(word);
    }

    /// Sets the value that the secret store returns from now on.
    fn keep_secret(&self, from: &str, value: Result<&str, SecretError>) {
        self.0.lock().expect("no panic").secrets.insert(from.to_owned(), value.map(str::to_owned));
    }

    /// The log record of each delivery.
    fn told(&self) -> Vec<RunRecord> {
        self.0.lock().expect("no panic").told.clone()
    }

    /// The children that were sent.
    fn children(&self) -> Vec<Child> {
        self.0.lock().expect("no panic").children.clone()
    }

    /// The calls so far, in order.
    fn calls(&self) -> Vec<String> {
        self.0.lock().expect("no panic").calls.clone()
    }
}

impl Queue for Recorder {
    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        let note = |receipt: String| self.note(format!("visible {receipt} {}", lease.as_secs()));
        receipts.into_iter().map(note).collect()
    }

    async fn release(&self, entries: Vec<Release>) -> Vec<Result<()>> {
        let note =
            |Release { receipt, after, .. }| self.note(format!("visible {receipt} {}", after.as_secs()));
        entries.into_iter().map(note).collect()
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        receipts.into_iter().map(|receipt| self.note(format!("delete {receipt}"))).collect()
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        self.0.lock().expect("no panic").children.extend(children.iter().cloned());
        children.into_iter().map(|child| self.note(format!("send {}", child.message.params))).collect()
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        let note = |(delivery, letter): (Delivery, DeadLetter)| {
            self.note(format!("dead {} {} {}", delivery.receipt, letter.failure.kind, letter.attempts))
        };
        letters.into_iter().map(note).collect()
    }
}

impl Timer for Recorder {
    async fn keep(&self, messages: Vec<Delayed>) -> Vec<Result<()>> {
        let note = |Delayed { body, at, .. }: Delayed| self.note(format!("keep {body} until {at}"));
        messages.into_iter().map(note).collect()
    }
}

/// A registry that does not answer for the task `unreachable`.
struct SomeTasks(Tasks);

impl Registry for SomeTasks {
    type Artifact = CheckedArtifact;

    async fn live(&self, task: &TaskName) -> Result<Option<Arc<LiveRecord>>> {
        match task.as_str() {
            "unreachable" => Err(anyhow!("the registry is down")),
            _ => self.0.live(task).await,
        }
    }

    async fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        self.0.artifact(fingerprint, module, artifact).await
    }

    async fn request_artifact(&self, task: &TaskName, unusable: bool) -> Result<()> {
        self.0.request_artifact(task, unusable).await
    }
}

impl SecretStore for Recorder {
    async fn secret(&self, name: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        let _ = self.note(format!("secret {name}"));
        match self.0.lock().expect("no panic").secrets.get(&from.to_string()) {
            Some(value) => value.clone().map(SecretValue::new),
            None => Err(SecretError::Missing("it is not there".to_owned())),
        }
    }
}

impl Observer for Recorder {
    fn finished(&self, finished: &Finished<'_>) {
        self.0.lock().expect("no panic").told.push(finished.record.clone());
    }
}

struct Test;

impl WorkerPorts for Test {
    type Runs = TestRuns;
    type Timer = Recorder;
    type Queue = Recorder;
    type Registry = SomeTasks;
    type SecretStore = Recorder;
    type Runner = Wasm;
    type Observer = Recorder;
    type Clock = SystemClock;
}

type TestWorker = Worker<Test>;

/// A worker with the task `verbs`, its queue, and the folder that must outlive it.
fn worker(settings: Settings) -> (TestWorker, Recorder, tempfile::TempDir) {
    worker_with(settings, Duration::ZERO, ByteCount::mib(4096))
}

/// The same, with `memory` for all its tasks together.
fn worker_with_memory(settings: Settings, memory: ByteCount) -> (TestWorker, Recorder, tempfile::TempDir) {
    worker_with(settings, Duration::ZERO, memory)
}

/// The same, with secrets cached for `secret_ttl`.
fn worker_with_secrets_for(
    settings: Settings,
    secret_ttl: Duration,
) -> (TestWorker, Recorder, tempfile::TempDir) {
    worker_with(settings, secret_ttl, ByteCount::mib(4096))
}

fn worker_with(
    settings: Settings,
    secret_ttl: Duration,
    memory: ByteCount,
) -> (TestWorker, Recorder, tempfile::TempDir) {
    let (worker, queue, folder, _) = worker_with_runs(settings, secret_ttl, memory, None);
    (worker, queue, folder)
}

fn worker_with_runs(
    settings: Settings,
    secret_ttl: Duration,
    memory: ByteCount,
    runs: Option<TestRuns>,
) -> (TestWorker, Recorder, tempfile::TempDir, Option<TestRuns>) {
    let parts = OptionalParts { runs: runs.clone(), has_timer: false };
    let (worker, queue, folder) = worker_of(settings, secret_ttl, memory, parts);
    (worker, queue, folder, runs)
}

/// The parts that a worker may be without.
#[derive(Default)]
struct OptionalParts {
    runs: Option<TestRuns>,
    has_timer: bool,
}

fn worker_of(
    settings: Settings,
    secret_ttl: Duration,
    memory: ByteCount,
    OptionalParts { runs, has_timer }: OptionalParts,
) -> (TestWorker, Recorder, tempfile::TempDir) {
    let wasm = read_guest("verbs").expect("the guest is built");
    let compiler = Engine::compiler().expect("it starts");
    let folder = tempfile::tempdir().expect("a folder");
    let verbs = Compiled::compile(&compiler, &wasm, folder.path()).expect("it compiles");
    let tasks = Tasks::default();
    tasks.publish(&"verbs".parse().expect("a name"), &verbs, settings);
    let queue = Recorder::default();
    let settings = WorkerSettings { memory, secret_ttl, ..worker_settings(8, LEASE) };
    let parts = WorkerParts {
        queue: queue.clone(),
        registry: SomeTasks(tasks),
        secrets: queue.clone(),
        runs,
        timer: has_timer.then(|| queue.clone()),
        runner: Wasm::new(&settings, Limits::default()).expect("it starts"),
        observer: queue.clone(),
        clock: SystemClock,
    };
    (Worker::new(parts, settings), queue, folder)
}

/// A delivery that was just received for the first time; its receipt is its id.
fn delivery(id: &str, body: Value) -> Delivery {
    wasq_testing::delivery(id, body.to_string(), LEASE)
}

fn verb(id: &str, params: Value) -> Delivery {
    delivery(id, json!({"task": "verbs", "params": params}))
}

/// Hands a batch over as the consumer does. Returns the ids of the messages that come again.
async fn hand_over(worker: &TestWorker, deliveries: Vec<Delivery>) -> HashSet<String> {
    let event = serde_json::to_string(&Batch { deliveries }).expect("JSON");
    let ends = SystemClock.now().plus(Duration::from_secs(60));
    match worker.handle(&event, Invoke::until(ends)).await.expect("a batch") {
        wasq_runtime::Answer::Batch { unfinished } => unfinished.into_iter().collect(),
        other => panic!("not a batch's answer: {other:?}"),
    }
}
