//! `cargo xtask hostile`, `chaos` and `drain`: what real processes stand, and how fast they are.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{binaries, cargo, guest, optimised, python, root, run, rust_guests};

/// Kills everything, again and again, and counts what is lost.
pub(crate) fn chaos(args: &[String]) -> Result<()> {
    rust_guests()?;
    binaries()?;
    script("chaos.py", args)
}

/// Measures the consumer beside a plain loop.
pub(crate) fn drain(args: &[String]) -> Result<()> {
    optimised()?;
    script("drain.py", args)
}

/// As [`drain`], without MiniStack; writes what it found into a file.
pub(crate) fn drain_into(file: &Path) -> Result<()> {
    let file = file.to_str().context("the target folder has a plain name")?;
    drain(&["--only".to_owned(), "own-queue".to_owned(), "--write".to_owned(), file.to_owned()])
}

/// Runs tasks that mean harm, each beside an honest one, and looks at what they leave behind.
pub(crate) fn hostile(args: &[String]) -> Result<()> {
    let rounds = match args {
        [] => "10",
        [flag, rounds] if flag == "--rounds" => rounds,
        _ => bail!("expected nothing, or --rounds N"),
    };
    rust_guests()?;
    let mut hostile = cargo();
    hostile.args(["run", "--locked", "--profile", "measure", "--package", "wasq-hostile", "--"]);
    // One arena: what the allocator keeps for later would otherwise depend on which threads compiled.
    hostile.env("MALLOC_ARENA_MAX", "1");
    run(hostile.arg(guest("verbs")).arg(rounds))
}

fn script(name: &str, args: &[String]) -> Result<()> {
    let python = python()?.join("python");
    run(Command::new(python).arg(root().join("tests").join(name)).args(args))
}
