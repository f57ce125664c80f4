//! The schema of a project, and what does not fit it.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use wasm_encoder::{ComponentSection, CustomSection};
use wasq_protocol::{Failure, FailureKind};
use wasq_schema::{BYTES_MAX, SECTION, Schema, Schemas};

/// The file of a project's folder that has its schema.
pub(crate) const FILE: &str = "schema.json";

/// Writes the schema of a project's folder into its component, if it has one.
pub(crate) fn embed(folder: &Path, component: &mut Vec<u8>) -> Result<()> {
    let path = folder.join(FILE);
    let content = match std::fs::read(&path) {
        Ok(content) => content,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
    };
    let in_file = |problem| anyhow!("{}: {problem}", path.display());
    // Without its blanks.
    let value: serde_json::Value = serde_json::from_slice(&content).map_err(|e| in_file(e.to_string()))?;
    Schemas::of(&value).map_err(in_file)?;
    let content = value.to_string();
    if content.len() > BYTES_MAX {
        return Err(in_file(format!("it has {} bytes; the most is {BYTES_MAX}", content.len())));
    }
    CustomSection { name: SECTION.into(), data: content.as_bytes().into() }.append_to_component(component);
    Ok(())
}

/// The failure of a message whose params do not fit.
pub fn bad_params(schema: Option<&Schema>, params: &str) -> Option<Failure> {
    let mismatch = schema?.check(params).err()?;
    Some(Failure::new(FailureKind::BadParams, format!("the params do not fit: {mismatch}")))
}
