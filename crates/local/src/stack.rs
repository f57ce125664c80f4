//! The single-machine stack: consumer, worker and publisher in one process, on the local queue and folders.

use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;
use wasq_consumer::{ConsumerParts, DrainSettings, Drained, Mode, drain};
use wasq_engine::{Addresses, Limits};
use wasq_page::{Site, Stats, Token};
use wasq_protocol::{
    AddressRange, ByteCount, Caps, Clock, SystemClock, TaskName, Timestamp, format_duration,
};
use wasq_publisher::{CompileLimits, Publisher, PublisherParts, Wasm as Compiler};
use wasq_runtime::{Checks, Wasm, Worker, WorkerParts, WorkerSettings};
use wasq_telemetry::Exporter;

use crate::adapters::{Local, LocalInvoker, TaskQueue};
use crate::data_folder::{LastStack, lock, registry_path};
use crate::db::{self, Db};
use crate::earlier;
use crate::endpoint::{self, Endpoint};
use crate::folder::{Folder, FolderRegistry};
use crate::log::Log;
use crate::page::{self, LocalPage};
use crate::results::Results;
use crate::runs::LocalRuns;
use crate::secrets::LocalSecrets;
use crate::sqs::queue_attributes::arn_of_queue;
use crate::sqs::queues::Queues;
use crate::timer::LocalTimer;
use crate::watch::TasksFolder;

/// The queue that tasks are sent to.
pub const QUEUE: &str = "wasq";
/// The queue for messages that are given up.
pub const DEAD_LETTERS: &str = "wasq-dead-letters";

/// How a stack is set up.
#[derive(Clone, Debug)]
pub struct StackConfig {
    /// The folder that tasks are put into.
    pub tasks: PathBuf,
    /// The tasks that will be put into that folder, because their projects are being built. Messages for them
    /// wait.
    pub projects: Vec<TaskName>,
    /// Where queue and registry are kept.
    pub data: PathBuf,
    /// Where the endpoint listens; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The names under which clients may call the endpoint, besides addresses and `localhost`.
    pub allow_hosts: Vec<String>,
    /// Tasks that run at once.
    pub concurrency: u32,
    /// The most memory that the tasks that run at once may be allowed together.
    pub memory: ByteCount,
    /// The length of a lease; the worker extends it while the task runs.
    pub lease: Duration,
    /// Ranges of addresses that tasks may reach in addition to the public internet.
    pub allow_addresses: Vec<AddressRange>,
    /// The secrets that settings may name.
    pub secrets: LocalSecrets,
    /// The log of the runs.
    pub log: Log,
    /// The limits of one compilation.
    pub compile: CompileLimits,
    /// The file of a cache of compiled functions, if there is to be one.
    pub function_cache: Option<PathBuf>,
    /// Sends traces and metrics.
    pub exporter: Option<Exporter>,
}

/// A running stack. When it is dropped, it receives no more; [`Stack::stop`] also settles what was received.
pub struct Stack {
    address: SocketAddr,
    token: Token,
    invoker: LocalInvoker,
    stop: DropGuard,
    consumer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
    _lock: File,
    exporter: Option<Exporter>,
}

/// The interval between two notes that the stack runs.
const ALIVE_EVERY: Duration = Duration::from_secs(30);
/// A pause that is worth a line in the log.
const LONG_DOWN: Duration = Duration::from_secs(24 * 3600);
/// The longest time for which the start waits for the tasks in the folder.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(5);
/// How long one drain lasts: for ever, unless the stack stops. On AWS, a schedule ends it.
const DRAIN: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The pause before the next drain, after one that gave up.
const DRAIN_PAUSE: Duration = Duration::from_secs(1);
/// A message with more receives than this goes to the dead-letter queue in any case. It is the highest number
/// that SQS allows, because waiting and crashes use up receives too.
const RECEIVES_MAX: u32 = 1000;
/// The time that both queues keep messages: 14 days, the longest that SQS allows. On a standard queue, the
/// time does not start again in the dead-letter queue.
pub(crate) const RETENTION_SECONDS: u32 = 1_209_600;
/// The number of messages in flight at which the consumer waits: for each slot, and besides. With fewer, the slots of short
/// tasks would be idle while the next messages are received.
const IN_FLIGHT_PER_SLOT: u64 = 2;
const IN_FLIGHT_BESIDES: u64 = 100;
/// The interval between two exports of traces and metrics.
const EXPORT_EVERY: Duration = Duration::from_secs(1);
const EXPORT_MAX: Duration = Duration::from_secs(3);
const RECEIVERS: usize = 4;
const HELD_BYTES_MAX: u64 = 64 << 20;
const MODULES_MAX: usize = 256;
/// The modules are mapped: a module that does not run takes no memory.
const MODULES_BYTES_MAX: ByteCount = ByteCount::mib(4096);

