//! `wasq dev`: the single-machine stack.

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use wasq_local::{DEAD_LETTERS, Log, RunningStacks, Stack, StackConfig, list_tasks, queue_url};
use wasq_protocol::{ByteCount, Digest, TaskName, parse_duration};
use wasq_telemetry::{Exporter, OtlpConfig};
use wasq_toolkit::{Project, Projects};

use crate::compiled::function_cache_file;
use crate::machine_memory;
use crate::output::{self, Ended};
use crate::surroundings::{AddressArgs, SecretArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// Projects to build, now and whenever one of their files is saved; the components go into the tasks
    /// folder
    #[arg(value_name = "PROJECT")]
    pub(crate) projects: Vec<PathBuf>,
    /// The folder that tasks are put into
    #[arg(long, default_value = "tasks", value_name = "DIR")]
    pub(crate) tasks: PathBuf,
    /// The folder for the data: the queue and the registry
    #[arg(long, default_value = ".wasq", value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: PathBuf,
    /// The address of the SQS-compatible endpoint, and of the page for browsers on this machine; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:9324", value_name = "ADDR", value_parser = address)]
    pub(crate) listen: SocketAddr,
    /// A name under which clients call the endpoint, besides addresses and localhost; can be given several times
    #[arg(long = "allow-host", value_name = "NAME")]
    pub(crate) allow_hosts: Vec<String>,
    /// Tasks that run at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,
    /// Total memory that running tasks may be allowed, such as 4GiB; further tasks wait
    /// [default: half of this machine's memory]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteCount>,
    /// How long a received message is hidden from other receivers at first; extended while its task runs
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = lease)]
    pub(crate) lease: Duration,
    /// At shutdown, how long running tasks may continue before their messages are released
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    /// A collector of OpenTelemetry that gets traces and metrics of runs (OTLP over HTTP), such as `http://127.0.0.1:4318`
    #[arg(long, value_name = "URL", env = "WASQ_OTLP_ENDPOINT")]
    pub(crate) otlp: Option<String>,
    /// Headers for the collector, such as x-key=secret,x-team=tasks
    #[arg(
        long,
        value_name = "HEADERS",
        env = "WASQ_OTLP_HEADERS",
        hide_env_values = true,
        requires = "otlp"
    )]
    pub(crate) otlp_headers: Option<String>,
    #[command(flatten)]
    pub(crate) addresses: AddressArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
}

/// How long "ready" waits for the publisher after the first builds.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(60);
/// The interval between two looks at the registry.
const LOOK: Duration = Duration::from_millis(50);

/// Parses a lease. SQS counts leases in whole seconds, and a lease under 5 s would lapse while the worker is
/// merely busy.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text).map_err(|e| e.to_string())?;
    if lease < Duration::from_secs(5) || lease > Duration::from_secs(12 * 3600) {
        return Err("a lease lies between 5s and 12h".to_owned());
    }
    Ok(lease)
}

/// Parses an address such as `127.0.0.1:9324` or `localhost:9324`. Of several, an address of IPv4 is taken.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found: Vec<_> = text
        .to_socket_addrs()
        .map_err(|e| format!("{e}; write an address and a port, such as 127.0.0.1:9324 or localhost:9324"))?
        .collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found.first().copied().ok_or_else(|| "the name has no address".to_owned())
}

