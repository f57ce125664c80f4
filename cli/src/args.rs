//! What can be typed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use wasq_local::Secrets;
use wasq_protocol::{AddressRange, ByteCount, FailureKind, TaskName, parse_duration};
use wasq_toolkit::Language;

use crate::cloud::ARCHITECTURES;
use crate::dlq::{REDRIVE_POLICY, UNKNOWN};
use crate::target::{QueueArgs, TargetArgs, stack_name};

/// WebAssembly components as background tasks.
#[derive(Debug, Parser)]
#[command(
    name = "wasq",
    version,
    after_help = "Start here:\n  wasq new hello --lang python    a task in a folder; see also --lang rust, javascript, go ...\n  wasq dev hello                  the whole system on this machine, built on every save\n  wasq enqueue hello --params '{\"name\": \"Ada\"}' --wait\n                                  run it, and see its result\n\nOn AWS:\n  wasq deploy                     the same, as a stack of your account\n  wasq status --stack wasq        on a deployment, as enqueue, tasks, dlq, logs\n                                  and doctor"
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
    /// Make a project for a new task
    ///
    /// A folder with a task, its tests and its settings, which builds and runs at once.
    New(New),
    /// Build a project: its sources become a component that fits wasq
    ///
    /// The language is told by a file: Cargo.toml, go.mod, or task.py, task.js, task.ts, task.c, task.cpp, task.zig. What is built is
    /// in the project's folder `build`; the task's name is the folder's.
    Build(Build),
    /// Run a task's tests: a table of params and prepared HTTP answers, and what is expected
    ///
    /// Builds a project first. Exit code 0: all are as expected; 1: one is not.
    Test(Test),
    /// Say what a component is, and whether it can be published
    ///
    /// What made it, what it imports and what of that is denied, its sizes. Exit code 0: it can; 1: it cannot.
    Check(Check),
    /// Run one task from a file, once, under production limits
    ///
    /// Exit code 0: the task succeeded; 1: it failed; 2: it could not be run.
    Run(Run),
    /// Send a message to the queue
    ///
    /// Sends {"task": TASK, "params": JSON} to the queue of a running `wasq dev`, of a deployment by --stack, or to any SQS
    /// queue by --queue-url.
    Enqueue(Enqueue),
    /// Publish a component: put it into the tasks folder of `wasq dev`, or into the tasks bucket of a deployment by --stack
    ///
    /// Builds a project first. Its settings, FILE.toml beside it, go along; without any, those of the last upload stay. With --wait, exit
    /// code 1 if the publisher refuses it.
    Push(Push),
    /// List the tasks that are live, and uploads that were refused; or say all of one task
    Tasks(Tasks),
    /// Bring an earlier version of a task back, with its settings, as a new version
    Rollback(Rollback),
    /// Remove a task: nothing runs under its name any more
    ///
    /// Messages for it go to the dead-letter queue after a minute. Its history stays; `wasq rollback` brings it back.
    Rm(Rm),
    /// List, show, redrive or delete dead letters
    ///
    /// Works on the queue of a running `wasq dev`, of a deployment by --stack, or on any SQS queue by --queue-url.
    Dlq(Dlq),
    /// Show how many messages wait, and what is where
    Status(Status),
    /// Show what was run, and what tasks said
    ///
    /// With --json the lines as they stand in the log, one JSON object each.
    Logs(Logs),
    /// Deploy to AWS, or bring a deployment up to date
    ///
    /// Makes or updates one CloudFormation stack with queues, buckets, functions, roles, alarms and a dashboard. Options that
    /// are not given keep what they had. It can be run again at any time, also after it was interrupted or has failed.
    Deploy(Deploy),
    /// Look for settings that would lose, duplicate or expose something
    ///
    /// Reads the live configuration. Exit code 0: nothing was found; 1: something was, or could not be read.
    Doctor(Doctor),
    /// Take no more messages from a deployment's queue; they wait there
    Pause(Pause),
    /// Go on after `wasq pause`
    Resume(Pause),
    /// Delete a deployment; queues and buckets stay unless told otherwise
    Destroy(Destroy),
}

