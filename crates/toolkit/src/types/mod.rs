//! Types for the senders of a task, from its schema: `wasq types`.

mod python;
mod rust;
mod shape;
mod task;
mod typescript;

use std::fmt;
use std::str::FromStr;

use serde_json::Value;
use wasq_protocol::TaskName;

use shape::Types;

pub(crate) use task::{cases, source};

/// A language in which types can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderLanguage {
    /// Interfaces, and a function that sends by the SDK for JavaScript.
    TypeScript,
    /// `TypedDict`s, and a function that sends by boto3.
    Python,
    /// Structs for serde, and a function that writes a message.
    Rust,
}

impl SenderLanguage {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TypeScript, Self::Python, Self::Rust];

    /// Its name in commands.
    pub fn name(self) -> &'static str {
        match self {
            Self::TypeScript => "typescript",
            Self::Python => "python",
            Self::Rust => "rust",
        }
    }
}

impl fmt::Display for SenderLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for SenderLanguage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = match text.to_lowercase().as_str() {
            "ts" => "typescript".to_owned(),
            "py" => "python".to_owned(),
            "rs" => "rust".to_owned(),
            other => other.to_owned(),
        };
        Self::ALL
            .into_iter()
            .find(|language| language.name() == name)
            .ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Writes a module with the types of a task's params and result, and a small function that sends. `schema` is the content of the
/// section `wasq:schema`.
pub fn sender_types(task: &TaskName, schema: &Value, language: SenderLanguage) -> String {
    let types = Types::of(schema);
    match language {
        SenderLanguage::TypeScript => typescript::module(task, &types),
        SenderLanguage::Python => python::module(task, &types),
        SenderLanguage::Rust => rust::module(task, &types),
    }
}

/// The lines of a comment, each behind `before`.
fn comment(text: &str, before: &str) -> String {
    // A comment must not end where the schema's author wants it to: languages differ in what ends a line.
    let is_break =
        |c: char| matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let text = text.replace("\r\n", "\n").replace("*/", "* /");
    let line = |line: &str| {
        let plain: String = line.chars().filter(|c| !c.is_control() || *c == '\t').collect();
        format!("{before}{plain}").trim_end().to_owned() + "\n"
    };
    text.trim_end_matches(is_break).split(is_break).map(line).collect()
}

#[cfg(test)]
mod tests;
