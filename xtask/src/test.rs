//! `cargo xtask test`: sets everything up and runs every test.

use std::process::Command;

use anyhow::Result;

use crate::guests::toolchains;
use crate::setup::{EXAMPLE_TASKS, SDK, binaries, cargo, python, root, run, rust_guests, target};

pub(crate) fn test(select: &[String]) -> Result<()> {
    rust_guests()?;
    toolchains()?;
    binaries()?;
    let programs = python()?;
    if select.is_empty() {
        run(cargo().args(["test", "--locked", "--workspace"]))?;
        // The SDK, and the tasks that are written with it, on this machine.
        for manifest in [SDK, EXAMPLE_TASKS] {
            let mut tests = cargo();
            tests.args(["test", "--locked", "--manifest-path"]).arg(root().join(manifest));
            run(tests.arg("--target-dir").arg(target().join("guests")))?;
        }
    }
    let mut pytest = Command::new(programs.join("pytest"));
    // One after the other: two stand-ins for AWS at once on two cores are too slow for leases and schedules.
    pytest.arg(root().join("proofs/system"));
    if !select.is_empty() {
        pytest.arg("-k").arg(select.join(" "));
    }
    run(&mut pytest)
}
