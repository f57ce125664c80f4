//! The publisher's ports to the outside: buckets, secrets and a compiler.

use std::convert::Infallible;

use anyhow::Result;
use wasq_protocol::{Clock, Fingerprint, Schedule, SecretStore, TaskName, Timestamp};

/// The kinds of a publisher's ports.
pub trait PublisherPorts: 'static {
    /// The tasks bucket.
    type Tasks: Uploads;
    /// The registry bucket.
    type Registry: Bucket;
    /// The secret store.
    type SecretStore: SecretStore;
    /// The compiler.
    type Compiler: Compiler;
    /// The scheduler.
    type Scheduler: Scheduler;
    /// The time.
    type Clock: Clock;
}

/// A publisher's ports.
#[derive(Debug)]
pub struct PublisherParts<P: PublisherPorts> {
    /// The tasks bucket.
    pub tasks: P::Tasks,
    /// The registry bucket.
    pub registry: P::Registry,
    /// The secret store.
    pub secrets: P::SecretStore,
    /// The compiler.
    pub compiler: P::Compiler,
    /// The scheduler; `None` if there is none, and tasks with schedules are refused.
    pub scheduler: Option<P::Scheduler>,
    /// The time.
    pub clock: P::Clock,
}

/// Turns modules into machine code: wasmtime ([`Wasm`](crate::Wasm)), or a script in the simulator.
pub trait Compiler: Send + Sync + 'static {
    /// The target of its machine code.
    fn fingerprint(&self) -> &Fingerprint;

    /// Checks and compiles a module.
    fn compile(&self, module: Vec<u8>) -> impl Future<Output = Result<Compiled>> + Send;
}

/// Sends messages for tasks at the times that their settings say.
pub trait Scheduler: Send + Sync + 'static {
    /// Why it cannot keep a schedule; the reason is written for the author of the task. `None` if it can.
    fn refusal(&self, schedule: &Schedule) -> Option<String>;

    /// Makes the schedules of a task these, and no others. One that is paused stays paused.
    fn set(&self, task: &TaskName, schedules: &[Schedule]) -> impl Future<Output = Result<()>> + Send;
}

/// No scheduler: for ports whose tasks have no schedules.
impl Scheduler for Infallible {
    fn refusal(&self, _: &Schedule) -> Option<String> {
        match *self {}
    }

    async fn set(&self, _: &TaskName, _: &[Schedule]) -> Result<()> {
        match *self {}
    }
}

/// The result of a compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Compiled {
    /// The module fits the world.
    Fits {
        /// The module, as it was given.
        module: Vec<u8>,
        /// Its machine code.
        machine_code: Vec<u8>,
    },
    /// The module does not fit the world; the reason is written for its author.
    Refused(String),
}

/// The tasks bucket, which anybody who may upload can write. It is only read.
pub trait Uploads: Send + Sync + 'static {
    /// The upload under a key. If it has more than `bytes_max` bytes, it is refused, and not read.
    fn upload(&self, key: &str, bytes_max: u64) -> impl Future<Output = Result<Upload>> + Send;

    /// The ETag of the upload under a key, as in [`Uploader::etag`]; `None` if there is none. Where one publisher at a time publishes a
    /// task, it may always be `None`: nobody looks for later uploads then.
    fn etag(&self, key: &str) -> impl Future<Output = Result<Option<String>>> + Send;
}

/// An upload that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upload {
    /// There is none under this key.
    Absent,
    /// All of it.
    Whole {
        /// Its content.
        bytes: Vec<u8>,
        /// The ETag of this content, as in [`Uploader::etag`]. `None` on one machine: there are no uploaders.
        etag: Option<String>,
    },
    /// It cannot be read as an upload; the reason is written for its author.
    Refused(String),
}

/// The writer of one object, from the event of the upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uploader {
    /// The name.
    pub name: String,
    /// S3's ETag of the object that was written, without quotes. A later upload to the same key has another one.
    pub etag: String,
    /// When the object was written.
    pub at: Timestamp,
}

impl Upload {
    /// The refusal of an upload that is too large.
    pub fn too_large(bytes_max: u64) -> Self {
        Self::Refused(format!("it has more than {bytes_max} bytes, the most that is read"))
    }
}

/// The registry bucket: objects by key.
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

    /// Removes an object, if there is one.
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
    /// In any case.
    Always,
    /// Only if there is no object.
    Absent,
    /// Only if the object still has this tag.
    Unchanged(String),
}

/// The result of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// The object was written.
    Done,
    /// The condition did not hold; nothing was written.
    Conflict,
}
