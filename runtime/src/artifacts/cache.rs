//! The cache of artifacts: a folder of bounded size.

use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use wasq_protocol::{Artifact, Digest, Hasher};

use super::{CheckedArtifact, Checks, state, unavailable};
use crate::ports::ArtifactError;

/// Artifacts in a folder, by their digests. The least recently used ones make room for new ones.
#[derive(Debug)]
pub(crate) struct ArtifactCache {
    folder: PathBuf,
    bytes_max: u64,
    checks: Checks,
    /// The last request for each file, as a counter. Files that an earlier process left are not in here.
    asked: Mutex<HashMap<PathBuf, u64>>,
}

impl ArtifactCache {
    /// Opens a folder, with the files that an earlier process left there.
    pub(crate) fn open(folder: PathBuf, bytes_max: u64) -> Result<Self> {
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let cache = Self { folder, bytes_max, checks: Checks::default(), asked: Mutex::default() };
        for file in cache.files()? {
            // Left by a process that died while it wrote the file.
            if file.is_partial() {
                let _ = std::fs::remove_file(&file.path);
            }
        }
        Ok(cache)
    }

    /// Returns an artifact if the cache has it and it is not damaged.
    pub(crate) async fn get(&self, artifact: &Artifact) -> Option<CheckedArtifact> {
        let path = self.path(artifact);
        let metadata = std::fs::metadata(&path).ok()?;
        self.ask(&path);
        if metadata.len() == artifact.bytes
            && let Ok(checked) = self.checks.check(path.clone(), artifact).await
        {
            return Some(checked);
        }
        tracing::warn!("{} is damaged, and fetched again", path.display());
        let _ = std::fs::remove_file(&path);
        None
    }

    /// Begins a file for an artifact, and makes room for it.
    pub(crate) fn begin(&self, artifact: &Artifact) -> Result<Filling<'_>, ArtifactError> {
        let Artifact { sha256, bytes, .. } = *artifact;
        if bytes > self.bytes_max {
            return Err(ArtifactError::Unavailable(anyhow::anyhow!(
                "an artifact has {bytes} bytes, and the cache {} may have {} at most: raise WASQ_CACHE (and the function's ephemeral storage)",
                self.folder.display(),
                self.bytes_max
            )));
        }
        self.make_room(bytes).map_err(|e| unavailable("make room in", &self.folder, e))?;
        let partial = self.path(artifact).with_extension(format!("{:016x}.partial", fastrand::u64(..)));
        let file = std::fs::File::create(&partial).map_err(|e| self.full(&partial, e))?;
        Ok(Filling { cache: self, expected: sha256, file, partial, digest: Hasher::default() })
    }

    fn ask(&self, path: &Path) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        let latest = asked.values().max().copied().unwrap_or_default();
        asked.insert(path.to_owned(), latest + 1);
        asked.retain(|path, _| path.exists());
    }

    fn path(&self, artifact: &Artifact) -> PathBuf {
        self.folder.join(format!("{}.cwasm", artifact.sha256))
    }

    /// Removes the least recently used files until `bytes` more fit.
    fn make_room(&self, bytes: u64) -> std::io::Result<()> {
        let mut files = self.files()?;
        let mut held: u64 = files.iter().map(|file| file.bytes).sum();
        // A partial file belongs to a writer that has not finished.
        files.retain(|file| !file.is_partial());
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        files.sort_by_key(|file| asked.get(&file.path).copied().unwrap_or_default());
        for file in files {
            if held + bytes <= self.bytes_max {
                break;
            }
            // A process that has mapped the file keeps it. Another process may have removed it already.
            match std::fs::remove_file(&file.path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e),
                _ => held -= file.bytes,
            }
        }
        Ok(())
    }

    fn files(&self) -> std::io::Result<Vec<Cached>> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.folder)? {
            let entry = entry?;
            // It may be gone by now.
            if let Ok(metadata) = entry.metadata() {
                files.push(Cached { path: entry.path(), bytes: metadata.len() });
            }
        }
        Ok(files)
    }

    /// The error for a file that could not be written. If the disk is full, the cache is emptied, so that the
    /// next try has room.
    fn full(&self, path: &Path, error: std::io::Error) -> ArtifactError {
        if error.kind() == std::io::ErrorKind::StorageFull {
            let _ = self.make_room(self.bytes_max);
            let error = anyhow::Error::new(error);
            return ArtifactError::Unavailable(error.context(format!(
                "write {}: lower WASQ_CACHE, which is {}, or raise the function's ephemeral storage",
                path.display(),
                self.bytes_max
            )));
        }
        unavailable("write", path, error)
    }
}

struct Cached {
    path: PathBuf,
    bytes: u64,
}

impl Cached {
    fn is_partial(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "partial")
    }
}

/// A file that is being written. It is removed if it is not finished.
pub(crate) struct Filling<'a> {
    cache: &'a ArtifactCache,
    expected: Digest,
    file: std::fs::File,
    partial: PathBuf,
    digest: Hasher,
}

