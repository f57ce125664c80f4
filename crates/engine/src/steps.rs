//! Steps: parts of a run that a later attempt of the same message does not execute again.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};

use crate::bindings::wasq::task::steps::StepError;
use crate::limits::Limits;

/// The values of steps, by their names.
pub type StepValues = BTreeMap<String, Box<RawValue>>;

/// The steps of a run's message.
#[derive(Debug)]
pub enum Steps {
    /// Nothing remembers steps: a step fails. The text says why.
    Unavailable(Cow<'static, str>),
    /// Earlier attempts saved these. New ones are only in the report.
    Reported(StepValues),
    /// Earlier attempts saved these. The task waits until the receiver has stored a new one.
    Stored(StepValues, mpsc::Sender<SaveStep>),
}

impl Default for Steps {
    /// No step is known, and new ones are only in the report.
    fn default() -> Self {
        Self::Reported(StepValues::new())
    }
}

/// A step that is to be stored.
#[derive(Debug)]
pub struct SaveStep {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Box<RawValue>,
    /// Takes the answer. A sender that is dropped means that the step could not be stored.
    pub stored: oneshot::Sender<Result<(), NotStored>>,
}

/// Why a step was not stored.
#[derive(Debug)]
pub enum NotStored {
    /// Another delivery has the message. This run is ended.
    Lost,
    /// Nobody knows whether it was stored: the table did not answer. The text says why.
    Unavailable(String),
}

/// Why a step was not saved.
#[derive(Debug)]
pub(crate) enum SaveError {
    /// The task is told.
    Failed(StepError),
    /// Another delivery has the message: the run is ended.
    Lost,
}

/// The longest name, in bytes.
const NAME_BYTES_MAX: usize = 100;
/// The levels of a value. Whatever reads it must be able to.
const LEVELS_MAX: usize = 100;
/// The bytes that each step counts in addition to its name and its value.
const ADDED_BYTES: usize = 100;

/// The steps of one run.
#[derive(Debug)]
pub(crate) struct RunSteps {
    steps: Steps,
    /// The step that the task executes now.
    open: Option<String>,
    /// Those that have ended in this run.
    ended: BTreeSet<String>,
    saved: StepValues,
    /// Why the steps of this run cannot be stored.
    failed: Option<String>,
    /// The task was refused a step for that reason: what it does without it does not count.
    refused: bool,
}

/// The steps of a run at its end.
pub(crate) struct Ended {
    /// Those that it saved.
    pub(crate) saved: StepValues,
    /// Why steps could not be stored.
    pub(crate) failed: Option<String>,
    /// The task was refused a step for that reason.
    pub(crate) refused: bool,
}

impl RunSteps {
    pub(crate) fn new(steps: Steps) -> Self {
        Self {
            steps,
            open: None,
            ended: BTreeSet::new(),
            saved: StepValues::new(),
            failed: None,
            refused: false,
        }
    }

    /// Begins a step, or returns the value that it has.
    pub(crate) fn load(
        &mut self,
        name: &str,
        limits: &Limits,
        has_secrets: impl FnOnce(&str) -> bool,
    ) -> Result<Option<String>, StepError> {
        if let Some(why) = &self.failed {
            self.refused = true;
            return Err(StepError::Unavailable(why.clone()));
        }
        let known = match &self.steps {
            Steps::Unavailable(why) => {
                let why = why.clone().into_owned();
                (self.failed, self.refused) = (Some(why.clone()), true);
                return Err(StepError::Unavailable(why));
            }
            Steps::Reported(known) | Steps::Stored(known, _) => known,
        };
        let invalid = |why: String| Err(StepError::Invalid(why));
        if name.is_empty() || name.len() > NAME_BYTES_MAX {
            let length = name.len();
            return invalid(format!(
                "the name of a step has 1 to {NAME_BYTES_MAX} bytes; this one has {length}"
            ));
        }
        if name.chars().any(char::is_control) {
            return invalid(format!("the name of a step has no control characters: {name:?}"));
        }
        if has_secrets(name) {
            return invalid("the name of a step contains a secret, and would be stored".to_owned());
        }
        if let Some(open) = &self.open {
            return invalid(format!("step {name:?}: step {open:?} has not ended; one step runs at a time"));
        }
        if self.ended.contains(name) {
            return invalid(format!("step {name:?}: this run had a step with this name before"));
        }
        if let Some(value) = known.get(name) {
            self.ended.insert(name.to_owned());
            return Ok(Some(value.get().to_owned()));
        }
        if known.len() + self.saved.len() >= limits.steps_max as usize {
            return Err(StepError::TooMany(limits.steps_max));
        }
        self.open = Some(name.to_owned());
        Ok(None)
    }

