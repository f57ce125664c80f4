//! Task names.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name of a task: 1-64 characters of `a-z A-Z 0-9 _ - .`, not starting with a dot.
///
/// The same rule makes it safe as a file name, an object key and a metric dimension.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskName(String);

/// Why a text is no task name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is the empty string.
    #[error("a task name must not be empty")]
    Empty,
    /// It has more than 64 characters.
    #[error("a task name has at most 64 characters, this one has {0}")]
    TooLong(usize),
    /// It starts with a dot.
    #[error("a task name must not start with a dot")]
    LeadingDot,
    /// It has a character outside the allowed set.
    #[error("a task name consists of a-z A-Z 0-9 _ - . and has no {0:?}")]
    Character(char),
}

impl TaskName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TaskName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        if let Some(bad) = text.chars().find(|&c| !allowed(c)) {
            return Err(NameError::Character(bad));
        }
        if text.len() > 64 {
            return Err(NameError::TooLong(text.len()));
        }
        if text.starts_with('.') {
            return Err(NameError::LeadingDot);
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for TaskName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<TaskName> for String {
    fn from(name: TaskName) -> Self {
        name.0
    }
}

impl Borrow<str> for TaskName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
