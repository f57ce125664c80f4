//! `cargo xtask test`: sets everything up and runs every test.

use std::process::Command;

use anyhow::Result;

use crate::setup::{binaries, cargo, guests, python, root, run};

pub(crate) fn test(select: &[String]) -> Result<()> {
    guests()?;
    binaries()?;
    let programs = python()?;
    if select.is_empty() {
        run(cargo().args(["test", "--locked", "--workspace"]))?;
    }
    let mut pytest = Command::new(programs.join("pytest"));
    pytest.arg(root().join("tests"));
    if !select.is_empty() {
        pytest.arg("-k").arg(select.join(" "));
    }
    run(&mut pytest)
}
