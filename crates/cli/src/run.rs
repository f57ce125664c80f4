//! `wasq run`: one task from a file, once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::time::Instant;
use wasq_engine::{LogLine, Report, RunContext};
use wasq_protocol::{Caps, Clock, Outcome, Settings, SystemClock, TaskName};

use crate::component::Component;
use crate::output::{self, Ended, Progress};
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
    let Report { outcome, children, log, log_dropped, duration, peak_memory, denied } = report;
    if json {
        let log: Vec<_> = log.iter().map(|line| json!({ "level": level(line), "text": line.text })).collect();
        let children: Vec<_> = children.iter().map(|child| json!(child.message)).collect();
        let mut value = json!(outcome);
        value["log"] = log.into();
        value["log_dropped"] = json!(log_dropped);
        value["children"] = children.into();
        value["duration_ms"] = json!(ms(*duration));
        value["peak_memory_bytes"] = json!(peak_memory);
        value["denied_requests"] = json!(denied);
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
    eprintln!("memory   {} at most", output::size(*peak_memory));
    for child in children {
        eprintln!("enqueues {} (not sent by wasq run)", child.message.to_json());
    }
    if *log_dropped > 0 {
        eprintln!("log      {log_dropped} more lines were dropped");
    }
}

fn level(line: &LogLine) -> String {
    format!("{:?}", line.level).to_lowercase().rsplit("::").next().unwrap_or_default().to_owned()
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
