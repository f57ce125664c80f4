//! Components that were compiled before, so that `wasq run` and `wasq test` need not compile the same one again.

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use wasq_engine::fingerprint;
use wasq_local::write_whole;
use wasq_protocol::{Clock, Digest, SystemClock};

/// The compiled components of this user, for this version of the engine.
pub(crate) struct CompiledComponents(Option<PathBuf>);

/// The components that are kept. The others that were used longest ago are deleted.
const KEPT: usize = 20;
/// A file begins with the digest of its machine code, in hexadecimal.
const DIGEST_CHARS: usize = 64;

impl CompiledComponents {
    pub(crate) fn open() -> Self {
        Self(super::own_folder(&fingerprint().to_string()))
    }

    /// The machine code of a component, if it is here and whole.
    pub(crate) fn get(&self, component: &Digest) -> Option<Vec<u8>> {
        let path = self.path(component)?;
        let mut file = std::fs::read(&path).ok()?;
        let artifact = file.split_off(DIGEST_CHARS.min(file.len()));
        if file != Digest::of(&artifact).to_string().as_bytes() {
            return None;
        }
        // It was used now.
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(SystemClock.now().ms());
        let _ = File::open(&path).and_then(|file| file.set_modified(now));
        Some(artifact)
    }

    /// Keeps the machine code of a component.
    pub(crate) fn keep(&self, component: &Digest, artifact: &[u8]) {
        let Some(path) = self.path(component) else { return };
        let file = [Digest::of(artifact).to_string().as_bytes(), artifact].concat();
        if let Err(e) = write_whole(&path, &file) {
            tracing::debug!("the compiled component is not kept: {e:#}");
        }
        self.delete_oldest();
    }

    fn path(&self, component: &Digest) -> Option<PathBuf> {
        Some(self.0.as_ref()?.join(component.to_string()))
    }

    fn delete_oldest(&self) {
        let Some(entries) = self.0.as_ref().and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        files.sort();
        for (_, path) in files.iter().rev().skip(KEPT) {
            let _ = std::fs::remove_file(path);
        }
    }
}
