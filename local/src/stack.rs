//! The single-machine stack: consumer, worker and publisher in one process, on the local queue and folders.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use uuid::Uuid;
use wasq_consumer::{DrainSettings, Mode, drain};
use wasq_engine::Addresses;
use wasq_protocol::{
    AddressRange, ByteCount, Caps, Clock, LiveRecord, Rejection, SystemClock, TaskName, Timestamp,
};
use wasq_publisher::{Publisher, Wasm as Compiler};
use wasq_runtime::{Checks, Parts, Wasm, Worker, WorkerSettings};

use crate::adapters::{LocalInvoker, TaskQueue};
use crate::db::Db;
use crate::endpoint::{self, Endpoint};
use crate::folder::{Folder, FolderRegistry};
use crate::log::Log;
use crate::results::Results;
use crate::secrets::Secrets;
use crate::sqs::queues::Queues;
use crate::sqs::settings::arn_of_queue;
use crate::watch::TasksFolder;

/// The queue that tasks are sent to.
pub const QUEUE: &str = "wasq";
/// Where messages go that are given up.
pub const DEAD_LETTERS: &str = "wasq-dead-letters";

/// How a stack is set up.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The folder that tasks are put into.
    pub tasks: PathBuf,
    /// Where queue and registry are kept.
    pub data: PathBuf,
    /// Where the endpoint listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Tasks that run at once.
    pub concurrency: u32,
    /// What tasks that run at once may be allowed together.
    pub memory: ByteCount,
    /// How long a message is leased; extended while its task runs.
    pub lease: Duration,
    /// Ranges of addresses that tasks may reach beside the public internet.
    pub allow_addresses: Vec<AddressRange>,
    /// The secrets that settings may name.
    pub secrets: Secrets,
    /// Where is written what was run.
    pub log: Log,
}

/// A running stack.
pub struct Stack {
    address: SocketAddr,
    invoker: LocalInvoker,
    stop: watch::Sender<bool>,
    consumer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    _lock: File,
}

/// The schedule's rate: how long one run of the consumer lasts.
const TICK: Duration = Duration::from_secs(60);
/// More receives than this end in the dead-letter queue whatever happens: the most that SQS knows, because receives are
/// spent on waiting and crashes as well.
const RECEIVES_MAX: u32 = 1000;
/// How long messages are kept, in both queues: 14 days, the most there is. On a standard queue the time goes on in the
/// dead-letter queue.
const RETENTION_SECONDS: u32 = 1_209_600;
/// Messages in flight at which the consumer waits, for each task that can run: what waits longer for its place than its
/// lease lasts is better left in the queue.
const IN_FLIGHT_PER_PLACE: u64 = 2;
const RECEIVERS: usize = 4;
const HELD_BYTES_MAX: u64 = 64 << 20;
const MODULES_MAX: usize = 256;
/// They are mapped: what nobody runs takes no memory.
const MODULES_BYTES_MAX: ByteCount = ByteCount::mib(4096);

