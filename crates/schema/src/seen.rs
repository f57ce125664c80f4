//! A JSON value, read one level deep. A part that no schema looks at is never read: it may have any depth, any numbers and any texts.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::compile::Type;

/// The characters of a value that a mismatch shows.
const SHOWN: usize = 40;
/// The keys of an object that a mismatch shows.
const KEYS_SHOWN: usize = 10;

/// A value and its JSON text.
#[derive(Debug)]
pub(crate) struct Seen<'v> {
    pub(crate) json: &'v str,
    pub(crate) value: Parts<'v>,
}

/// A value, with its parts as they are written.
#[derive(Debug)]
pub(crate) enum Parts<'v> {
    Null,
    Bool(bool),
    /// Numbers may be larger than any type holds: its text is the value's.
    Number,
    Text(String),
    List(Vec<&'v RawValue>),
    Object(BTreeMap<String, &'v RawValue>),
    /// A text, or a key, that is no Unicode: half of a surrogate pair.
    Damaged,
}

impl<'v> Seen<'v> {
    pub(crate) fn new(raw: &'v RawValue) -> Self {
        let json = raw.get();
        let value = match json.as_bytes().first() {
            Some(b'n') => Parts::Null,
            Some(b't' | b'f') => Parts::Bool(json.starts_with('t')),
            Some(b'"') => serde_json::from_str(json).map_or(Parts::Damaged, Parts::Text),
            Some(b'[') => serde_json::from_str(json).map_or(Parts::Damaged, Parts::List),
            Some(b'{') => serde_json::from_str(json).map_or(Parts::Damaged, Parts::Object),
            _ => Parts::Number,
        };
        Self { json, value }
    }

    /// A text that stands nowhere, such as a key.
    pub(crate) fn text(json: &'v str, text: String) -> Self {
        Self { json, value: Parts::Text(text) }
    }

    /// The number, if it is one.
    pub(crate) fn number(&self) -> Option<Number<'v>> {
        matches!(self.value, Parts::Number).then_some(Number(self.json))
    }

    pub(crate) fn is_of(&self, expected: Type) -> bool {
        match (&self.value, expected) {
            (Parts::Null, Type::Null)
            | (Parts::Bool(_), Type::Boolean)
            | (Parts::Number, Type::Number)
            | (Parts::Text(_), Type::String)
            | (Parts::List(_), Type::Array)
            | (Parts::Object(_), Type::Object) => true,
            (Parts::Number, Type::Integer) => Number(self.json).is_whole(),
            _ => false,
        }
    }

    /// Whether it is this value; 1 and 1.0 are equal.
    pub(crate) fn is(&self, expected: &Value) -> bool {
        match (&self.value, expected) {
            (Parts::Null, Value::Null) => true,
            (Parts::Bool(one), Value::Bool(other)) => one == other,
            (Parts::Text(one), Value::String(other)) => one == other,
            (Parts::Number, Value::Number(other)) => {
                let one = Number(self.json);
                one.whole().is_some_and(|one| Some(one) == other.as_i128())
                    || other.as_f64().is_some_and(|other| other == one.float())
            }
            (Parts::List(_), Value::Array(_)) | (Parts::Object(_), Value::Object(_)) => {
                serde_json::from_str::<Value>(self.json).is_ok_and(|value| value == *expected)
            }
            _ => false,
        }
    }

    /// It in a few words.
    pub(crate) fn shown(&self) -> String {
        let kind = match &self.value {
            Parts::Null => return "null".to_owned(),
            Parts::Bool(_) => "a boolean",
            Parts::Number => "a number",
            Parts::Text(_) => "a text",
            Parts::Damaged => "a text that is no Unicode",
            Parts::List(values) => return format!("a list of {}", values.len()),
            Parts::Object(map) => {
                let keys: Vec<_> =
                    map.keys().take(KEYS_SHOWN).map(|key| format!("{:?}", short(key))).collect();
                return if keys.is_empty() {
                    "an empty object".to_owned()
                } else {
                    format!("an object with {}", keys.join(", "))
                };
            }
        };
        format!("{kind}: {}", short(self.json))
    }
}

/// The text of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Number<'v>(&'v str);

impl Number<'_> {
    /// The nearest floating-point number; infinite if it is larger than any.
    pub(crate) fn float(self) -> f64 {
        self.0.parse().unwrap_or(f64::NAN)
    }

    /// The number, if it is written as a whole one.
    pub(crate) fn whole(self) -> Option<i128> {
        self.0.parse().ok()
    }

    /// As JSON Schema says, 1.0 is a whole number.
    fn is_whole(self) -> bool {
        !self.0.contains(['.', 'e', 'E']) || self.float().fract() == 0.0
    }
}

/// The beginning of a text.
pub(crate) fn short(text: &str) -> String {
    let mut short: String = text.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
