//! From a schema and a value to the first mismatch.

use std::collections::BTreeSet;

use serde_json::Value;
use serde_json::value::RawValue;

use crate::Mismatch;
use crate::compile::{Bounds, Node, Numbers, Pattern, Type, escaped};
use crate::format::Format;
use crate::seen::{Number, Parts, Seen, short};

/// The steps of a check: some for any value, and more for a larger one. A step takes some ten nanoseconds.
const STEPS: u64 = 20_000;
const STEPS_PER_BYTE: u64 = 20;
/// Schemas that are applied in each other. Two that refer to each other would have no end.
const DEPTH_MAX: usize = 200;
/// References that are followed for the words of a mismatch.
const REFERENCES: u8 = 5;
/// The values of an `enum` that a mismatch shows.
const VALUES_SHOWN: usize = 10;

/// Whether a part of a schema takes a JSON text. `None`: it would take more than these steps, which are spent.
pub(crate) fn takes(nodes: &[Node], index: usize, json: &str, steps: &mut u64) -> Option<bool> {
    let value: &RawValue = serde_json::from_str(json).ok()?;
    let mut check = Check { nodes, steps: *steps, path: Vec::new() };
    let checked = check.raw(index, value, 0);
    *steps = check.steps;
    match checked {
        Ok(()) => Some(true),
        Err(Stop::Mismatch(_)) => Some(false),
        Err(Stop::TooCostly) => None,
    }
}

pub(crate) fn apply(nodes: &[Node], value: &RawValue) -> Result<(), Mismatch> {
    let steps = STEPS + STEPS_PER_BYTE * value.get().len() as u64;
    let mut check = Check { nodes, steps, path: Vec::new() };
    match check.raw(0, value, 0) {
        Ok(()) => Ok(()),
        Err(Stop::Mismatch(mismatch)) => Err(*mismatch),
        Err(Stop::TooCostly) => Err(Mismatch {
            pointer: String::new(),
            expected: format!("a value that the schema can be applied to in {steps} steps"),
            got: "a value that takes more".to_owned(),
        }),
    }
}

enum Stop {
    Mismatch(Box<Mismatch>),
    TooCostly,
}

enum Part {
    Key(String),
    Index(usize),
}

struct Check<'n> {
    nodes: &'n [Node],
    /// Steps that are left.
    steps: u64,
    /// The place in the value.
    path: Vec<Part>,
}

