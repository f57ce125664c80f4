//! `cargo xtask guests`: the example task in every language, built and measured side by side.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::setup::{binary, cargo, output, pip, root, run, rust_guests, target};

/// The task that exists in every language, and its tests.
const TASK: &str = "github_repositories";
const CASES: &str = "example-tasks/github_repositories.tests.toml";
/// Folders of `example-tasks`, and the path of the task's source.
const LANGUAGES: [(&str, &str); 8] = [
    ("rust", "src/lib.rs"),
    ("python", "task.py"),
    ("javascript", "task.js"),
    ("typescript", "task.ts"),
    ("go", "task.go"),
    ("c", "task.c"),
    ("cpp", "task.cpp"),
    ("zig", "task.zig"),
];

/// Installs the toolchains of the example tasks, each in its pinned version. Returns the folder of programs.
pub(crate) fn toolchains() -> Result<PathBuf> {
    let tasks = root().join("example-tasks");
    let requirements = tasks.join("requirements.txt");
    let programs =
        pip("toolchains", &std::fs::read_to_string(requirements).context("read requirements.txt")?)?;
    let package = std::fs::read_to_string(tasks.join("package.json")).context("read package.json")?;
    let stamp = tasks.join("node_modules/installed.json");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == package) {
        return Ok(programs);
    }
    ensure!(
        Command::new("npm").arg("--version").output().is_ok(),
        "npm is needed for the tasks in JavaScript and TypeScript: install Node.js 20 or later"
    );
    run(Command::new("npm").args(["install", "--no-package-lock", "--silent", "--prefix"]).arg(&tasks))?;
    std::fs::write(&stamp, package).context("remember what was installed")?;
    Ok(programs)
}

/// Builds and measures the task in all languages, and prints a table. With `--build`, it only builds the
/// guests that the tests of the crates need.
pub(crate) fn guests(args: &[String]) -> Result<()> {
    rust_guests()?;
    match args {
        [] => {}
        [flag] if flag == "--build" => return Ok(()),
        _ => bail!("expected nothing, or --build"),
    }
    let programs = toolchains()?;
    run(cargo().args(["build", "--locked", "--package", "wasq-cli"]))?;
    run(cargo().args([
        "build",
        "--locked",
        "--profile",
        "measure",
        "--package",
        "wasq-toolkit",
        "--example",
        "measure",
    ]))?;
    let mut rows = Vec::new();
    for (language, source) in LANGUAGES {
        let folder = root().join("example-tasks").join(language).join(TASK);
        rows.push(row(language, &folder, &folder.join(source), &programs)?);
    }
    println!(
        "\n{:<11} {:<24} {:>5} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        "language",
        "toolchain",
        "lines",
        "build",
        "component",
        "compiled",
        "compile",
        "cold",
        "warm",
        "memory"
    );
    rows.iter().for_each(|row| println!("{row}"));
    println!(
        "\nMeasured now, on this machine. build: sources to component, by this dev build of wasq, libraries already built. compile: \
         component to machine\ncode, on all cores. cold: a fresh process, from the compiled file to the first outcome. warm: the median \
         of 200 further runs, each in a fresh\nsandbox. memory: of one run, all that the component holds. The run is a GET that is \
         answered at once."
    );
    Ok(())
}

/// Builds a project as its author would. Returns the JSON that `wasq build` prints.
pub(crate) fn built(wasq: &Path, folder: &Path, programs: &Path) -> Result<Value> {
    #[allow(clippy::disallowed_methods, reason = "it is for the programs that `wasq build` starts")]
    let path = std::env::var("PATH").unwrap_or_default();
    let mut build = Command::new(wasq);
    build
        .args(["build", "--json"])
        .arg(folder)
        .env("PATH", format!("{}:{path}", programs.display()))
        .env("CARGO_TARGET_DIR", target().join("guests"));
    eprintln!("$ wasq build {}", folder.display());
    Ok(serde_json::from_str(&output(&mut build)?)?)
}

fn row(language: &str, folder: &Path, source: &Path, programs: &Path) -> Result<String> {
    let wasq = binary("wasq");
    // The first build also makes the files that all projects share, such as a C library. The second is
    // measured.
    built(&wasq, folder, programs)?;
    let started = Instant::now();
    let made = built(&wasq, folder, programs)?;
    let seconds = started.elapsed().as_secs_f64();
    let component = made["component"].as_str().context("wasq build names the component")?;
    let mut measure = Command::new(target().join("measure/examples/measure"));
    let measured: Value = serde_json::from_str(&output(measure.arg(component).arg(root().join(CASES)))?)?;
    let number = |name: &str| measured[name].as_f64().unwrap_or_default();
    let mb = |name: &str| format!("{:.2} MB", number(name) / 1e6);
    let ms = |name: &str| format!("{:.2} ms", number(name));
    Ok(format!(
        "{language:<11} {:<24} {:>5} {:>8} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}",
        made["toolchain"].as_str().unwrap_or_default(),
        lines(source)?,
        format!("{seconds:.1} s"),
        mb("bytes"),
        mb("compiled_bytes"),
        format!("{:.2} s", number("compile_ms") / 1000.0),
        ms("cold_ms"),
        ms("warm_ms"),
        format!("{:.1} MB", number("memory_bytes") / 1e6),
    ))
}

/// The number of lines of a task that are not empty, without its tests.
fn lines(source: &Path) -> Result<usize> {
    let text = std::fs::read_to_string(source).with_context(|| format!("read {}", source.display()))?;
    let task = text.split("#[cfg(test)]").next().unwrap_or_default();
    Ok(task.lines().filter(|line| !line.trim().is_empty()).count())
}
