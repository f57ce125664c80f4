//! `wasq build`: from sources to a component.

use std::path::Path;

use anyhow::Result;
use serde_json::json;
use wasq_toolkit::{Built, Project};

use crate::args::Build;
use crate::output::{self, Ended, Progress};

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
        output::text(&format!("{shown}  {:.2} MB, by {toolchain}\n", *bytes as f64 / 1e6));
    }
    Ok(Ended::Well)
}

/// Builds a project, and says so while it takes.
pub(crate) fn make(project: &Project) -> Result<Built> {
    let building = Progress::start(format!("building {} ({})", project.name(), project.language()));
    let built = wasq_toolkit::build(project);
    drop(building);
    built
}

/// A path as short as it can be said here.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(here).unwrap_or(path).display().to_string()
}
