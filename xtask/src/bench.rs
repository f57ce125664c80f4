//! `cargo xtask bench`: compares wasq with its peers. It builds or installs all of them, and measures them in
//! one run.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::dist::package_function;
use crate::guests::{built, toolchains};
use crate::proof::drain_into;
use crate::setup::{
    add_target, cargo, cargo_program, guest, measured, optimised, output, pip, root, run, rust_guests, target,
};

const PEERS: &str = "proofs/bench/peers/Cargo.toml";
const WASIP2: &str = "wasm32-wasip2";
const UNKNOWN: &str = "wasm32-unknown-unknown";
const WASMTIME: &str = "48.0.8";
const DOCUMENT: &str = "docs/performance.md";
/// The languages of the task that is loaded, from the smallest to the largest component.
const LANGUAGES: [(&str, &str); 4] =
    [("Rust", "rust"), ("Go", "go"), ("JavaScript", "javascript"), ("Python", "python")];

pub(crate) fn bench(args: &[String]) -> Result<()> {
    let write = match args {
        [] => false,
        [flag] if flag == "--write" => true,
        _ => bail!("expected nothing, or --write"),
    };
    let mut words: Vec<OsString> = vec!["all".into()];
    let mut say = |flag: &str, value: OsString| words.extend([OsString::from(flag), value]);

    // Ours.
    rust_guests()?;
    optimised()?;
    say("--verbs", guest("verbs").into());
    say("--wasq", measured("wasq").into());
    for (name, folder) in LANGUAGES {
        match component(folder) {
            Ok(component) => {
                let mut task = OsString::from(format!("{name}="));
                task.push(component);
                say("--task", task);
            }
            Err(e) => say("--missing", missing("tasks", &e)),
        }
    }
    // Build the worker by itself: together with other packages it would get a compiler.
    run(cargo().args([
        "build",
        "--locked",
        "--release",
        "--package",
        "wasq-runtime",
        "--bin",
        "wasq-worker",
    ]))?;
    let worker = target().join("release/wasq-worker");
    let zip = package_function(&worker, &target().join("release/wasq-worker.zip"))?;
    say("--worker", worker.into());
    say("--zip-bytes", std::fs::metadata(zip)?.len().to_string().into());
    let drain = target().join("release/drain.json");
    match drain_into(&drain) {
        Ok(()) => say("--drain", drain.into()),
        Err(e) => say("--missing", missing("drain", &e)),
    }

    // Others.
    let peers = target().join("peers");
    add_target(WASIP2)?;
    peer(&["--release", "--target", WASIP2, "--package", "bench-noop"])?;
    peer(&["--release", "--package", "bench-hello"])?;
    say("--noop", peers.join(WASIP2).join("release/noop.wasm").into());
    say("--hello", peers.join("release/bench-hello").into());
    let proxy = peers.join(WASIP2).join("release/proxy.wasm");
    match peer(&["--release", "--target", WASIP2, "--package", "bench-proxy"])
        .and_then(|()| cargo_program("wasmtime-cli", WASMTIME, "wasmtime"))
    {
        Ok(wasmtime) => say("--wasmtime", wasmtime.into()),
        Err(e) => say("--missing", missing("wasmtime", &e)),
    }
    say("--proxy", proxy.into());
    let plugin = add_target(UNKNOWN)
        .and_then(|()| peer(&["--release", "--target", UNKNOWN, "--package", "bench-plugin"]))
        .and_then(|()| peer(&["--profile", "measure", "--package", "bench-extism"]));
    match plugin {
        Ok(()) => say("--extism", peers.join("measure/bench-extism").into()),
        Err(e) => say("--missing", missing("extism", &e)),
    }
    say("--plugin", peers.join(UNKNOWN).join("release/plugin.wasm").into());
    let sources = root().join("proofs/bench/peers/python");
    let requirements =
        std::fs::read_to_string(sources.join("requirements.txt")).context("read requirements.txt")?;
    match pip("peers-python", &requirements) {
        Ok(programs) => say("--python", programs.join("python").into()),
        Err(e) => say("--missing", missing("python", &e)),
    }
    say("--python-sources", sources.into());

    let commit = output(Command::new("git").args(["describe", "--always", "--dirty"]))?;
    say("--commit", commit.trim().into());
    if write {
        say("--write", root().join(DOCUMENT).into());
    }
    run(Command::new(measured("wasq-bench")).args(words))
}

/// The reason why there is no row for a peer.
fn missing(name: &str, error: &anyhow::Error) -> OsString {
    format!("{name}={error:#}").into()
}

fn peer(args: &[&str]) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--manifest-path"]).arg(root().join(PEERS));
    run(build.arg("--target-dir").arg(target().join("peers")).args(args))
}

/// The example task in a language.
fn component(language: &str) -> Result<PathBuf> {
    let folder = root().join("example-tasks").join(language).join("github_repositories");
    // For Rust it is the toolchain that builds this program.
    let programs = if language == "rust" { target() } else { toolchains()? };
    let made = built(&measured("wasq"), &folder, &programs)?;
    let component = made["component"].as_str().context("wasq build names the component")?;
    Ok(Path::new(component).to_owned())
}
