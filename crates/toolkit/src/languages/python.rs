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
    install: "install the project's packages: `python3 -m venv .venv && .venv/bin/pip install -r requirements.txt`, in the \
              project's folder",
};

/// Virtual environments by their usual names: their packages go into the component.
const ENVIRONMENTS: [&str; 2] = [".venv", "venv"];

pub(super) fn toolchain() -> Result<String> {
    Ok(COMPONENTIZE_PY.find(&[])?.title())
}

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
    tool.run_telling(&mut making, |output| told(&String::from_utf8_lossy(&output.stderr)))?;
    Ok(Output { made: Made::Component(read(&component)?), toolchain: tool.title() })
}

/// The task's own traceback. componentize-py puts its own before it, and repeats the error after it.
fn told(stderr: &str) -> String {
    let inner = stderr.split_once("\nAssertionError: ").map_or(stderr, |(_, inner)| inner);
    inner.split_once("\n\nCaused by:").map_or(inner, |(inner, _)| inner).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn only_the_tasks_own_traceback_is_told() {
        let stderr = "Traceback (most recent call last):\n  File \"componentize-py\", line 8\nAssertionError: Traceback (most \
                      recent call last):\n  File \"/1/task.py\", line 4\nNameError: x\n\n\nCaused by:\n    NameError: x\n";
        assert_eq!(
            told(stderr),
            "Traceback (most recent call last):\n  File \"/1/task.py\", line 4\nNameError: x"
        );
        assert_eq!(told("error: no such option\n"), "error: no such option");
    }
}
