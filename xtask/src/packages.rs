//! `cargo xtask packages`: the packages that others would use, built and tried as after an installation. Nothing is published.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::setup::{SDK, cargo, output, pip, root, run, target};

const WHEEL_TOOLS: &str = "build==1.6.1\nhatchling==1.33.0\n";

pub(crate) fn packages() -> Result<()> {
    let folder = target().join("packages");
    // Files of an earlier version would be taken for those of this one.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    crates()?;
    wheel(&folder)?;
    tarball(&folder)
}

/// `wasq-protocol`, and `wasq-task` with its macros.
fn crates() -> Result<()> {
    let publish = |arguments: &[&str]| {
        let mut publish = cargo();
        publish.args(["publish", "--locked", "--dry-run", "--allow-dirty"]).args(arguments);
        publish.arg("--target-dir").arg(target().join("packages-build"));
        run(&mut publish)
    };
    publish(&["--package", "wasq-protocol"])?;
    publish(&["--workspace", "--manifest-path", SDK])
}

/// The Python SDK as a wheel, installed into a new virtual environment.
fn wheel(folder: &Path) -> Result<()> {
    let tools = pip("wheel-tools", WHEEL_TOOLS)?;
    let mut build = Command::new(tools.join("python"));
    build.args(["-m", "build", "--quiet", "--wheel", "--no-isolation", "--outdir"]).arg(folder);
    run(build.arg(root().join("sdk/python")))?;
    let wheel = only(folder, "whl")?;
    let venv = folder.join("venv");
    run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    let python = venv.join("bin/python");
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--no-index", "--disable-pip-version-check"])
        .arg(&wheel))?;
    let names = "import wasq_task; print(*wasq_task.__all__)";
    let exported = output(Command::new(&python).args(["-c", names]))?;
    ensure!(exported.contains("task"), "the wheel exports {exported:?}");
    Ok(())
}

/// The JavaScript SDK as a tarball, installed into a new folder.
fn tarball(folder: &Path) -> Result<()> {
    run(Command::new("npm")
        .args(["pack", "--silent", "--pack-destination"])
        .arg(folder)
        .arg(root().join("sdk/javascript")))?;
    let tarball = only(folder, "tgz")?;
    let project = folder.join("npm");
    std::fs::create_dir_all(&project)?;
    std::fs::write(project.join("package.json"), "{\"private\": true, \"type\": \"module\"}")?;
    let mut install = Command::new("npm");
    install.args(["install", "--silent", "--no-audit", "--no-fund", "--offline", "--prefix"]).arg(&project);
    run(install.arg(&tarball))?;
    // The module itself runs only in a component: it imports what wasq offers.
    let found = "console.log(import.meta.resolve('wasq-task'))";
    let mut node = Command::new("node");
    node.args(["--input-type=module", "--eval", found]);
    let resolved = std::process::Command::output(node.current_dir(&project)).context("run node")?;
    let resolved = String::from_utf8_lossy(&resolved.stdout).trim().to_owned();
    ensure!(resolved.ends_with("node_modules/wasq-task/index.js"), "node resolves wasq-task to {resolved:?}");
    let types = project.join("node_modules/wasq-task/index.d.ts");
    ensure!(types.is_file(), "{} is missing", types.display());
    Ok(())
}

/// The one file of a folder with this extension.
fn only(folder: &Path, extension: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut found = entries.filter_map(|entry| Some(entry.ok()?.path()));
    found
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("there is no .{extension} in {}", folder.display()))
}
