//! From a schema's JSON to nodes that refer to each other by their numbers.

use std::collections::BTreeMap;

use regex_lite::{Regex, RegexBuilder};
use serde_json::{Map, Value};

use crate::format::Format;

/// A schema without its parts: these are other nodes. The first node is the whole.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The schema `true`, or `{}`: everything fits.
    pub(crate) takes_all: bool,
    /// The schema `false`: nothing fits.
    pub(crate) never: bool,
    pub(crate) types: Option<Vec<Type>>,
    pub(crate) one_of_values: Option<Vec<Value>>,
    pub(crate) numbers: Numbers,
    pub(crate) length: Bounds,
    pub(crate) pattern: Option<Pattern>,
    pub(crate) format: Option<Format>,
    pub(crate) count: Bounds,
    pub(crate) unique: bool,
    pub(crate) prefix: Vec<usize>,
    pub(crate) items: Option<usize>,
    pub(crate) keys: Bounds,
    pub(crate) required: Vec<String>,
    pub(crate) properties: BTreeMap<String, usize>,
    pub(crate) by_pattern: Vec<(Pattern, usize)>,
    pub(crate) additional: Option<usize>,
    pub(crate) names: Option<usize>,
    pub(crate) all_of: Vec<usize>,
    pub(crate) any_of: Vec<usize>,
    pub(crate) one_of: Vec<usize>,
    pub(crate) not: Option<usize>,
}

/// A type of JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

/// The limits of a number.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) minimum: Option<f64>,
    pub(crate) maximum: Option<f64>,
    pub(crate) above: Option<f64>,
    pub(crate) below: Option<f64>,
    pub(crate) multiple_of: Option<f64>,
}

/// The least and the most of a length or a count.
#[derive(Debug, Default)]
pub(crate) struct Bounds {
    pub(crate) least: Option<u64>,
    pub(crate) most: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Pattern {
    pub(crate) text: String,
    pub(crate) regex: Regex,
}

/// The most nodes of a schema, and the most levels of schemas in each other.
const NODES_MAX: usize = 5_000;
const DEPTH_MAX: usize = 64;
/// The longest pattern, in bytes, and the most memory of its program.
const PATTERN_BYTES_MAX: usize = 500;
const PATTERN_SIZE_MAX: usize = 100 << 10;
/// The dialect.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";
/// Keywords that say nothing about what fits.
const ANNOTATIONS: [&str; 11] = [
    "title",
    "description",
    "default",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "contentEncoding",
    "contentMediaType",
    "$defs",
];

pub(crate) fn compile(schema: &Value) -> Result<Vec<Node>, String> {
    let mut compiler =
        Compiler { whole: schema, nodes: Vec::new(), definitions: BTreeMap::new(), open: Vec::new() };
    compiler.node(schema, "", 0)?;
    // One after the other, and not in each other: a chain of definitions may be long.
    while let Some((index, name, schema)) = compiler.open.pop() {
        let node = compiler.parse(schema, &format!("/$defs/{}", escaped(&name)), 0)?;
        compiler.nodes[index] = node;
    }
    match itself(&compiler.nodes) {
        true => Err(": a schema refers to itself with no key and no item between".to_owned()),
        false => Ok(compiler.nodes),
    }
}

/// Whether a node is a part of itself without a step down in the value: applying it would have no end.
fn itself(nodes: &[Node]) -> bool {
    #[derive(Clone, Copy, PartialEq)]
    enum Seen {
        Not,
        Open,
        Done,
    }
    let parts = |node: &Node| -> Vec<usize> {
        let forms = [&node.all_of, &node.any_of, &node.one_of].into_iter().flatten().copied();
        forms.chain(node.not).collect()
    };
    let mut seen = vec![Seen::Not; nodes.len()];
    for first in 0..nodes.len() {
        let mut open = vec![(first, false)];
        while let Some((node, is_left)) = open.pop() {
            match seen[node] {
                _ if is_left => seen[node] = Seen::Done,
                Seen::Open => return true,
                Seen::Done => {}
                Seen::Not => {
                    seen[node] = Seen::Open;
                    open.push((node, true));
                    open.extend(
                        parts(&nodes[node])
                            .into_iter()
                            .filter(|part| seen[*part] != Seen::Done)
                            .map(|part| (part, false)),
                    );
                }
            }
        }
    }
    false
}

struct Compiler<'a> {
    whole: &'a Value,
    nodes: Vec<Node>,
    /// The nodes of the `$defs` that were met, by their names.
    definitions: BTreeMap<String, usize>,
    /// Those that are not compiled yet.
    open: Vec<(usize, String, &'a Value)>,
}

impl<'a> Compiler<'a> {
    /// Compiles a schema at a place. Returns the number of its node.
    fn node(&mut self, schema: &'a Value, at: &str, depth: usize) -> Result<usize, String> {
        if depth > DEPTH_MAX {
            return Err(format!("{at}: schemas lie in each other more than {DEPTH_MAX} levels deep"));
        }
        if self.nodes.len() >= NODES_MAX {
            return Err(format!("{at}: the schema has more than {NODES_MAX} parts"));
        }
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        let node = self.parse(schema, at, depth)?;
        self.nodes[index] = node;
        Ok(index)
    }

