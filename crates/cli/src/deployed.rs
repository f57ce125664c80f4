//! The facts of a deployment that commands use. They are the same types in a `wasq` that was built without AWS.

use serde_json::Value;
use wasq_aws::SdkConfig;

/// The queues of a deployment, by their addresses, and the configuration of the SDK to reach them.
pub(crate) struct DeployedQueues {
    pub(crate) queue: String,
    pub(crate) dead_letters: String,
    pub(crate) sdk: SdkConfig,
}

/// The status of a deployment: lines for people, and the same as JSON.
pub(crate) struct DeploymentStatus {
    pub(crate) lines: Vec<(&'static str, String)>,
    pub(crate) value: Value,
}
