//! `wasq run`: one task from a file, once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use wasq_engine::{Engine, Limits, LogLine, Pool, Report, RunContext};
use wasq_protocol::{ByteCount, Caps, Clock, Outcome, Settings, SystemClock, TaskName};

use crate::args::Run;
use crate::output::{self, Ended, Progress};

pub(crate) async fn run(args: Run, json: bool) -> Result<Ended> {
    let Run { file, params, settings } = args;
    let _: &RawValue =
        serde_json::from_str(&params).with_context(|| format!("--params {params:?} is not JSON"))?;
    let wasm = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let task = task_name(&file)?;
    let settings = read_settings(&file, settings)?.capped(&Caps::default());

    let pool = Pool { concurrency: 1, memory: Caps::default().memory };
    let engine = Engine::new(pool, Limits::default()).map_err(|e| anyhow!("start the engine: {e:#}"))?;
    let compiling = Progress::start(format!("compiling {}", file.display()));
    let compiler = engine.clone();
    let compiled = tokio::task::spawn_blocking(move || wasq_publisher::compile(&compiler, &wasm)).await?;
    drop(compiling);
    let artifact = compiled.map_err(|e| anyhow!("{}: {e}", file.display()))?;
    // Safety: compiled by ourselves, a moment ago, and nobody else has it.
    let module = unsafe { engine.load_bytes(&artifact) }?;

    let running = Progress::start(format!("running {task}"));
    let report = engine
        .run(
            &module,
            wasq_engine::Run {
                context: context(task, &settings),
                params: &params,
                settings: &settings,
                deadline: Instant::now() + settings.timeout,
            },
        )
        .await;
    drop(running);
    print(&report, json);
    Ok(match report.outcome {
        Outcome::Success { .. } => Ended::Well,
        Outcome::Failure(_) => Ended::TaskFailed,
    })
}

fn task_name(file: &Path) -> Result<TaskName> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.parse().with_context(|| format!("{}: the file's name is the task's", file.display()))
}

fn read_settings(file: &Path, given: Option<PathBuf>) -> Result<Settings> {
    let path = match given {
        Some(path) => path,
        None => {
            let beside = file.with_extension("toml");
            if !beside.exists() {
                return Ok(Settings::default());
            }
            tracing::info!("settings from {}", beside.display());
            beside
        }
    };
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Settings::from_toml(&text).with_context(|| format!("read {}", path.display()))
}

fn context(task: TaskName, settings: &Settings) -> RunContext {
    let id = format!("run-{}", std::process::id());
    RunContext {
        task,
        attempt: 1,
        max_attempts: settings.max_attempts,
        deadline: SystemClock.now().plus(settings.timeout),
        parent: None,
        root: id.clone(),
        id,
        depth: 0,
        traceparent: None,
        trace_header: None,
    }
}

fn print(report: &Report, json: bool) {
    let Report { outcome, children, log, log_dropped, duration, peak_memory } = report;
    if json {
        let log: Vec<_> = log.iter().map(|line| json!({ "level": level(line), "text": line.text })).collect();
        let children: Vec<_> = children.iter().map(|child| json!(child.message)).collect();
        let mut value = json!(outcome);
        value["log"] = log.into();
        value["log_dropped"] = json!(log_dropped);
        value["children"] = children.into();
        value["duration_ms"] = json!(ms(*duration));
        value["peak_memory_bytes"] = json!(peak_memory);
        return output::value(&value);
    }
    let (word, detail): (&str, Value) = match outcome {
        Outcome::Success { output } => {
            output::text(&format!("{}\n", output.get()));
            ("success", Value::Null)
        }
        Outcome::Failure(failure) => ("failure", json!(failure.to_string())),
    };
    eprintln!("outcome  {word}{}", detail.as_str().map(|detail| format!(", {detail}")).unwrap_or_default());
    eprintln!("time     {:.1} ms", ms(*duration));
    eprintln!("memory   {} at most", ByteCount(*peak_memory));
    for child in children {
        eprintln!("enqueues {} (not sent by wasq run)", child.message.to_json());
    }
    if *log_dropped > 0 {
        eprintln!("log      {log_dropped} more lines than are kept");
    }
}

fn level(line: &LogLine) -> String {
    format!("{:?}", line.level).to_lowercase().rsplit("::").next().unwrap_or_default().to_owned()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
