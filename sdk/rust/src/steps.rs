//! Steps: parts of a run that a later attempt does not execute again.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, host};

/// Why a step cannot be begun or saved.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "a world of a test has no limits"))]
pub(crate) enum StepError {
    Invalid(String),
    TooMany(u32),
    Unavailable(String),
}

/// Executes a step, unless an earlier attempt of this message has saved it: then it returns the saved value.
///
/// The value is what JSON makes of it, in every attempt, and it is stored before this returns. A step that fails is not saved, and may be executed again. Steps run one after the
/// other, and a name is used once in a run. The run can end between the effect of a step and the moment in which its value is
/// stored. So let a step do one thing that is safe to repeat: the header `idempotency-key` of its requests is the same in every
/// attempt.
///
/// The error is a `Reject` if the step breaks a limit or its saved value does not fit the type, and otherwise the closure's own.
pub fn step<T>(name: &str, execute: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure>
where
    T: Serialize + DeserializeOwned,
{
    let rejected = |what: &str, e| Failure::reject(format!("step {name:?}: {what}: {e}"));
    if let Some(saved) = host::load_step(name).map_err(|error| failure(name, error))? {
        return serde_json::from_str(&saved).map_err(|e| rejected("the saved value does not fit", e));
    }
    let saved = execute().and_then(|value| {
        let text = serde_json::to_string(&value).map_err(|e| rejected("its value is no JSON", e))?;
        // A later attempt reads this value.
        let value = serde_json::from_str(&text).map_err(|e| rejected("its value cannot be read again", e))?;
        host::save_step(name, &text).map_err(|error| failure(name, error))?;
        Ok(value)
    });
    if saved.is_err() {
        host::abandon_step(name);
    }
    saved
}

fn failure(name: &str, error: StepError) -> Failure {
    match error {
        StepError::Invalid(why) => Failure::Reject(why),
        StepError::TooMany(most) => Failure::Reject(format!(
            "step {name:?}: this message has saved {most} steps, and may save no more"
        )),
        StepError::Unavailable(why) => Failure::Retry(why),
    }
}
