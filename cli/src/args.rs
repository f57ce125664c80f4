//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use wasq_protocol::{TaskName, parse_duration};

/// WebAssembly components as background tasks.
#[derive(Debug, Parser)]
#[command(
    name = "wasq",
    version,
    after_help = "Start here:\n  wasq dev                                   the whole system on this machine\n  cp hello.wasm tasks/                       publish a task\n  wasq enqueue hello --params '{}' --wait    run it, and see its result"
)]
pub(crate) struct Args {
    /// Answer with one JSON value on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// What to log on stderr: error, warn, info, debug, trace, or a filter such as "info,task=debug"
    #[arg(long, global = true, env = "WASQ_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole system on this machine: queue, consumer, worker and publisher
    ///
    /// Runs until ctrl-c or SIGTERM. Tasks are published by putting NAME.wasm (and NAME.toml) into the tasks folder; messages
    /// are sent by `wasq enqueue`, or by any SQS client with --endpoint-url. Queue and registry survive a restart.
    Dev(Dev),
    /// Run one task from a file, once, under production limits
    ///
    /// Exit code 0: the task succeeded; 1: it failed; 2: it could not be run.
    Run(Run),
    /// Send a message to the queue
    ///
    /// Sends {"task": TASK, "params": JSON} to the queue of a running `wasq dev`, or to any SQS queue by --queue-url.
    Enqueue(Enqueue),
    /// List the tasks that are live, and uploads that were refused
    Tasks(Tasks),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// The folder that tasks are put into
    #[arg(long, default_value = "tasks", value_name = "DIR")]
    pub(crate) tasks: PathBuf,
    /// Where queue and registry are kept
    #[arg(long, default_value = ".wasq", value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: PathBuf,
    /// Where the SQS-compatible endpoint listens; port 0 takes any free port
    #[arg(long, default_value = "127.0.0.1:9324", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Tasks that run at once
    #[arg(long, default_value_t = 64, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub(crate) concurrency: u32,
    /// How long a message is invisible to others at first; extended while its task runs
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = lease)]
    pub(crate) lease: Duration,
    /// At the end, how long running tasks may go on before they are given back
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) grace: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
    /// The task's params
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub(crate) params: String,
    /// The task's settings; without this, FILE.toml beside FILE.wasm if it is there
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Enqueue {
    /// The task's name
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    /// The task's params
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub(crate) params: String,
    /// Your own id for the message, by which the task can recognise a repetition
    #[arg(long)]
    pub(crate) id: Option<String>,
    /// Wait for the end, and print the result; exit code 1 if the message went to the dead-letter queue
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    pub(crate) timeout: Duration,
    /// The queue; without this, that of `wasq dev` on this machine
    #[arg(long, value_name = "URL", env = "WASQ_QUEUE_URL")]
    pub(crate) queue_url: Option<String>,
    /// The data folder of `wasq dev`, where its address is written
    #[arg(long, default_value = ".wasq", value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tasks {
    /// The data folder of `wasq dev`
    #[arg(long, default_value = ".wasq", value_name = "DIR", env = "WASQ_DATA")]
    pub(crate) data: PathBuf,
}

/// SQS counts leases in whole seconds, and shorter ones than this would lapse while the worker is merely busy.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text).map_err(|e| e.to_string())?;
    if lease < Duration::from_secs(5) || lease > Duration::from_secs(12 * 3600) {
        return Err("a lease lies between 5s and 12h".to_owned());
    }
    Ok(lease)
}
