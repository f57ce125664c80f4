//! Python, by componentize-py: an interpreter with the task's modules already loaded.

use anyhow::Result;

use super::{Made, Output, SCHEMA_MARK, read, scratch};
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

pub(super) fn make(project: &Project, with_schema: bool) -> Result<Output> {
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
    let component = read(&component)?;
    let schema = if with_schema { schema_in(&component) } else { None };
    Ok(Output { made: Made::Component(component), schema, toolchain: tool.title() })
}

/// The schema that `wasq_task/component.py` has left in the memory of the component: the mark, a number of bytes, and as many bytes of JSON.
fn schema_in(component: &[u8]) -> Option<String> {
    let mark = SCHEMA_MARK.as_bytes();
    component.windows(mark.len()).enumerate().filter(|(_, bytes)| *bytes == mark).find_map(|(at, _)| {
        let rest = &component[at + mark.len()..];
        let digits = rest.iter().take(10).position(|byte| *byte == b' ')?;
        let bytes: usize = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        let text = std::str::from_utf8(rest.get(digits + 1..)?.get(..bytes)?).ok()?;
        (text.starts_with('{') && text.ends_with('}')).then(|| text.to_owned())
    })
}

/// The task's own traceback. componentize-py puts its own before it, and repeats the error after it.
fn told(stderr: &str) -> String {
    let inner = stderr.split_once("\nAssertionError: ").map_or(stderr, |(_, inner)| inner);
    inner.split_once("\n\nCaused by:").map_or(inner, |(inner, _)| inner).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{schema_in, told};

    #[test]
    fn the_schema_is_found_in_memory() {
        let memory = b"\0wasq:schema is a text\0wasq:schema 99999 {}\0wasq:schema 12 {\"params\":1}rest";
        assert_eq!(schema_in(memory).as_deref(), Some(r#"{"params":1}"#));
        assert_eq!(schema_in(b"nothing"), None);
    }

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
