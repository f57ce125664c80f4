//! Folders as buckets: the tasks folder, and the registry.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, MutexGuard, PoisonError};

use anyhow::{Context, Result};
#[cfg(target_os = "linux")]
use rustix::fs::ResolveFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::Mutex;
use wasq_protocol::{Artifact, Digest, Fingerprint, LiveRecord, Rejection, SystemClock, TaskName};
use wasq_publisher::{Bucket, Condition, Object, Publisher, PublisherPorts, Put, Upload, Uploads, Wasm};
use wasq_runtime::{ArtifactError, CheckedArtifact, Checks, Registry};

use crate::secrets::LocalSecrets;
use crate::timer::LocalTimer;

/// A folder as a bucket: each key a file.
#[derive(Clone)]
pub(crate) struct Folder {
    root: PathBuf,
    /// Held while a condition is checked and the write made: this process is the only writer.
    writing: Arc<Mutex<()>>,
}

/// Tells whether a file was replaced: every write makes a new one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    inode: u64,
    bytes: u64,
    /// When it was changed, in seconds and nanoseconds.
    changed: (i64, i64),
}

impl Folder {
    pub(crate) fn new(root: PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&root).with_context(|| format!("create {}", root.display()))?;
        Ok(Self { root, writing: Arc::default() })
    }

    fn read(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(key);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
        }
    }

    /// The stamp of a file that is there.
    fn stamp(&self, key: &str) -> Result<Option<Stamp>> {
        let path = self.root.join(key);
        match std::fs::metadata(&path) {
            Ok(file) => {
                let changed = (file.ctime(), file.ctime_nsec());
                Ok(Some(Stamp { inode: file.ino(), bytes: file.len(), changed }))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
        }
    }

    /// The tasks whose live records are here.
    pub(crate) fn live_tasks(&self) -> Result<Vec<TaskName>> {
        let path = self.root.join("live");
        let entries = match std::fs::read_dir(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| format!("read {}", path.display()))?,
        };
        let names = entries.filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_suffix(".json")?.parse().ok()
        });
        Ok(names.collect())
    }
}

/// Writes a file whole: nobody reads half of it, not even after a power cut. Makes its folder if it is missing.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().context("the path names a file in a folder")?;
    let write = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        // As any other file: the umask says who may read it.
        let permissions = Permissions::from_mode(0o666);
        let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        std::fs::File::open(folder)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))
}

impl Uploads for Folder {
    async fn upload(&self, key: &str, bytes_max: u64) -> Result<Upload> {
        let path = self.root.join(key);
        let read = move || read_upload(&path, bytes_max);
        tokio::task::spawn_blocking(read).await.context("read an upload")?
    }

    async fn etag(&self, _: &str) -> Result<Option<String>> {
        // A task is published by one publisher at a time (`watch.rs`).
        Ok(None)
    }
}

