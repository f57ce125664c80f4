//! `cargo xtask test`: sets everything up and runs every test.

use std::process::Command;

use anyhow::{Context, Result};

use crate::guests::toolchains;
use crate::setup::{EXAMPLE_TASKS, SDK, binaries, cargo, python, root, run, rust_guests, target};

/// The pictures of the page in the README: a test makes them.
const PICTURES: [&str; 3] = ["runs", "run", "dead"];

/// `cargo xtask pictures`: makes the pictures of the README anew.
pub(crate) fn pictures() -> Result<()> {
    test(&["test_the_pictures_of_the_readme".to_owned()])?;
    for name in PICTURES {
        let made = target().join("page").join(format!("readme-{name}.png"));
        let to = root().join("docs/images").join(format!("page-{name}.png"));
        std::fs::copy(&made, &to).with_context(|| format!("copy {} to {}", made.display(), to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

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
    pytest.arg(root().join("proofs/system"));
    if select.is_empty() {
        // The two groups of `conftest.py`, side by side.
        pytest.args(["--numprocesses", "2", "--dist", "loadgroup"]);
    } else {
        pytest.arg("-k").arg(select.join(" "));
    }
    run(&mut pytest)
}
