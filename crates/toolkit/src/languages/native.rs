//! C, C++ and Zig: zig builds all three, and needs no other tool.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{Made, Output, read, scratch};
use crate::project::Project;
use crate::sdk;
use crate::tool::Tool;

const ZIG: Tool = Tool {
    name: "zig",
    calls: &[&["zig"], &["python-zig"], &["python3", "-m", "ziglang"]],
    version: &["version"],
    oldest: &[0, 17],
    install: "get it by `pip install ziglang==0.17.1`, or from https://ziglang.org/download",
};

pub(super) fn toolchain() -> Result<String> {
    Ok(ZIG.find(&[])?.title())
}

/// The size of the stack, 256 KiB. The stack lies in the task's memory, and a run pays only for the part that
/// it touches.
const STACK: &str = "262144";

pub(super) fn c(project: &Project) -> Result<Output> {
    compile(project, "cc", "c", &["-std=c17"])
}

pub(super) fn cpp(project: &Project) -> Result<Output> {
    // WebAssembly from zig has no exceptions: errors are values.
    compile(project, "c++", "cpp", &["-std=c++23", "-fno-exceptions", "-fno-rtti"])
}

fn compile(project: &Project, compiler: &str, extension: &str, options: &[&str]) -> Result<Output> {
    let zig = ZIG.find(&[])?;
    let sdk = sdk::folder(project, "c");
    let folder = scratch(project)?;
    let module = folder.join("module.wasm");
    // The SDK is written in C, for tasks in C++ as well.
    let mut objects = Vec::new();
    for source in ["wasq_task.c", "wasq_json.c"] {
        let object = folder.join(source).with_extension("o");
        zig.run(
            zig.command()
                .args(["cc", "-target", "wasm32-wasi", "-std=c17", "-Os", "-c"])
                .arg(sdk.join(source))
                .arg("-o")
                .arg(&object),
        )?;
        objects.push(object);
    }
    zig.run(
        zig.command()
            .args([
                compiler,
                "-target",
                "wasm32-wasi",
                "-mexec-model=reactor",
                "-Os",
                "-s",
                "-Wall",
                "-Wextra",
            ])
            .arg(format!("-Wl,-z,stack-size={STACK}"))
            .args(options)
            .arg("-I")
            .arg(&sdk)
            .arg("-I")
            .arg(sdk::folder(project, "cpp"))
            .args(sources(project.folder(), extension)?)
            .args(objects)
            .arg("-o")
            .arg(&module)
            .current_dir(project.folder()),
    )?;
    Ok(Output { made: Made::Module(read(&module)?), schema: None, toolchain: zig.title() })
}

/// The sources in the project's folder and in its `src`, relative to it, so that messages name them as people do.
fn sources(project: &Path, extension: &str) -> Result<Vec<PathBuf>> {
    let mut sources = Vec::new();
    for within in ["", "src"] {
        let Ok(entries) = std::fs::read_dir(project.join(within)) else { continue };
        for entry in entries {
            let name = entry.context("read the project's folder")?.file_name();
            let path = Path::new(within).join(name);
            if path.extension() == Some(OsStr::new(extension)) {
                sources.push(path);
            }
        }
    }
    sources.sort();
    Ok(sources)
}

pub(super) fn zig(project: &Project) -> Result<Output> {
    let zig = ZIG.find(&[])?;
    let folder = scratch(project)?;
    let module = folder.join("module.wasm");
    let sdk = sdk::folder(project, "zig");
    zig.run(
        zig.command()
            .args([
                "build-exe",
                "-target",
                "wasm32-wasi",
                "-fno-entry",
                "-rdynamic",
                "-OReleaseSafe",
                "-fstrip",
            ])
            .args(["--stack", STACK, "--dep", "wasq_task", "-Mroot=task.zig"])
            .arg(format!("-Mwasq_task={}", sdk.join("wasq_task.zig").display()))
            .arg(format!("-femit-bin={}", module.display()))
            .arg("--cache-dir")
            .arg(folder.join("zig-cache"))
            .current_dir(project.folder()),
    )?;
    Ok(Output { made: Made::Module(read(&module)?), schema: None, toolchain: zig.title() })
}
