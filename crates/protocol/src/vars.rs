//! Environment variables as configuration: every binary reads its own through [`Vars`], once, at start.

use std::str::FromStr;
use std::time::Duration;

use crate::units::parse_duration;

/// The default of `WASQ_LEASE`.
pub const LEASE_BY_DEFAULT: Duration = Duration::from_secs(120);
/// The default of `WASQ_RETENTION`, which is SQS's own default.
pub const RETENTION_BY_DEFAULT: Duration = Duration::from_secs(4 * 24 * 3600);

/// Reads configuration variables from any source that maps names to values.
///
/// ```
/// let vars = wasq_protocol::Vars::new(|name| (name == "WASQ_CONCURRENCY").then(|| "eight".to_owned()));
/// let error = vars.parse_or("WASQ_CONCURRENCY", 8u32).unwrap_err();
/// assert_eq!(error.to_string(), "WASQ_CONCURRENCY = \"eight\": invalid digit found in string");
/// ```
pub struct Vars<F> {
    lookup: F,
}

/// A variable that is missing or cannot be read. A bad value is never replaced by a default.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VarError {
    /// It is needed and not set (or empty).
    #[error("{0} is not set: {1}")]
    Missing(&'static str, &'static str),
    /// It is set to something that cannot be read.
    #[error("{name} = {value:?}: {problem}")]
    Invalid {
        /// The variable.
        name: &'static str,
        /// The variable's value.
        value: String,
        /// Why that cannot be read.
        problem: String,
    },
}

impl<F: Fn(&str) -> Option<String>> Vars<F> {
    /// Reads from `lookup`; an empty variable counts as not set.
    pub fn new(lookup: F) -> Self {
        Self { lookup }
    }

    /// The variable's text, if it is set.
    pub fn text(&self, name: &'static str) -> Option<String> {
        (self.lookup)(name).filter(|value| !value.is_empty())
    }

    /// The variable's text. If it is missing, the error contains `what`, its purpose.
    pub fn required(&self, name: &'static str, what: &'static str) -> Result<String, VarError> {
        self.text(name).ok_or(VarError::Missing(name, what))
    }

    /// The variable's value, or `default` if it is not set.
    pub fn parse_or<T>(&self, name: &'static str, default: T) -> Result<T, VarError>
    where
        T: FromStr,
        T::Err: ToString,
    {
        self.read(name, default, |text| text.parse().map_err(|e: T::Err| e.to_string()))
    }

    /// The variable as a duration such as `30s`, or `default` if it is not set.
    pub fn duration_or(&self, name: &'static str, default: Duration) -> Result<Duration, VarError> {
        self.read(name, default, |text| parse_duration(text).map_err(|e| e.to_string()))
    }

    fn read<T>(
        &self,
        name: &'static str,
        default: T,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<T, VarError> {
        let Some(value) = self.text(name) else {
            return Ok(default);
        };
        parse(&value).map_err(|problem| VarError::Invalid { name, value, problem })
    }
}
