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

/// The product of a toolchain, and the toolchain's name and version.
pub(crate) struct Output {
    pub(crate) made: Made,
    /// Such as `zig 0.17.1`.
    pub(crate) toolchain: String,
}

/// Runs the toolchain of a project's language.
pub(crate) fn make(project: &Project) -> Result<Output> {
    match project.language() {
        Language::Rust => rust::make(project),
        Language::Python => python::make(project),
        Language::JavaScript | Language::TypeScript => javascript::make(project),
        Language::C => native::c(project),
        Language::Cpp => native::cpp(project),
        Language::Zig => native::zig(project),
        Language::Go => go::make(project),
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