impl Check<'_> {
    fn spend(&mut self, steps: usize) -> Result<(), Stop> {
        self.steps = self.steps.checked_sub(steps as u64).ok_or(Stop::TooCostly)?;
        Ok(())
    }

    /// The current place, as a JSON Pointer.
    fn pointer(&self) -> String {
        self.path.iter().fold(String::new(), |mut pointer, part| {
            pointer.push('/');
            match part {
                Part::Key(key) => pointer.push_str(&escaped(key)),
                Part::Index(index) => pointer.push_str(&index.to_string()),
            }
            pointer
        })
    }

    fn mismatch(&mut self, expected: String, value: &Seen<'_>) -> Result<(), Stop> {
        // Writing it takes time as well: keys may be long.
        let length = |part: &Part| match part {
            Part::Key(key) => key.len(),
            Part::Index(_) => 1,
        };
        self.spend(self.path.iter().map(length).sum::<usize>() / 16 + 1)?;
        Err(Stop::Mismatch(Box::new(Mismatch { pointer: self.pointer(), expected, got: value.shown() })))
    }

    /// Goes down to a key.
    fn enter(&mut self, key: &str) -> Result<(), Stop> {
        self.spend(1 + key.len() / 16)?;
        self.path.push(Part::Key(key.to_owned()));
        Ok(())
    }

    /// Reads a value, and checks it.
    fn raw(&mut self, index: usize, value: &RawValue, depth: usize) -> Result<(), Stop> {
        if self.nodes[index].takes_all {
            return self.spend(1);
        }
        self.spend(value.get().len() / 16)?;
        self.node(index, &Seen::new(value), depth)
    }

    fn node(&mut self, index: usize, value: &Seen<'_>, depth: usize) -> Result<(), Stop> {
        self.spend(1)?;
        if depth > DEPTH_MAX {
            return Err(Stop::TooCostly);
        }
        let node = &self.nodes[index];
        if node.never {
            return self.mismatch("nothing".to_owned(), value);
        }
        if let Some(types) = &node.types
            && !types.iter().any(|expected| value.is_of(*expected))
        {
            let names: Vec<_> = types.iter().map(|expected| name_of(*expected)).collect();
            return self.mismatch(names.join(" or "), value);
        }
        if let Some(values) = &node.one_of_values {
            let parses = matches!(value.value, Parts::List(_) | Parts::Object(_));
            self.spend(values.len() * if parses { 1 + value.json.len() / 8 } else { 1 })?;
            if !values.iter().any(|expected| value.is(expected)) {
                let listed: Vec<_> = values.iter().take(VALUES_SHOWN).map(brief).collect();
                let more = if values.len() > VALUES_SHOWN { " or others" } else { "" };
                return self.mismatch(format!("{}{more}", listed.join(" or ")), value);
            }
        }
        match &value.value {
            Parts::Number => self.number(node, value)?,
            Parts::Text(text) => self.text(node, text, value)?,
            Parts::List(values) => self.array(node, values, value, depth)?,
            Parts::Object(_) => self.object(node, value, depth)?,
            Parts::Damaged => return self.mismatch("a text that is Unicode".to_owned(), value),
            Parts::Null | Parts::Bool(_) => {}
        }
        for part in &node.all_of {
            self.node(*part, value, depth + 1)?;
        }
        if !node.any_of.is_empty() {
            self.some_of(&node.any_of, value, depth, false)?;
        }
        if !node.one_of.is_empty() {
            self.some_of(&node.one_of, value, depth, true)?;
        }
        if let Some(part) = node.not
            && self.fits(part, value, depth)?.is_none()
        {
            return self.mismatch("something else".to_owned(), value);
        }
        Ok(())
    }

    /// The mismatch with a part of the schema, if there is one.
    fn fits(&mut self, part: usize, value: &Seen<'_>, depth: usize) -> Result<Option<Mismatch>, Stop> {
        let place = self.path.len();
        match self.node(part, value, depth + 1) {
            Ok(()) => Ok(None),
            Err(Stop::Mismatch(mismatch)) => {
                self.path.truncate(place);
                Ok(Some(*mismatch))
            }
            Err(Stop::TooCostly) => Err(Stop::TooCostly),
        }
    }

    /// Checks that a value fits one of several schemas, or exactly one of them.
    fn some_of(
        &mut self,
        parts: &[usize],
        value: &Seen<'_>,
        depth: usize,
        exactly_one: bool,
    ) -> Result<(), Stop> {
        let mut closest: Vec<Mismatch> = Vec::new();
        let mut fitting = 0;
        for part in parts {
            match self.fits(*part, value, depth)? {
                None if !exactly_one => return Ok(()),
                None => fitting += 1,
                Some(mismatch) => {
                    // Those that came farthest are the most likely to be meant.
                    let farthest = closest.first().map_or(0, |closest| closest.pointer.len());
                    if mismatch.pointer.len() > farthest {
                        closest.clear();
                    }
                    if mismatch.pointer.len() >= farthest {
                        closest.push(mismatch);
                    }
                }
            }
        }
        if fitting > 1 {
            let expected = format!("a value that fits one of {} forms, and not {fitting}", parts.len());
            return self.mismatch(expected, value);
        }
        if fitting == 1 {
            return Ok(());
        }
        let pointer = self.pointer();
        match closest.first() {
            Some(first) if first.pointer != pointer => {
                let mut mismatch = first.clone();
                let same = closest.iter().filter(|other| other.pointer == first.pointer);
                mismatch.expected = either(same.map(|other| other.expected.clone()));
                Err(Stop::Mismatch(Box::new(mismatch)))
            }
            _ => {
                let kinds = either(parts.iter().filter_map(|part| self.kind(*part, REFERENCES)));
                let expected = if kinds.is_empty() { "one of several forms".to_owned() } else { kinds };
                self.mismatch(expected, value)
            }
        }
    }

    /// A few words for what a part of the schema wants.
    fn kind(&self, part: usize, references: u8) -> Option<String> {
        let node = &self.nodes[part];
        if let Some(values) = &node.one_of_values {
            return Some(values.iter().take(VALUES_SHOWN).map(brief).collect::<Vec<_>>().join(" or "));
        }
        if let (Some(Format::Text { words, .. }), None | Some([Type::String])) =
            (node.format, node.types.as_deref())
        {
            return Some(words.to_owned());
        }
        let Some(types) = &node.types else {
            // A reference to a definition.
            let [definition] = node.all_of[..] else { return None };
            return self.kind(definition, references.checked_sub(1)?);
        };
        Some(types.iter().map(|one| name_of(*one)).collect::<Vec<_>>().join(" or "))
    }

    fn number(&mut self, node: &Node, value: &Seen<'_>) -> Result<(), Stop> {
        let Numbers { minimum, maximum, above, below, multiple_of } = &node.numbers;
        let number = value.number();
        let float = number.map_or(f64::NAN, Number::float);
        if minimum.is_some_and(|minimum| float < minimum) {
            return self.mismatch(format!("at least {}", minimum.unwrap_or_default()), value);
        }
        if maximum.is_some_and(|maximum| float > maximum) {
            return self.mismatch(format!("at most {}", maximum.unwrap_or_default()), value);
        }
        if above.is_some_and(|above| float <= above) {
            return self.mismatch(format!("more than {}", above.unwrap_or_default()), value);
        }
        if below.is_some_and(|below| float >= below) {
            return self.mismatch(format!("less than {}", below.unwrap_or_default()), value);
        }
        if let Some(Format::Whole { name, least, most }) = node.format
            && !number.and_then(Number::whole).is_some_and(|whole| (least..=most).contains(&whole))
        {
            return self.mismatch(format!("a whole number of the type {name}"), value);
        }
        if let Some(factor) = multiple_of {
            let times = float / factor;
            if (times - times.round()).abs() > 1e-9 * times.abs().max(1.0) {
                return self.mismatch(format!("a multiple of {factor}"), value);
            }
        }
        Ok(())
    }

    fn text(&mut self, node: &Node, text: &str, value: &Seen<'_>) -> Result<(), Stop> {
        if node.length.least.is_some() || node.length.most.is_some() {
            self.spend(text.len() / 16)?;
            self.bounds(&node.length, text.chars().count(), "characters", value)?;
        }
        if let Some(pattern) = &node.pattern
            && !self.matches(pattern, text)?
        {
            return self.mismatch(format!("a text with the pattern {}", pattern.text), value);
        }
        if let Some(Format::Text { words, fits }) = node.format {
            self.spend(text.len() / 16)?;
            if !fits(text) {
                return self.mismatch(words.to_owned(), value);
            }
        }
        Ok(())
    }

    fn matches(&mut self, pattern: &Pattern, text: &str) -> Result<bool, Stop> {
        // The time grows with both.
        self.spend((text.len() + 1) * (pattern.text.len() + 1) / 2)?;
        Ok(pattern.regex.is_match(text))
    }

    /// Checks a key of an object against the schema of its keys.
    fn name(&mut self, part: usize, key: &str, item: &RawValue, depth: usize) -> Result<(), Stop> {
        self.spend(1 + key.len() / 8)?;
        let json = Value::from(key).to_string();
        let name = Seen::text(&json, key.to_owned());
        let mut check = Check { nodes: self.nodes, steps: self.steps, path: Vec::new() };
        let checked = check.node(part, &name, depth + 1);
        self.steps = check.steps;
        match checked {
            Err(Stop::Mismatch(mismatch)) => {
                self.mismatch(format!("a key that is {}", mismatch.expected), &Seen::new(item))
            }
            other => other,
        }
    }

    fn bounds(&mut self, bounds: &Bounds, count: usize, what: &str, value: &Seen<'_>) -> Result<(), Stop> {
        let count = count as u64;
        match (bounds.least, bounds.most) {
            (Some(least), _) if count < least => self.mismatch(format!("at least {least} {what}"), value),
            (_, Some(most)) if count > most => self.mismatch(format!("at most {most} {what}"), value),
            _ => Ok(()),
        }
    }

    fn array(
        &mut self,
        node: &Node,
        values: &[&RawValue],
        value: &Seen<'_>,
        depth: usize,
    ) -> Result<(), Stop> {
        self.bounds(&node.count, values.len(), "items", value)?;
        if node.unique {
            let mut seen = BTreeSet::new();
            for (index, item) in values.iter().enumerate() {
                self.spend(1 + item.get().len() / 8)?;
                let value: Result<Value, _> = serde_json::from_str(item.get());
                let text = value.map_or_else(|_| item.get().to_owned(), |value| value.to_string());
                if !seen.insert(text) {
                    self.path.push(Part::Index(index));
                    return self.mismatch("an item that is there once".to_owned(), &Seen::new(item));
                }
            }
        }
        for (index, item) in values.iter().enumerate() {
            let Some(part) = node.prefix.get(index).copied().or(node.items) else { break };
            self.path.push(Part::Index(index));
            self.raw(part, item, depth + 1)?;
            self.path.pop();
        }
        Ok(())
    }

    fn object(&mut self, node: &Node, value: &Seen<'_>, depth: usize) -> Result<(), Stop> {
        let Parts::Object(map) = &value.value else { return Ok(()) };
        self.bounds(&node.keys, map.len(), "keys", value)?;
        let any_key = node.properties.is_empty()
            && node.additional.is_none()
            && node.names.is_none()
            && node.by_pattern.is_empty();
        for (key, item) in map.iter().filter(|_| !any_key) {
            self.spend(1)?;
            if let Some(names) = node.names {
                self.enter(key)?;
                self.name(names, key, item, depth)?;
                self.path.pop();
            }
            let mut known = false;
            for (pattern, part) in &node.by_pattern {
                if self.matches(pattern, key)? {
                    known = true;
                    self.enter(key)?;
                    self.raw(*part, item, depth + 1)?;
                    self.path.pop();
                }
            }
            let part = match (node.properties.get(key), node.additional) {
                (Some(part), _) => *part,
                (None, _) if known => continue,
                (None, Some(part)) if self.nodes[part].never => {
                    let known: Vec<_> = node
                        .properties
                        .keys()
                        .take(VALUES_SHOWN)
                        .map(|key| format!("{:?}", short(key)))
                        .collect();
                    let known = if let Some((pattern, _)) = node.by_pattern.first() {
                        format!("a key with the pattern {}", pattern.text)
                    } else if known.is_empty() {
                        "no keys".to_owned()
                    } else {
                        format!("only the keys {}", known.join(", "))
                    };
                    self.enter(key)?;
                    return self.mismatch(known, &Seen::new(item));
                }
                (None, Some(part)) => part,
                (None, None) => continue,
            };
            self.enter(key)?;
            self.raw(part, item, depth + 1)?;
            self.path.pop();
        }
        self.spend(node.required.len())?;
        match node.required.iter().find(|key| !map.contains_key(*key)) {
            Some(missing) => self.mismatch(format!("the key {:?}", short(missing)), value),
            None => Ok(()),
        }
    }
}

/// Each text once, with "or" between them.
fn either(texts: impl Iterator<Item = String>) -> String {
    let mut all: Vec<String> = Vec::new();
    for text in texts.take(VALUES_SHOWN) {
        if !all.contains(&text) {
            all.push(text);
        }
    }
    all.join(" or ")
}

pub(crate) fn name_of(expected: Type) -> &'static str {
    match expected {
        Type::Null => "null",
        Type::Boolean => "a boolean",
        Type::Integer => "a whole number",
        Type::Number => "a number",
        Type::String => "a text",
        Type::Array => "a list",
        Type::Object => "an object",
    }
}

/// A value as JSON, shortened.
fn brief(value: &Value) -> String {
    short(&value.to_string())
}
