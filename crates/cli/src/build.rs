//! `wasq build`: from sources to a component.

use std::path::{Path, PathBuf};

use anyhow::Result;
use serde_json::json;
use wasq_toolkit::{Built, Project};

use crate::output::{self, Ended, Progress};

#[derive(Debug, clap::Args)]
pub(crate) struct Build {
    /// The project's folder
    #[arg(default_value = ".", value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

pub(crate) fn build(args: Build, json: bool) -> Result<Ended> {
    let project = Project::open(&args.folder)?;
    let built = make(&project)?;
    let Built { component, settings, bytes, toolchain } = &built;
    if json {
        output::value(&json!({
            "task": project.name(),
            "language": project.language().name(),
            "toolchain": toolchain,
            "component": component,
            "settings": settings,
            "bytes": bytes,
        }));
    } else {
        let shown = shown(component);
        output::text(&format!("{shown}  {}, by {toolchain}\n", output::size(*bytes)));
    }
    Ok(Ended::Well)
}

/// Builds a project, and reports progress on stderr while the build runs.
pub(crate) fn make(project: &Project) -> Result<Built> {
    let building = Progress::start(format!("building {} ({})", project.name(), project.language()));
    let built = wasq_toolkit::build(project);
    drop(building);
    built
}

/// The path, relative to the current folder if it is inside that folder.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
