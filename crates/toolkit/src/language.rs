//! The languages that `wasq build` knows, and the file that marks a project of each.

use std::fmt;
use std::str::FromStr;

/// A language that `wasq build` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// With `wasq-task` and cargo.
    Rust,
    /// By componentize-py.
    Python,
    /// By componentize-js, on SpiderMonkey.
    JavaScript,
    /// Like JavaScript; esbuild removes the types.
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

impl Language {
    /// All languages, in the order in which messages name them.
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

    /// The file that marks a folder as a project of this language.
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

    /// The task's source file, in a project that `wasq new` made.
    pub fn source(self) -> &'static str {
        match self {
            Self::Rust => "src/lib.rs",
            Self::Go => "task.go",
            other => other.mark(),
        }
    }

    /// The command to run once in a new project, if there is one.
    pub fn prepare(self) -> Option<&'static str> {
        match self {
            Self::Python => Some("python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"),
            Self::JavaScript | Self::TypeScript => Some("npm install"),
            _ => None,
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
