//! From uploaded bytes to an artifact, or to a reason that its author understands.

use anyhow::{Context, Result};
use wasq_engine::{Engine, LoadError, fingerprint};
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
        let compiling = tokio::task::spawn_blocking(move || match compile(&engine, &module) {
            Ok(machine_code) => Compiled::Fits { module, machine_code },
            Err(reason) => Compiled::Refused(reason),
        });
        compiling.await.context("compile")
    }
}

/// Compiles an upload. The error is written for the task's author.
pub fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, String> {
    check_header(wasm)?;
    engine.compile(wasm).map_err(|e| match e {
        // The most frequent cause is worth a hint: `aws s3 cp` or `cp` of a file that was still being written.
        LoadError::Component(problem) if problem.contains("unexpected end") || problem.contains("out of bounds") => format!(
            "not a valid component: {problem}; the file ends too early ({} bytes): was it uploaded whole?",
            wasm.len()
        ),
        other => other.to_string(),
    })
}

/// The first eight bytes of a wasm file: a magic number, a version, and the layer (0: core module, 1: component).
fn check_header(wasm: &[u8]) -> Result<(), String> {
    match wasm {
        [b'\0', b'a', b's', b'm', _, _, 1, 0, ..] => Ok(()),
        [b'\0', b'a', b's', b'm', _, _, 0, 0, ..] => Err(
            "a core WebAssembly module, not a component: build it for a component target such as wasm32-wasip2, or turn it into a component"
                .to_owned(),
        ),
        [] => Err("the file is empty".to_owned()),
        [b'(', ..] => Err("WebAssembly text, not a component: assemble it first".to_owned()),
        _ if wasm.len() < 8 && b"\0asm".starts_with(&wasm[..wasm.len().min(4)]) => Err(format!(
            "the file ends after {} bytes, within a WebAssembly header: was it uploaded whole?",
            wasm.len()
        )),
        _ => Err(format!(
            "not WebAssembly: the file starts with {:02x?}, a component with [00, 61, 73, 6d]",
            &wasm[..wasm.len().min(4)]
        )),
    }
}
