//! The `wasq` command. Each subcommand has a file. `args.rs` defines the arguments, and `output.rs` prints
//! the answers.
//!
//! Data goes to stdout, everything else to stderr. Exit codes: 0 success; 1 the task failed, or not
//! everything could be done; 2 wrong use, or a fault of the environment.

mod args;
mod build;
mod check;
#[cfg(feature = "aws")]
mod cloud;
#[cfg(not(feature = "aws"))]
#[path = "without_aws.rs"]
mod cloud;
mod compiled;
mod completions;
mod component;
#[cfg(feature = "aws")]
mod deploy;
mod deployed;
#[cfg(feature = "aws")]
mod destroy;
mod dev;
mod dlq;
#[cfg(feature = "aws")]
mod doctor;
mod enqueue;
mod env;
mod log_lines;
mod logs;
mod machine_memory;
mod new;
mod output;
mod params;
#[cfg(feature = "aws")]
mod pause;
mod publish;
#[cfg(test)]
mod reference;
mod registry;
mod run;
mod runs;
mod schedule;
mod status;
mod surroundings;
mod target;
mod tasks;
mod test;
mod time;
mod top;
mod types;
#[cfg(feature = "aws")]
mod ui;
#[cfg(feature = "aws")]
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use serde_json::json;

use crate::args::{Args, Command};
use crate::compiled::FunctionCache;
#[cfg(feature = "aws")]
use crate::output::Ended;

/// If this process was started to compile, compiles and ends the process.
pub fn compile_if_asked() {
    wasq_local::compile_if_asked(FunctionCache::open);
}

/// Runs `work` until it ends or ctrl-c is pressed. Ctrl-c ends only the wait: AWS continues the operation.
#[cfg(feature = "aws")]
async fn until_interrupted(work: impl Future<Output = anyhow::Result<Ended>>) -> anyhow::Result<Ended> {
    tokio::select! {
        ended = work => ended,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!(
            "interrupted; AWS continues the operation that was started, and the same command continues from there"
        )),
    }
}

/// The text of clap's error without its hints.
fn wrong_use(error: &clap::Error) -> String {
    let text = error.to_string();
    let problem = text.split("\n\n").next().unwrap_or_default();
    problem.strip_prefix("error: ").unwrap_or(problem).to_owned()
}

/// Runs the command that the process was started with.
pub async fn main() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|e| {
        if e.use_stderr() && std::env::args_os().any(|arg| arg == "--json") {
            output::value(&json!({ "error": wrong_use(&e) }));
        }
        e.exit()
    });
    let json = args.json;
    if !matches!(args.command, Command::Dev(_)) {
        // `wasq test` itself prints the log lines of a test that failed.
        let quiet = matches!(args.command, Command::Test(_)) && args.log == "info";
        output::start_logging(if quiet { "warn,task=off" } else { &args.log }, None);
    }
    let ended = match args.command {
        Command::Dev(dev) => dev::dev(dev, &args.log, json).await,
        Command::New(new) => new::new(new, json),
        Command::Build(build) => build::build(build, json),
        Command::Test(test) => test::test(test, json).await,
        Command::Check(check) => check::check(check, json).await,
        Command::Run(run) => run::run(run, json).await,
        Command::Enqueue(enqueue) => enqueue::enqueue(enqueue, json).await,
        Command::Push(push) => publish::push(push, json).await,
        Command::Rollback(rollback) => publish::rollback(rollback, json).await,
        Command::Rm(rm) => publish::rm(rm, json).await,
        Command::Tasks(tasks) => tasks::tasks(tasks, json).await,
        Command::Types(types) => types::types(types, json).await,
        Command::Dlq(dlq) => dlq::dlq(dlq, json).await,
        Command::Status(status) => status::status(status, json).await,
        Command::Top(top) => top::top(top, json).await,
        Command::Env(env) => env::env(env, json).await,
        Command::Runs(runs) => runs::runs(runs, json).await,
        Command::Wait(wait) => runs::wait(wait, json).await,
        Command::Schedule(schedule) => schedule::schedule(schedule, json).await,
        Command::Logs(logs) => logs::logs(logs, json).await,
        Command::Completions(completions) => completions::completions(completions, Args::command()),
        #[cfg(feature = "aws")]
        Command::Deploy(deploy) => until_interrupted(deploy::deploy(*deploy, json)).await,
        #[cfg(feature = "aws")]
        Command::Doctor(doctor) => doctor::doctor(doctor, json).await,
        #[cfg(feature = "aws")]
        Command::Ui(ui) => ui::ui(ui, json).await,
        #[cfg(feature = "aws")]
        Command::Verify(verify) => verify::verify(verify, json).await,
        #[cfg(feature = "aws")]
        Command::Destroy(destroy) => until_interrupted(destroy::destroy(destroy, json)).await,
        #[cfg(feature = "aws")]
        Command::Pause(pause) => pause::pause(pause, true, json).await,
        #[cfg(feature = "aws")]
        Command::Resume(resume) => pause::pause(resume, false, json).await,
    };
    match ended {
        Ok(ended) => ExitCode::from(ended.exit_code()),
        Err(e) => {
            output::error(&e, json);
            ExitCode::from(output::EXIT_CODE_OF_ERRORS)
        }
    }
}
