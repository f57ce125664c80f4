//! What a worker asks the publisher for.

use serde::{Deserialize, Serialize};

use crate::TaskName;

/// Asks the publisher to compile what is live under a name once more, because the worker found no (or a damaged)
/// artifact for its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishRequest {
    /// The task whose live module is to be compiled.
    pub recompile: TaskName,
}
