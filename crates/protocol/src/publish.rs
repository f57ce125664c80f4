//! The worker's request to the publisher.

use serde::{Deserialize, Serialize};

use crate::TaskName;

/// Asks the publisher to compile a task's live module again, because the worker found no artifact for its
/// fingerprint, or a damaged one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The task whose live module is to be compiled.
    pub recompile: TaskName,
    /// The registry has a whole artifact for it, and it cannot be loaded.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unusable: bool,
}