pub(crate) async fn dev(args: Dev, filter: &str, json: bool) -> Result<Ended> {
    let Dev {
        projects,
        tasks,
        data,
        listen,
        allow_hosts,
        concurrency,
        memory,
        lease,
        grace,
        otlp,
        otlp_headers,
        addresses,
        secrets,
    } = args;
    let otlp = otlp
        .filter(|url| !url.is_empty())
        .map(|url| OtlpConfig::read(&url, otlp_headers.as_deref().unwrap_or_default()));
    let otlp = otlp.transpose().map_err(|e| anyhow!("--otlp: {e}"))?;
    let projects = projects.iter().map(|folder| Project::open(folder)).collect::<Result<Vec<_>>>()?;
    let log = Log::open(&data)?;
    output::start_logging(filter, Some(log.clone()));
    if !listen.ip().is_loopback() {
        tracing::warn!(
            "{listen} is not a loopback address: anyone who can reach it can send, read and delete messages"
        );
    }
    // Listen before the stack starts, so that a signal during the start also leads to an orderly end.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for ctrl-c")?;
    let names: Vec<_> = projects.iter().map(|project| project.name().clone()).collect();
    let config = StackConfig {
        tasks: tasks.clone(),
        projects: names.clone(),
        data: data.clone(),
        listen,
        allow_hosts,
        concurrency,
        memory: memory.unwrap_or_else(machine_memory::for_runs),
        lease,
        allow_addresses: addresses.allow_address,
        secrets: secrets.open(&data),
        log,
        compile: machine_memory::for_compiling(),
        function_cache: function_cache_file(),
        exporter: otlp.map(|otlp| {
            Exporter::new(otlp, "wasq dev", &[("service.instance.id", std::process::id().to_string())])
        }),
    };
    let traces = match &config.exporter {
        Some(exporter) => exporter.endpoint().to_owned(),
        None => "not sent; --otlp http://127.0.0.1:4318 sends them to a collector of OpenTelemetry there"
            .to_owned(),
    };
    let stack = Stack::start(config).await?;
    // Commands in other folders find the stack by this. Without it they still find it by --data.
    if let Err(e) = RunningStacks::add(&data) {
        tracing::warn!("commands in other folders need --data {}: {e:#}", data.display());
    }
    let building = if projects.is_empty() {
        None
    } else {
        let mut projects = Projects::watch(projects, tasks.clone(), &data)?;
        // Messages can be sent already: those for the projects wait.
        tokio::select! {
            () = first_builds(&projects, &names, &tasks, &data) => {}
            _ = terminate.recv() => return stop(stack, grace, &mut interrupt).await,
            _ = interrupt.recv() => return stop(stack, grace, &mut interrupt).await,
        }
        Some(tokio::spawn(async move { projects.build_changes().await }))
    };

    let (address, queue) = (stack.address(), stack.queue_url());
    let dead_letters = queue_url(address, DEAD_LETTERS);
    if json {
        output::value(&json!({
            "endpoint": format!("http://{address}"),
            "page": stack.page_url(),
            "queue_url": queue,
            "dead_letter_queue_url": dead_letters,
            "tasks": tasks,
            "data": data,
        }));
    } else {
        let (tasks, data, page) = (tasks.display(), data.display(), stack.page_url());
        output::text(&format!(
            "wasq dev is ready; ctrl-c ends it\n  \
             page          {page}\n  \
             queue         {queue}\n  \
             dead letters  {dead_letters}\n  \
             tasks         {tasks} (put NAME.wasm here, and NAME.toml beside it)\n  \
             data          {data}\n  \
             traces        {traces}\n\n\
             Send a message:\n  \
             wasq enqueue NAME --params '{{}}' --wait\n  \
             eval \"$(wasq env)\"    # once in a shell, for the AWS CLI and the SDKs\n  \
             aws sqs send-message --endpoint-url http://{address} --queue-url {queue} --message-body '{{\"task\": \"NAME\", \"params\": {{}}}}'\n"
        ));
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(building) = building {
        building.abort();
    }
    stop(stack, grace, &mut interrupt).await
}

/// Builds the projects, and waits until the publisher has seen what was built.
async fn first_builds(projects: &Projects, names: &[TaskName], tasks: &Path, data: &Path) {
    projects.build_all().await;
    let built = names.iter().filter_map(|name| {
        let wasm = std::fs::read(tasks.join(format!("{name}.wasm"))).ok()?;
        Some((name, Digest::of(&wasm)))
    });
    let built: Vec<_> = built.collect();
    let deadline = Instant::now() + PUBLISHED_WITHIN;
    while Instant::now() < deadline {
        let listed = list_tasks(data).unwrap_or_default();
        let is_settled = |(name, digest): &(&TaskName, Digest)| {
            listed.iter().any(|task| {
                task.live.as_ref().is_some_and(|live| live.task == **name && live.version.digest == *digest)
                    || task.rejected.as_ref().is_some_and(|rejected| {
                        rejected.task == **name && rejected.digest.is_none_or(|found| found == *digest)
                    })
            })
        };
        if built.iter().all(is_settled) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn stop(stack: Stack, grace: Duration, interrupt: &mut Signal) -> Result<Ended> {
    tracing::info!(
        "stopping: running tasks may continue for {} s, then their messages are released",
        grace.as_secs()
    );
    tokio::select! {
        () = stack.stop(grace) => {}
        // A second ctrl-c ends the process at once. The queue survives that.
        _ = interrupt.recv() => {}
    }
    Ok(Ended::Well)
}