    /// Ends the open step with its value.
    pub(crate) async fn save(
        &mut self,
        name: &str,
        value: String,
        limits: &Limits,
        has_secrets: impl FnOnce(&str) -> bool,
    ) -> Result<(), SaveError> {
        let shown: String = name.chars().take(NAME_BYTES_MAX).collect();
        let invalid =
            |why: String| Err(SaveError::Failed(StepError::Invalid(format!("step {shown:?}: {why}"))));
        if self.open.as_deref() != Some(name) {
            return invalid("it has not begun".to_owned());
        }
        let most = limits.step_bytes_max;
        if value.len() > most {
            return invalid(format!("its value has {} bytes; the most is {most}", value.len()));
        }
        let value: Box<RawValue> = match serde_json::from_str(&value) {
            Ok(value) => value,
            Err(e) => return invalid(format!("its value is not JSON: {e}")),
        };
        if levels(value.get()) > LEVELS_MAX {
            return invalid(format!("its value has more than {LEVELS_MAX} levels"));
        }
        if has_secrets(value.get()) {
            return invalid(
                "its value contains a secret, or the placeholder of one, which only this run knows"
                    .to_owned(),
            );
        }
        let (Steps::Reported(known) | Steps::Stored(known, _)) = &self.steps else {
            return invalid("it has not begun".to_owned());
        };
        let bytes = |name: &str, value: &RawValue| name.len() + value.get().len() + ADDED_BYTES;
        let others = known.iter().chain(&self.saved).map(|(name, value)| bytes(name, value));
        let together = others.sum::<usize>() + bytes(name, &value);
        let most = limits.steps_bytes_max;
        if together > most {
            return invalid(format!("all steps of a message together have at most {most} bytes"));
        }
        if let Steps::Stored(_, store) = &self.steps {
            let (stored, answer) = oneshot::channel();
            let save = SaveStep { name: name.to_owned(), value: value.clone(), stored };
            let failed = |why: &str| format!("step {name:?} could not be stored: {why}");
            // Until there is an answer. The run may end meanwhile, with its time.
            self.failed = Some(failed("the table of runs has not answered in time"));
            let stored = match store.send(save).await {
                Ok(()) => answer.await.ok(),
                Err(_) => None,
            };
            let why = match stored {
                Some(Ok(())) => None,
                Some(Err(NotStored::Lost)) => {
                    self.failed = None;
                    return Err(SaveError::Lost);
                }
                Some(Err(NotStored::Unavailable(why))) => Some(failed(&why)),
                None => Some(failed("the worker stops")),
            };
            self.failed.clone_from(&why);
            if let Some(why) = why {
                return Err(SaveError::Failed(StepError::Unavailable(why)));
            }
        }
        self.open = None;
        self.ended.insert(name.to_owned());
        self.saved.insert(name.to_owned(), value);
        Ok(())
    }

    /// Ends the open step without a value.
    pub(crate) fn abandon(&mut self, name: &str) {
        if self.open.as_deref() == Some(name) {
            self.open = None;
        }
    }

    /// The step that is open.
    pub(crate) fn open(&self) -> Option<&str> {
        self.open.as_deref()
    }

    /// Takes what is known of the steps at the end of the run.
    pub(crate) fn take(&mut self) -> Ended {
        let Self { saved, failed, refused, .. } = self;
        Ended { saved: std::mem::take(saved), failed: failed.take(), refused: *refused }
    }
}

/// The levels of a valid JSON text.
fn levels(json: &str) -> usize {
    let (mut depth, mut most, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in json.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'[' | b'{' => {
                depth += 1;
                most = most.max(depth);
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    most
}

#[cfg(test)]
mod tests {
    use super::levels;

    #[test]
    fn brackets_in_texts_are_no_levels() {
        for (json, expected) in [("1", 0), ("[]", 1), (r#"{"a": [1, {}]}"#, 3), (r#"["[[\"[", "\\"]"#, 1)] {
            assert_eq!(levels(json), expected, "{json}");
        }
    }
}
