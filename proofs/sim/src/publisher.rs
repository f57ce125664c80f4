//! The publisher in a simulated world: its ports, and those who call it.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wasq_protocol::{Fingerprint, SecretError, SecretSource, SecretStore, SecretValue, TaskName};
use wasq_publisher::{
    Bucket as BucketPort, Compiled, Compiler, Condition, Object, Publisher, PublisherParts, PublisherPorts,
    Put, Upload, Uploads,
};

use crate::process::Process;
use crate::runner::fingerprint;
use crate::scenario::{CODE, KEEP, Kind, MAX_ATTEMPTS, Remembering, TIMEOUT};
use crate::scheduler::SimScheduler;
use crate::world::{Bucket, State, VirtualClock, World};

/// The kinds of a simulated publisher's ports.
pub struct SimPublisherPorts;

impl PublisherPorts for SimPublisherPorts {
    type Tasks = SimBucket;
    type Registry = SimBucket;
    type SecretStore = NoSecrets;
    type Compiler = ScriptCompiler;
    type Scheduler = SimScheduler;
    type Clock = VirtualClock;
}

/// Simulated tasks have no secrets.
pub struct NoSecrets;

impl SecretStore for NoSecrets {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        Err(SecretError::Missing(format!("there is no {from} in this world")))
    }
}

/// A bucket, as the publisher sees it.
pub struct SimBucket {
    pub process: Arc<Process>,
    pub bucket: fn(&mut State) -> &mut Bucket,
}

impl Uploads for SimBucket {
    async fn upload(&self, key: &str, _bytes_max: u64) -> Result<Upload> {
        let object = self.get(key).await?;
        Ok(object.map_or(Upload::Absent, |Object { bytes, tag }| Upload::Whole { bytes, etag: Some(tag) }))
    }

    async fn etag(&self, key: &str) -> Result<Option<String>> {
        Ok(self.get(key).await?.map(|object| object.tag))
    }
}

impl BucketPort for SimBucket {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let (bucket, key) = (self.bucket, key.to_owned());
        let object = self.process.call("s3.get", move |state| bucket(state).get(&key)).await?;
        Ok(object.map(|(bytes, tag)| Object { bytes, tag: tag.to_string() }))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Put> {
        let (bucket, key) = (self.bucket, key.to_owned());
        self.process
            .call("s3.put", move |state| {
                let bucket = bucket(state);
                let tag = bucket.get(&key).map(|(_, tag)| tag.to_string());
                let holds = match condition {
                    Condition::Always => true,
                    Condition::Absent => tag.is_none(),
                    Condition::Unchanged(wanted) => tag == Some(wanted),
                };
                if !holds {
                    return Put::Conflict;
                }
                bucket.put(&key, bytes);
                Put::Done
            })
            .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let (bucket, key) = (self.bucket, key.to_owned());
        self.process.call("s3.delete", move |state| bucket(state).remove(&key)).await
    }
}

/// Compiles scripts: a second of work.
pub struct ScriptCompiler {
    pub process: Arc<Process>,
    pub fingerprint: Fingerprint,
}

impl Compiler for ScriptCompiler {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn compile(&self, module: Vec<u8>) -> Result<Compiled> {
        self.process.step().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.process.step().await;
        let machine_code = [CODE, &module].concat();
        Ok(Compiled::Fits { module, machine_code })
    }
}

fn publisher(process: &Arc<Process>) -> Publisher<SimPublisherPorts> {
    let bucket = |bucket: fn(&mut State) -> &mut Bucket| SimBucket { process: process.clone(), bucket };
    Publisher::new(PublisherParts {
        tasks: bucket(|state| &mut state.tasks),
        registry: bucket(|state| &mut state.registry),
        secrets: NoSecrets,
        scheduler: Some(SimScheduler(process.clone())),
        compiler: ScriptCompiler { process: process.clone(), fingerprint: fingerprint() },
        clock: process.world.clock(),
    })
}

/// Uploads a task, and repeats the publishing until the task is live, as its author would.
pub async fn upload(world: &Arc<World>, task: &str, module: &str) {
    upload_with(world, task, module, "").await;
}

/// As [`upload`], with more settings.
pub async fn upload_with(world: &Arc<World>, task: &str, module: &str, settings: &str) {
    let task: TaskName = task.parse().expect("a name");
    let once = world.scenario.runs == Remembering::Once;
    let settings = format!(
        "timeout = \"{}s\"\nmax_attempts = {MAX_ATTEMPTS}\nkeep = \"{}s\"\nonce = {once}\nbackoff = {{ base = \"2s\", cap = \"60s\" }}\n{settings}",
        TIMEOUT.as_secs(),
        KEEP.as_secs()
    );
    world.state(|state| {
        state.tasks.put(&format!("{task}.toml"), settings.into_bytes());
        state.tasks.put(&format!("{task}.wasm"), module.as_bytes().to_vec());
    });
    loop {
        let process = Process::start(world, Kind::Publisher);
        if let Some(Ok(_)) = process.live(publisher(&process).publish(&task)).await {
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Compiles the live module once more, because a worker asked for it.
pub async fn recompile(world: &Arc<World>, task: &TaskName, unusable: bool) {
    let process = Process::start(world, Kind::Publisher);
    // If it dies or fails, the next worker asks again.
    let _ = process.live(publisher(&process).recompile(task, unusable)).await;
}
