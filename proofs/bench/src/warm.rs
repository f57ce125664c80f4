//! Warm runs, side by side in this process: wasmtime by itself, wasq's engine, and the whole worker.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::bare::{self, Bare, Interruptible};
use crate::samples::Samples;
use crate::worker::{Compiled, EngineAlone, WorkerAlone};

/// The params of every no-op.
pub(crate) const PARAMS: &str = r#"{"user":"javimb"}"#;
const RUNS: usize = 500;
/// Messages in a batch, as SQS hands them out.
const BATCH: usize = 10;

/// The no-op, compiled for each way.
#[derive(Debug, Args)]
pub(crate) struct Noops {
    pub(crate) bare: PathBuf,
    pub(crate) interruptible: PathBuf,
    pub(crate) wasq: PathBuf,
}

impl Noops {
    /// Compiles it into this folder.
    pub(crate) fn compile(wasm: &Path, folder: &Path) -> Result<(Self, Compiled)> {
        let compiled = Compiled::new("noop", wasm, folder)?;
        let noops = Self {
            bare: folder.join("bare.cwasm"),
            interruptible: folder.join("interruptible.cwasm"),
            wasq: compiled.code.path.clone(),
        };
        bare::compile(wasm, &noops.bare, false)?;
        bare::compile(wasm, &noops.interruptible, true)?;
        Ok((noops, compiled))
    }
}

/// The measurements on one thread, and on all cores.
#[derive(Serialize, Deserialize)]
pub(crate) struct Runs {
    pub(crate) warm: Warm,
    pub(crate) throughput: Throughput,
}

/// Measures warm runs.
pub(crate) fn runs(noops: &Noops, rounds: usize) -> Result<Runs> {
    let runtime = Runtime::new()?;
    let bare = Arc::new(Bare::load(&noops.bare, 10)?);
    let interruptible = Interruptible::load(&noops.interruptible, 10)?;
    let compiled = Compiled::read("noop", &noops.wasq)?;
    Ok(Runs {
        warm: warm(&runtime, &bare, &interruptible, &compiled, rounds)?,
        throughput: throughput(&runtime, &bare, &compiled, rounds.div_ceil(4))?,
    })
}

/// Microseconds of a warm run, each way; a sample is the median of a round.
#[derive(Serialize, Deserialize)]
pub(crate) struct Warm {
    pub(crate) bare: Samples,
    pub(crate) reused: Samples,
    pub(crate) interruptible: Samples,
    pub(crate) engine: Samples,
    pub(crate) worker: Samples,
    /// The ratio of the engine to the bare run of the same round. `worker_ratio` is the ratio of the worker.
    pub(crate) engine_ratio: Samples,
    pub(crate) worker_ratio: Samples,
}

/// Measures every way in every round, so that other load on the machine hits all of them.
fn warm(
    runtime: &Runtime,
    bare: &Bare,
    interruptible: &Interruptible,
    compiled: &Compiled,
    rounds: usize,
) -> Result<Warm> {
    let engine = EngineAlone::new(compiled, 10)?;
    let worker = WorkerAlone::new(compiled.clone(), 10)?;
    let payload = worker.message(PARAMS);
    let mut used = bare.sandbox()?;
    let mut figures: [Vec<f64>; 7] = Default::default();
    // The first round warms everything up.
    for round in 0..=rounds {
        let of_bare = median(|| bare.run(PARAMS))?;
        let of_reused = median(|| used.run(PARAMS))?;
        let (of_interruptible, of_engine, of_worker) = runtime.block_on(async {
            let mut of_interruptible = Vec::with_capacity(RUNS);
            for _ in 0..RUNS {
                let started = Instant::now();
                interruptible.run(PARAMS).await?;
                of_interruptible.push(micros(started));
            }
            let mut of_engine = Vec::with_capacity(RUNS);
            for _ in 0..RUNS {
                let started = Instant::now();
                engine.run(PARAMS).await?;
                of_engine.push(micros(started));
            }
            let mut of_worker = Vec::with_capacity(RUNS);
            for _ in 0..RUNS {
                let started = Instant::now();
                worker.handle(&payload).await?;
                of_worker.push(micros(started));
            }
            let medians =
                [of_interruptible, of_engine, of_worker].map(|figures| Samples::new(figures).median());
            anyhow::Ok(<(f64, f64, f64)>::from(medians))
        })?;
        if round > 0 {
            let of_round = [
                of_bare,
                of_reused,
                of_interruptible,
                of_engine,
                of_worker,
                of_engine / of_bare,
                of_worker / of_bare,
            ];
            figures.iter_mut().zip(of_round).for_each(|(figures, figure)| figures.push(figure));
        }
    }
    let [bare, reused, interruptible, engine, worker, engine_ratio, worker_ratio] = figures.map(Samples::new);
    Ok(Warm { bare, reused, interruptible, engine, worker, engine_ratio, worker_ratio })
}

fn median(mut run: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut figures = Vec::with_capacity(RUNS);
    for _ in 0..RUNS {
        let started = Instant::now();
        run()?;
        figures.push(micros(started));
    }
    Ok(Samples::new(figures).median())
}

fn micros(started: Instant) -> f64 {
    started.elapsed().as_secs_f64() * 1e6
}

