//! `wasq dev`: the single-machine stack.

use anyhow::{Context, Result};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use wasq_local::{DEAD_LETTERS, Log, Stack, StackConfig, queue_url};
use wasq_protocol::ByteCount;
use wasq_toolkit::{Project, Projects};

use crate::args::Dev;
use crate::output::{self, Ended};

pub(crate) async fn dev(args: Dev, filter: &str, json: bool) -> Result<Ended> {
    let Dev { projects, tasks, data, listen, concurrency, memory, lease, grace, addresses, secrets } = args;
    let projects = projects.iter().map(|folder| Project::open(folder)).collect::<Result<Vec<_>>>()?;
    let log = Log::open(&data)?;
    output::start_logging(filter, Some(log.clone()));
    if !listen.ip().is_loopback() {
        tracing::warn!(
            "{listen} is no loopback address: whoever can reach it can send, read and delete messages"
        );
    }
    // Before anything else, so that a signal during the start ends it in order as well.
    let mut terminate = signal(SignalKind::terminate()).context("listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listen for ctrl-c")?;
    let config = StackConfig {
        tasks: tasks.clone(),
        data: data.clone(),
        listen,
        concurrency,
        memory: memory.unwrap_or_else(half_of_the_memory),
        lease,
        allow_addresses: addresses.allow_address,
        secrets: secrets.open(),
        log,
    };
    let stack = Stack::start(config).await?;
    let building = if projects.is_empty() {
        None
    } else {
        let mut projects = Projects::watch(projects, tasks.clone(), &data)?;
        Some(tokio::spawn(async move { projects.build_changes().await }))
    };

    let (address, queue) = (stack.address(), stack.queue_url());
    let dead_letters = queue_url(address, DEAD_LETTERS);
    if json {
        output::value(&json!({
            "endpoint": format!("http://{address}"),
            "queue_url": queue,
            "dead_letter_queue_url": dead_letters,
            "tasks": tasks,
            "data": data,
        }));
    } else {
        let (tasks, data) = (tasks.display(), data.display());
        output::text(&format!(
            "wasq dev is ready; ctrl-c ends it\n  \
             queue         {queue}\n  \
             dead letters  {dead_letters}\n  \
             tasks         {tasks} (put NAME.wasm here, and NAME.toml beside it)\n  \
             data          {data}\n\n\
             Send a message:\n  \
             wasq enqueue NAME --params '{{}}' --wait\n  \
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
    tracing::info!("ending: running tasks may go on for {} s, the rest is given back", grace.as_secs());
    tokio::select! {
        () = stack.stop(grace) => {}
        // Whoever presses ctrl-c twice wants it now; the queue stands that.
        _ = interrupt.recv() => {}
    }
    Ok(Ended::Well)
}

/// Half of what this machine has; of a system that does not say, as much as a small one has.
fn half_of_the_memory() -> ByteCount {
    let kib = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    kib.map_or(ByteCount::mib(2048), |kib| ByteCount(kib * 512))
}
