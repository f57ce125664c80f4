//! From a message's params to a task's result, and back to JSON.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, logging};

/// Runs a task on params as JSON text.
pub(crate) fn run<P, O>(params: &str, task: impl FnOnce(P) -> Result<O, Failure>) -> Result<String, Failure>
where
    P: DeserializeOwned,
    O: Serialize,
{
    logging::start();
    let mut reader = serde_json::Deserializer::from_str(params);
    // Another attempt would fail in the same way.
    let params = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let path = if path == "." { "params".to_owned() } else { format!("params.{path}") };
        Failure::Reject(format!("{path}: {}", e.into_inner()))
    })?;
    let output = task(params)?;
    serde_json::to_string(&output).map_err(|e| Failure::Reject(format!("the result is no JSON: {e}")))
}

/// Like [`run`], with the failure type of the contract.
#[cfg(target_family = "wasm")]
pub fn run_exported<P, O>(
    params: &str,
    task: impl FnOnce(P) -> Result<O, Failure>,
) -> Result<String, crate::host::bindings::Failure>
where
    P: DeserializeOwned,
    O: Serialize,
{
    use crate::host::bindings::Failure as Wit;
    use crate::host::bindings::wasq::task::outcome::RetryAfter;

    run(params, task).map_err(|failure| match failure {
        Failure::Retry(reason) => Wit::Retry(reason),
        Failure::RetryAfter { after, reason } => {
            // Rounded up to whole seconds, so that the next attempt starts no sooner than asked.
            let seconds = u32::try_from(after.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
            Wit::RetryAfter(RetryAfter { seconds, reason })
        }
        Failure::Reject(reason) => Wit::Reject(reason),
    })
}
