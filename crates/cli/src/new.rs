//! `wasq new`: a project for a new task.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use wasq_toolkit::{Language, create};

use crate::output::{self, Ended};

#[derive(Debug, clap::Args)]
pub(crate) struct New {
    /// The project's folder; the task gets the folder's name
    #[arg(value_name = "NAME")]
    pub(crate) folder: PathBuf,
    /// rust, python, javascript, typescript, go, c, cpp or zig
    #[arg(long, value_name = "LANGUAGE")]
    pub(crate) lang: Language,
    /// Begin with types for the params and the result of this schema: a JSON Schema of the params, or a file such as schema.json with the keys
    /// params and result. For rust, python and typescript
    #[arg(long, value_name = "FILE")]
    pub(crate) from_schema: Option<PathBuf>,
}

pub(crate) fn new(args: New, json: bool) -> Result<Ended> {
    let New { folder, lang, from_schema } = args;
    let schema = from_schema.as_deref().map(read_schema).transpose()?;
    let project = create(&folder, lang, schema.as_ref())?;
    let name = project.name();
    if json {
        output::value(&json!({ "task": name, "language": lang.name(), "folder": project.folder() }));
    } else {
        let shown = folder.display();
        let params = if schema.is_some() { "..." } else { r#"{"name": "Ada"}"# };
        let first = match lang.prepare() {
            Some(command) => format!("  (cd {shown} && {command})\n"),
            None => String::new(),
        };
        output::text(&format!(
            "{shown} is a task in {lang}: {}, with tests.toml and {name}.toml (its settings). Go on with\n\
             {first}  \
             wasq test {shown}    # builds it, and runs its tests\n  \
             wasq dev {shown}    # runs the whole system here; builds and publishes it on every save\n  \
             wasq enqueue {name} --params '{params}' --wait    # in another terminal\n",
            lang.source(),
        ));
    }
    Ok(Ended::Well)
}

/// Reads a schema of params, or of params and result.
fn read_schema(path: &Path) -> Result<Value> {
    let reading = || format!("read {}", path.display());
    let text = std::fs::read_to_string(path).with_context(reading)?;
    let schema: Value = serde_json::from_str(&text).with_context(reading)?;
    let is_both = schema
        .as_object()
        .is_some_and(|map| map.keys().all(|key| ["params", "result"].contains(&key.as_str())));
    Ok(if is_both { schema } else { json!({ "params": schema }) })
}
