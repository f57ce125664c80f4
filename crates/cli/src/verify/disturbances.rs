//! The promises that only show when a worker is busy, or dies. This changes the worker's function, and sets it back.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aws_sdk_lambda::types::LastUpdateStatus;
use tokio::time::Instant;
use wasq_protocol::{ByteCount, Digest, Then};

use crate::cloud::explain;
use crate::output::tell;
use crate::verify::probe::{self, HEAVY, HEAVY_SETTINGS, Probe};
use crate::verify::report::{Part, Report, Shown};
use crate::verify::runs::at_once;
use crate::verify::site::Site;

/// The memory with which a worker dies of the heavy task, in MB.
const SMALL: i32 = 128;
/// The memory of the heavy task, as its settings say.
const HEAVY_MEMORY: ByteCount = ByteCount::mib(512);
/// How long Lambda may take to change a function.
const CHANGED_WITHIN: Duration = Duration::from_secs(120);
/// A pause before the next look at a function that is being changed.
const POLL: Duration = Duration::from_millis(500);
/// Messages that travel with the one that kills its worker.
const NEIGHBOURS: usize = 4;

/// The worker's settings from before this check changed them; `None` for a setting that is as it was.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Before {
    /// The reserved concurrency, if there was any.
    concurrency: Option<Option<i32>>,
    /// In MB.
    memory: Option<i32>,
}

pub(super) async fn check(site: &Site, report: &mut Report) {
    let part = Part::Disturbances;
    report.check(part, "A busy worker costs no message an attempt", set_back(site, throttled(site))).await;
    let killed = set_back(site, killed(site));
    report.check(part, "A message that kills its workers is a dead letter, its neighbours run", killed).await;
}

/// Sets the worker's function back after `work`, whatever its result is.
async fn set_back(site: &Site, work: impl Future<Output = Result<Shown>>) -> Result<Shown> {
    let shown = work.await;
    restore(site).await?;
    shown
}

/// Sets the worker's function back to what it was. Does nothing if it is as it was.
pub(super) async fn restore(site: &Site) -> Result<()> {
    let Before { concurrency, memory } = *site.before.lock().await;
    let function = site.worker()?;
    match concurrency {
        Some(Some(before)) => reserve(site, before).await?,
        Some(None) => {
            let delete = site.lambda.delete_function_concurrency().function_name(function).send().await;
            delete.map_err(explain).context("give the worker the account's concurrency back")?;
        }
        None => {}
    }
    if let Some(before) = memory {
        set_memory(site, before).await?;
    }
    *site.before.lock().await = Before::default();
    Ok(())
}

async fn reserve(site: &Site, concurrency: i32) -> Result<()> {
    let function = site.worker()?;
    let put = site.lambda.put_function_concurrency().function_name(function);
    let put = put.reserved_concurrent_executions(concurrency).send().await;
    put.map_err(explain).with_context(|| format!("reserve a concurrency of {concurrency} for {function}"))?;
    Ok(())
}

/// Runs messages while the worker may run only once at a time.
async fn throttled(site: &Site) -> Result<Shown> {
    let now = site.lambda.get_function_concurrency().function_name(site.worker()?).send().await;
    let now = now.map_err(explain).context("read the worker's concurrency")?;
    let before = now.reserved_concurrent_executions;
    site.before.lock().await.concurrency = Some(before);
    let (worker, region) = (site.worker()?, &site.deployment.session.region);
    let back = match before {
        Some(before) => format!("put-function-concurrency --reserved-concurrent-executions {before}"),
        None => "delete-function-concurrency".to_owned(),
    };
    tell!(
        "  {worker} gets a concurrency of 1 now; if this command is killed: aws lambda {back} --function-name {worker} --region {region}"
    );
    if let Err(e) = reserve(site, 1).await {
        return Ok(Shown::NotTried(format!("{e:#}")));
    }
    let probes = probe::many("", &site.prefix, "busy", "b");
    let shown = at_once(site, &probes).await?;
    for record in site.records_of(&probes).await? {
        ensure!(record.attempt == 1, "the message {} ended in attempt {}", record.id, record.attempt);
    }
    Ok(shown)
}

