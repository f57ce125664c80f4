//! Machine code on the local disk: each file is checked once before it is executed.

#[cfg(feature = "aws")]
mod cache;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use wasq_protocol::{Artifact, Digest};

use crate::ports::ArtifactError;

#[cfg(feature = "aws")]
pub(crate) use cache::ArtifactCache;

/// A local file whose digest is the one that the live record names.
#[derive(Clone, Debug)]
pub struct CheckedArtifact(PathBuf);

impl CheckedArtifact {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The files that this process has checked. Each file is read once for this, however often it is loaded.
#[derive(Debug, Default)]
pub struct Checks(Mutex<HashSet<(Digest, u64, SystemTime)>>);

impl Checks {
    /// Compares a file's digest with the one in the live record.
    pub async fn check(&self, path: PathBuf, artifact: &Artifact) -> Result<CheckedArtifact, ArtifactError> {
        let state = state(&path).map_err(|e| unavailable("read", &path, e))?;
        let checked = (artifact.sha256, state.0, state.1);
        if self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&checked) {
            return Ok(CheckedArtifact(path));
        }
        let reading = path.clone();
        let digest = tokio::task::spawn_blocking(move || Digest::of_reader(std::fs::File::open(&reading)?));
        let digest = digest.await.map_err(|e| ArtifactError::Unavailable(e.into()))?;
        if digest.map_err(|e| unavailable("read", &path, e))? != artifact.sha256 {
            let expected = artifact.sha256;
            return Err(ArtifactError::Missing(format!(
                "the artifact {} is damaged: its digest is not {expected}",
                path.display()
            )));
        }
        self.remember(checked);
        Ok(CheckedArtifact(path))
    }

    fn remember(&self, checked: (Digest, u64, SystemTime)) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(checked);
    }
}

fn state(path: &Path) -> std::io::Result<(u64, SystemTime)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.len(), metadata.modified()?))
}

fn unavailable(what: &str, path: &Path, error: std::io::Error) -> ArtifactError {
    ArtifactError::Unavailable(anyhow::Error::new(error).context(format!("{what} {}", path.display())))
}
