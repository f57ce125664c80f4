//! The JSON Schema (2020-12) of a task's params and result.
//!
//! A component may carry it in a custom section, [`SECTION`]: a JSON object with the keys `params` and `result`, each a schema. The
//! publisher checks it, and senders and workers apply it.
//!
//! A schema is written by whoever may upload, so its cost is bounded: it may use only the keywords of this crate, it may refer only to
//! its own `$defs`, and a check ends after a number of steps that depends on the size of the value.

mod apply;
mod compare;
mod compile;
mod format;
mod section;
mod seen;

use std::fmt;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

pub use compare::Narrower;
pub use section::{BYTES_MAX, SECTION, find};

/// The schemas of a task.
#[derive(Debug)]
pub struct Schemas {
    /// The schema of its params, if it has one.
    pub params: Option<Schema>,
    /// The schema of its result, if it has one.
    pub result: Option<Schema>,
}

/// A schema that can be applied.
#[derive(Debug)]
pub struct Schema {
    nodes: Vec<compile::Node>,
}

/// Why a value does not fit a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The place in the value, as a JSON Pointer: `/user/name`; empty for the whole value.
    pub pointer: String,
    /// The form that the schema wants there, in words.
    pub expected: String,
    /// The value that is there, in words.
    pub got: String,
}

/// The bytes of a pointer that the text of a mismatch has.
const POINTER_SHOWN: usize = 300;

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pointer, expected, got } = self;
        let place = if pointer.is_empty() {
            "the whole"
        } else {
            &pointer[..pointer.floor_char_boundary(POINTER_SHOWN)]
        };
        write!(f, "at {place}: expected {expected}, got {got}")
    }
}

impl std::error::Error for Mismatch {}

impl Schemas {
    /// Reads the content of the section. The error names the place in it, and the problem.
    pub fn parse(content: &[u8]) -> Result<Self, String> {
        let error = |problem: String| format!("{SECTION}: {problem}");
        let value: Value = serde_json::from_slice(content).map_err(|e| error(format!("not JSON: {e}")))?;
        Self::of(&value).map_err(error)
    }

    /// Reads the content of the section as a JSON value.
    pub fn of(value: &Value) -> Result<Self, String> {
        let Value::Object(map) = value else {
            return Err("expected an object with the keys params and result".to_owned());
        };
        if let Some(key) = map.keys().find(|key| !["params", "result"].contains(&key.as_str())) {
            return Err(format!("unknown key {key:?}; the keys are params and result, each a JSON Schema"));
        }
        let schema = |key: &str, map: &Map<String, Value>| {
            let parse = |schema| Schema::of(schema).map_err(|problem| format!("{key}{problem}"));
            map.get(key).map(parse).transpose()
        };
        Ok(Self { params: schema("params", map)?, result: schema("result", map)? })
    }
}

impl Schema {
    /// Compiles a schema. The error begins with the place in it, as a JSON Pointer.
    pub fn of(schema: &Value) -> Result<Self, String> {
        Ok(Self { nodes: compile::compile(schema)? })
    }

    /// Checks a JSON text.
    pub fn check(&self, json: &str) -> Result<(), Mismatch> {
        let value: &RawValue = serde_json::from_str(json).map_err(|e| Mismatch {
            pointer: String::new(),
            expected: "JSON".to_owned(),
            got: e.to_string(),
        })?;
        apply::apply(&self.nodes, value)
    }
}

#[cfg(test)]
mod tests;
