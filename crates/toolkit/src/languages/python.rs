//! Python, by componentize-py: an interpreter with the task's modules already loaded.

use anyhow::Result;

use super::{Made, Output, read, scratch};
use crate::project::Project;
use crate::sdk;
use crate::tool::Tool;

const COMPONENTIZE_PY: Tool = Tool {
    name: "componentize-py",
    calls: &[&["componentize-py"]],
    version: &["--version"],
    oldest: &[0, 25],
    install: "get it by `pip install componentize-py==0.25.1`",
};

/// Virtual environments by their usual names: their packages go into the component.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

pub(super) fn make(project: &Project) -> Result<Output> {
    let environments = ENVIRONMENTS.map(|name| project.folder().join(name));
    let tool = COMPONENTIZE_PY.find(&environments.clone().map(|folder| folder.join("bin")))?;
    let component = scratch(project)?.join("component.wasm");
    let mut making = tool.command();
    making
        .arg("--wit-path")
        .arg(sdk::wit_folder(project))
        // The default name of the world's module would be the name of the task's own module.
        .args([
            "--world",
            "task",
            "--world-module",
            "wasq_world",
            "--quiet",
            "componentize",
            "wasq_task.component",
        ])
        .arg("--python-path")
        .arg(sdk::folder(project, "python"))
        .args(["--python-path", "."])
        .arg("--output")
        .arg(&component)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .current_dir(project.folder());
    if let Some(environment) = environments.iter().find(|folder| folder.is_dir()) {
        making.env("VIRTUAL_ENV", environment);
    }
    tool.run(&mut making)?;
    Ok(Output { made: Made::Component(read(&component)?), toolchain: tool.title() })
}
