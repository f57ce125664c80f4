//! The worker on a queue that keeps a record of every call, with a real engine and a real guest.

mod acknowledging;
mod events;
mod secrets;
mod telling;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use wasq_engine::{Addresses, Child, Engine, fingerprint};
use wasq_protocol::{
    Artifact, Batch, ByteCount, Caps, Clock, DeadLetter, Delivery, Digest, Fingerprint, Invoke, LiveRecord,
    RunRecord, SecretError, SecretSource, SecretValue, Settings, SystemClock, TaskName, Timestamp, Version,
    WORLD,
};
use wasq_runtime::{
    ArtifactError, CheckedArtifact, Checks, Finished, Observer, Parts, Ports, Queue, Registry, SecretStore,
    Visibility, Wasm, Worker, WorkerSettings,
};

/// A queue that notes what is asked of it, and refuses what it is told to refuse.
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

    /// What the secret store answers from now on.
    fn keep_secret(&self, from: &str, value: Result<&str, SecretError>) {
        self.0.lock().expect("no panic").secrets.insert(from.to_owned(), value.map(str::to_owned));
    }

    /// What was told of each delivery.
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
    async fn set_visibility(&self, entries: Vec<Visibility>) -> Vec<Result<()>> {
        let note =
            |entry: Visibility| self.note(format!("visible {} {}", entry.receipt, entry.after.as_secs()));
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

/// A registry with one task, `verbs`, in a folder.
struct OneTask {
    record: LiveRecord,
    artifact: PathBuf,
    checks: Checks,
}

impl Registry for OneTask {
    async fn live(&self, task: &TaskName) -> Result<Option<LiveRecord>> {
        match task.as_str() {
            "verbs" => Ok(Some(self.record.clone())),
            "unreachable" => Err(anyhow!("the registry is down")),
            _ => Ok(None),
        }
    }

    async fn artifact(
        &self,
        _: &Fingerprint,
        _: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        self.checks.check(self.artifact.clone(), artifact).await
    }

    async fn request_artifact(&self, _: &TaskName) -> Result<()> {
        Ok(())
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

impl Ports for Test {
    type Queue = Recorder;
    type Registry = OneTask;
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

/// The same, with so much memory for its tasks.
fn worker_with_memory(settings: Settings, memory: ByteCount) -> (TestWorker, Recorder, tempfile::TempDir) {
    worker_with(settings, Duration::ZERO, memory)
}

/// The same, which believes secrets for a while.
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the runtime lies in the root");
    let path = root.join("target/guests/wasm32-wasip2/release/verbs.wasm");
    let wasm = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask guests --build`", path.display()));
    let machine_code = Engine::compiler().and_then(|engine| Ok(engine.compile(&wasm)?)).expect("it compiles");
    let folder = tempfile::tempdir().expect("a folder");
    let artifact = folder.path().join("verbs.cwasm");
    std::fs::write(&artifact, &machine_code).expect("written");
    let long_ago = Timestamp::from_ms(1);
    let made =
        Artifact { sha256: Digest::of(&machine_code), bytes: machine_code.len() as u64, compiled: long_ago };
    let record = LiveRecord {
        task: "verbs".parse().expect("a name"),
        version: Version {
            version: 1,
            digest: Digest::of(&wasm),
            world: WORLD.to_owned(),
            settings,
            published: long_ago,
            artifacts: [(fingerprint(), made)].into(),
        },
        first_published: long_ago,
        removed: None,
        history: Vec::new(),
    };
    let queue = Recorder::default();
    let settings = WorkerSettings {
        concurrency: 8,
        memory,
        modules_max: 4,
        modules_bytes_max: ByteCount::mib(200),
        live_ttl: Duration::ZERO,
        secret_ttl,
        lease: Duration::from_secs(30),
        retention: Duration::from_secs(96 * 3600),
        caps: Caps::default(),
    };
    let runner = Wasm::new(&settings, Addresses::default()).expect("it starts");
    let registry = OneTask { record, artifact, checks: Checks::default() };
    let (secrets, observer) = (queue.clone(), queue.clone());
    let parts = Parts { queue: queue.clone(), registry, secrets, runner, observer, clock: SystemClock };
    (Worker::new(parts, settings), queue, folder)
}

/// A delivery that was just received for the first time; its receipt is its id.
fn delivery(id: &str, body: Value) -> Delivery {
    let now = SystemClock.now();
    Delivery {
        message_id: id.to_owned(),
        body: body.to_string(),
        receipt: id.to_owned(),
        receive_count: 1,
        lease_until: now.plus(Duration::from_secs(30)),
        first_received: now,
        sent: now,
        attributes: Default::default(),
        group: None,
        trace_header: None,
    }
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
