//! `cargo xtask dist`: the files of a release. The three Lambda functions as zips, and `wasq` in an archive
//! with all of them, for arm64 and x86_64.
//!
//! zig links them against the C library of Amazon Linux 2023, not against the one of this machine. The same
//! sources give the same bytes, in any folder.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::setup::{add_target, cargo, cargo_tool, output, pip, root, run, target};

/// The names of an architecture: Lambda's and Rust's.
const ARCHITECTURES: [(&str, &str); 2] =
    [("arm64", "aarch64-unknown-linux-gnu"), ("x86_64", "x86_64-unknown-linux-gnu")];
/// The C library of `provided.al2023`.
const GLIBC: &str = "2.34";
/// The functions' binaries and packages. Each is built by itself: if they were built together, cargo would
/// give the worker the publisher's compiler.
const FUNCTIONS: [(&str, &str); 3] = [
    ("wasq-worker", "wasq-runtime"),
    ("wasq-consumer", "wasq-consumer"),
    ("wasq-publisher", "wasq-publisher"),
];
/// The file with the checksums of a release.
const SUMS: &str = "SHA256SUMS";
const CYCLONEDX: &str = "0.5.9";
const TOOLS: &str = "cargo-zigbuild==0.24.0\nziglang==0.17.1\n";

pub(crate) fn dist(args: &[String]) -> Result<()> {
    let chosen: Vec<_> = match args {
        [] => ARCHITECTURES.to_vec(),
        [flag, wanted] if flag == "--arch" => {
            ARCHITECTURES.into_iter().filter(|(name, _)| name == wanted).collect()
        }
        _ => bail!("expected nothing, or --arch arm64 or --arch x86_64"),
    };
    ensure!(!chosen.is_empty(), "--arch: expected arm64 or x86_64");
    let tools = pip("dist-tools", TOOLS)?;
    // Only files of this run belong to the release.
    let _ = std::fs::remove_dir_all(target().join("dist/release"));
    let mut made = Vec::new();
    for (architecture, triple) in &chosen {
        add_target(triple)?;
        let folder = target().join("dist").join(architecture);
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        for (binary, package) in FUNCTIONS {
            let built = build(&tools, triple, package, binary)?;
            made.push(package_function(&built, &folder.join(format!("{binary}.zip")))?);
        }
    }
    let commands = chosen.iter().map(|(_, triple)| build(&tools, triple, "wasq-cli", "wasq"));
    let commands: Vec<_> = commands.collect::<Result<_>>()?;
    man_pages(&chosen, &commands)?;
    for ((architecture, _), wasq) in chosen.iter().zip(&commands) {
        made.push(release(wasq, architecture, &chosen)?);
    }
    let release = target().join("dist/release");
    made.extend(publishable(&release)?);
    println!();
    for path in made {
        let bytes = std::fs::metadata(&path)?.len();
        let shown = path.strip_prefix(root()).unwrap_or(&path).display();
        println!("{shown:<52} {:>6.2} MB  sha256 {}", bytes as f64 / 1e6, sha256(&path)?);
    }
    Ok(())
}

/// Lets `wasq` write its man pages: the one for this machine if it was built, otherwise one that cargo builds.
fn man_pages(chosen: &[(&str, &str)], commands: &[PathBuf]) -> Result<()> {
    let folder = target().join("dist/man");
    let _ = std::fs::remove_dir_all(&folder);
    let here = chosen.iter().position(|(_, triple)| triple.starts_with(std::env::consts::ARCH));
    let mut write = match here {
        Some(at) => Command::new(&commands[at]),
        None => {
            let mut cargo = cargo();
            cargo.args(["run", "--quiet", "--locked", "--package", "wasq-cli", "--"]);
            cargo
        }
    };
    run(write.args(["completions", "--man"]).arg(&folder))
}

fn sha256(path: &Path) -> Result<String> {
    let line = output(Command::new("sha256sum").arg(path))?;
    Ok(line.split(' ').next().unwrap_or_default().to_owned())
}

/// Completes the folder of a release, which has the archives: adds a bill of materials (CycloneDX) and the checksums of
/// all files. Returns the new files.
fn publishable(release: &Path) -> Result<Vec<PathBuf>> {
    let version = env!("CARGO_PKG_VERSION");
    let bill = release.join(format!("wasq-{version}.cdx.json"));
    let name = format!("wasq-{version}-sbom");
    let cyclonedx = cargo_tool("cargo-cyclonedx", CYCLONEDX, "cargo-cyclonedx")?;
    let manifest = root().join("crates/cli/Cargo.toml");
    let mut make = Command::new(cyclonedx);
    make.args(["cyclonedx", "--format", "json", "--override-filename", &name, "--manifest-path"])
        .arg(&manifest);
    run(&mut make)?;
    // It writes next to each manifest of the workspace. That of the command has all that the archives link.
    let mut written = Vec::new();
    for folder in manifests()? {
        let file = folder.join(format!("{name}.json"));
        if file.is_file() {
            written.push(file);
        }
    }
    std::fs::copy(root().join("crates/cli").join(format!("{name}.json")), &bill)
        .context("find the bill of materials")?;
    for file in written {
        std::fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    let mut files: Vec<_> =
        std::fs::read_dir(release)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| path.file_name() != Some(SUMS.as_ref()));
    files.sort();
    let mut sums = String::new();
    for file in files {
        let name = file.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        sums += &format!("{}  {name}\n", sha256(&file)?);
    }
    let path = release.join(SUMS);
    std::fs::write(&path, sums).with_context(|| format!("write {}", path.display()))?;
    Ok(vec![bill, path])
}

