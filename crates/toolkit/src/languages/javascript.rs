//! JavaScript and TypeScript: esbuild puts the task and its imports into one file, and componentize-js makes
//! a component of that file.

use anyhow::{Context, Result, bail};

use super::{Made, Output, read, schema_in, scratch};
use crate::project::Project;
use crate::sdk;
use crate::tool::Tool;

const NODE: Tool = Tool {
    name: "node",
    calls: &[&["node"]],
    version: &["--version"],
    oldest: &[20, 0],
    install: "get it from https://nodejs.org (20 or later)",
};

/// componentize-js uses the shim but does not name it among its own packages, so npm may put it anywhere.
const PACKAGES: [&str; 4] =
    ["@bytecodealliance/componentize-js", "@bytecodealliance/preview2-shim", "esbuild", "oxc-parser"];

pub(super) fn toolchain() -> Result<String> {
    Ok(NODE.find(&[])?.title())
}

pub(super) fn make(project: &Project, with_schema: bool) -> Result<Output> {
    let node = NODE.find(&[])?;
    for package in PACKAGES {
        let mut folders = project.folder().ancestors();
        if !folders.any(|folder| folder.join("node_modules").join(package).is_dir()) {
            bail!(
                "the package {package} is needed, and is not there; run `npm install` in {} (package.json must name it, as \
                 the one that `wasq new` makes does)",
                project.folder().display()
            );
        }
    }
    let component = scratch(project)?.join("component.wasm");
    let sdk = sdk::folder(project, "javascript");
    let output = node.run(
        node.command()
            .arg(sdk.join("componentize.mjs"))
            .arg(project.language().mark())
            .arg(sdk.join("wit"))
            .arg(&component)
            .args(with_schema.then_some("--schema"))
            .current_dir(project.folder()),
    )?;
    // The last line of the output names the toolchain.
    let schema = schema_in(&output.stdout);
    let said = String::from_utf8(output.stdout).context("read what node says")?;
    let toolchain = said.lines().last().unwrap_or_default().to_owned();
    Ok(Output { made: Made::Component(read(&component)?), schema, toolchain })
}