/// Reads a file that anybody may have put there: only a regular file, that lies in its folder, and not more of it than
/// allowed.
fn read_upload(path: &Path, bytes_max: u64) -> Result<Upload> {
    let what = || format!("read {}", path.display());
    let file = match open_upload(path) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(Upload::Absent),
        // It leads out of the folder, or links were not to be followed, or lead in a circle.
        Err(Errno::XDEV | Errno::LOOP) => {
            let why = "it is a link that leads out of the tasks folder: copy the file";
            return Ok(Upload::Refused(why.to_owned()));
        }
        // A socket, or a device without a driver.
        Err(Errno::NXIO) => return Ok(Upload::Refused(NO_FILE.to_owned())),
        Err(e) => return Err(e).with_context(what),
    };
    if !file.metadata().with_context(what)?.is_file() {
        return Ok(Upload::Refused(NO_FILE.to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(bytes_max + 1).read_to_end(&mut bytes).with_context(what)?;
    if bytes.len() as u64 > bytes_max {
        return Ok(Upload::too_large(bytes_max));
    }
    Ok(Upload::Whole { bytes, etag: None })
}

const NO_FILE: &str = "it is no regular file";
/// Opens a file without waiting for it, and without following links out of its folder.
fn open_upload(path: &Path) -> rustix::io::Result<OwnedFd> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default();
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        let folder = rustix::fs::open(folder, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        match rustix::fs::openat2(&folder, name, flags, Mode::empty(), ResolveFlags::BENEATH) {
            // The kernel, or a sandbox around this process, does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => {}
            opened => return opened,
        }
    }
    rustix::fs::open(folder.join(name), flags | OFlags::NOFOLLOW, Mode::empty())
}

impl Bucket for Folder {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let bytes = self.read(key)?;
        Ok(bytes.map(|bytes| Object { tag: Digest::of(&bytes).to_string(), bytes }))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Put> {
        let _writing = self.writing.lock().await;
        let tag = || Ok::<_, anyhow::Error>(self.read(key)?.map(|bytes| Digest::of(&bytes).to_string()));
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => tag()?.is_none(),
            Condition::Unchanged(expected) => tag()? == Some(expected),
        };
        if !holds {
            return Ok(Put::Conflict);
        }
        write_whole(&self.root.join(key), &bytes)?;
        Ok(Put::Done)
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.root.join(key);
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| format!("delete {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// The publisher of the single-machine stack.
pub(crate) type FolderPublisher = Publisher<Folders>;

/// The kinds of the publisher's ports on this machine.
pub(crate) struct Folders;

impl PublisherPorts for Folders {
    type Tasks = Folder;
    type Registry = Folder;
    type SecretStore = LocalSecrets;
    type Compiler = Wasm;
    type Scheduler = LocalTimer;
    type Clock = SystemClock;
}

/// Live records, with the stamps of their files.
type Records = HashMap<TaskName, (Stamp, Arc<LiveRecord>)>;

/// The registry folder, as the worker reads it.
pub(crate) struct FolderRegistry {
    pub(crate) folder: Folder,
    pub(crate) checks: Checks,
    pub(crate) publisher: Arc<FolderPublisher>,
    /// The tasks whose projects `wasq dev` builds.
    pub(crate) projects: HashSet<TaskName>,
    /// The live records that were read last.
    pub(crate) records: Arc<std::sync::Mutex<Records>>,
    /// The tasks that are being compiled again.
    pub(crate) compiling: Arc<Mutex<HashSet<TaskName>>>,
}

impl FolderRegistry {
    fn records(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for FolderRegistry {
    type Artifact = CheckedArtifact;

    async fn live(&self, task: &TaskName) -> Result<Option<Arc<LiveRecord>>> {
        let key = LiveRecord::key(task);
        let Some(stamp) = self.folder.stamp(&key)? else {
            return Ok(None);
        };
        if let Some((_, record)) = self.records().get(task).filter(|(earlier, _)| *earlier == stamp) {
            return Ok(Some(record.clone()));
        }
        let Some(bytes) = self.folder.read(&key)? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).with_context(|| format!("read {key}"))?;
        let record: Arc<LiveRecord> = Arc::new(record);
        // The stamp is from before the read: a file that was replaced meanwhile is read again.
        self.records().insert(task.clone(), (stamp, record.clone()));
        Ok(Some(record))
    }

    fn expected(&self, task: &TaskName) -> Option<String> {
        if !self.projects.contains(task) {
            return None;
        }
        let rejected = self.folder.read(&Rejection::key(task)).ok().flatten();
        let rejected = rejected.and_then(|bytes| serde_json::from_slice::<Rejection>(&bytes).ok());
        Some(match rejected {
            Some(Rejection { reason, fault: true, .. }) => {
                format!("{task} is not live: its last upload is not published yet, and tried again: {reason}")
            }
            Some(Rejection { reason, .. }) => {
                format!("{task} is not live: its last upload was refused: {reason}")
            }
            None => format!("{task} is not live yet: `wasq dev` builds its project, or could not build it"),
        })
    }

    async fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        let key = LiveRecord::artifact_key(fingerprint, module);
        let path = self.folder.root.join(&key);
        if !path.is_file() {
            return Err(ArtifactError::Missing(format!("the registry has no {key}")));
        }
        self.checks.check(path, artifact).await
    }

    async fn request_artifact(&self, task: &TaskName, unusable: bool) -> Result<()> {
        // Many messages may ask for the same one.
        let compiling = self.compiling.clone();
        if !compiling.lock().await.insert(task.clone()) {
            return Ok(());
        }
        let (publisher, task) = (self.publisher.clone(), task.clone());
        tokio::spawn(async move {
            if let Err(e) = publisher.recompile(&task, unusable).await {
                tracing::error!("{e:#}");
            }
            compiling.lock().await.remove(&task);
        });
        Ok(())
    }
}
