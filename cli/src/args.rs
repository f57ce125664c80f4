//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use wasq_protocol::{FailureKind, TaskName, parse_duration};

use crate::dlq::{REDRIVE_POLICY, UNKNOWN};
use crate::queue::QueueArgs;

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
    /// List, show, redrive or delete dead letters
    ///
    /// Works on the queue of a running `wasq dev`, or on any SQS queue by --queue-url.
    Dlq(Dlq),
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
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dlq {
    #[command(subcommand)]
    pub(crate) command: DlqCommand,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
    /// The dead-letter queue; without this, the one that the queue's redrive policy names
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) dead_letter_url: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DlqCommand {
    /// List dead letters, one a line
    Ls(Select),
    /// Show dead letters whole: reason, attempts, history and body
    Show(Select),
    /// Send dead letters back into the queue, with the ids that their tasks know and the history of their ends
    ///
    /// Each copy is sent before the letter is deleted: killed in between, a message is in both queues, and runs again.
    Redrive(Redrive),
    /// Delete dead letters for good
    Purge(Purge),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Purge {
    #[command(flatten)]
    pub(crate) select: Select,
    /// All of them
    #[arg(long)]
    pub(crate) all: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Which dead letters are meant: those to which everything applies that is given.
#[derive(Debug, clap::Args)]
pub(crate) struct Select {
    /// Their ids: those that their tasks know, or the queue's
    #[arg(value_name = "ID")]
    pub(crate) ids: Vec<String>,
    /// Of this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<TaskName>,
    /// With this kind of failure, such as retry, reject or trap; `redrive-policy` for what the queue itself moved.
    /// Several may be given
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Vec<String>,
    /// With this text in the reason
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Given up at or after this time, such as 2026-11-23T08:30:00Z, or in the last so long, such as 2h. Of what the queue
    /// itself moved the time is not known: it never matches
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<String>,
    /// Given up before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) until: Option<String>,
}

impl Select {
    /// Whether it means every letter.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { ids, task, kind, reason, since, until } = self;
        ids.is_empty()
            && task.is_none()
            && kind.is_empty()
            && reason.is_none()
            && since.is_none()
            && until.is_none()
    }
}

/// A kind of failure by its name; a misspelt one would match nothing, and look as if there was nothing.
fn kind(text: &str) -> Result<String, String> {
    let kinds: Vec<_> =
        FailureKind::ALL.iter().map(|kind| kind.as_str()).chain([REDRIVE_POLICY, UNKNOWN]).collect();
    if kinds.contains(&text) { Ok(text.to_owned()) } else { Err(format!("one of {}", kinds.join(", "))) }
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
