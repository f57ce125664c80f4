//! Typed access to the members of a request.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::sqs::error::SqsError;

/// A request, or an entry of a batch: a JSON object. `null` counts as absent.
pub(crate) struct Params<'a>(pub(crate) &'a Map<String, Value>);

impl<'a> Params<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Result<Option<&'a str>, SqsError> {
        let text = |value: &'a Value| value.as_str().ok_or_else(|| wrong(name, "a string", value));
        self.get(name).map(text).transpose()
    }

    pub(crate) fn owned(&self, name: &str) -> Result<Option<String>, SqsError> {
        Ok(self.text(name)?.map(str::to_owned))
    }

    pub(crate) fn required(&self, name: &str) -> Result<&'a str, SqsError> {
        self.text(name)?.ok_or_else(|| SqsError::missing(name))
    }

    pub(crate) fn number(&self, name: &str) -> Result<Option<i64>, SqsError> {
        let number = |value: &'a Value| value.as_i64().ok_or_else(|| wrong(name, "an integer", value));
        self.get(name).map(number).transpose()
    }

    /// A number within SQS's range; `reason` is SQS's text for a number outside of it.
    pub(crate) fn number_in(
        &self,
        name: &str,
        range: std::ops::RangeInclusive<i64>,
        reason: &str,
    ) -> Result<Option<i64>, SqsError> {
        match self.number(name)? {
            Some(n) if !range.contains(&n) => Err(SqsError::value(name, n, reason)),
            n => Ok(n),
        }
    }

    pub(crate) fn object(&self, name: &str) -> Result<Map<String, Value>, SqsError> {
        match self.get(name) {
            None => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(value) => Err(wrong(name, "an object", value)),
        }
    }

    /// An object of strings.
    pub(crate) fn texts(&self, name: &str) -> Result<BTreeMap<String, String>, SqsError> {
        let texts = self.object(name)?.into_iter().map(|(key, value)| match value {
            Value::String(text) => Ok((key, text)),
            value => Err(wrong(&format!("{name}.{key}"), "a string", &value)),
        });
        texts.collect()
    }

    /// A list of strings.
    pub(crate) fn list(&self, name: &str) -> Result<Vec<String>, SqsError> {
        let Some(value) = self.get(name) else {
            return Ok(Vec::new());
        };
        let list = value.as_array().ok_or_else(|| wrong(name, "a list", value))?;
        let text = |value: &Value| {
            value.as_str().map(str::to_owned).ok_or_else(|| wrong(name, "a list of strings", value))
        };
        list.iter().map(text).collect()
    }

    /// The entries of a batch.
    pub(crate) fn entries(&self) -> Result<Vec<&'a Map<String, Value>>, SqsError> {
        let value = self.get("Entries").ok_or_else(|| SqsError::missing("Entries"))?;
        let list = value.as_array().ok_or_else(|| wrong("Entries", "a list", value))?;
        let object =
            |value: &'a Value| value.as_object().ok_or_else(|| wrong("Entries", "a list of objects", value));
        list.iter().map(object).collect()
    }

    /// The queue that `QueueUrl` names: the last part of its path. Any host will do, so that a client may reach the
    /// endpoint by any of its names.
    pub(crate) fn queue(&self) -> Result<String, SqsError> {
        let url = self.required("QueueUrl")?;
        let path =
            url.split_once("://").map_or(url, |(_, rest)| rest.split_once('/').map_or("", |(_, path)| path));
        match path.trim_end_matches('/').rsplit('/').next() {
            Some(name) if !name.is_empty() => Ok(name.to_owned()),
            _ => Err(SqsError::no_queue()),
        }
    }
}

fn wrong(name: &str, expected: &str, value: &Value) -> SqsError {
    let got = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    };
    SqsError::malformed(format!("{name}: expected {expected}, got {got}"))
}
