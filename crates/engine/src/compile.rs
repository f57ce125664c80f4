//! Compiles a file's bytes into an artifact, or returns a reason that the file's author understands.

use wasmtime::component::Component;

use crate::engine::{Engine, LoadError};
use crate::guard;

impl Engine {
    /// Compiles a component and checks that it fits the world. Returns its artifact: machine code that
    /// [`Engine::load`] of the same [`fingerprint`](crate::fingerprint) can map.
    ///
    /// A component whose compilation would cost far more than its size suggests is refused before it is compiled. Other
    /// costs are for the caller to bound, by the limits of a process.
    pub fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, LoadError> {
        check_header(wasm).map_err(LoadError::NoComponent)?;
        guard::look(wasm).map_err(LoadError::TooCostly)?;
        let component = Component::from_binary(&self.wasmtime, wasm).map_err(|e| {
            let mut problem = format!("{e:#}");
            // The most frequent cause is worth a hint: `aws s3 cp` or `cp` of a file that was still being written.
            if problem.contains("unexpected end") || problem.contains("out of bounds") {
                let bytes = wasm.len();
                problem += &format!("; the file ends too early ({bytes} bytes): was it uploaded whole?");
            }
            LoadError::Component(problem)
        })?;
        self.link(&component)?;
        component.serialize().map_err(|e| LoadError::Artifact(format!("{e:#}")))
    }
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
            "not WebAssembly: the file starts with {:02x?}; a component starts with [00, 61, 73, 6d]",
            &wasm[..wasm.len().min(4)]
        )),
    }
}
