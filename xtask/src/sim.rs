//! `cargo xtask sim` and `cargo xtask cost`: the simulator.

use anyhow::Result;

use crate::setup::{binaries, binary, run};

/// Simulates thousands of worlds, or one by its seed.
pub(crate) fn sim(args: &[String]) -> Result<()> {
    simulator("worlds", args)
}

/// Computes the cost of a million tasks.
pub(crate) fn cost(args: &[String]) -> Result<()> {
    simulator("cost", args)
}

fn simulator(command: &str, args: &[String]) -> Result<()> {
    binaries()?;
    run(std::process::Command::new(binary("wasq-sim")).arg(command).args(args))
}
