//! The registry and the tasks bucket of `wasq dev` or of a deployment. Commands read the registry and write
//! the tasks bucket.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use wasq_local::{LastStack, Listed, is_running, list_tasks, registry_path, write_whole};
use wasq_protocol::{Digest, LiveRecord, Rejection, TaskName};

use crate::cloud::Buckets;
use crate::output::tell;
use crate::target::Target;

/// A registry and its tasks bucket.
pub(crate) enum Registry {
    /// Of `wasq dev`, with its data folder.
    Local(PathBuf),
    /// On AWS.
    Aws(Box<Buckets>),
}

impl Registry {
    pub(crate) fn of(target: &Target) -> Result<Self> {
        match target {
            Target::Local(data) => {
                ensure!(
                    registry_path(data).is_dir(),
                    "no `wasq dev` has run with the data folder {}: start `wasq dev` here, name its folder by --data, or a deployment by --stack",
                    data.display()
                );
                Ok(Self::Local(data.clone()))
            }
            Target::Aws(deployment) => Ok(Self::Aws(deployment.buckets()?)),
        }
    }

    /// All tasks, by name.
    pub(crate) async fn tasks(&self) -> Result<Vec<Listed>> {
        match self {
            Self::Local(data) => list_tasks(data),
            Self::Aws(buckets) => {
                let records = buckets.registered("live/").await?;
                Ok(Listed::from_records(records, buckets.registered("rejected/").await?))
            }
        }
    }

    /// One task. The answer for an unknown task is empty.
    pub(crate) async fn task(&self, task: &TaskName) -> Result<Listed> {
        let record = self.record(&LiveRecord::key(task)).await?;
        let rejection = self.record(&Rejection::key(task)).await?;
        let listed = Listed::from_records(record.into_iter().collect(), rejection.into_iter().collect());
        Ok(listed.into_iter().next().unwrap_or_default())
    }

    /// A module as it was uploaded.
    pub(crate) async fn module(&self, digest: &Digest) -> Result<Vec<u8>> {
        let key = LiveRecord::module_key(digest);
        self.stored(&key).await?.with_context(|| format!("the registry has no {key}"))
    }

    async fn record<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        Ok(self.stored(key).await?.and_then(|bytes| whole(key, &bytes)))
    }

    /// The object under a key in the registry.
    async fn stored(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Local(data) => read(&registry_path(data).join(key)),
            Self::Aws(buckets) => buckets.stored(key).await,
        }
    }

    /// The object under a key in the tasks bucket.
    pub(crate) async fn uploaded(&self, key: &str) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Local(data) => read(&tasks_folder(data)?.join(key)),
            Self::Aws(buckets) => buckets.uploaded(key).await,
        }
    }

    /// Puts something under a key in the tasks bucket.
    pub(crate) async fn upload(&self, key: &str, bytes: Vec<u8>) -> Result<()> {
        match self {
            Self::Local(data) => {
                let folder = tasks_folder(data)?;
                ensure!(
                    folder.is_dir(),
                    "the tasks folder {} is gone: start `wasq dev` again, with --tasks FOLDER",
                    folder.display()
                );
                write_whole(&folder.join(key), &bytes)
            }
            Self::Aws(buckets) => buckets.upload(key, bytes).await,
        }
    }

    /// Deletes an object from the tasks bucket, if it is there.
    pub(crate) async fn withdraw(&self, key: &str) -> Result<()> {
        match self {
            Self::Local(data) => {
                let path = tasks_folder(data)?.join(key);
                match std::fs::remove_file(&path) {
                    Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                        Err(e).with_context(|| format!("delete {}", path.display()))
                    }
                    _ => Ok(()),
                }
            }
            Self::Aws(buckets) => buckets.withdraw(key).await,
        }
    }

    /// Warns if a change waits for the next start of `wasq dev`.
    pub(crate) fn warn_if_not_published(&self) {
        if !self.is_published() {
            tell!("wasq: `wasq dev` does not run: it makes this change when it is started again");
        }
    }

    /// Whether a publisher runs; on AWS always.
    pub(crate) fn is_published(&self) -> bool {
        match self {
            Self::Local(data) => is_running(data),
            Self::Aws(_) => true,
        }
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match std::fs::read(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).with_context(|| format!("read {}", path.display())),
    }
}

/// A record of the registry. A damaged one must not keep anybody from pushing the task again.
pub(crate) fn whole<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Option<T> {
    let record = serde_json::from_slice(bytes);
    record.inspect_err(|e| tell!("wasq: {key} in the registry is damaged ({e}): push the task again")).ok()
}

fn tasks_folder(data: &Path) -> Result<PathBuf> {
    let last = LastStack::of(data).with_context(|| {
        format!(
            "no `wasq dev` has run with the data folder {}: start one, or name a deployment by --stack",
            data.display()
        )
    })?;
    Ok(last.tasks)
}
