//! `wasq new`: a project for a new task.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
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
}

pub(crate) fn new(args: New, json: bool) -> Result<Ended> {
    let New { folder, lang } = args;
    let project = create(&folder, lang)?;
    let name = project.name();
    if json {
        output::value(&json!({ "task": name, "language": lang.name(), "folder": project.folder() }));
    } else {
        let shown = folder.display();
        let first = match lang.prepare() {
            Some(command) => format!("  (cd {shown} && {command})\n"),
            None => String::new(),
        };
        output::text(&format!(
            "{shown} is a task in {lang}: {}, with tests.toml and {name}.toml (its settings). Go on with\n\
             {first}  \
             wasq test {shown}    # builds it, and runs its tests\n  \
             wasq dev {shown}    # runs the whole system here; builds and publishes it on every save\n  \
             wasq enqueue {name} --params '{{\"name\": \"Ada\"}}' --wait    # in another terminal\n",
            lang.source(),
        ));
    }
    Ok(Ended::Well)
}