impl Filling<'_> {
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), ArtifactError> {
        self.digest.update(bytes);
        self.file.write_all(bytes).map_err(|e| self.cache.full(&self.partial, e))
    }

    /// Makes the file an artifact, if its digest is the expected one.
    pub(crate) fn finish(mut self) -> Result<CheckedArtifact, ArtifactError> {
        let digest = std::mem::take(&mut self.digest).finish();
        if digest != self.expected {
            let expected = self.expected;
            return Err(ArtifactError::Missing(format!(
                "the registry's artifact is damaged: its digest is {digest} instead of {expected}"
            )));
        }
        // Another process may have written the same file; one of the two stays.
        let path = self.cache.folder.join(format!("{digest}.cwasm"));
        std::fs::rename(&self.partial, &path).map_err(|e| unavailable("write", &path, e))?;
        self.cache.ask(&path);
        if let Ok((bytes, modified)) = state(&path) {
            self.cache.checks.remember((digest, bytes, modified));
        }
        Ok(CheckedArtifact(path))
    }
}

impl Drop for Filling<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.partial);
    }
}

#[cfg(test)]
mod tests {
    use wasq_protocol::Timestamp;

    use super::*;

    fn artifact(content: &[u8]) -> Artifact {
        let bytes = content.len() as u64;
        Artifact { sha256: Digest::of(content), bytes, compiled: Timestamp::from_ms(0) }
    }

    fn fill(
        cache: &ArtifactCache,
        artifact: &Artifact,
        pieces: &[&[u8]],
    ) -> Result<CheckedArtifact, ArtifactError> {
        let mut filling = cache.begin(artifact)?;
        for piece in pieces {
            filling.write(piece)?;
        }
        filling.finish()
    }

    fn names(folder: &Path) -> usize {
        std::fs::read_dir(folder).expect("a folder").count()
    }

    #[tokio::test]
    async fn what_was_written_is_there_also_for_the_next_process() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = artifact(b"machine code");
        {
            let cache = ArtifactCache::open(folder.path().to_owned(), 100).expect("opened");
            assert!(cache.get(&made).await.is_none());
            fill(&cache, &made, &[b"machine ", b"code"]).expect("written");
            assert_eq!(
                std::fs::read(cache.get(&made).await.expect("there").path()).expect("read"),
                b"machine code"
            );
        }
        std::fs::write(folder.path().join("x.1.partial"), "half").expect("written");
        let cache = ArtifactCache::open(folder.path().to_owned(), 100).expect("opened");
        assert!(cache.get(&made).await.is_some());
        assert_eq!(names(folder.path()), 1, "the partial file is removed");
    }

    #[tokio::test]
    async fn what_is_damaged_is_never_used() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = artifact(b"machine code");
        let path = folder.path().join(format!("{}.cwasm", made.sha256));
        for damaged in [&b"machine"[..], b"Machine code", b""] {
            std::fs::write(&path, damaged).expect("written");
            let cache = ArtifactCache::open(folder.path().to_owned(), 100).expect("opened");
            assert!(cache.get(&made).await.is_none(), "{damaged:?}");
            assert!(!path.exists(), "{damaged:?}");
            // The same damage, in the registry's answer.
            let error = fill(&cache, &made, &[damaged]).expect_err("damaged");
            assert!(matches!(&error, ArtifactError::Missing(why) if why.contains("damaged")), "{error}");
            assert_eq!(names(folder.path()), 0, "{damaged:?}");
        }
    }

    #[tokio::test]
    async fn the_bound_holds_and_the_oldest_goes() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = ArtifactCache::open(folder.path().to_owned(), 100).expect("opened");
        let contents: Vec<_> = (0..4u8).map(|i| vec![i; 40]).collect();
        for (i, content) in contents.iter().enumerate() {
            fill(&cache, &artifact(content), &[content]).expect("written");
            // The artifact that is requested every time stays.
            assert!(cache.get(&artifact(&contents[0])).await.is_some(), "after {i}");
            assert!(names(folder.path()) <= 2, "after {i}");
        }
        assert!(cache.get(&artifact(&contents[2])).await.is_none());
        assert!(cache.get(&artifact(&contents[3])).await.is_some());
        let error = cache.begin(&artifact(&[7; 101])).err().expect("it is too large");
        assert!(error.to_string().contains("WASQ_CACHE"), "{error}");
    }

    #[test]
    fn a_full_disk_says_what_to_do() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = ArtifactCache::open(folder.path().to_owned(), 100).expect("opened");
        fill(&cache, &artifact(b"in the way"), &[b"in the way"]).expect("written");
        // Every write to /dev/full fails as on a full disk.
        let made = artifact(b"machine code");
        let mut filling = cache.begin(&made).expect("begun");
        filling.file = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        let error = filling.write(b"machine code").expect_err("full");
        assert!(matches!(&error, ArtifactError::Unavailable(_)), "{error}");
        assert!(error.to_string().contains("ephemeral storage"), "{error}");
        drop(filling);
        assert_eq!(names(folder.path()), 0, "the older artifact is removed");
    }
}