#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The project's folder; its name is the task's
    #[arg(value_name = "NAME")]
    pub(crate) folder: PathBuf,
    /// rust, python, javascript, typescript, go, c, cpp or zig
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// The project's folder
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// A project's folder, or a component
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    pub(crate) path: PathBuf,
    /// The tests; without this, tests.toml in the project, or beside the component
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) cases: Option<PathBuf>,
    /// The task's settings; without this, the project's own, or FILE.toml beside FILE.wasm
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    pub(crate) file: PathBuf,
    /// The task's settings; without this, FILE.toml beside FILE.wasm if it is there
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Dev {
    /// Projects to build, now and whenever one of their files is saved; what is built goes into the tasks folder
    #[arg(value_name = "PROJECT")]
    pub(crate) projects: Vec<PathBuf>,
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
    /// Memory that tasks which run at once may be allowed together, such as 4GiB; further ones wait [default: half of this machine's]
    #[arg(long, value_name = "SIZE")]
    pub(crate) memory: Option<ByteCount>,
    /// How long a message is invisible to others at first; extended while its task runs
    #[arg(long, default_value = "60s", value_name = "DURATION", value_parser = lease)]
    pub(crate) lease: Duration,
    /// At the end, how long running tasks may go on before they are given back
    #[arg(long, default_value = "5s", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) grace: Duration,
    #[command(flatten)]
    pub(crate) addresses: AddressArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
}

/// Where the values of tasks' secrets are on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct SecretArgs {
    /// The values of the secrets that settings name, in lines like NAME = "VALUE"; WASQ_SECRET_NAME in the environment goes before.
    /// On AWS they are where the settings say
    #[arg(long, default_value = ".wasq/secrets.toml", value_name = "FILE.toml", env = "WASQ_SECRETS")]
    pub(crate) secrets: PathBuf,
}

impl SecretArgs {
    pub(crate) fn open(self) -> Secrets {
        #[allow(clippy::disallowed_methods, reason = "names of secrets are known by the settings only")]
        let env = |name: &str| std::env::var(name).ok();
        Secrets::new(env, self.secrets)
    }
}

