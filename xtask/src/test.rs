//! `cargo xtask test`: sets everything up and runs every test.

use std::process::Command;

use anyhow::{Context, Result, ensure};

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
    let pytest = |select: [&str; 2]| {
        let mut pytest = Command::new(programs.join("pytest"));
        pytest.arg(root().join("proofs/system")).arg("--durations=10").args(select);
        pytest
    };
    if !select.is_empty() {
        return run(&mut pytest(["-k", &select.join(" ")]));
    }
    // The tests on a stand-in for AWS wait most of the time, and those of authors build on one core: all run side by side.
    let beside = ["authors and not aws", "not authors and not aws and not alone"].map(|marks| {
        let mut tests = pytest(["-m", marks]);
        (marks, std::thread::spawn(move || tests.output()))
    });
    let mut failed = Vec::new();
    failed.extend(run(&mut pytest(["-m", "aws"])).err().map(|e| format!("{e:#}")));
    for (marks, tests) in beside {
        let tests = tests.join().expect("it does not panic").context("run pytest")?;
        print!("{}", String::from_utf8_lossy(&tests.stdout));
        eprint!("{}", String::from_utf8_lossy(&tests.stderr));
        if !tests.status.success() {
            failed.push(format!("pytest -m {marks:?}: {}", tests.status));
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    run(&mut pytest(["-m", "alone"]))
}
