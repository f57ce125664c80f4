//! The runner on wasmtime.

use wasq_engine::{Engine, Limits, LoadError, Module, Pool, Report, Run, fingerprint};
use wasq_protocol::Fingerprint;

use crate::artifacts::CheckedArtifact;
use crate::ports::{ArtifactError, Runner};
use crate::state::WorkerSettings;

/// Runs tasks in wasmtime.
pub struct Wasm {
    engine: Engine,
    fingerprint: Fingerprint,
}

impl Wasm {
    /// Starts an engine with room for the concurrent runs of the settings.
    pub fn new(settings: &WorkerSettings, limits: Limits) -> anyhow::Result<Self> {
        let pool = Pool { concurrency: settings.concurrency, memory: settings.caps.memory };
        let engine = Engine::new(pool, limits).map_err(|e| anyhow::anyhow!("start the engine: {e:#}"))?;
        Ok(Self { engine, fingerprint: fingerprint() })
    }
}

impl Runner for Wasm {
    type Module = Module;
    type Artifact = CheckedArtifact;

    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn load(&self, artifact: CheckedArtifact) -> Result<Module, ArtifactError> {
        let engine = self.engine.clone();
        tokio::task::spawn_blocking(move || load(&engine, &artifact))
            .await
            .map_err(|e| ArtifactError::Unavailable(e.into()))?
    }

    async fn run(&self, module: &Module, run: Run<'_>) -> Report {
        self.engine.run(module, run).await
    }
}

fn load(engine: &Engine, artifact: &CheckedArtifact) -> Result<Module, ArtifactError> {
    // Safety: the file's digest is the one in the live record, and only the publisher can write live records.
    unsafe { engine.load(artifact.path()) }.map_err(|e| match e {
        LoadError::Artifact(_) => ArtifactError::Unusable(e.to_string()),
        // Compiling it again would not help.
        LoadError::NoComponent(_)
        | LoadError::Component(_)
        | LoadError::TooCostly(_)
        | LoadError::World(_) => ArtifactError::Unavailable(e.into()),
    })
}
