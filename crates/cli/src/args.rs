//! The command line's arguments.

use clap::{Parser, Subcommand};

use crate::build::Build;
use crate::check::Check;
use crate::completions::Completions;
#[cfg(feature = "aws")]
use crate::deploy::Deploy;
#[cfg(feature = "aws")]
use crate::destroy::Destroy;
use crate::dev::Dev;
use crate::dlq::Dlq;
#[cfg(feature = "aws")]
use crate::doctor::Doctor;
use crate::enqueue::Enqueue;
use crate::env::Env;
use crate::logs::Logs;
use crate::new::New;
#[cfg(feature = "aws")]
use crate::pause::Pause;
use crate::publish::{Push, Rm, Rollback};
use crate::run::Run;
use crate::runs::{Runs, Wait};
use crate::schedule::Schedule;
use crate::status::Status;
use crate::tasks::Tasks;
use crate::test::Test;
use crate::top::Top;
use crate::types::Types;
#[cfg(feature = "aws")]
use crate::ui::Ui;
#[cfg(feature = "aws")]
use crate::verify::Verify;

/// WebAssembly components as background tasks.
#[derive(Debug, Parser)]
#[command(
    name = "wasq",
    version,
    after_help = "Start here:\n  wasq new hello --lang python    a task in a folder; see also --lang rust, javascript, go ...\n  wasq dev hello                  the whole system on this machine; builds on every save\n  wasq enqueue hello --params '{\"name\": \"Ada\"}' --wait\n                                  run it, and see its result\n\nOn AWS:\n  wasq deploy                     the same system, as a stack in your account\n  wasq status --stack wasq        the state of a deployment; enqueue, tasks, dlq,\n                                  logs and doctor take --stack too"
)]
pub(crate) struct Args {
    /// Answer with one JSON value on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Level of the log on stderr: error, warn, info, debug, trace, or a filter such as "info,task=debug"
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
    /// Creates a folder with a task, its tests and its settings. The project builds and runs without changes.
    New(New),
    /// Build a project into a component that fits wasq
    ///
    /// One file tells the language: Cargo.toml, go.mod, or task.py, task.js, task.ts, task.c, task.cpp,
    /// task.zig. The component is written to the folder `build` of the project. The task gets the name of the
    /// project's folder.
    Build(Build),
    /// Run a task's tests: a table of params, prepared HTTP answers and expected results
    ///
    /// A project is built first. Exit code 0: all tests passed; 1: at least one test failed.
    Test(Test),
    /// Describe a component, and say whether it can be published
    ///
    /// Shows the tools that made it, its imports and which of them are denied, and its sizes. Exit code 0: it
    /// can be published; 1: it cannot.
    Check(Check),
    /// Run one task from a file, once, under production limits
    ///
    /// Exit code 0: the task succeeded; 1: it failed; 2: it could not be run.
    Run(Run),
    /// Send a message to the queue
    ///
    /// Sends {"task": TASK, "params": JSON} to the queue of a running `wasq dev`, of a deployment (--stack),
    /// or to any SQS queue (--queue-url).
    Enqueue(Enqueue),
    /// List, show or cancel runs, or print a result
    ///
    /// `wasq dev` remembers every run, and so does a deployment, unless it was made with `--runs off` or by an earlier
    /// version. A run is remembered for as long as its task's setting `keep` says.
    Runs(Runs),
    /// Wait for the end of a message, and print its result
    ///
    /// Says meanwhile which attempts failed and when the next one is. Exit code 1: the message was given up or cancelled.
    Wait(Wait),
    /// List, pause, resume or fire schedules
    ///
    /// You write a schedule into the settings of a task, as `[[schedule]]`. It sends a message for the task again and again.
    Schedule(Schedule),
    /// Publish a component: put it into the tasks folder of `wasq dev`, or into the tasks bucket of a
    /// deployment (--stack)
    ///
    /// A project is built first. The settings, FILE.toml next to the component, are uploaded too. Without a
    /// settings file, the settings of the last upload stay. With --wait, the exit code is 1 if the publisher
    /// refuses the upload.
    Push(Push),
    /// List live tasks and refused uploads, or show everything about one task
    Tasks(Tasks),
    /// Write types of a task's params and result, and a function that sends, in the language of a sender
    Types(Types),
    /// Bring an earlier version of a task back, with its settings, as a new version
    Rollback(Rollback),
    /// Remove a task: nothing runs under its name any more
    ///
    /// Messages for it go to the dead-letter queue after a minute. The task's history stays, and
    /// `wasq rollback` brings the task back.
    Rm(Rm),
    /// List, show, redrive or purge dead letters
    ///
    /// Works on the queue of a running `wasq dev`, of a deployment (--stack), or on any SQS queue
    /// (--queue-url).
    Dlq(Dlq),
    /// Show how many messages, dead letters and tasks there are, and where the data is
    Status(Status),
    /// Watch the queue, the runs and the tasks in the terminal
    ///
    /// q ends it. If stdout is no terminal, the state is printed once.
    Top(Top),
    /// Print the variables with which the AWS CLI and the SDKs find the queue
    ///
    /// For a shell: `eval "$(wasq env)"`. On one machine they are the endpoint of `wasq dev`, a region, credentials
    /// that only it accepts, and QUEUE_URL. For a deployment they are the addresses of its queues.
    Env(Env),
    /// Show the log: runs, and the lines that tasks logged
    ///
    /// With --json, prints one JSON object in each line, as the log has it.
    Logs(Logs),
    /// Print a script with which a shell completes the commands and options of wasq
    ///
    /// For bash: `source <(wasq completions bash)`. For zsh and fish: write the script into a folder where the
    /// shell looks for completions.
    Completions(Completions),
    /// Deploy to AWS, or bring a deployment up to date
    ///
    /// Creates or updates one CloudFormation stack with queues, buckets, functions, roles, alarms and a
    /// dashboard. Options that are not given keep their values. The command can be run again at any time,
    /// also after an interruption or a failure.
    #[cfg(feature = "aws")]
    Deploy(Box<Deploy>),
    /// Look for settings that would lose, duplicate or expose something
    ///
    /// Reads the live configuration. Exit code 0: nothing was found; 1: something was found, or could not be
    /// read.
    #[cfg(feature = "aws")]
    Doctor(Doctor),
    /// Show on a live deployment that it keeps wasq's promises
    ///
    /// Publishes tasks of its own, sends messages to them, and checks how each ends: success, each kind of failure, retries and
    /// their times, dead letters, redrive, children, delays, secrets, denied addresses, refused uploads, rollback. Removes
    /// everything at the end. Says beforehand what it will do, and asks. Exit code 0: no promise was broken; 1: at least one was.
    #[cfg(feature = "aws")]
    Verify(Verify),
    /// Serve the page of a deployment on this machine: its queue, runs, tasks and dead letters, in a browser
    ///
    /// Prints an address with a token, and serves until ctrl-c. The page reads and acts with your AWS credentials, and answers
    /// only to browsers on this machine. Without --stack, prints the address of the page that `wasq dev` serves.
    #[cfg(feature = "aws")]
    Ui(Ui),
    /// Take no more messages from a deployment's queue; they wait there
    #[cfg(feature = "aws")]
    Pause(Pause),
    /// Take messages from the queue again, after `wasq pause`
    #[cfg(feature = "aws")]
    Resume(Pause),
    /// Delete a deployment; queues and buckets stay unless told otherwise
    #[cfg(feature = "aws")]
    Destroy(Destroy),
}
