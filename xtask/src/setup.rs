//! The requirements of the other commands: the guest target, the guests, the binaries, a Python environment.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

const GUEST_TARGET: &str = "wasm32-wasip2";

/// The repository's root.
pub(crate) fn root() -> PathBuf {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the root").to_owned()
}

/// The folder that everything is built into.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// A binary of ours, as [`binaries`] builds it.
pub(crate) fn binary(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

/// A guest, as [`rust_guests`] builds it.
pub(crate) fn guest(name: &str) -> PathBuf {
    target().join("guests").join(GUEST_TARGET).join("release").join(format!("{name}.wasm"))
}

/// A command that takes longer says how long.
const TOLD_AFTER: Duration = Duration::from_secs(30);

/// Runs a command with its output shown; an exit code other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    eprintln!("$ {shown}");
    let begun = Instant::now();
    let status = command.current_dir(root()).status().with_context(|| format!("start {shown}"))?;
    ensure!(status.success(), "{shown}: {status}");
    if begun.elapsed() > TOLD_AFTER {
        eprintln!("it took {} s: {shown}", begun.elapsed().as_secs());
    }
    Ok(())
}

/// Runs a command and returns what it prints to stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    let output = command
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {shown}"))?;
    ensure!(output.status.success(), "{shown}: {}", output.status);
    String::from_utf8(output.stdout).with_context(|| format!("read the output of {shown}"))
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Cargo without the variables about xtask that the cargo above us sets: some build scripts read them, and
/// would build again.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// Manifests of workspaces of their own: they are built for WebAssembly.
pub(crate) const EXAMPLE_TASKS: &str = "example-tasks/rust/Cargo.toml";
pub(crate) const GUESTS: &str = "proofs/guests/Cargo.toml";
pub(crate) const SDK: &str = "sdk/rust/Cargo.toml";

/// Adds the guest target if it is missing, and builds the example tasks in Rust.
pub(crate) fn example_tasks() -> Result<()> {
    build_guests(EXAMPLE_TASKS)
}

/// As [`example_tasks`], with the guest that the tests use.
pub(crate) fn rust_guests() -> Result<()> {
    build_guests(EXAMPLE_TASKS)?;
    build_guests(GUESTS)
}

fn build_guests(manifest: &str) -> Result<()> {
    add_target(GUEST_TARGET)?;
    run(cargo()
        .args(["build", "--locked", "--release", "--target", GUEST_TARGET])
        .arg("--manifest-path")
        .arg(root().join(manifest))
        .arg("--target-dir")
        .arg(target().join("guests")))
}

/// Adds a target of Rust's if it is missing.
pub(crate) fn add_target(triple: &str) -> Result<()> {
    let libdir = output(Command::new("rustc").args(["--print", "target-libdir", "--target", triple]))?;
    if Path::new(libdir.trim()).is_dir() {
        return Ok(());
    }
    run(Command::new("rustup").args(["target", "add", triple]))
        .with_context(|| format!("add the target {triple} (rustup is needed: https://rustup.rs)"))
}

/// The program of a crate, installed in this version, with optimisation.
pub(crate) fn cargo_program(name: &str, version: &str, program: &str) -> Result<PathBuf> {
    installed(name, version, program, &[])
}

/// As [`cargo_program`], for programs that run for seconds: to build them with optimisation would take longer than all their runs.
pub(crate) fn cargo_tool(name: &str, version: &str, program: &str) -> Result<PathBuf> {
    let quick = [("OPT_LEVEL", "0"), ("LTO", "off"), ("CODEGEN_UNITS", "64"), ("DEBUG", "0")];
    installed(name, version, program, &quick)
}

fn installed(name: &str, version: &str, program: &str, profile: &[(&str, &str)]) -> Result<PathBuf> {
    let how = if profile.is_empty() { "" } else { "-quick" };
    let tools = target().join("tools").join(format!("{name}-{version}{how}"));
    let program = tools.join("bin").join(program);
    if !program.exists() {
        let mut install = cargo();
        install.args(["install", "--quiet", "--locked", name, "--version", version, "--root"]).arg(&tools);
        for (setting, value) in profile {
            install.env(format!("CARGO_PROFILE_RELEASE_{setting}"), value);
        }
        run(&mut install)?;
    }
    Ok(program)
}

/// Builds the command for one machine: without deployments, the proofs and the tests, which are most of the work.
pub(crate) fn wasq_without_aws() -> Result<()> {
    run(cargo().args(["build", "--locked", "--package", "wasq-cli", "--no-default-features"]))
}

/// Builds every binary, together with the tests. In two builds, cargo would choose other features for the
/// dependencies and build all of them twice.
pub(crate) fn binaries() -> Result<()> {
    run(cargo().args(["build", "--locked", "--workspace", "--bins", "--tests"]))
}

/// Builds the measured binaries with optimisation, all at once, as in [`binaries`].
pub(crate) fn optimised() -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--profile", "measure", "--bins", "--examples"]);
    run(build.args(["--package", "wasq-bench", "--package", "wasq-cli", "--package", "wasq-consumer"]))
}

/// A binary of ours, as [`optimised`] builds it.
pub(crate) fn measured(name: &str) -> PathBuf {
    target().join("measure").join(name)
}

/// A Python environment with what `proofs/system/requirements.txt` pins; returns its folder of programs.
pub(crate) fn python() -> Result<PathBuf> {
    let requirements = root().join("proofs/system/requirements.txt");
    pip("python", &std::fs::read_to_string(requirements).context("read proofs/system/requirements.txt")?)
}

/// Makes a Python environment of that name with these requirements. Returns its folder of programs.
pub(crate) fn pip(name: &str, requirements: &str) -> Result<PathBuf> {
    let folder = target().join(name);
    let stamp = folder.join("installed.txt");
    let programs = folder.join("bin");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == requirements) {
        return Ok(programs);
    }
    if Command::new("python3").arg("--version").output().is_err() {
        bail!("python3 is needed: install Python 3.11 or later");
    }
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let wanted = folder.join("wanted.txt");
    std::fs::write(&wanted, requirements).with_context(|| format!("write {}", wanted.display()))?;
    run(Command::new(programs.join("pip"))
        .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
        .arg(&wanted))?;
    std::fs::write(&stamp, requirements).context("remember what was installed")?;
    Ok(programs)
}