/// The folders of the workspace's packages.
fn manifests() -> Result<Vec<PathBuf>> {
    let metadata = output(cargo().args(["metadata", "--locked", "--no-deps", "--format-version", "1"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let packages = metadata["packages"].as_array().context("cargo lists no packages")?;
    let manifests = packages.iter().filter_map(|package| package["manifest_path"].as_str());
    Ok(manifests.filter_map(|manifest| Path::new(manifest).parent()).map(Path::to_owned).collect())
}

fn build(tools: &Path, triple: &str, package: &str, binary: &str) -> Result<PathBuf> {
    // Without these flags the messages of panics would contain paths of this machine.
    let home = env("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env("HOME").map(|home| Path::new(&home).join(".cargo")));
    let home = home.context("neither CARGO_HOME nor HOME is set")?;
    let flags = [(root(), "/wasq"), (home, "/cargo")]
        .map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display()));
    let path = env("PATH").unwrap_or_default();
    let folder = target().join("dist-build");
    let mut build = cargo();
    build
        .args(["zigbuild", "--locked", "--release", "--package", package, "--bin", binary])
        .args(["--target", &format!("{triple}.{GLIBC}")])
        .arg("--target-dir")
        .arg(&folder)
        .env("PATH", format!("{}:{path}", tools.display()))
        .env("RUSTFLAGS", flags.join(" "));
    run(&mut build)?;
    Ok(folder.join(triple).join("release").join(binary))
}

#[allow(clippy::disallowed_methods, reason = "these are cargo's own variables")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Packs a function as Lambda expects it: an executable file `bootstrap`, with a fixed modification time.
pub(crate) fn package_function(binary: &Path, zip: &Path) -> Result<PathBuf> {
    let bytes = std::fs::read(binary).with_context(|| format!("read {}", binary.display()))?;
    let mut writer = ZipWriter::new(File::create(zip).with_context(|| format!("create {}", zip.display()))?);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(9))
        .last_modified_time(DateTime::default())
        .unix_permissions(0o755);
    writer.start_file("bootstrap", options)?;
    writer.write_all(&bytes)?;
    writer.finish()?;
    Ok(zip.to_owned())
}

/// Makes an archive of `wasq` for one architecture and of the functions, which `wasq deploy` finds after
/// unpacking.
fn release(wasq: &Path, architecture: &str, functions: &[(&str, &str)]) -> Result<PathBuf> {
    let dist = target().join("dist");
    let name = format!("wasq-{}-linux-{architecture}", env!("CARGO_PKG_VERSION"));
    let staged = dist.join("staged");
    let folder = staged.join(&name);
    // No file of an earlier run may get into the archive.
    let _ = std::fs::remove_dir_all(&staged);
    for (architecture, _) in functions {
        let beside = folder.join("functions").join(architecture);
        std::fs::create_dir_all(&beside).with_context(|| format!("create {}", beside.display()))?;
        for (binary, _) in FUNCTIONS {
            let zip = format!("{binary}.zip");
            std::fs::copy(dist.join(architecture).join(&zip), beside.join(&zip))?;
        }
    }
    let man = folder.join("man/man1");
    std::fs::create_dir_all(&man).with_context(|| format!("create {}", man.display()))?;
    let pages = dist.join("man");
    for page in std::fs::read_dir(&pages).with_context(|| format!("read {}", pages.display()))? {
        let page = page.with_context(|| format!("read {}", pages.display()))?.path();
        let name = page.file_name().context("a file has a name")?;
        std::fs::copy(&page, man.join(name)).with_context(|| format!("copy {}", page.display()))?;
    }
    std::fs::copy(wasq, folder.join("wasq")).with_context(|| format!("copy {}", wasq.display()))?;
    for beside in
        ["LICENSE", "docs/operating.md", "deploy/deployer-policy.json", "deploy/boundary-policy.json"]
    {
        let beside = root().join(beside);
        let name = beside.file_name().context("a file has a name")?;
        std::fs::copy(&beside, folder.join(name)).with_context(|| format!("copy {}", beside.display()))?;
    }
    let tar = Command::new("tar")
        .args(["--create", "--sort=name", "--format=gnu", "--mtime=@0"])
        .args(["--owner=0", "--group=0", "--numeric-owner", "--mode=u=rwX,go=rX"])
        .arg("--directory")
        .arg(&staged)
        .arg(&name)
        .output()
        .context("run tar")?;
    ensure!(tar.status.success(), "tar: {}", String::from_utf8_lossy(&tar.stderr));
    let release = dist.join("release");
    std::fs::create_dir_all(&release).with_context(|| format!("create {}", release.display()))?;
    let archive = release.join(format!("{name}.tar.gz"));
    let mut gzip = Command::new("gzip")
        .args(["--no-name", "--best"])
        .stdin(std::process::Stdio::piped())
        .stdout(File::create(&archive).with_context(|| format!("create {}", archive.display()))?)
        .spawn()
        .context("run gzip")?;
    gzip.stdin.take().context("gzip reads its stdin")?.write_all(&tar.stdout)?;
    ensure!(gzip.wait()?.success(), "gzip failed");
    std::fs::remove_dir_all(&staged)?;
    Ok(archive)
}
