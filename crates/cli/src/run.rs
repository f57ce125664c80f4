//! `wasq run`: one task from a file, once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;
use tokio::time::Instant;
use wasq_engine::{Child, LogLine, Report, RunContext, StepValues, Steps};
use wasq_protocol::{Caps, Clock, Message, Outcome, SentRequest, Settings, SystemClock, TaskName};
use wasq_toolkit::bad_params;

use crate::component::Component;
use crate::output::{self, Ended, Progress, tell};
use crate::params::ParamsArgs;
use crate::surroundings::{AddressArgs, SecretArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// A project's folder, which is built first, or a component
    #[arg(value_name = "DIR|FILE.wasm")]
    pub(crate) path: PathBuf,
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
    /// The task's settings; without this, the project's own, or FILE.toml beside FILE.wasm if it is there
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
    /// The folder with secrets.toml, unless --secrets names a file
    #[arg(long, default_value = ".wasq", value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: PathBuf,
    #[command(flatten)]
    pub(crate) addresses: AddressArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
}

pub(crate) async fn run(args: Run, json: bool) -> Result<Ended> {
    let Run { path, params, settings, data, addresses, secrets } = args;
    let params = params.read()?;
    let component = Component::open(&path, settings.as_deref())?;
    let (task, settings) = (component.task.clone(), component.settings.clone().capped(&Caps::default()));
    let secrets = secrets.open(&data).of(&settings)?;
    if let Some(failure) = bad_params(component.params_schema()?.as_ref(), params.get()) {
        print(&Report::not_run(failure), json);
        return Ok(Ended::TaskFailed);
    }
    let (engine, module) = component.load(addresses.allow_address).await?;

    let running = Progress::start(format!("running {task}"));
    let report = engine
        .run(
            &module,
            wasq_engine::Run {
                context: context(task, &settings),
                params: params.get(),
                settings: &settings,
                secrets: &secrets,
                steps: Steps::default(),
                deadline: Instant::now() + settings.timeout,
                child_checks: None,
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
        descendants: None,
        traceparent: None,
        trace_header: None,
    }
}

/// The end of a run, as `--json` shows it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    log: Vec<Line<'a>>,
    log_dropped: u64,
    children: Vec<Enqueued<'a>>,
    #[serde(skip_serializing_if = "StepValues::is_empty")]
    steps: &'a StepValues,
    duration_ms: f64,
    peak_memory_bytes: u64,
    denied_requests: u32,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    requests: &'a [SentRequest],
}

#[derive(Serialize)]
struct Enqueued<'a> {
    #[serde(flatten)]
    message: &'a Message,
    delay_seconds: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    level: String,
    text: &'a str,
}

fn print(report: &Report, json: bool) {
    let Report { outcome, children, steps, log, log_dropped, duration, peak_memory, denied, requests } =
        report;
    if json {
        let log = log.iter().map(|line| Line { level: level(line), text: &line.text }).collect();
        // Typed all the way: a result that is valid JSON need not fit into a `Value`.
        return output::value(&Shown {
            outcome,
            log,
            log_dropped: *log_dropped,
            children: children
                .iter()
                .map(|Child { message, delay, trace_header: _, group: _ }| Enqueued {
                    message,
                    delay_seconds: delay.as_secs(),
                })
                .collect(),
            steps,
            duration_ms: ms(*duration),
            peak_memory_bytes: *peak_memory,
            denied_requests: *denied,
            requests,
        });
    }
    let end = match outcome {
        Outcome::Success { output } => {
            output::json_text(output.get());
            "success".to_owned()
        }
        Outcome::Failure(failure) => {
            let after = failure
                .retry_after_seconds
                .map(|seconds| format!("; again after {seconds} s at the earliest"));
            format!("failure, {failure}{}", after.unwrap_or_default())
        }
    };
    tell!("outcome  {end}");
    tell!("time     {:.1} ms", ms(*duration));
    tell!("memory   {} at most", output::size(*peak_memory));
    for SentRequest { method, to, status, began_ms: _, took_ms } in requests {
        let status = status.map_or("no response".to_owned(), |status| status.to_string());
        tell!("request  {method} {to}: {status}, {took_ms:.1} ms");
    }
    for (name, value) in steps {
        tell!("step     {name}: {}", value.get());
    }
    for child in children {
        let delay = match child.delay.as_secs() {
            0 => String::new(),
            seconds => format!(", with a delay of {seconds} s"),
        };
        tell!("enqueues {}{delay} (not sent by wasq run)", child.message.to_json());
    }
    if *log_dropped > 0 {
        tell!("log      {log_dropped} more lines were dropped");
    }
}

fn level(line: &LogLine) -> String {
    format!("{:?}", line.level).to_lowercase().rsplit("::").next().unwrap_or_default().to_owned()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
