//! `cargo xtask chaos` and `cargo xtask drain`: real processes, driven from Python.

use std::process::Command;

use anyhow::Result;

use crate::setup::{binaries, cargo, python, root, run, rust_guests};

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

fn script(name: &str, args: &[String]) -> Result<()> {
    let python = python()?.join("python");
    run(Command::new(python).arg(root().join("tests").join(name)).args(args))
}
