//! Loaded modules, kept between runs within a bound.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use wasq_protocol::{Artifact, Digest};

use crate::ports::{ArtifactError, Parts, Ports, Registry, Runner};

/// The cache. A module that many runs wait for is fetched and loaded once.
pub(crate) struct Modules<M> {
    max: usize,
    loaded: Mutex<Loaded<M>>,
}

struct Loaded<M> {
    /// By the digest of the machine code.
    modules: HashMap<Digest, Entry<M>>,
    uses: u64,
}

struct Entry<M> {
    module: Arc<OnceCell<M>>,
    last_use: u64,
}

impl<M: Clone> Modules<M> {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, loaded: Mutex::new(Loaded { modules: HashMap::new(), uses: 0 }) }
    }

    /// The module with this digest, from the cache or the registry.
    pub(crate) async fn get<P>(
        &self,
        ports: &Parts<P>,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<M, ArtifactError>
    where
        P: Ports<Runner: Runner<Module = M>>,
    {
        let cell = self.cell(artifact.sha256);
        let load = || async {
            let fingerprint = ports.runner.fingerprint();
            let path = ports.registry.artifact(fingerprint, module, artifact).await?;
            ports.runner.load(path, artifact.sha256).await
        };
        cell.get_or_try_init(load).await.cloned()
    }

    /// The place of a module in the cache. The least recently used one makes room for a new one; runs that still use
    /// it keep it alive until they end.
    fn cell(&self, digest: Digest) -> Arc<OnceCell<M>> {
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
