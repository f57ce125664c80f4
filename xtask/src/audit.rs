//! Checks of dependencies by `cargo deny`, and of all input from outside by `cargo fuzz`.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::setup::{EXAMPLE_TASKS, GUESTS, SDK, cargo, cargo_tool, root, run, target};

const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";
const ADVISORIES: &str = "https://github.com/rustsec/advisory-db";

/// Checks licences, sources and known vulnerabilities of all crates that we link and build tasks with;
/// `deny.toml` has the rules.
pub(crate) fn deny() -> Result<()> {
    let cargo_deny = cargo_tool("cargo-deny", CARGO_DENY, "cargo-deny")?;
    let advisories = can_be_reached(ADVISORIES);
    if !advisories {
        eprintln!("NOT CHECKED: known vulnerabilities, because {ADVISORIES} cannot be reached from here");
    }
    for manifest in ["Cargo.toml", EXAMPLE_TASKS, GUESTS, SDK] {
        let mut deny = Command::new(&cargo_deny);
        deny.arg("--manifest-path").arg(root().join(manifest)).arg("--locked");
        deny.arg("--config").arg(root().join("deny.toml"));
        deny.args(["check", "--hide-inclusion-graph"]);
        // Each workspace uses only some of the licences.
        deny.args(["--allow", "license-not-encountered", "--allow", "license-exception-not-encountered"]);
        deny.args(["bans", "licenses", "sources"]).args(advisories.then_some("advisories"));
        run(&mut deny)?;
    }
    Ok(())
}

fn can_be_reached(repository: &str) -> bool {
    let mut git = Command::new("git");
    git.args(["-c", "http.lowSpeedLimit=1", "-c", "http.lowSpeedTime=10", "ls-remote", repository, "HEAD"]);
    git.env("GIT_TERMINAL_PROMPT", "0").stdout(Stdio::null()).stderr(Stdio::null());
    git.status().is_ok_and(|status| status.success())
}

/// Runs fuzz targets under libFuzzer, on the corpora in git and on the inputs that earlier runs found.
/// `target` keeps the latter.
pub(crate) fn fuzz(args: &[String]) -> Result<()> {
    let (mut only, mut seconds) = (None, "60");
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match arg.as_str() {
            "--seconds" => seconds = rest.next().context("--seconds N")?,
            target if only.is_none() && !target.starts_with('-') => only = Some(target),
            _ => bail!("expected [TARGET] [--seconds N]"),
        }
    }
    let nightly = cargo().args(["+nightly", "--version"]).stdout(Stdio::null()).status();
    ensure!(
        nightly.is_ok_and(|status| status.success()),
        "the nightly toolchain is needed: `rustup toolchain install nightly --profile minimal`"
    );
    let cargo_fuzz = cargo_tool("cargo-fuzz", CARGO_FUZZ, "cargo-fuzz")?;
    let programs = cargo_fuzz.parent().context("it lies in a folder")?.to_owned();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&paths)))?;
    let cargo_fuzz = |words: &[&str]| {
        let mut command = cargo();
        command.env("PATH", &paths).args(["+nightly", "fuzz"]).args(words);
        // Without optimisation, except for slow crates: the dev profile lists them.
        command.args(["--dev", "--features", "libfuzzer", "--fuzz-dir"]).arg(root().join("proofs/fuzz"));
        command.arg("--target-dir").arg(target().join("fuzz"));
        command
    };
    let targets = root().join("proofs/fuzz/fuzz_targets");
    let mut names: Vec<_> = std::fs::read_dir(&targets)
        .with_context(|| format!("read {}", targets.display()))?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    names.sort();
    if let Some(only) = only {
        ensure!(names.iter().any(|name| name == only), "no target {only:?}; there are {}", names.join(", "));
        names.retain(|name| name == only);
    }
    for name in names {
        let seconds = format!("-max_total_time={seconds}");
        let found = target().join("fuzz/corpus").join(&name);
        std::fs::create_dir_all(&found).with_context(|| format!("create {}", found.display()))?;
        let mut fuzz = cargo_fuzz(&["run", &name]);
        fuzz.arg(found).arg(root().join("proofs/fuzz/corpus").join(&name));
        run(fuzz.args(["--", &seconds, "-timeout=30", "-rss_limit_mb=4096"]))?;
    }
    Ok(())
}
