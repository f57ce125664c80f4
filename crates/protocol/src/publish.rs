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
}