impl Stack {
    /// Starts a stack; returns when it accepts messages.
    pub async fn start(config: StackConfig) -> Result<Self> {
        let StackConfig { tasks, data, listen, concurrency, memory, lease, allow_addresses, secrets, log } =
            config;
        let lock = lock(&data)?;
        let listener = endpoint::listen(listen).await?;
        let address = listener.local_addr()?;
        let db = Db::open(&data.join("queue.sqlite"))?;
        let queues = Queues::new(db.clone());
        let holder = Uuid::new_v4().to_string();
        create_queues(&queues, lease).await.context("create the queues")?;
        let released = queues.release_held(QUEUE.to_owned(), holder.clone()).await?;
        if released > 0 {
            tracing::info!("{released} messages were in work when the last process ended; they run again");
        }
        let (stop, stopping) = watch::channel(false);
        let queue = TaskQueue {
            queues: queues.clone(),
            name: QUEUE.to_owned(),
            dead_letters: DEAD_LETTERS.to_owned(),
            lease,
            holder,
            stop: stopping.clone(),
        };
        let registry = Folder::new(registry_path(&data))?;
        let mut folder = TasksFolder::watch(&tasks)?;
        let last = LastStack { listen: address, tasks: std::path::absolute(&tasks)? };
        let publisher = Arc::new(Publisher {
            tasks: Folder::new(tasks)?,
            registry: registry.clone(),
            secrets: secrets.clone(),
            compiler: Compiler::new()?,
            clock: SystemClock,
        });
        let results = Results::new(db, log);
        let settings = WorkerSettings {
            concurrency,
            memory,
            modules_max: MODULES_MAX,
            modules_bytes_max: MODULES_BYTES_MAX,
            // It is a small file on this machine, and an upload is to be seen at once.
            live_ttl: Duration::ZERO,
            secret_ttl: Duration::ZERO,
            lease,
            retention: Duration::from_secs(RETENTION_SECONDS.into()),
            caps: Caps::default(),
        };
        let registry = FolderRegistry {
            folder: registry,
            checks: Checks::default(),
            publisher: publisher.clone(),
            compiling: Arc::default(),
        };
        let runner = Wasm::new(&settings, Addresses { allow: allow_addresses, never: Vec::new() })?;
        let parts = Parts {
            queue: queue.clone(),
            registry,
            secrets,
            runner,
            observer: results.clone(),
            clock: SystemClock,
        };
        let worker = Worker::new(parts, settings);
        let invoker = LocalInvoker::new(worker);

        let endpoint = Endpoint { queues, results, address };
        let served = tokio::spawn(async move { match endpoint::serve(listener, endpoint).await {} });
        // Before the first message runs, what lies in the folder is live.
        folder.publish_all(&publisher).await?;
        let published = tokio::spawn(async move { folder.publish_changes(&publisher).await });
        let in_flight_max = u64::from(concurrency) * IN_FLIGHT_PER_PLACE + 10;
        let consumer = tokio::spawn(consume(queue, invoker.clone(), stopping, in_flight_max));
        last.write(&data)?;
        Ok(Self { address, invoker, stop, consumer, others: vec![served, published], _lock: lock })
    }

    /// Where the endpoint listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the task queue.
    pub fn queue_url(&self) -> String {
        queue_url(self.address, QUEUE)
    }

    /// Receives nothing more, lets what runs go on for up to `grace`, gives the rest back, and ends.
    pub async fn stop(self, grace: Duration) {
        self.stop.send_replace(true);
        let _ = self.consumer.await;
        let ended = self.invoker.ended();
        tokio::pin!(ended);
        if tokio::time::timeout(grace, &mut ended).await.is_err() {
            self.invoker.worker.stop();
            ended.await;
        }
        self.others.iter().for_each(JoinHandle::abort);
    }
}

/// The address of a queue of a stack.
pub fn queue_url(address: SocketAddr, queue: &str) -> String {
    format!("http://{address}/000000000000/{queue}")
}

/// Where a stack keeps its registry.
pub fn registry_path(data: &Path) -> PathBuf {
    data.join("registry")
}

/// Where a running stack writes down how to reach it.
fn address_path(data: &Path) -> PathBuf {
    data.join("dev.json")
}

/// How the stack that last used a data folder is reached.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastStack {
    /// Its endpoint. Whether it still runs shows when it is called.
    pub listen: SocketAddr,
    /// Its tasks folder.
    pub tasks: PathBuf,
}

impl LastStack {
    /// Of the stack that last used this data folder, if one did.
    pub fn of(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(address_path(data)).ok()?;
        serde_json::from_str(&text).ok()
    }