impl Stack {
    /// Starts a stack; returns when it accepts messages.
    pub async fn start(config: StackConfig) -> Result<Self> {
        let StackConfig {
            tasks,
            projects,
            data,
            listen,
            allow_hosts,
            concurrency,
            memory,
            lease,
            allow_addresses,
            secrets,
            log,
            compile,
            function_cache,
            exporter,
        } = config;
        let lock = lock(&data)?;
        let listener = endpoint::listen(listen).await?;
        let address = listener.local_addr()?;
        let db = Db::open(&data.join(db::FILE))?;
        let queues = Queues::new(db.clone());
        let holder = Uuid::new_v4().to_string();
        let down = queues.skip_downtime().await?;
        if down > LONG_DOWN {
            tracing::info!(
                "no `wasq dev` ran for {}: that time counts towards no message's retention",
                format_duration(down)
            );
        }
        create_queues(&queues, lease).await.context("create the queues")?;
        let released = queues.release_held(QUEUE.to_owned(), holder.clone()).await?;
        if released > 0 {
            tracing::info!(
                "{released} messages were leased when the last process died; they run again, each alone"
            );
        }
        let stop = CancellationToken::new();
        let queue = TaskQueue {
            queues: queues.clone(),
            name: QUEUE.to_owned(),
            dead_letters: DEAD_LETTERS.to_owned(),
            lease,
            holder,
            slots: concurrency as usize,
            in_flight: Arc::default(),
            paused: Arc::default(),
            stop: stop.clone(),
        };
        let timer = LocalTimer::new(db.clone(), queues.clone());
        let registry = Folder::new(registry_path(&data))?;
        let mut folder = TasksFolder::watch(&tasks, secrets.clone())?;
        let last =
            LastStack { listen: address, tasks: std::path::absolute(&tasks)?, projects: projects.clone() };
        let publisher = Arc::new(Publisher::new(PublisherParts {
            tasks: Folder::new(tasks)?,
            registry: registry.clone(),
            secrets: secrets.clone(),
            compiler: Compiler::new(compile)?.with_function_cache(function_cache),
            scheduler: Some(timer.clone()),
            clock: SystemClock,
        }));
        let runs = LocalRuns::new(db.clone());
        runs.release_running().await?;
        let results = Results::new(db, runs.clone(), log, exporter.clone());
        let began = SystemClock.now();
        let settings = WorkerSettings {
            concurrency,
            memory,
            modules_max: MODULES_MAX,
            modules_bytes_max: MODULES_BYTES_MAX,
            // The live record is a small file on this machine, and an upload must take effect at once.
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
            projects: projects.into_iter().collect(),
            records: Arc::default(),
            compiling: Arc::default(),
        };
        let addresses = Addresses { allow: allow_addresses, never: Vec::new() };
        let runner = Wasm::new(&settings, Limits { addresses, ..Limits::default() })?;
        let parts = WorkerParts {
            queue: queue.clone(),
            registry,
            secrets,
            runs: Some(runs.clone()),
            timer: Some(timer.clone()),
            runner,
            observer: results.clone(),
            clock: SystemClock,
        };
        let worker = Worker::new(parts, settings);
        let invoker = LocalInvoker::new(worker);

        let page =
            LocalPage::new(data.clone(), last.tasks.clone(), &queue, runs.clone(), timer.clone(), &results);
        let token = page::token(&data)?;
        let site = Site::new(page, token.clone(), address.port());
        let (changes, stats) = (results.changes().clone(), results.stats().clone());
        let endpoint =
            Endpoint::new(queues, results, runs.clone(), timer.clone(), address, allow_hosts, site);
        let served = tokio::spawn(async move { match endpoint::serve(listener, endpoint).await {} });
        let first = folder.tasks(&publisher)?;
        let (sender, published) = oneshot::channel();
        let publishing = {
            let queue = queue.clone();
            let changes = changes.clone();
            tokio::spawn(async move { folder.publish(&publisher, &queue, &changes, first, sender).await })
        };
        // The tasks in the folder should be live before the first message runs. Those that take long to compile do not
        // hold the others up: messages wait for them.
        let _ = tokio::time::timeout(PUBLISHED_WITHIN, published).await;
        let alive = tokio::spawn(note_alive(queue.queues.clone()));
        count_earlier(data.join(db::FILE), stats, began, changes.clone());
        let claiming = tokio::spawn(runs.clone().write_claims());
        let pruning = tokio::spawn(runs.prune());
        let timing = tokio::spawn(timer.run());
        let exporting = tokio::spawn(export(exporter.clone()));
        let in_flight_max = u64::from(concurrency) * IN_FLIGHT_PER_SLOT + IN_FLIGHT_BESIDES;
        let consumer = tokio::spawn(consume(queue, invoker.clone(), stop.clone(), in_flight_max));
        last.write(&data)?;
        Ok(Self {
            address,
            token,
            invoker,
            stop: stop.drop_guard(),
            consumer,
            others: vec![served, publishing, alive, claiming, pruning, exporting, timing],
            exporter,
            _lock: lock,
        })
    }