/// Where tasks may go on the network, beside what their own settings say.
#[derive(Debug, clap::Args)]
pub(crate) struct AddressArgs {
    /// Let tasks reach these addresses beside the public internet, such as 127.0.0.0/8; several may be given, with commas. What a task
    /// may reach stands in its allow_hosts as well
    #[arg(long, value_name = "RANGE", env = "WASQ_ALLOW_ADDRESSES", value_delimiter = ',')]
    pub(crate) allow_address: Vec<AddressRange>,
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
    #[command(flatten)]
    pub(crate) addresses: AddressArgs,
    #[command(flatten)]
    pub(crate) secrets: SecretArgs,
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

/// Whether a command waits for the publisher.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until the publisher has dealt with it
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// A project's folder, or a component
    #[arg(value_name = "DIR|FILE.wasm")]
    pub(crate) path: PathBuf,
    /// The task's name; without this, the project's or the file's
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<TaskName>,
    /// The task's settings; without this, the project's own, or FILE.toml beside FILE.wasm if it is there
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The task
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    /// The version, as `wasq tasks TASK` lists them; without this, the one before
    #[arg(value_name = "VERSION")]
    pub(crate) version: Option<u64>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// The task
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Tasks {
    /// All of this task: its versions, settings, and why its last upload was refused
    #[arg(value_name = "TASK")]
    pub(crate) task: Option<TaskName>,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    #[command(flatten)]
    pub(crate) select: Lines,
    /// How far back
    #[arg(long, default_value = "1h", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) since: Duration,
    /// Go on with what comes, until ctrl-c
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// Which lines of the log are meant.
#[derive(Debug, clap::Args)]
pub(crate) struct Lines {
    /// Of this task
    #[arg(long, value_name = "NAME")]
    pub(crate) task: Option<TaskName>,
    /// Of the message with this id
    #[arg(long)]
    pub(crate) id: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// The stack's name; everything in it is named after it
    #[arg(long, default_value = "wasq", value_name = "NAME", env = "WASQ_STACK", value_parser = stack_name)]
    pub(crate) stack: String,
    /// The AWS region; without this, as for the AWS CLI
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// The folder with the functions' zips, in arm64 and x86_64; without this, `functions` beside this command
    #[arg(long, value_name = "DIR")]
    pub(crate) functions: Option<PathBuf>,
    /// A bucket of yours for the zips; without this, one is made
    #[arg(long, value_name = "NAME")]
    pub(crate) code_bucket: Option<String>,
    #[command(flatten)]
    pub(crate) options: StackOptions,
}

/// The template's parameters.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct StackOptions {
    /// The functions' processor [default: arm64]
    #[arg(long, value_parser = ARCHITECTURES)]
    pub(crate) arch: Option<String>,
    /// How messages get to the worker. window: a consumer waits for them all the time; until-empty: it looks once a minute,
    /// which is the cheapest; event-source: Lambda polls by itself [default: window]
    #[arg(long, value_parser = ["window", "until-empty", "event-source"])]
    mode: Option<String>,
    /// The longest that a task may be allowed to run [default: 5m]
    #[arg(long, value_parser = ["1m", "5m", "14m"])]
    longest_task: Option<String>,
    /// Workers that may run at once, reserved for wasq; 0 shares what the account has [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    concurrency: Option<u32>,
    /// Tasks that one worker runs at once [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    tasks_per_worker: Option<u32>,
    /// The worker's memory in MB, for all tasks that it runs at once [default: 1769]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(256..=10240))]
    worker_memory: Option<u32>,
    /// The most memory that a task may be allowed, such as 512MiB [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    largest_task: Option<String>,
    /// Addresses that tasks may reach beside the public internet, such as 10.0.0.0/8, with commas; "" for none [default: none]
    #[arg(long, value_name = "RANGES")]
    allow_addresses: Option<String>,
    /// The KMS key that secrets of tasks are encrypted with; "" for the account's own [default: the account's own]
    #[arg(long, value_name = "ARN")]
    secrets_key: Option<String>,
    /// Which CloudWatch metrics are made of the log: none, of all tasks together, or of each task as well (each metric is
    /// billed) [default: function]
    #[arg(long, value_parser = ["off", "function", "task"])]
    metrics: Option<String>,
    /// How long logs are kept, in days [default: 30]
    #[arg(long, value_name = "DAYS")]
    log_retention: Option<u32>,
    /// An SNS topic that hears of alarms
    #[arg(long, value_name = "ARN")]
    alarm_topic: Option<String>,
}

impl StackOptions {
    /// What was given, by the names that the template has for it.
    pub(crate) fn parameters(self) -> BTreeMap<&'static str, String> {
        let Self {
            arch,
            mode,
            longest_task,
            concurrency,
            tasks_per_worker,
            worker_memory,
            largest_task,
            allow_addresses,
            secrets_key,
            metrics,
            log_retention,
            alarm_topic,
        } = self;
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let given = [
            ("Architecture", arch),
            ("Mode", mode),
            ("LongestTask", longest_task),
            ("Concurrency", number(concurrency)),
            ("TasksPerWorker", number(tasks_per_worker)),
            ("WorkerMemory", number(worker_memory)),
            ("LargestTask", largest_task),
            ("AllowAddresses", allow_addresses),
            ("SecretsKey", secrets_key),
            ("Metrics", metrics),
            ("LogRetention", number(log_retention)),
            ("AlarmTopic", alarm_topic),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Destroy {
    /// The stack's name
    #[arg(long, default_value = "wasq", value_name = "NAME", env = "WASQ_STACK", value_parser = stack_name)]
    pub(crate) stack: String,
    /// Its AWS region; without this, as for the AWS CLI
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// Delete queues and buckets as well, with every message and every version of every task
    #[arg(long)]
    pub(crate) data: bool,
    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,
}

/// SQS counts leases in whole seconds, and shorter ones than this would lapse while the worker is merely busy.
fn lease(text: &str) -> Result<Duration, String> {
    let lease = parse_duration(text).map_err(|e| e.to_string())?;
    if lease < Duration::from_secs(5) || lease > Duration::from_secs(12 * 3600) {
        return Err("a lease lies between 5s and 12h".to_owned());
    }
    Ok(lease)
}
