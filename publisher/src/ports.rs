//! What the publisher needs from the outside: buckets, secrets and a compiler.

use anyhow::Result;
use wasq_protocol::{Fingerprint, SecretError, SecretSource, SecretValue};

/// Turns modules into machine code: wasmtime ([`Wasm`](crate::Wasm)), or a script in the simulator.
pub trait Compiler: Send + Sync + 'static {
    /// What its machine code is for.
    fn fingerprint(&self) -> &Fingerprint;

    /// Checks and compiles a module.
    fn compile(&self, module: Vec<u8>) -> impl Future<Output = Result<Compiled>> + Send;
}

/// What came of compiling.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// It fits the world.
    Fits {
        /// The module, as it was given.
        module: Vec<u8>,
        /// Its machine code.
        machine_code: Vec<u8>,
    },
    /// It does not; the reason is written for its author.
    Refused(String),
}

/// Where secrets are kept. The publisher looks whether they are there, and forgets them.
pub trait SecretStore: Send + Sync + 'static {
    /// The value of a secret, which the task's settings call `name`.
    fn secret(
        &self,
        name: &str,
        from: &SecretSource,
    ) -> impl Future<Output = Result<SecretValue, SecretError>> + Send;
}

/// A bucket: objects by key. The tasks bucket is only read; the registry bucket is written as well.
pub trait Bucket: Send + Sync + 'static {
    /// An object, or `None` if there is none under `key`.
    fn get(&self, key: &str) -> impl Future<Output = Result<Option<Object>>> + Send;

    /// Writes an object whole, if `condition` holds; nobody ever reads half of one.
    fn put(
        &self,
        key: &str,
        bytes: Vec<u8>,
        condition: Condition,
    ) -> impl Future<Output = Result<Put>> + Send;

    /// Removes an object; there need not be one.
    fn delete(&self, key: &str) -> impl Future<Output = Result<()>> + Send;
}

/// An object, and the tag of the state that was read.
#[derive(Clone, Debug)]
pub struct Object {
    /// The content.
    pub bytes: Vec<u8>,
    /// Changes whenever the content does (S3's ETag).
    pub tag: String,
}

/// When a write may take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Only if there is no object.
    Absent,
    /// Only if the object still has this tag.
    Unchanged(String),
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It was made.
    Done,
    /// The condition did not hold; nothing was written.
    Conflict,
}
