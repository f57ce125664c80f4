//! The registry's records of a task: the live version, and the reason for a refused upload.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Digest, Settings, TaskName, Timestamp};

/// The world that this version of wasq runs, as live records name it.
pub const WORLD: &str = "wasq:task/task@0.1.2";

/// The target of an artifact: wasmtime version, CPU target and engine configuration, in one word that is safe
/// in an object key. The engine crate makes it; all other crates only compare it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fingerprint(pub String);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `live/NAME.json`: the version that runs when a message names this task, and the earlier versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveRecord {
    /// The task's name.
    pub task: TaskName,
    /// The version that is live.
    #[serde(flatten)]
    pub version: Version,
    /// When the first version of this task went live.
    pub first_published: Timestamp,
    /// When the task was removed, if it was: nothing runs under its name. Its history stays.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub removed: Option<Timestamp>,
    /// Earlier versions, newest first, at most [`LiveRecord::HISTORY_MAX`].
    pub history: Vec<Version>,
}

/// One published version of a task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Counts the publications of this task; the first is 1.
    pub version: u64,
    /// The module's digest, which is also its key: `modules/DIGEST.wasm`.
    pub digest: Digest,
    /// The world that the module was validated against.
    pub world: String,
    /// How it is run.
    pub settings: Settings,
    /// The content of the module's section `wasq:schema`: an object with the keys `params` and `result`, each a JSON Schema.
    /// Earlier versions are listed without it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub schema: Option<Value>,
    /// When it went live.
    pub published: Timestamp,
    /// The size of the module in bytes. Versions that an older wasq published do not say it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bytes: Option<u64>,
    /// The languages and tools that made the module, as it names them itself: `Rust`, `rustc 1.95.0`, `wasq 0.1.0`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub made_with: Vec<String>,
    /// The uploader of what is new in this version: the module, or the settings if only those changed. The name is that of S3's event:
    /// `AWS:` and the id of an IAM user, or the id of a role and the name of its session; at most [`Version::UPLOADER_CHARS_MAX`]
    /// characters. `None` on one machine, if the event was lost, and if the settings were removed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uploader: Option<String>,
    /// Its machine code, by fingerprint.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub artifacts: BTreeMap<Fingerprint, Artifact>,
}

/// Machine code in the registry: `compiled/FINGERPRINT/DIGEST.cwasm`, where DIGEST is the module's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// The digest of the machine code itself; checked before it is mapped.
    pub sha256: Digest,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was made.
    pub compiled: Timestamp,
}

impl Version {
    /// The most characters of [`Version::uploader`]. A role's id and the name of its session have 90 at most.
    pub const UPLOADER_CHARS_MAX: usize = 200;
}

impl LiveRecord {
    /// How many earlier versions a record keeps.
    pub const HISTORY_MAX: usize = 50;

    /// The key of the record in the registry.
    pub fn key(task: &TaskName) -> String {
        format!("live/{task}.json")
    }

    /// The key of a module in the registry.
    pub fn module_key(digest: &Digest) -> String {
        format!("modules/{digest}.wasm")
    }

    /// The key of a module's machine code in the registry.
    pub fn artifact_key(fingerprint: &Fingerprint, digest: &Digest) -> String {
        format!("compiled/{fingerprint}/{digest}.cwasm")
    }
}

/// `rejected/NAME.json`: why the last upload did not go live. Removed by the next upload that does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// The task's name.
    pub task: TaskName,
    /// The digest of the uploaded module, if there was one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub digest: Option<Digest>,
    /// The digest of the uploaded settings; without settings, that of an empty file. `None` if the publisher did not read them, and in
    /// records of wasq before this field.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub settings_digest: Option<Digest>,
    /// The problem, and its place in the upload.
    pub reason: String,
    /// When it was refused.
    pub at: Timestamp,
    /// Nothing is wrong with the upload: the publisher could not do its work, and tries again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fault: bool,
}

impl Rejection {
    /// The key of the record in the registry.
    pub fn key(task: &TaskName) -> String {
        format!("rejected/{task}.json")
    }
}