/// Runs a message that needs more memory than its worker has, beside others.
async fn killed(site: &Site) -> Result<Shown> {
    if site.deployment.parameters.get("Mode").is_some_and(|mode| mode == "event-source") {
        let why = "with an event source mapping, nobody sees a worker die: the message comes again when its lease ends";
        return Ok(Shown::NotTried(why.to_owned()));
    }
    let module = probe::module(1)?;
    let digest = Digest::of(&module);
    site.upload(HEAVY, module, HEAVY_SETTINGS).await?;
    let is_live = |listed: &wasq_local::Listed| {
        listed.live.as_ref().is_some_and(|live| live.version.digest == digest).then_some(())
    };
    site.published(HEAVY, is_live).await?;
    let configuration = site.lambda.get_function_configuration().function_name(site.worker()?).send().await;
    let before = configuration.map_err(explain).context("read the worker's memory")?.memory_size;
    let before = before.context("the worker's function has no memory")?;
    let parameter = |name: &str| site.deployment.parameters.get(name).map(String::as_str);
    if parameter("WorkerMemory").is_some_and(|mb| mb.parse() != Ok(before)) {
        let why = format!("the worker has {before} MB, and not what it was deployed with: set it back first");
        return Ok(Shown::NotTried(why));
    }
    let largest = parameter("LargestTask").and_then(|size| size.parse().ok());
    if largest.is_some_and(|size: ByteCount| size < HEAVY_MEMORY) {
        let why = format!("tasks may not have the {HEAVY_MEMORY} that this needs (--largest-task)");
        return Ok(Shown::NotTried(why));
    }
    site.before.lock().await.memory = Some(before);
    let (worker, region) = (site.worker()?, &site.deployment.session.region);
    tell!(
        "  {worker} gets {SMALL} MB now; if this command is killed: aws lambda update-function-configuration --function-name {worker} --memory-size {before} --region {region}"
    );
    set_memory(site, SMALL).await?;
    let heavy = probe::heavy(&site.prefix);
    let mut probes: Vec<Probe> =
        probe::many("", &site.prefix, "neighbour", "n").into_iter().take(NEIGHBOURS).collect();
    site.send(&[std::slice::from_ref(&heavy), &probes].concat()).await?;
    probes.push(heavy.clone());
    match site.ended(&probes).await {
        Ok(_) => Ok(Shown::Held(format!("3 workers died; {NEIGHBOURS} neighbours ran"))),
        Err(e) => {
            let survived = site.records_of(&[heavy]).await?.iter().any(|record| record.then == Then::Done);
            if survived {
                let why =
                    format!("a worker of {SMALL} MB took 400 MiB and was not killed: this is not Lambda");
                return Ok(Shown::NotTried(why));
            }
            Err(e)
        }
    }
}

/// Changes the worker's memory, and waits until the change is in force.
async fn set_memory(site: &Site, mb: i32) -> Result<()> {
    let function = site.worker()?;
    // A change that was interrupted may still be under way.
    settled(site, function).await?;
    let update =
        site.lambda.update_function_configuration().function_name(function).memory_size(mb).send().await;
    update.map_err(explain).with_context(|| format!("give {function} {mb} MB"))?;
    settled(site, function).await
}

/// Waits until no change of the function is under way.
async fn settled(site: &Site, function: &str) -> Result<()> {
    let started = Instant::now();
    loop {
        let now = site.lambda.get_function_configuration().function_name(function).send().await;
        let now = now.map_err(explain).with_context(|| format!("look at {function}"))?;
        if now.last_update_status != Some(LastUpdateStatus::InProgress) {
            return Ok(());
        }
        ensure!(started.elapsed() < CHANGED_WITHIN, "{function} is still being changed");
        tokio::time::sleep(POLL).await;
    }
}
