//! `cargo xtask hostile`, `chaos` and `drain`: what real processes stand, and how fast they are.

use std::process::Command;

use anyhow::{Result, bail};

use crate::setup::{binaries, cargo, guest, python, root, run, rust_guests};

/// Kills everything, again and again, and counts what is lost.
pub(crate) fn chaos(args: &[String]) -> Result<()> {
    rust_guests()?;
    binaries()?;
    script("chaos.py", args)
}

/// Measures the consumer beside a plain loop, as it is deployed: optimised.
pub(crate) fn drain(args: &[String]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--release", "--package", "wasq-consumer", "--package", "wasq-cli"]);
    run(build.args(["--bins", "--examples"]))?;
    script("drain.py", args)
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