    fn parse(&mut self, schema: &'a Value, at: &str, depth: usize) -> Result<Node, String> {
        match schema {
            Value::Bool(fits) => Ok(Node { takes_all: *fits, never: !fits, ..Node::default() }),
            Value::Object(map) => self.object(map, at, depth),
            other => Err(format!("{at}: expected a schema, an object or a boolean, got {other}")),
        }
    }

    fn object(&mut self, map: &'a Map<String, Value>, at: &str, depth: usize) -> Result<Node, String> {
        let is_annotation = |key: &str| ANNOTATIONS.contains(&key) || key.starts_with("x-");
        let takes_all = map.keys().all(|key| is_annotation(key));
        let mut node = Node { takes_all, ..Node::default() };
        for (key, value) in map {
            let here = format!("{at}/{}", escaped(key));
            match key.as_str() {
                "type" => node.types = Some(types(value, &here)?),
                "enum" => {
                    let Value::Array(values) = value else {
                        return Err(format!("{here}: expected a list of values"));
                    };
                    node.one_of_values = Some(values.clone());
                }
                "const" => node.one_of_values = Some(vec![value.clone()]),
                "minimum" => node.numbers.minimum = Some(number(value, &here)?),
                "maximum" => node.numbers.maximum = Some(number(value, &here)?),
                "exclusiveMinimum" => node.numbers.above = Some(number(value, &here)?),
                "exclusiveMaximum" => node.numbers.below = Some(number(value, &here)?),
                "multipleOf" => {
                    let factor = number(value, &here)?;
                    if factor <= 0.0 {
                        return Err(format!("{here}: expected a number above 0, got {value}"));
                    }
                    node.numbers.multiple_of = Some(factor);
                }
                "minLength" => node.length.least = Some(count(value, &here)?),
                "maxLength" => node.length.most = Some(count(value, &here)?),
                "minItems" => node.count.least = Some(count(value, &here)?),
                "maxItems" => node.count.most = Some(count(value, &here)?),
                "minProperties" => node.keys.least = Some(count(value, &here)?),
                "maxProperties" => node.keys.most = Some(count(value, &here)?),
                "uniqueItems" => {
                    node.unique = value
                        .as_bool()
                        .ok_or_else(|| format!("{here}: expected true or false, got {value}"))?;
                }
                "pattern" => node.pattern = Some(pattern(value, &here)?),
                "format" => node.format = value.as_str().and_then(Format::named),
                "required" => node.required = texts(value, &here)?,
                "items" => node.items = Some(self.node(value, &here, depth + 1)?),
                "additionalProperties" => node.additional = Some(self.node(value, &here, depth + 1)?),
                "not" => node.not = Some(self.node(value, &here, depth + 1)?),
                "propertyNames" => node.names = Some(self.node(value, &here, depth + 1)?),
                "patternProperties" => {
                    let Value::Object(properties) = value else {
                        return Err(format!("{here}: expected an object of schemas"));
                    };
                    for (text, schema) in properties {
                        let place = format!("{here}/{}", escaped(text));
                        let pattern = pattern(&Value::String(text.clone()), &place)?;
                        node.by_pattern.push((pattern, self.node(schema, &place, depth + 1)?));
                    }
                }
                "prefixItems" => node.prefix = self.list(value, &here, depth)?,
                "anyOf" => node.any_of = self.list(value, &here, depth)?,
                "oneOf" => node.one_of = self.list(value, &here, depth)?,
                "allOf" => node.all_of.extend(self.list(value, &here, depth)?),
                "properties" => {
                    let Value::Object(properties) = value else {
                        return Err(format!("{here}: expected an object of schemas"));
                    };
                    for (name, schema) in properties {
                        let place = format!("{here}/{}", escaped(name));
                        node.properties.insert(name.clone(), self.node(schema, &place, depth + 1)?);
                    }
                }
                "$ref" => {
                    let definition = self.definition(value, &here)?;
                    node.all_of.push(definition);
                }
                "$schema" if at.is_empty() => {
                    if value.as_str().map(|dialect| dialect.trim_end_matches('#')) != Some(DIALECT) {
                        return Err(format!("{here}: expected {DIALECT:?}, got {value}"));
                    }
                }
                annotation if is_annotation(annotation) => {}
                unknown => {
                    return Err(format!(
                        "{here}: the keyword {unknown:?} is unknown, or not supported; docs/types.md lists the keywords"
                    ));
                }
            }
        }
        Ok(node)
    }

