//! The languages: what marks a project of each, and how it becomes a component.

mod go;
mod javascript;
mod native;
mod python;
mod rust;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result};

use crate::project::Project;

/// A language that `wasq build` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// With `wasq-task` and cargo.
    Rust,
    /// By componentize-py.
    Python,
    /// By componentize-js, on SpiderMonkey.
    JavaScript,
    /// As JavaScript, with its types taken off by esbuild.
    TypeScript,
    /// By `zig cc`.
    C,
    /// By `zig c++`.
    Cpp,
    /// By zig.
    Zig,
    /// By Go's own compiler.
    Go,
}

/// What a toolchain made.
pub(crate) enum Made {
    /// A component.
    Component(Vec<u8>),
    /// A core module by the canonical ABI, which is to be wrapped.
    Module(Vec<u8>),
}

/// What a toolchain made, and which it was.
pub(crate) struct Output {
    pub(crate) made: Made,
    /// Such as `zig 0.17.1`.
    pub(crate) toolchain: String,
}

impl Language {
    /// All of them, in the order in which they are named to people.
    pub const ALL: [Self; 8] = [
        Self::Rust,
        Self::Python,
        Self::JavaScript,
        Self::TypeScript,
        Self::Go,
        Self::C,
        Self::Cpp,
        Self::Zig,
    ];

    /// Its name in commands and folders.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
            Self::C => "c",
            Self::Cpp => "cpp",
            Self::Zig => "zig",
            Self::Go => "go",
        }
    }

    /// The file that makes a folder a project of it.
    pub fn mark(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Python => "task.py",
            Self::JavaScript => "task.js",
            Self::TypeScript => "task.ts",
            Self::C => "task.c",
            Self::Cpp => "task.cpp",
            Self::Zig => "task.zig",
            Self::Go => "go.mod",
        }
    }

    /// Where the task is, in a project that `wasq new` made.
    pub fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::Go => "task.go",
            other => other.mark(),
        }
    }

    /// What is to be called once in a new project, if something is.
    pub fn prepare(self) -> Option<&'static str> {
        match self {
            Self::Python => Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
            Self::JavaScript | Self::TypeScript => Some("npm install"),
            _ => None,
        }
    }

    /// Runs its toolchain.
    pub(crate) fn make(self, project: &Project) -> Result<Output> {
        match self {
            Self::Rust => rust::make(project),
            Self::Python => python::make(project),
            Self::JavaScript | Self::TypeScript => javascript::make(project),
            Self::C => native::c(project),
            Self::Cpp => native::cpp(project),
            Self::Zig => native::zig(project),
            Self::Go => go::make(project),
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
            Self::TypeScript => "TypeScript",
            Self::C => "C",
            Self::Cpp => "C++",
            Self::Zig => "Zig",
            Self::Go => "Go",
        })
    }
}

impl FromStr for Language {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let short = match text.to_lowercase().as_str() {
            "js" => "javascript",
            "ts" => "typescript",
            "py" => "python",
            "rs" => "rust",
            "c++" => "cpp",
            other => return find(other).ok_or(format!("one of {names}")),
        };
        find(short).ok_or(format!("one of {names}"))
    }
}

fn find(name: &str) -> Option<Language> {
    Language::ALL.into_iter().find(|language| language.name() == name)
}

/// Where a toolchain may leave what it needs no more.
fn scratch(project: &Project) -> Result<PathBuf> {
    let folder = project.build_folder().join("work");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("read what the toolchain made: {}", path.display()))
}
