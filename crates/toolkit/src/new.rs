//! `wasq new`: a project that builds, tests and runs at once.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use wasq_protocol::TaskName;
use wasq_schema::Schemas;

use crate::language::Language;
use crate::project::{Project, free_name};
use crate::schema::FILE;
use crate::sdk;
use crate::types::{cases, source};

/// The tests are the same in every language.
const TESTS: &str = include_str!("../templates/tests.toml");
const SETTINGS: &str = include_str!("../templates/settings.toml");
const GITIGNORE: &str = "/build\n/target\n/node_modules\n/.venv\n__pycache__/\n";

/// Makes a project in a new folder, or in one that is empty. With a schema, the content of `schema.json`, the task has types for its params.
pub fn create(folder: &Path, language: Language, schema: Option<&Value>) -> Result<Project> {
    let shown = folder.display();
    // The folder `.` has a name only as an absolute path.
    let absolute = std::path::absolute(folder).with_context(|| format!("find {shown}"))?;
    let name = absolute.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name: TaskName = name.parse().with_context(|| format!("{shown}: the folder's name is the task's"))?;
    free_name(&name)?;
    let of_schema = match schema {
        None => None,
        Some(schema) => {
            Schemas::of(schema).map_err(|problem| anyhow!("the schema: {problem}"))?;
            let source = source(&name, schema, language).with_context(|| {
                format!("there are no types for params in {language}; take rust, python or typescript, or write {FILE} into the project")
            })?;
            Some((source, cases(schema), serde_json::to_string_pretty(schema)? + "\n"))
        }
    };
    match std::fs::read_dir(folder) {
        Ok(mut entries) => {
            if entries.next().is_some() {
                bail!("{shown} is there already, and not empty; take another name, or empty it first");
            }
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(folder).with_context(|| format!("create {shown}"))?;
        }
        Err(e) => return Err(e).with_context(|| format!("create {shown}")),
    }
    let settings = format!("{name}.toml");
    let shared = [(settings.as_str(), SETTINGS), ("tests.toml", TESTS), (".gitignore", GITIGNORE)];
    // Packages have stricter names than tasks.
    let package = package_name(&name);
    let mut files: Vec<_> = sdk::template(language).iter().copied().chain(shared).collect();
    if let Some((source, cases, schema)) = &of_schema {
        files.retain(|(path, _)| *path != language.source() && *path != "tests.toml");
        files.extend([(language.source(), source.as_str()), ("tests.toml", cases), (FILE, schema)]);
    }
    for (path, text) in files {
        let path = folder.join(path);
        let within = path.parent().context("a file lies in a folder")?;
        std::fs::create_dir_all(within).with_context(|| format!("create {}", within.display()))?;
        let text = text.replace("TASK_NAME", name.as_str()).replace("PACKAGE_NAME", &package);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let project = Project::open(folder)?;
    // The editor and the language's own tools find the SDK at once.
    sdk::write(&project)?;
    Ok(project)
}

/// A name that every language's packages may have: lower-case letters, digits and `-`, with a letter in front.
fn package_name(name: &TaskName) -> String {
    let name: String = name
        .as_str()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .collect();
    let name = name.trim_matches('-');
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name.to_owned() } else { format!("task-{name}") }
}

#[cfg(test)]
mod tests {
    use super::package_name;

    #[test]
    fn packages_have_stricter_names_than_tasks() {
        for (task, package) in
            [("hello", "hello"), ("Git_Hub.2", "git-hub-2"), ("2nd", "task-2nd"), ("_x_", "x")]
        {
            assert_eq!(package_name(&task.parse().unwrap()), package);
        }
    }
}
