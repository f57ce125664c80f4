//! The sandbox, tried with a real guest: `proofs/guests/verbs`, built by `cargo xtask guests --build`.

mod addresses;
mod compile;
mod http;
mod isolation;
mod limits;
mod runs;
mod secrets;
mod steps;
mod wit;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use wasq_engine::{Addresses, Engine, Limits, Module, Pool, Report, Run, RunContext, SecretValues, Steps};
use wasq_protocol::{ByteCount, Failure, Outcome, Settings, Timestamp};

/// A guest as the tests' build step leaves it.
fn guest(name: &str) -> Vec<u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two folders below the root");
    let path: PathBuf = root.join("target/guests/wasm32-wasip2/release").join(format!("{name}.wasm"));
    std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; run `cargo xtask guests --build` first", path.display()))
}

/// One engine and one module for all tests, as in a worker.
fn verbs() -> &'static (Engine, Module) {
    static VERBS: OnceLock<(Engine, Module)> = OnceLock::new();
    VERBS.get_or_init(|| {
        let pool = Pool { concurrency: 16, memory: ByteCount::mib(512) };
        // The tests' own servers are on loopback.
        let addresses = Addresses { allow: vec!["127.0.0.0/8".parse().expect("a range")], never: Vec::new() };
        let limits = Limits { addresses, http_first_byte_max: Duration::from_secs(3), ..Limits::default() };
        let engine = Engine::new(pool, limits).expect("the engine starts");
        let artifact = engine.compile(&guest("verbs")).expect("the guest fits the world");
        // Safety: compiled by this very engine.
        let module = unsafe { engine.load_bytes(&artifact) }.expect("it loads");
        (engine, module)
    })
}

fn context() -> RunContext {
    RunContext {
        task: "verbs".parse().expect("a name"),
        id: "m-1".to_owned(),
        attempt: 2,
        max_attempts: 5,
        deadline: Timestamp::from_ms(1_795_423_260_000),
        parent: None,
        root: "m-1".to_owned(),
        depth: 0,
        descendants: None,
        traceparent: None,
        trace_header: None,
    }
}

/// The guest on an engine of its own, with other limits.
fn verbs_with(limits: Limits) -> (Engine, Module) {
    let pool = Pool { concurrency: 4, memory: ByteCount::mib(512) };
    let engine = Engine::new(pool, limits).expect("the engine starts");
    let artifact = verbs().0.compile(&guest("verbs")).expect("the guest fits the world");
    // Safety: compiled by an engine of the same configuration.
    let module = unsafe { engine.load_bytes(&artifact) }.expect("it loads");
    (engine, module)
}

/// A run that has secrets.
async fn run_secretly(params: Value, settings: &Settings, secrets: &SecretValues) -> Report {
    let ((engine, module), deadline) = (verbs(), Instant::now() + settings.timeout);
    let run = Run {
        context: context(),
        params: &params.to_string(),
        settings,
        secrets,
        steps: Steps::default(),
        deadline,
        child_checks: None,
    };
    engine.run(module, run).await
}

async fn run_with((engine, module): &(Engine, Module), params: Value, settings: &Settings) -> Report {
    let deadline = Instant::now() + settings.timeout;
    engine
        .run(
            module,
            Run {
                context: context(),
                params: &params.to_string(),
                settings,
                secrets: &Default::default(),
                steps: Steps::default(),
                deadline,
                child_checks: None,
            },
        )
        .await
}

async fn run_as(context: RunContext, params: Value, settings: &Settings) -> Report {
    let (engine, module) = verbs();
    let deadline = Instant::now() + settings.timeout;
    engine
        .run(
            module,
            Run {
                context,
                params: &params.to_string(),
                settings,
                secrets: &Default::default(),
                steps: Steps::default(),
                deadline,
                child_checks: None,
            },
        )
        .await
}

async fn run(params: Value, settings: &Settings) -> Report {
    run_as(context(), params, settings).await
}

#[track_caller]
fn output(report: &Report) -> Value {
    match &report.outcome {
        Outcome::Success { output } => serde_json::from_str(output.get()).expect("JSON"),
        Outcome::Failure(failure) => panic!("the task failed: {failure}"),
    }
}

#[track_caller]
fn failure(report: &Report) -> &Failure {
    match &report.outcome {
        Outcome::Success { output } => panic!("the task succeeded: {output}"),
        Outcome::Failure(failure) => failure,
    }
}

fn within(timeout: Duration) -> Settings {
    Settings { timeout, ..Settings::default() }
}
