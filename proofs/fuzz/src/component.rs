//! Uploads: inspected and compiled as the publisher does it, and run if they fit.

use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::Instant;
use wasq_engine::{Engine, Limits, Pool, Run, RunContext, Steps};
use wasq_protocol::{ByteCount, Settings, Timestamp};

struct Host {
    runtime: Runtime,
    engine: Engine,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("a runtime");
    let pool = Pool { concurrency: 2, memory: ByteCount::mib(64) };
    let engine = Engine::new(pool, Limits::default()).expect("an engine");
    Host { runtime, engine }
});

/// Long enough for every component that ends, and short enough to try many components.
const TIMEOUT: Duration = Duration::from_millis(100);

/// An upload, as bytes or as WebAssembly text.
pub fn component(data: &[u8]) {
    let parsed = match str::from_utf8(data) {
        Ok(text) if text.trim_start().starts_with('(') => match wat::parse_str(text) {
            Ok(wasm) => wasm,
            Err(_) => return,
        },
        _ => data.to_vec(),
    };
    let Host { runtime, engine } = &*HOST;
    let settings = Settings { timeout: TIMEOUT, memory: ByteCount::mib(16), ..Settings::default() };
    let checked = wasq_toolkit::check(engine, &parsed, &settings);
    let Ok(artifact) = engine.compile(&parsed) else {
        if let Ok(checked) = checked {
            assert!(!checked.problems.is_empty(), "the publisher refuses it, and `wasq check` does not");
        }
        return;
    };
    // Safety: compiled by this very engine.
    let module = unsafe { engine.load_bytes(&artifact) }.expect("a compiled component can be loaded");
    let context = RunContext {
        task: "fuzz".parse().expect("a name"),
        id: "fuzz".to_owned(),
        attempt: 1,
        max_attempts: 1,
        deadline: Timestamp::from_ms(0),
        parent: None,
        root: "fuzz".to_owned(),
        depth: 0,
        descendants: None,
        traceparent: None,
        trace_header: None,
    };
    runtime.block_on(async {
        let (secrets, deadline) = (Default::default(), Instant::now() + TIMEOUT);
        let steps = Steps::default();
        let run = Run {
            context,
            params: "{}",
            settings: &settings,
            secrets: &secrets,
            steps,
            deadline,
            child_checks: None,
        };
        let report = engine.run(&module, run).await;
        assert!(report.peak_memory <= settings.memory.0);
    });
}