    fn list(&mut self, value: &'a Value, at: &str, depth: usize) -> Result<Vec<usize>, String> {
        let Value::Array(schemas) = value else {
            return Err(format!("{at}: expected a list of schemas"));
        };
        if schemas.is_empty() {
            return Err(format!("{at}: expected at least one schema"));
        }
        let schemas = schemas.iter().enumerate();
        schemas.map(|(i, schema)| self.node(schema, &format!("{at}/{i}"), depth + 1)).collect()
    }

    /// The node that a `$ref` refers to.
    fn definition(&mut self, value: &Value, at: &str) -> Result<usize, String> {
        let text = value.as_str().unwrap_or_default();
        if text == "#" {
            return Ok(0);
        }
        let name = text.strip_prefix("#/$defs/").map(|name| name.replace("~1", "/").replace("~0", "~"));
        let found = name.as_ref().and_then(|name| self.whole.get("$defs")?.get(name));
        let (Some(name), Some(schema)) = (name, found) else {
            return Err(format!(
                "{at}: expected \"#\", or the name of a definition such as \"#/$defs/NAME\" that is there, got {value}"
            ));
        };
        if let Some(index) = self.definitions.get(&name) {
            return Ok(*index);
        }
        let index = self.nodes.len();
        self.nodes.push(Node::default());
        self.definitions.insert(name.clone(), index);
        self.open.push((index, name, schema));
        Ok(index)
    }
}

fn types(value: &Value, at: &str) -> Result<Vec<Type>, String> {
    let one = |value: &Value| {
        Some(match value.as_str()? {
            "null" => Type::Null,
            "boolean" => Type::Boolean,
            "integer" => Type::Integer,
            "number" => Type::Number,
            "string" => Type::String,
            "array" => Type::Array,
            "object" => Type::Object,
            _ => return None,
        })
    };
    let types = match value {
        Value::Array(values) if !values.is_empty() => values.iter().map(one).collect(),
        value => one(value).map(|one| vec![one]),
    };
    types.ok_or_else(|| {
        format!("{at}: expected null, boolean, integer, number, string, array or object, or a list of them, got {value}")
    })
}

fn number(value: &Value, at: &str) -> Result<f64, String> {
    value.as_f64().ok_or_else(|| format!("{at}: expected a number, got {value}"))
}

fn count(value: &Value, at: &str) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| format!("{at}: expected a whole number from 0, got {value}"))
}

fn texts(value: &Value, at: &str) -> Result<Vec<String>, String> {
    let texts = value.as_array().and_then(|values| {
        values.iter().map(|value| value.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
    });
    texts.ok_or_else(|| format!("{at}: expected a list of texts, got {value}"))
}

fn pattern(value: &Value, at: &str) -> Result<Pattern, String> {
    let Some(text) = value.as_str() else {
        return Err(format!("{at}: expected a text, got {value}"));
    };
    if text.len() > PATTERN_BYTES_MAX {
        return Err(format!(
            "{at}: a pattern has at most {PATTERN_BYTES_MAX} bytes, and this one {}",
            text.len()
        ));
    }
    let regex = RegexBuilder::new(text).size_limit(PATTERN_SIZE_MAX).build();
    let regex = regex.map_err(|e| format!("{at}: the pattern {text:?} cannot be used: {e}"))?;
    Ok(Pattern { text: text.to_owned(), regex })
}

/// A key as a part of a JSON Pointer.
pub(crate) fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}
