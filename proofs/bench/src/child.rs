//! Measurements of memory, start or instructions, which need a process of their own. Each process prints one
//! line of JSON.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use wasq_runtime::Checks;

use crate::warm::{PARAMS, cores};
use crate::worker::{Compiled, WorkerAlone, engine, load};

/// The memory and the threads of many runs that sleep.
#[derive(Serialize, Deserialize)]
pub(crate) struct Sleepers {
    /// Memory after the first run: everything that a worker has once.
    pub(crate) before_kb: u64,
    /// Memory with all runs asleep.
    pub(crate) asleep_kb: u64,
    /// The peak memory of the process.
    pub(crate) peak_kb: u64,
    /// The threads of the process.
    pub(crate) threads: usize,
}

/// The memory that the process holds after `runs` runs.
#[derive(Serialize, Deserialize)]
pub(crate) struct Held {
    pub(crate) runs: u64,
    pub(crate) kb: u64,
}

/// The times to get a component ready to run.
#[derive(Serialize, Deserialize)]
pub(crate) struct Loaded {
    /// Comparing its digest: once in a process, if it lies on the disk already.
    pub(crate) check_ms: f64,
    /// Mapping and linking it.
    pub(crate) load_ms: f64,
}

/// Runs this program again, as another process, and reads what it prints.
pub(crate) fn ask<T: DeserializeOwned>(args: &[&str]) -> Result<T> {
    let mut child = std::process::Command::new(std::env::current_exe()?);
    let output = child.args(args).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "{}: {}", args.join(" "), output.status);
    serde_json::from_slice(&output.stdout).with_context(|| format!("read what {} printed", args.join(" ")))
}

/// The instructions of one run: the difference between 2,500 and 500 runs, divided by 2,000.
pub(crate) fn instructions(way: &str, artifact: &Path) -> Result<f64> {
    const RUNS: [u32; 2] = [500, 2500];
    let mut counts = [0.0; 2];
    for (count, runs) in counts.iter_mut().zip(RUNS) {
        let output = std::process::Command::new("valgrind")
            .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
            .arg(std::env::current_exe()?)
            .args(["repeat", way])
            .arg(artifact)
            .arg(runs.to_string())
            .output()
            .context("start valgrind")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "valgrind: {}: {said}", output.status);
        let line = said.lines().find(|line| line.contains("refs:")).context("valgrind counts nothing")?;
        let number: String =
            line.rsplit(':').next().unwrap_or_default().chars().filter(char::is_ascii_digit).collect();
        *count = number.parse().with_context(|| format!("read {line:?}"))?;
    }
    Ok((counts[1] - counts[0]) / f64::from(RUNS[1] - RUNS[0]))
}

/// Measures one run, and then `runs` sleeping runs at once.
pub(crate) fn sleepers(artifact: &Path, runs: u32) -> Result<Sleepers> {
    const ASLEEP: Duration = Duration::from_secs(5);
    let runtime = Runtime::new()?;
    let worker = WorkerAlone::new(Compiled::read("verbs", artifact)?, runs)?;
    runtime.block_on(async {
        worker.handle(&worker.message(r#"{"verb":"sleep","ms":1}"#)).await?;
        let before_kb = status("VmRSS")?;
        let started = Instant::now();
        let batch =
            worker.batch(&format!(r#"{{"verb":"sleep","ms":{}}}"#, ASLEEP.as_millis()), runs as usize)?;
        let handling = tokio::spawn({
            let worker = worker.clone();
            async move { worker.handle(&batch).await }
        });
        // Starting them takes a fraction of this, and none of them is over by then.
        tokio::time::sleep(ASLEEP / 2).await;
        ensure!(worker.in_flight() == u64::from(runs), "{} of {runs} are asleep", worker.in_flight());
        let asleep_kb = status("VmRSS")?;
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        handling.await??;
        // A run that began after the measurement would end later than this.
        ensure!(started.elapsed() < ASLEEP * 3 / 2, "they were not all asleep at once");
        Ok(Sleepers { before_kb, asleep_kb, peak_kb: status("VmHWM")?, threads })
    })
}

/// Runs no-ops on all cores, and records the memory of the process on the way.
pub(crate) fn many(artifact: &Path, runs: u64) -> Result<Vec<Held>> {
    const STEPS: u64 = 10;
    const BATCH: u64 = 10;
    let runtime = Runtime::new()?;
    let cores = cores() as u64;
    let worker = WorkerAlone::new(Compiled::read("noop", artifact)?, u32::try_from(cores * BATCH)?)?;
    let batch: std::sync::Arc<str> = worker.batch(PARAMS, BATCH as usize)?.into();
    let mut held = Vec::new();
    for step in 1..=STEPS {
        let loops: Vec<_> = (0..cores)
            .map(|_| {
                let (worker, batch) = (worker.clone(), batch.clone());
                runtime.spawn(async move {
                    for _ in 0..(runs / STEPS).div_ceil(cores * BATCH) {
                        worker.handle(&batch).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for of_core in loops {
            runtime.block_on(of_core)??;
        }
        held.push(Held { runs: step * runs / STEPS, kb: status("VmRSS")? });
    }
    Ok(held)
}

/// Loads an artifact for the first time in its process, as a worker that has it on its disk.
pub(crate) fn first_load(artifact: &Path) -> Result<Loaded> {
    let runtime = Runtime::new()?;
    let compiled = Compiled::read("large", artifact)?;
    let engine = engine(10)?;
    let started = Instant::now();
    runtime.block_on(Checks::default().check(compiled.code.path.clone(), &compiled.code.artifact))?;
    let checked = Instant::now();
    load(&engine, &compiled.code.path)?;
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    Ok(Loaded { check_ms: ms(checked - started), load_ms: ms(checked.elapsed()) })
}

/// A line of Linux's /proc/self/status, in kB.
fn status(name: &str) -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line =
        status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    line.trim_start_matches(':')
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .with_context(|| format!("read {name}"))
}
