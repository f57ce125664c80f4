//! The bounded cache of loaded modules, which stay loaded between runs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;
use wasq_protocol::{Artifact, ByteCount, Digest};

use crate::ports::{ArtifactError, Registry, Runner, WorkerParts, WorkerPorts};

/// The cache. A module that many runs wait for is fetched and loaded once.
pub(crate) struct Modules<M> {
    max: usize,
    bytes_max: u64,
    loaded: Mutex<Loaded<M>>,
}

struct Loaded<M> {
    /// By the digest of the machine code.
    modules: HashMap<Digest, Entry<M>>,
    uses: u64,
}

struct Entry<M> {
    module: Arc<OnceCell<M>>,
    bytes: u64,
    last_use: u64,
}

impl<M: Clone> Modules<M> {
    pub(crate) fn new(max: usize, bytes_max: ByteCount) -> Self {
        Self { max, bytes_max: bytes_max.0, loaded: Mutex::new(Loaded { modules: HashMap::new(), uses: 0 }) }
    }

    /// The module with this digest, from the cache or the registry.
    pub(crate) async fn get<P>(
        &self,
        ports: &WorkerParts<P>,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<M, ArtifactError>
    where
        P: WorkerPorts<Runner: Runner<Module = M>>,
    {
        let cell = self.cell(artifact);
        let load = || async {
            let fingerprint = ports.runner.fingerprint();
            let file = ports.registry.artifact(fingerprint, module, artifact).await?;
            ports.runner.load(file).await
        };
        cell.get_or_try_init(load).await.cloned()
    }

    fn has_room(&self, modules: &HashMap<Digest, Entry<M>>, bytes: u64) -> bool {
        let held: u64 = modules.values().map(|entry| entry.bytes).sum();
        modules.is_empty() || (modules.len() < self.max && held + bytes <= self.bytes_max)
    }

    /// The cell of a module in the cache. The least recently used modules are removed to make room for a new
    /// one. Runs that still use a removed module keep it alive until they end.
    fn cell(&self, artifact: &Artifact) -> Arc<OnceCell<M>> {
        let Artifact { sha256: digest, bytes, .. } = *artifact;
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.uses += 1;
        let now = loaded.uses;
        while !loaded.modules.contains_key(&digest) && !self.has_room(&loaded.modules, bytes) {
            let oldest = loaded.modules.iter().min_by_key(|(_, entry)| entry.last_use);
            let oldest = oldest.map(|(digest, _)| *digest).expect("an empty cache has room");
            loaded.modules.remove(&oldest);
        }
        let new = || Entry { module: Arc::default(), bytes, last_use: now };
        let entry = loaded.modules.entry(digest).or_insert_with(new);
        entry.last_use = now;
        entry.module.clone()
    }
}

#[cfg(test)]
mod tests {
    use wasq_protocol::Timestamp;

    use super::*;

    #[test]
    fn number_and_bytes_are_bounded() {
        let modules: Modules<()> = Modules::new(3, ByteCount(100));
        let artifact = |name: u8, bytes| Artifact {
            sha256: Digest::of(&[name]),
            bytes,
            compiled: Timestamp::from_ms(0),
        };
        let held = || modules.loaded.lock().expect("no panic").modules.len();
        for name in 0..5 {
            modules.cell(&artifact(name, 10));
        }
        assert_eq!(held(), 3);
        let kept = modules.cell(&artifact(4, 10));
        modules.cell(&artifact(5, 90));
        assert_eq!(held(), 2, "only the module that was used last fits with the new one");
        assert!(Arc::ptr_eq(&kept, &modules.cell(&artifact(4, 10))));
        // A module that is larger than the bound is loaded alone.
        modules.cell(&artifact(6, 1000));
        assert_eq!(held(), 1);
    }
}