    fn write(&self, data: &Path) -> Result<()> {
        let path = address_path(data);
        let text = serde_json::to_string(self)?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// Whether a stack runs on this data folder.
pub fn is_running(data: &Path) -> bool {
    File::open(data.join("lock")).is_ok_and(|file| file.try_lock_shared().is_err())
}

/// The data folder is for its owner alone, because the machine code in it is executed.
pub(crate) fn private_folder(data: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(data).with_context(|| format!("create {}", data.display()))
}

/// One process at a time: two consumers would be harmless, two writers of the registry would not.
fn lock(data: &Path) -> Result<File> {
    private_folder(data)?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("{} is in use by another `wasq dev`; end it, or take another folder by --data", data.display());
    }
    Ok(file)
}

async fn create_queues(queues: &Queues, lease: Duration) -> Result<()> {
    let retention = ("MessageRetentionPeriod".to_owned(), RETENTION_SECONDS.to_string());
    let redrive =
        json!({ "deadLetterTargetArn": arn_of_queue(DEAD_LETTERS), "maxReceiveCount": RECEIVES_MAX });
    let attributes = [
        ("VisibilityTimeout".to_owned(), lease.as_secs().max(1).to_string()),
        ("RedrivePolicy".to_owned(), redrive.to_string()),
        retention.clone(),
    ];
    queues.create(DEAD_LETTERS.to_owned(), [retention].into(), Default::default()).await?;
    // They may be there from another version or with another lease.
    if queues.exists(QUEUE.to_owned()).await.is_ok() {
        queues.set_attributes(QUEUE.to_owned(), attributes.into()).await?;
    } else {
        queues.create(QUEUE.to_owned(), attributes.into(), Default::default()).await?;
    }
    Ok(())
}

/// The schedule: one run of the consumer after the other, until the stack stops.
async fn consume(
    queue: TaskQueue,
    invoker: LocalInvoker,
    stopping: watch::Receiver<bool>,
    in_flight_max: u64,
) {
    while !*stopping.borrow() {
        let settings = DrainSettings {
            mode: Mode::Window,
            until: SystemClock.now().plus(TICK),
            receivers: RECEIVERS,
            held_bytes_max: HELD_BYTES_MAX,
            in_flight_max,
        };
        let clock = UntilStopped(stopping.clone());
        let summary = drain(&queue, &invoker, &clock, settings).await;
        tracing::debug!(?summary, "drained");
    }
}

/// The clock of the consumer: when the stack is to stop, its time is up.
struct UntilStopped(watch::Receiver<bool>);

impl Clock for UntilStopped {
    fn now(&self) -> Timestamp {
        if *self.0.borrow() { Timestamp::from_ms(u64::MAX) } else { SystemClock.now() }
    }
}

/// A task of a registry, or the refused upload of one.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// What is live, if something is.
    pub live: Option<LiveRecord>,
    /// What was live, if the task was removed.
    pub removed: Option<LiveRecord>,
    /// Why the last upload is not, if it was refused.
    pub rejected: Option<Rejection>,
}

impl Listed {
    /// What a registry's records say of each task, by name.
    pub fn from_records(records: Vec<LiveRecord>, rejections: Vec<Rejection>) -> Vec<Self> {
        let mut tasks: BTreeMap<TaskName, Self> = BTreeMap::new();
        for record in records {
            let task = tasks.entry(record.task.clone()).or_default();
            let place = if record.removed.is_none() { &mut task.live } else { &mut task.removed };
            *place = Some(record);
        }
        for rejection in rejections {
            let task = tasks.entry(rejection.task.clone()).or_default();
            task.rejected = Some(rejection);
        }
        tasks.into_values().collect()
    }

    /// The record, whether the task is live or removed.
    pub fn record(&self) -> Option<&LiveRecord> {
        self.live.as_ref().or(self.removed.as_ref())
    }
}

/// The tasks in a stack's registry, by name.
pub fn list_tasks(data: &Path) -> Result<Vec<Listed>> {
    let registry = registry_path(data);
    Ok(Listed::from_records(read_all(&registry.join("live"))?, read_all(&registry.join("rejected"))?))
}

fn read_all<T: serde::de::DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            records.push(serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?);
        }
    }
    Ok(records)
}
