//! The compiler behind its port: wasmtime.

use anyhow::{Context, Result};
use wasq_engine::{Engine, fingerprint};
use wasq_protocol::Fingerprint;

use crate::ports::{Compiled, Compiler};

/// Compiles components with wasmtime.
pub struct Wasm {
    engine: Engine,
    fingerprint: Fingerprint,
}

impl Wasm {
    /// Starts a compiler.
    pub fn new() -> Result<Self> {
        let engine = Engine::compiler().map_err(|e| anyhow::anyhow!("start the compiler: {e:#}"))?;
        Ok(Self { engine, fingerprint: fingerprint() })
    }
}

impl Compiler for Wasm {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn compile(&self, module: Vec<u8>) -> Result<Compiled> {
        let engine = self.engine.clone();
        let compiling = tokio::task::spawn_blocking(move || match engine.compile(&module) {
            Ok(machine_code) => Compiled::Fits { module, machine_code },
            Err(e) => Compiled::Refused(e.to_string()),
        });
        compiling.await.context("compile")
    }
}
