#![doc = include_str!("../README.md")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use wasq_engine::{Child, Engine, fingerprint};
use wasq_protocol::{
    Artifact, ByteCount, Caps, Clock, DeadLetter, Delivery, Digest, Fingerprint, LiveRecord, Settings,
    SystemClock, TaskName, Timestamp, Version, WORLD,
};
use wasq_runtime::{ArtifactError, CheckedArtifact, Checks, Queue, Registry, Release, WorkerSettings};

/// The component of a test guest or an example task, as `cargo xtask guests --build` makes it.
pub fn guest(name: &str) -> PathBuf {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("the crate lies two folders deep");
    root.join("target/guests/wasm32-wasip2/release").join(format!("{name}.wasm"))
}

/// Reads the component of a test guest.
pub fn read_guest(name: &str) -> Result<Vec<u8>> {
    let path = guest(name);
    std::fs::read(&path)
        .with_context(|| format!("read {}; `cargo xtask guests --build` makes it", path.display()))
}

/// A component that was compiled as the publisher compiles it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// The digest of the component.
    pub module: Digest,
    /// The artifact, as a live record names it.
    pub artifact: Artifact,
    /// The file with the machine code.
    pub path: PathBuf,
}

impl Compiled {
    /// Compiles a component into `FOLDER/SHA256.cwasm`, as the worker's cache names it. A component that is refused is a
    /// `LoadError`.
    pub fn compile(compiler: &Engine, wasm: &[u8], folder: &Path) -> Result<Self> {
        let machine_code = compiler.compile(wasm)?;
        let path = folder.join(format!("{}.cwasm", Digest::of(&machine_code)));
        // Written once: the file of an earlier compilation may still be mapped.
        if !path.exists() {
            std::fs::write(&path, &machine_code).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Self { module: Digest::of(wasm), artifact: artifact(&machine_code), path })
    }

    /// Machine code that another process has compiled. Its digest takes the place of the component's.
    pub fn read(path: &Path) -> Result<Self> {
        let machine_code = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let artifact = artifact(&machine_code);
        Ok(Self { module: artifact.sha256, artifact, path: path.to_owned() })
    }

    /// The live record that the publisher would write: version 1, published long ago.
    pub fn record(&self, task: &TaskName, settings: Settings) -> LiveRecord {
        let version = Version {
            version: 1,
            digest: self.module,
            world: WORLD.to_owned(),
            settings,
            schema: None,
            published: long_ago(),
            bytes: None,
            made_with: Vec::new(),
            uploader: None,
            artifacts: [(fingerprint(), self.artifact)].into(),
        };
        LiveRecord {
            task: task.clone(),
            version,
            first_published: long_ago(),
            removed: None,
            history: Vec::new(),
        }
    }
}

fn long_ago() -> Timestamp {
    Timestamp::from_ms(1)
}

fn artifact(machine_code: &[u8]) -> Artifact {
    Artifact { sha256: Digest::of(machine_code), bytes: machine_code.len() as u64, compiled: long_ago() }
}

/// A registry in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tasks(Arc<State>);

#[derive(Debug, Default)]
struct State {
    live: Mutex<HashMap<TaskName, (Arc<LiveRecord>, PathBuf)>>,
    checks: Checks,
}

impl Tasks {
    /// Makes a component live under a name, instead of what was live there.
    pub fn publish(&self, task: &TaskName, compiled: &Compiled, settings: Settings) {
        let record = compiled.record(task, settings);
        self.live().insert(task.clone(), (Arc::new(record), compiled.path.clone()));
    }

    fn live(&self) -> MutexGuard<'_, HashMap<TaskName, (Arc<LiveRecord>, PathBuf)>> {
        self.0.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Tasks {
    type Artifact = CheckedArtifact;

    async fn live(&self, task: &TaskName) -> Result<Option<Arc<LiveRecord>>> {
        Ok(self.live().get(task).map(|(record, _)| record.clone()))
    }

    async fn artifact(
        &self,
        _: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        let path = {
            let live = self.live();
            let found = live.values().find(|(record, _)| record.version.digest == *module);
            found.map(|(_, path)| path.clone())
        };
        let path = path.ok_or_else(|| ArtifactError::Missing("it is not there".to_owned()))?;
        self.0.checks.check(path, artifact).await
    }

    async fn request_artifact(&self, task: &TaskName, _unusable: bool) -> Result<()> {
        bail!("{task}: nobody compiles here")
    }
}

/// A queue that accepts every call.
#[derive(Clone, Copy, Debug)]
pub struct AcceptingQueue;

fn accepted<T>(entries: Vec<T>) -> Vec<Result<()>> {
    entries.iter().map(|_| Ok(())).collect()
}

impl Queue for AcceptingQueue {
    async fn extend(&self, receipts: Vec<String>, _: Duration) -> Vec<Result<()>> {
        accepted(receipts)
    }

    async fn release(&self, entries: Vec<Release>) -> Vec<Result<()>> {
        accepted(entries)
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        accepted(receipts)
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        accepted(children)
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        accepted(letters)
    }
}

/// Settings for a worker with `concurrency` slots: nothing is cached but modules.
pub fn worker_settings(concurrency: u32, lease: Duration) -> WorkerSettings {
    WorkerSettings {
        concurrency,
        memory: ByteCount::mib(4096),
        modules_max: 4,
        modules_bytes_max: ByteCount::mib(200),
        live_ttl: Duration::ZERO,
        secret_ttl: Duration::ZERO,
        lease,
        retention: Duration::from_secs(4 * 24 * 3600),
        caps: Caps::default(),
    }
}

/// A delivery that was just received for the first time. Its receipt is its id.
pub fn delivery(id: &str, body: String, lease: Duration) -> Delivery {
    let now = SystemClock.now();
    Delivery {
        message_id: id.to_owned(),
        body,
        receipt: id.to_owned(),
        receive_count: 1,
        lease_until: now.plus(lease),
        first_received: now,
        sent: now,
        attributes: Default::default(),
        group: None,
        trace_header: None,
        deaths: 0,
    }
}
