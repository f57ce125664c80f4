//! The data folder of a stack: who may use it, and where things are in it.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use wasq_protocol::TaskName;

use crate::folder::write_whole;

/// Where a stack keeps its registry.
pub fn registry_path(data: &Path) -> PathBuf {
    data.join("registry")
}

/// Where a running stack writes down how to reach it.
fn address_path(data: &Path) -> PathBuf {
    data.join("dev.json")
}

/// The endpoint and the tasks folder of the stack that last used a data folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LastStack {
    /// Its endpoint. Only a call shows whether the stack still runs.
    pub listen: SocketAddr,
    /// Its tasks folder.
    pub tasks: PathBuf,
    /// The tasks whose projects it builds.
    #[serde(default)]
    pub projects: Vec<TaskName>,
}

impl LastStack {
    /// Reads the entry of the stack that last used this data folder, if there is one.
    pub fn of(data: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(address_path(data)).ok()?;
        serde_json::from_str(&text).ok()
    }

    pub(crate) fn write(&self, data: &Path) -> Result<()> {
        let path = address_path(data);
        let text = serde_json::to_string(self)?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }
}

/// The stacks that run for this user, in a file that commands in any folder can read.
pub struct RunningStacks;

impl RunningStacks {
    /// Adds a stack, by its data folder.
    pub fn add(data: &Path) -> Result<()> {
        let path = running_path().context("neither XDG_STATE_HOME nor HOME is set")?;
        let data = data.canonicalize().with_context(|| format!("find {}", data.display()))?;
        let mut folders = Self::read();
        folders.retain(|folder| *folder != data);
        folders.push(data);
        write_whole(&path, serde_json::to_string(&folders)?.as_bytes())
    }

    /// The data folders of the stacks that still run.
    pub fn read() -> Vec<PathBuf> {
        let text = running_path().and_then(|path| std::fs::read_to_string(path).ok());
        let folders: Vec<PathBuf> =
            text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        folders.into_iter().filter(|data| is_running(data)).collect()
    }
}

/// `$XDG_STATE_HOME/wasq/running.json`, or below `~/.local/state`.
fn running_path() -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "only the environment says where a user's files are")]
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    Some(state.join("wasq/running.json"))
}

/// Whether a stack runs on this data folder.
pub fn is_running(data: &Path) -> bool {
    File::open(data.join("lock")).is_ok_and(|file| file.try_lock_shared().is_err())
}

/// Writes a file that only its owner can read.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).with_context(|| format!("write {}", path.display()))
}

/// The data folder is for its owner alone, because the machine code in it is executed.
pub(crate) fn private_folder(data: &Path) -> Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true).mode(0o700).create(data).with_context(|| format!("create {}", data.display()))?;
    let metadata = std::fs::metadata(data).with_context(|| format!("look at {}", data.display()))?;
    if metadata.mode() & 0o022 != 0 {
        bail!(
            "others may write into the data folder {}, whose machine code is executed: run `chmod 700 {0}`",
            data.display()
        );
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && own != 0 {
        bail!("the data folder {} belongs to another user: name another one by --data", data.display());
    }
    Ok(())
}

/// One process at a time: two consumers would be harmless, two writers of the registry would not.
pub(crate) fn lock(data: &Path) -> Result<File> {
    private_folder(data)?;
    let path = data.join("lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    if file.try_lock().is_err() {
        bail!("{} is in use by another `wasq dev`; stop it, or use another --data folder", data.display());
    }
    Ok(file)
}