    /// Where the endpoint listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address that opens the page in a browser.
    pub fn page_url(&self) -> String {
        page::url(self.address, &self.token)
    }

    /// The address of the task queue.
    pub fn queue_url(&self) -> String {
        queue_url(self.address, QUEUE)
    }

    /// Stops receiving, lets the runs go on for up to `grace`, releases the remaining messages, and ends.
    pub async fn stop(self, grace: Duration) {
        drop(self.stop);
        let _ = self.consumer.await;
        let ended = self.invoker.ended();
        tokio::pin!(ended);
        if tokio::time::timeout(grace, &mut ended).await.is_err() {
            self.invoker.worker.stop();
            ended.await;
        }
        if let Some(exporter) = &self.exporter {
            exporter.export(EXPORT_MAX).await;
        }
        self.others.iter().for_each(JoinHandle::abort);
    }
}

/// The address of a queue of a stack.
pub fn queue_url(address: SocketAddr, queue: &str) -> String {
    format!("http://{address}/000000000000/{queue}")
}

/// Sends traces and metrics again and again, for ever.
async fn export(exporter: Option<Exporter>) {
    let Some(exporter) = exporter else { return };
    loop {
        tokio::time::sleep(EXPORT_EVERY).await;
        exporter.export(EXPORT_MAX).await;
    }
}

/// Counts the runs of earlier processes for the page, on a thread of its own: many may be remembered.
fn count_earlier(database: PathBuf, stats: Stats, began: Timestamp, changes: watch::Sender<u64>) {
    std::thread::spawn(move || match earlier::count(&database, &stats, began) {
        Ok(()) => changes.send_modify(|changes| *changes += 1),
        Err(e) => tracing::warn!("the page's numbers over time begin now: {e:#}"),
    });
}

/// Notes again and again that the stack runs, for ever.
async fn note_alive(queues: Queues) {
    loop {
        tokio::time::sleep(ALIVE_EVERY).await;
        if let Err(e) = queues.note_alive().await {
            tracing::warn!("{e}");
        }
    }
}

async fn create_queues(queues: &Queues, lease: Duration) -> Result<()> {
    // One of them may have been deleted a moment ago: the stack needs both.
    for queue in [QUEUE, DEAD_LETTERS] {
        queues.forget_deletion(queue.to_owned()).await?;
    }
    let retention = ("MessageRetentionPeriod".to_owned(), RETENTION_SECONDS.to_string());
    let redrive =
        json!({ "deadLetterTargetArn": arn_of_queue(DEAD_LETTERS), "maxReceiveCount": RECEIVES_MAX });
    let attributes = [
        ("VisibilityTimeout".to_owned(), lease.as_secs().max(1).to_string()),
        ("RedrivePolicy".to_owned(), redrive.to_string()),
        retention.clone(),
    ];
    queues.create(DEAD_LETTERS.to_owned(), [retention].into(), Default::default()).await?;
    // The task queue may exist already, from another version or with another lease.
    if queues.exists(QUEUE.to_owned()).await.is_ok() {
        queues.set_attributes(QUEUE.to_owned(), attributes.into()).await?;
    } else {
        queues.create(QUEUE.to_owned(), attributes.into(), Default::default()).await?;
    }
    Ok(())
}

/// Runs the consumer until the stack stops.
async fn consume(queue: TaskQueue, invoker: LocalInvoker, stop: CancellationToken, in_flight_max: u64) {
    let ports = ConsumerParts::<Local> { source: queue, invoker, clock: SystemClock };
    while !stop.is_cancelled() {
        let settings = DrainSettings {
            mode: Mode::Window,
            until: SystemClock.now().plus(DRAIN),
            lease: ports.source.lease,
            receivers: RECEIVERS,
            held_bytes_max: HELD_BYTES_MAX,
            in_flight_max,
            invokes_max: u64::MAX,
        };
        let Drained { summary, .. } = drain(&ports, settings, Vec::new(), stop.clone()).await;
        tracing::debug!(?summary, "drained");
        let _ = tokio::time::timeout(DRAIN_PAUSE, stop.cancelled()).await;
    }
}
