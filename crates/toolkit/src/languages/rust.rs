//! Rust, by cargo.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{Made, Output, read};
use crate::project::Project;
use crate::tool::{Found, Tool};

const TARGET: &str = "wasm32-wasip2";

const CARGO: Tool = Tool {
    name: "cargo",
    calls: &[&["cargo"]],
    version: &["--version"],
    oldest: &[1, 95],
    install: "get it from https://rustup.rs, or by `rustup update`",
};

const RUSTC: Tool = Tool {
    name: "rustc",
    calls: &[&["rustc"]],
    version: &["--version"],
    oldest: &[1, 95],
    install: "get it from https://rustup.rs, or by `rustup update`",
};

/// A line of cargo's answer, with the fields that we need.
#[derive(Deserialize)]
struct Line {
    reason: String,
    #[serde(default)]
    manifest_path: PathBuf,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

pub(super) fn toolchain() -> Result<String> {
    let (_, rustc) = (CARGO.find(&[])?, RUSTC.find(&[])?);
    target_is_there(&rustc, Path::new("."))?;
    Ok(rustc.title())
}

pub(super) fn make(project: &Project) -> Result<Output> {
    let (cargo, rustc) = (CARGO.find(&[])?, RUSTC.find(&[])?);
    target_is_there(&rustc, project.folder())?;
    let manifest = project.folder().join("Cargo.toml");
    let mut build = cargo.command();
    build
        .args(["build", "--release", "--quiet", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(project.folder());
    // The compiler's messages come by stderr. By stdout come cargo's answers in JSON, which are not for people.
    let output =
        cargo.run_telling(&mut build, |output| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = String::from_utf8(output.stdout).context("read cargo's answer")?;
    let component = text.lines().filter_map(|line| component_of(line, &manifest)).next_back();
    let Some(component) = component else {
        bail!(
            "cargo built no component from {}; a task is a library with `crate-type = [\"cdylib\"]` in [lib]",
            manifest.display()
        );
    };
    Ok(Output { made: Made::Component(read(&component)?), toolchain: rustc.title() })
}

/// The component that a line of cargo's answer names, if it is of this package.
fn component_of(line: &str, manifest: &Path) -> Option<PathBuf> {
    let line: Line = serde_json::from_str(line).ok()?;
    if line.reason != "compiler-artifact" || line.manifest_path != manifest {
        return None;
    }
    line.filenames.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "wasm"))
}

fn target_is_there(rustc: &Found, folder: &Path) -> Result<()> {
    let output = rustc
        .run(rustc.command().args(["--print", "target-libdir", "--target", TARGET]).current_dir(folder))?;
    let folder = String::from_utf8_lossy(&output.stdout);
    ensure!(
        Path::new(folder.trim()).is_dir(),
        "{} cannot build for {TARGET} yet; `rustup target add {TARGET}` adds that",
        rustc.title()
    );
    Ok(())
}
