//! Rust, by cargo.

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
    #[serde(default)]
    target: Target,
}

#[derive(Default, Deserialize)]
struct Target {
    #[serde(default)]
    name: String,
}

/// The result of a command of cargo for a package.
struct Built {
    component: Vec<u8>,
    /// The texts of its sources, and of those of the crates that it has by path. The SDK's are left out.
    sources: String,
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
    let built = built_by(&cargo, &mut build, &manifest)?;
    let schema = if with_schema { schema(project, &cargo, &built)? } else { None };
    let component = built.component;
    Ok(Output { made: Made::Component(component), schema, toolchain: rustc.title() })
}

fn built_by(cargo: &Found, build: &mut Command, manifest: &Path) -> Result<Built> {
    // The compiler's messages come by stderr. By stdout come cargo's answers in JSON, which are not for people.
    let output = cargo.run_telling(build, |output| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let text = String::from_utf8(output.stdout).context("read cargo's answer")?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let (mut component, mut sdk) = (None, None);
    for line in lines.filter(|line| line.reason == "compiler-artifact") {
        if line.target.name == "wasq_task" {
            sdk = line.manifest_path.parent().map(Path::to_owned);
        }
        if line.manifest_path == manifest {
            component = line.filenames.into_iter().rfind(|path| has_extension(path, "wasm")).or(component);
        }
    }
    let Some(component) = component else {
        bail!(
            "cargo built no component from {}; a task is a library with `crate-type = [\"cdylib\"]` in [lib]",
            manifest.display()
        );
    };
    let sources = sources(&component, sdk.as_deref())?;
    Ok(Built { component: read(&component)?, sources })
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|own| own == extension)
}

/// The texts of the sources that cargo names in the file beside a component, in its order. Those in the folder of the SDK are left out.
fn sources(component: &Path, sdk: Option<&Path>) -> Result<String> {
    let file = component.with_extension("d");
    let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
    let mut sources = String::new();
    for path in dependencies(&text) {
        if has_extension(&path, "rs") && !sdk.is_some_and(|sdk| path.starts_with(sdk)) {
            let bytes = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            sources += &String::from_utf8_lossy(&bytes);
        }
    }
    Ok(sources)
}

/// The files after the colon of a rule of make. A space in a name has a backslash before it.
fn dependencies(rule: &str) -> Vec<PathBuf> {
    let Some((_, files)) = rule.lines().next().unwrap_or_default().split_once(": ") else {
        return Vec::new();
    };
    let files = files.replace("\\ ", "\0");
    files.split(' ').filter(|file| !file.is_empty()).map(|file| file.replace('\0', " ").into()).collect()
}

/// The schema of the task's types, if a source of it names the trait from which it comes.
fn schema(project: &Project, cargo: &Found, built: &Built) -> Result<Option<String>> {
    let Built { component, sources } = built;
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
    let Built { component, .. } = built_by(cargo, &mut build, &project.folder().join("Cargo.toml"))?;
    let schema = answer(project.name(), component).context("ask the task for the schema of its types")?;
    let writing = file.with_extension("new");
    std::fs::write(&writing, format!("{inputs}{schema}"))
        .and_then(|()| std::fs::rename(&writing, &file))
        .with_context(|| format!("write {}", file.display()))?;
    Ok(Some(schema))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_a_rule() {
        let rule = "/out/a task.wasm: /src/lib.rs /my\\ types/src/lib.rs\n\n/src/lib.rs:\n";
        assert_eq!(dependencies(rule), [Path::new("/src/lib.rs"), Path::new("/my types/src/lib.rs")]);
        assert!(dependencies("/out/task.wasm:").is_empty());
    }
}
