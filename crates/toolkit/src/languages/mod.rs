//! The toolchains: how the project of each language becomes a component.

mod go;
mod javascript;
mod native;
mod python;
mod rust;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::language::Language;
use crate::project::Project;

/// The product of a toolchain.
pub(crate) enum Made {
    /// A component.
    Component(Vec<u8>),
    /// A core module that uses the canonical ABI, and must be wrapped in a component.
    Module(Vec<u8>),
}

/// Stands before the schema of a task's types in what a toolchain writes.
const SCHEMA_MARK: &str = "wasq:schema ";

/// The schema in the output of a toolchain, if it says one.
fn schema_in(stdout: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stdout);
    text.lines().rev().find_map(|line| line.strip_prefix(SCHEMA_MARK)).map(str::to_owned)
}

/// The product of a toolchain, and the toolchain's name and version.
pub(crate) struct Output {
    pub(crate) made: Made,
    /// The schema that the task's types say, as JSON, if they say one and it was asked for.
    pub(crate) schema: Option<String>,
    /// Such as `zig 0.17.1`.
    pub(crate) toolchain: String,
}

/// Runs the toolchain of a project's language. `with_schema`: also makes the schema of the task's types, where the language has types that
/// say one.
pub(crate) fn make(project: &Project, with_schema: bool) -> Result<Output> {
    match project.language() {
        Language::Rust => rust::make(project, with_schema),
        Language::Python => python::make(project, with_schema),
        Language::JavaScript => javascript::make(project, false),
        Language::TypeScript => javascript::make(project, with_schema),
        Language::C => native::c(project),
        Language::Cpp => native::cpp(project),
        Language::Zig => native::zig(project),
        Language::Go => go::make(project, with_schema),
    }
}

/// The name and version of a language's toolchain on this machine. The error says what is missing, and how to
/// get it.
pub fn toolchain(language: Language) -> Result<String> {
    match language {
        Language::Rust => rust::toolchain(),
        Language::Python => python::toolchain(),
        Language::JavaScript | Language::TypeScript => javascript::toolchain(),
        Language::C | Language::Cpp | Language::Zig => native::toolchain(),
        Language::Go => go::toolchain(),
    }
}

/// The folder for a toolchain's intermediate files.
fn scratch(project: &Project) -> Result<PathBuf> {
    let folder = project.build_folder().join("work");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read what the toolchain made: {}", path.display()))
}
