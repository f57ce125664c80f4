//! `cargo xtask hostile`, `chaos`, `drain` and `page`: real processes under harmful tasks and kills, and their speed.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{binaries, cargo, guest, optimised, python, root, run, rust_guests};

/// Kills all processes, again and again, and counts the losses.
pub(crate) fn chaos(args: &[String]) -> Result<()> {
    rust_guests()?;
    binaries()?;
    script("chaos.py", args)
}

/// Measures the consumer, and a plain loop for comparison.
pub(crate) fn drain(args: &[String]) -> Result<()> {
    optimised()?;
    script("drain.py", args)
}

/// Measures the views of the page over many runs.
pub(crate) fn page(args: &[String]) -> Result<()> {
    rust_guests()?;
    optimised()?;
    script("page_times.py", args)
}

/// Like [`drain`], without MiniStack; writes the results into a file.
pub(crate) fn drain_into(file: &Path) -> Result<()> {
    let file = file.to_str().context("the target folder has a plain name")?;
    drain(&["--only".to_owned(), "own-queue".to_owned(), "--write".to_owned(), file.to_owned()])
}

/// Runs harmful tasks, each in one batch with an honest one, and looks at the state that they leave behind.
pub(crate) fn hostile(args: &[String]) -> Result<()> {
    let mut hostile = cargo();
    let rounds = match args {
        [] => "10",
        [flag, rounds] if flag == "--rounds" => rounds,
        [flag] if flag == "--compile" => {
            hostile.args(["run", "--locked", "--profile", "measure", "--package", "wasq-hostile", "--"]);
            return run(hostile.arg("costly").arg(root().join("docs/performance/costly.svg")));
        }
        _ => bail!("expected nothing, --rounds N, or --compile"),
    };
    rust_guests()?;
    hostile.args(["run", "--locked", "--profile", "measure", "--package", "wasq-hostile", "--"]);
    // One arena: with several, the memory that the allocator keeps would depend on which threads compiled.
    hostile.env("MALLOC_ARENA_MAX", "1");
    run(hostile.arg(guest("verbs")).arg(rounds))
}

fn script(name: &str, args: &[String]) -> Result<()> {
    let python = python()?.join("python");
    run(Command::new(python).arg(root().join("proofs/system").join(name)).args(args))
}
