//! Loaded modules, kept between runs within a bound.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use wasq_engine::{Engine, LoadError, Module};
use wasq_protocol::{Artifact, Digest, Fingerprint};

use crate::ports::{ArtifactError, Registry};

/// The cache. A module that many runs wait for is fetched and loaded once.
pub(crate) struct Modules {
    engine: Engine,
    fingerprint: Fingerprint,
    max: usize,
    loaded: Mutex<Loaded>,
}

#[derive(Default)]
struct Loaded {
    /// By the digest of the machine code.
    modules: HashMap<Digest, Entry>,
    uses: u64,
}

struct Entry {
    module: Arc<OnceCell<Module>>,
    last_use: u64,
}

impl Modules {
    pub(crate) fn new(engine: Engine, fingerprint: Fingerprint, max: usize) -> Self {
        Self { engine, fingerprint, max, loaded: Mutex::default() }
    }

    pub(crate) fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The module with this digest, from the cache or the registry.
    pub(crate) async fn get<R: Registry>(
        &self,
        registry: &R,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<Module, ArtifactError> {
        let cell = self.cell(artifact.sha256);
        let load = || async {
            let path = registry.artifact(&self.fingerprint, module, artifact).await?;
            let (engine, expected) = (self.engine.clone(), artifact.sha256);
            tokio::task::spawn_blocking(move || load(&engine, &path, expected))
                .await
                .map_err(|e| ArtifactError::Unavailable(e.into()))?
        };
        cell.get_or_try_init(load).await.cloned()
    }

    /// The place of a module in the cache. The least recently used one makes room for a new one; runs that still use
    /// it keep it alive until they end.
    fn cell(&self, digest: Digest) -> Arc<OnceCell<Module>> {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.uses += 1;
        let now = loaded.uses;
        if !loaded.modules.contains_key(&digest) && loaded.modules.len() >= self.max {
            let oldest = loaded.modules.iter().min_by_key(|(_, entry)| entry.last_use);
            if let Some(oldest) = oldest.map(|(digest, _)| *digest) {
                loaded.modules.remove(&oldest);
            }
        }
        let entry =
            loaded.modules.entry(digest).or_insert_with(|| Entry { module: Arc::default(), last_use: now });
        entry.last_use = now;
        entry.module.clone()
    }
}

/// Checks that a file is what the live record names, and maps it.
fn load(engine: &Engine, path: &Path, expected: Digest) -> Result<Module, ArtifactError> {
    let unavailable = |e: std::io::Error| {
        ArtifactError::Unavailable(anyhow::Error::new(e).context(format!("read {}", path.display())))
    };
    let file = std::fs::File::open(path).map_err(unavailable)?;
    if Digest::of_reader(file).map_err(unavailable)? != expected {
        return Err(ArtifactError::Missing(format!(
            "the artifact {} is damaged: its digest is not {expected}",
            path.display()
        )));
    }
    // Safety: its digest is the one that the live record names, which only the publisher can write.
    unsafe { engine.load(path) }.map_err(|e| match e {
        LoadError::Artifact(_) => ArtifactError::Missing(e.to_string()),
        // Compiling it again would not help.
        LoadError::Component(_) | LoadError::World(_) => ArtifactError::Unavailable(e.into()),
    })
}
