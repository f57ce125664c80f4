#![doc = include_str!("../README.md")]

mod bare;
mod child;
mod lambda;
mod machine;
#[cfg(target_os = "linux")]
mod older_kernel;
mod peers;
mod plot;
mod report;
mod rows;
mod samples;
mod warm;
mod worker;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::warm::Noops;

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// As on a kernel without pagemap scan.
    #[arg(long, global = true)]
    older_kernel: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Measures everything and prints the tables; `cargo xtask bench` builds and installs all it needs.
    All(Box<All>),
    /// Compiles the no-op for each way into a folder; `repeat` and `runs` take the artifacts.
    Compile { noop: PathBuf, folder: PathBuf },
    /// Runs the no-op RUNS times: `bare`, `interruptible`, by the `engine`, by the `worker`, by the worker
    /// in `batches`, or by one that is also `remembering` them.
    Repeat { way: String, artifact: PathBuf, runs: usize },
    /// Measures warm runs, in ROUNDS rounds.
    Runs {
        #[command(flatten)]
        noops: Noops,
        rounds: usize,
    },
    /// Measures RUNS runs that sleep at once.
    Sleepers { artifact: PathBuf, runs: u32 },
    /// Measures the memory on the way through RUNS no-ops.
    Many { artifact: PathBuf, runs: u64 },
    /// Measures the views of the page of `wasq dev`, in milliseconds.
    Page { wasq: PathBuf, noop: PathBuf },
    /// Loads an artifact for the first time.
    FirstLoad { artifact: PathBuf },
}

/// The programs and files to measure. The rows of a program that is not given say that it is not available.
#[derive(Args)]
pub(crate) struct All {
    /// The no-op as a task.
    #[arg(long)]
    pub(crate) noop: PathBuf,
    /// The no-op behind wasi:http.
    #[arg(long)]
    pub(crate) proxy: PathBuf,
    /// The no-op as Extism's plug-in.
    #[arg(long)]
    pub(crate) plugin: PathBuf,
    /// The tests' guest, which sleeps and fetches.
    #[arg(long)]
    pub(crate) verbs: PathBuf,
    /// The same task in several languages: LANGUAGE=COMPONENT.
    #[arg(long, value_parser = pair)]
    pub(crate) task: Vec<(String, PathBuf)>,
    /// wasq's worker, as it is released.
    #[arg(long)]
    pub(crate) worker: PathBuf,
    /// Bytes of its zip.
    #[arg(long)]
    pub(crate) zip_bytes: u64,
    /// The program wasq.
    #[arg(long)]
    pub(crate) wasq: PathBuf,
    /// A Lambda function that does nothing.
    #[arg(long)]
    pub(crate) hello: PathBuf,
    /// Extism's host.
    #[arg(long)]
    pub(crate) extism: Option<PathBuf>,
    /// The program wasmtime.
    #[arg(long)]
    pub(crate) wasmtime: Option<PathBuf>,
    /// A Python with the peers' packages.
    #[arg(long)]
    pub(crate) python: Option<PathBuf>,
    /// The peers' sources in Python.
    #[arg(long)]
    pub(crate) python_sources: PathBuf,
    /// The results of `cargo xtask drain`.
    #[arg(long)]
    pub(crate) drain: Option<PathBuf>,
    /// The commit of wasq that is measured.
    #[arg(long)]
    pub(crate) commit: String,
    /// Why something is missing: NAME=REASON.
    #[arg(long, value_parser = reason)]
    pub(crate) missing: Vec<(String, String)>,
    /// The rounds of the measurements that are taken side by side.
    #[arg(long, default_value_t = 20)]
    pub(crate) rounds: usize,
    /// Writes tables and plots into this document.
    #[arg(long)]
    pub(crate) write: Option<PathBuf>,
}

fn pair(text: &str) -> Result<(String, PathBuf), String> {
    reason(text).map(|(name, path)| (name, path.into()))
}

fn reason(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn main() -> Result<()> {
    let Arguments { command, older_kernel } = Arguments::parse();
    if older_kernel {
        #[cfg(target_os = "linux")]
        older_kernel::pretend()?;
        #[cfg(not(target_os = "linux"))]
        anyhow::bail!("--older-kernel is for Linux");
    }
    match command {
        Command::All(all) => {
            let report = rows::measure(&all)?;
            println!("{}", report.markdown(None));
            if let Some(document) = &all.write {
                report.write(document)?;
            }
            report.check()
        }
        Command::Compile { noop, folder } => {
            let (Noops { bare, interruptible, wasq }, _) = Noops::compile(&noop, &folder)?;
            println!("{}\n{}\n{}", bare.display(), interruptible.display(), wasq.display());
            Ok(())
        }
        Command::Repeat { way, artifact, runs } => warm::repeat(&way, &artifact, runs),
        Command::Runs { noops, rounds } => print(&warm::runs(&noops, rounds)?),
        Command::Sleepers { artifact, runs } => print(&child::sleepers(&artifact, runs)?),
        Command::Many { artifact, runs } => print(&child::many(&artifact, runs)?),
        Command::Page { wasq, noop } => {
            let folder = tempfile::tempdir()?;
            for (view, address, times) in rows::page::views(&wasq, &noop, folder.path())? {
                println!("{:>30}  {view}, {address}", times.show());
            }
            Ok(())
        }
        Command::FirstLoad { artifact } => print(&child::first_load(&artifact)?),
    }
}

fn print(found: &impl serde::Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(found)?);
    Ok(())
}
