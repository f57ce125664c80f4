//! Rust, by cargo.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use wasq_protocol::Digest;

use super::{Made, Output, read, scratch};
use crate::project::Project;
use crate::schema::answer;
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

pub(super) fn make(project: &Project, with_schema: bool) -> Result<Output> {
    let (cargo, rustc) = (CARGO.find(&[])?, RUSTC.find(&[])?);
    target_is_there(&rustc, project.folder())?;
    let manifest = project.folder().join("Cargo.toml");
    let mut build = cargo.command();
    build
        .args(["build", "--release", "--quiet", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(project.folder());
    let component = component_by(&cargo, &mut build, &manifest)?;
    let schema = if with_schema { schema(project, &cargo, &component)? } else { None };
    Ok(Output { made: Made::Component(component), schema, toolchain: rustc.title() })
}

/// The component that a command of cargo makes of a package.
fn component_by(cargo: &Found, build: &mut Command, manifest: &Path) -> Result<Vec<u8>> {
    // The compiler's messages come by stderr. By stdout come cargo's answers in JSON, which are not for people.
    let output = cargo.run_telling(build, |output| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = String::from_utf8(output.stdout).context("read cargo's answer")?;
    let component = text.lines().filter_map(|line| component_of(line, manifest)).next_back();
    let Some(component) = component else {
        bail!(
            "cargo built no component from {}; a task is a library with `crate-type = [\"cdylib\"]` in [lib]",
            manifest.display()
        );
    };
    read(&component)
}

/// The schema of the task's types, if a source of it names the trait from which it comes.
fn schema(project: &Project, cargo: &Found, component: &[u8]) -> Result<Option<String>> {
    let sources = sources(project)?;
    if !sources.contains("JsonSchema") {
        return Ok(None);
    }
    // Building for it takes as long as building the task: what was made of the same sources stays.
    let inputs = format!("{}\n{}\n", Digest::of(component), Digest::of(sources.as_bytes()));
    let file = scratch(project)?.join("schema");
    if let Ok(kept) = std::fs::read_to_string(&file)
        && let Some(schema) = kept.strip_prefix(&inputs)
    {
        return Ok(Some(schema.to_owned()));
    }
    let mut build = cargo.command();
    build
        .args(["rustc", "--lib", "--release", "--quiet", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        // The attribute `#[task]` makes of the task one that answers with its schema. What is uploaded has nothing of that.
        .args(["--", "--cfg", "wasq_schema"])
        .current_dir(project.folder());
    let component = component_by(cargo, &mut build, &project.folder().join("Cargo.toml"))?;
    let schema = answer(project.name(), component).context("ask the task for the schema of its types")?;
    let writing = file.with_extension("new");
    std::fs::write(&writing, format!("{inputs}{schema}"))
        .and_then(|()| std::fs::rename(&writing, &file))
        .with_context(|| format!("write {}", file.display()))?;
    Ok(Some(schema))
}

/// The texts of the project's own sources.
fn sources(project: &Project) -> Result<String> {
    let (mut texts, mut folders) = (BTreeMap::new(), vec![project.folder().join("src")]);
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                texts.insert(path, text);
            }
        }
    }
    Ok(texts.into_values().collect())
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