/// Runs in a second, on all cores.
#[derive(Serialize, Deserialize)]
pub(crate) struct Throughput {
    pub(crate) bare: Samples,
    pub(crate) engine: Samples,
    pub(crate) worker: Samples,
    /// The worker with a table of runs that takes no time.
    pub(crate) remembering: Samples,
    pub(crate) engine_ratio: Samples,
    pub(crate) worker_ratio: Samples,
    pub(crate) remembering_ratio: Samples,
}

/// Like [`warm`], with a thread of runs on each core.
fn throughput(runtime: &Runtime, bare: &Arc<Bare>, compiled: &Compiled, rounds: usize) -> Result<Throughput> {
    const RUNS_PER_CORE: usize = 20_000;
    let cores = cores();
    let engine = Arc::new(EngineAlone::new(compiled, 10)?);
    let concurrency = u32::try_from(cores * BATCH)?;
    let worker = WorkerAlone::new(compiled.clone(), concurrency)?;
    let batch: Arc<str> = worker.batch(PARAMS, BATCH)?.into();
    // Each core has its own table: a batch must not forget the messages of another.
    let remembering = (0..cores).map(|_| WorkerAlone::remembering(compiled.clone(), concurrency));
    let remembering = remembering.collect::<Result<Vec<_>>>()?;
    let rate = |started: Instant| (cores * RUNS_PER_CORE) as f64 / started.elapsed().as_secs_f64();
    let mut figures: [Vec<f64>; 7] = Default::default();
    for round in 0..=rounds {
        let started = Instant::now();
        let threads: Vec<_> = (0..cores)
            .map(|_| {
                let bare = bare.clone();
                std::thread::spawn(move || (0..RUNS_PER_CORE).try_for_each(|_| bare.run(PARAMS)))
            })
            .collect();
        for thread in threads {
            thread.join().ok().context("a bare run panicked")??;
        }
        let of_bare = rate(started);

        let started = Instant::now();
        let loops: Vec<_> = (0..cores)
            .map(|_| {
                let engine = engine.clone();
                runtime.spawn(async move {
                    for _ in 0..RUNS_PER_CORE {
                        engine.run(PARAMS).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for of_core in loops {
            runtime.block_on(of_core)??;
        }
        let of_engine = rate(started);

        let started = Instant::now();
        let loops: Vec<_> = (0..cores)
            .map(|_| {
                let (worker, batch) = (worker.clone(), batch.clone());
                runtime.spawn(async move {
                    for _ in 0..RUNS_PER_CORE / BATCH {
                        worker.handle(&batch).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for of_core in loops {
            runtime.block_on(of_core)??;
        }
        let of_worker = rate(started);

        let started = Instant::now();
        let loops: Vec<_> = remembering
            .iter()
            .map(|worker| {
                let (worker, batch) = (worker.clone(), batch.clone());
                runtime.spawn(async move {
                    for _ in 0..RUNS_PER_CORE / BATCH {
                        worker.handle_new(&batch).await?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        for of_core in loops {
            runtime.block_on(of_core)??;
        }
        let of_remembering = rate(started);
        if round > 0 {
            let of_round = [
                of_bare,
                of_engine,
                of_worker,
                of_remembering,
                of_engine / of_bare,
                of_worker / of_bare,
                of_remembering / of_bare,
            ];
            figures.iter_mut().zip(of_round).for_each(|(figures, figure)| figures.push(figure));
        }
    }
    let [bare, engine, worker, remembering, engine_ratio, worker_ratio, remembering_ratio] =
        figures.map(Samples::new);
    Ok(Throughput { bare, engine, worker, remembering, engine_ratio, worker_ratio, remembering_ratio })
}

/// The cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Makes `runs` runs and nothing else. The instructions of one run are the difference between two such
/// processes.
pub(crate) fn repeat(way: &str, artifact: &Path, runs: usize) -> Result<()> {
    // A larger pool does not fit under valgrind. Without a pool, there would be nothing to reset.
    const ALONE: u32 = 1;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match way {
        "bare" => {
            let bare = Bare::load(artifact, ALONE)?;
            (0..runs).try_for_each(|_| bare.run(PARAMS))
        }
        "interruptible" => {
            let interruptible = Interruptible::load(artifact, ALONE)?;
            runtime.block_on(async {
                for _ in 0..runs {
                    interruptible.run(PARAMS).await?;
                }
                Ok(())
            })
        }
        "engine" => {
            let engine = EngineAlone::new(&Compiled::read("noop", artifact)?, ALONE)?;
            runtime.block_on(async {
                for _ in 0..runs {
                    engine.run(PARAMS).await?;
                }
                Ok(())
            })
        }
        "worker" => {
            let worker = WorkerAlone::new(Compiled::read("noop", artifact)?, ALONE)?;
            let payload = worker.message(PARAMS);
            runtime.block_on(async {
                for _ in 0..runs {
                    worker.handle(&payload).await?;
                }
                Ok(())
            })
        }
        "batches" | "remembering" => {
            // The deliveries run one after the other: each waits for the only slot.
            let compiled = Compiled::read("noop", artifact)?;
            let worker = match way {
                "batches" => WorkerAlone::new(compiled, ALONE)?,
                _ => WorkerAlone::remembering(compiled, ALONE)?,
            };
            let batch = worker.batch(PARAMS, BATCH)?;
            runtime.block_on(async {
                for _ in 0..runs / BATCH {
                    worker.handle_new(&batch).await?;
                }
                Ok(())
            })
        }
        other => {
            anyhow::bail!(
                "unknown way {other:?}: bare, interruptible, engine, worker, batches or remembering"
            )
        }
    }
}
