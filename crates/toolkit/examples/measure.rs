//! `measure COMPONENT CASES`: the cost of a component, as one line of JSON. Used by `cargo xtask guests`.
//!
//! The measured run is the first case of the table. Its HTTP answers are prepared, so the network takes no
//! time. Cold is the time of a fresh process from the compiled file to the first outcome. The file's pages
//! are in the page cache.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use wasq_engine::{Engine, Limits, Pool};
use wasq_protocol::Caps;
use wasq_toolkit::{Cases, Subject};

const WARM_RUNS: usize = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [component, cases] => measure(component, cases).await,
        // The fresh process.
        ["cold", component, artifact, cases] => cold(component, artifact, cases).await,
        _ => Err(anyhow!("expected: measure COMPONENT CASES")),
    }
}

async fn measure(component: &str, cases: &str) -> Result<()> {
    let wasm = std::fs::read(component).with_context(|| format!("read {component}"))?;
    let engine = engine()?;
    let started = Instant::now();
    let artifact = engine.compile(&wasm).with_context(|| component.to_owned())?;
    let compile = started.elapsed();
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &artifact)?;
    let mut colds = Vec::new();
    for _ in 0..5 {
        let path = file.path().to_str().context("a temporary file has a plain name")?;
        let fresh = std::process::Command::new(std::env::current_exe()?)
            .args(["cold", component, path, cases])
            .output()?;
        ensure!(fresh.status.success(), "the fresh process: {}", String::from_utf8_lossy(&fresh.stderr));
        colds.push(String::from_utf8(fresh.stdout)?.trim().parse::<f64>()?);
    }
    colds.sort_by(f64::total_cmp);

    let subject = subject(engine, component, file.path())?;
    let case = Cases::read(Path::new(cases))?.cases.remove(0);
    let (mut warm, mut memory) = (Vec::new(), 0);
    for _ in 0..WARM_RUNS {
        let started = Instant::now();
        let verdict = case.run(&subject).await?;
        // The time of the whole call, not the run's own duration: the sandbox is cleared after the run.
        warm.push(started.elapsed());
        ensure!(verdict.problems.is_empty(), "{component}: {}", verdict.problems.join("; "));
        memory = verdict.report.peak_memory;
    }
    warm.sort();
    let ms = |duration: Duration| duration.as_secs_f64() * 1000.0;
    println!(
        "{}",
        json!({
            "bytes": wasm.len(),
            "compiled_bytes": artifact.len(),
            "compile_ms": ms(compile),
            "cold_ms": colds[colds.len() / 2],
            "warm_ms": ms(warm[warm.len() / 2]),
            "memory_bytes": memory,
        })
    );
    Ok(())
}

async fn cold(component: &str, artifact: &str, cases: &str) -> Result<()> {
    let case = Cases::read(Path::new(cases))?.cases.remove(0);
    let started = Instant::now();
    let subject = subject(engine()?, component, Path::new(artifact))?;
    let verdict = case.run(&subject).await?;
    ensure!(verdict.problems.is_empty(), "{}", verdict.problems.join("; "));
    println!("{}", started.elapsed().as_secs_f64() * 1000.0);
    Ok(())
}

fn engine() -> Result<Engine> {
    let pool = Pool { concurrency: 1, memory: Caps::default().memory };
    Engine::new(pool, Limits::default()).map_err(|e| anyhow!("start the engine: {e:#}"))
}

fn subject(engine: Engine, component: &str, artifact: &Path) -> Result<Subject> {
    // Safety: this program compiled the artifact a moment ago, and nobody else has the file.
    let module = unsafe { engine.load(artifact) }?;
    let component = Path::new(component);
    let settings = std::fs::read_to_string(component.with_extension("toml")).unwrap_or_default();
    // No measured case needs it, and the time to compute it would count as well.
    let initial_memory = 0;
    let task = component.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().parse()?;
    Ok(Subject { engine, module, task, settings, initial_memory, params: None })
}
