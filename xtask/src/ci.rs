//! `cargo xtask ci`: the checks that CI runs.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::audit::deny;
use crate::github;
use crate::packages::packages;
use crate::setup::{EXAMPLE_TASKS, GUESTS, SDK, cargo, output, root, run, target};
use crate::test::test;

pub(crate) fn ci() -> Result<()> {
    for manifest in ["Cargo.toml", EXAMPLE_TASKS, GUESTS, SDK] {
        run(cargo().args(["fmt", "--all", "--check", "--manifest-path"]).arg(root().join(manifest)))?;
    }
    rules()?;
    github::check()?;
    deny()?;
    run(cargo().args(["clippy", "--locked", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    for manifest in [EXAMPLE_TASKS, GUESTS, SDK] {
        let mut clippy = cargo();
        clippy.args(["clippy", "--locked", "--workspace", "--all-targets", "--manifest-path"]);
        clippy.arg(root().join(manifest)).arg("--target-dir").arg(target().join("guests"));
        run(clippy.args(["--", "--deny", "warnings"]))?;
    }
    let mut doc = cargo();
    doc.args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"]);
    run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    packages()?;
    test(&[])
}

/// Packages, crates that must be absent from their dependency trees, and the reasons.
const ABSENT: [(&str, &str, &str); 9] = [
    ("wasq-consumer", "wasmtime", "the consumer never links wasmtime"),
    ("wasq-runtime", "cranelift-codegen", "the worker must not have a compiler"),
    ("wasq-cli", "aws-lc-sys", "TLS is rustls on ring"),
    (
        "wasq-runtime",
        "aws-sdk-s3",
        "its checksums were a tenth of the worker's zip: `S3Objects` reads the registry",
    ),
    ("wasq-toolkit", "aws-config", "an author of tasks needs no AWS"),
    ("wasq-protocol", "tokio", "the protocol has no I/O"),
    ("wasq-page", "tokio", "the page has no I/O"),
    ("wasq-runtime", "wasq-page", "what runs on AWS has no page"),
    ("wasq-telemetry", "wasq-engine", "traces are made of records"),
];

/// The largest size of a tracked file. A larger file is not source.
const TRACKED_BYTES_MAX: u64 = 400_000;

/// Rules that no linter knows.
fn rules() -> Result<()> {
    for (package, dependency, why) in ABSENT {
        let tree = output(cargo().args([
            "tree",
            "--locked",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--package",
            package,
        ]))?;
        let linked = tree.lines().any(|line| line.split(' ').next() == Some(dependency));
        ensure!(!linked, "{package} links {dependency}: {why}");
    }
    let tracked = output(Command::new("git").args(["ls-files"]))?;
    for file in tracked.lines() {
        ensure!(
            !file.ends_with(".wasm") && !file.ends_with(".cwasm"),
            "{file}: binaries do not belong into git"
        );
        let bytes = std::fs::metadata(root().join(file)).map_or(0, |file| file.len());
        ensure!(bytes <= TRACKED_BYTES_MAX, "{file}: {bytes} bytes do not belong into git");
    }
    Ok(())
}
