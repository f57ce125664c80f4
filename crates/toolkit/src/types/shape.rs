//! The shapes of a schema: as much of it as the types of programming languages can say.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// The form of a value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Shape {
    /// Anything.
    Any,
    Null,
    Boolean,
    Integer,
    Number,
    Text,
    /// One of these values.
    Values(Vec<Value>),
    List(Box<Shape>),
    /// Values at fixed places.
    Tuple(Vec<Shape>),
    /// An object with any keys.
    Map(Box<Shape>),
    /// A type with a name.
    Named(String),
    /// One of several.
    Either(Vec<Shape>),
}

/// A type with a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) form: Form,
}

/// The meaning of a name.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// An object with these keys.
    Record(Vec<Field>),
    Shape(Shape),
}

/// A key of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) shape: Shape,
    pub(super) required: bool,
    pub(super) description: Option<String>,
}

/// All types of a task: those of the params stand before the one that uses them.
#[derive(Debug)]
pub(super) struct Types {
    pub(super) named: Vec<Named>,
    /// The shape of the params. The type of the result, if there is one, has the name `Result`.
    pub(super) params: Shape,
}

impl Types {
    /// Reads the content of a section.
    pub(super) fn of(schema: &Value) -> Self {
        let mut names: BTreeSet<String> = TAKEN.map(str::to_owned).into();
        let mut named = Vec::new();
        let [params, _] = [("params", "Params"), ("result", "Result")].map(|(key, name)| {
            let Some(whole) = schema.get(key) else { return Shape::Any };
            let mut reader = Reader { whole, names: &mut names, named: &mut named, known: BTreeMap::new() };
            // Its name is taken first: no definition gets it.
            let name = reader.free(name);
            reader.top(whole, name)
        });
        Self { named, params }
    }

    /// Whether a type can contain a value of itself without a list or a map between: such a type needs a box.
    pub(super) fn contains_itself(&self, name: &str) -> bool {
        self.finds(name, false)
    }

    /// Whether a type names itself anywhere.
    pub(super) fn reaches_itself(&self, name: &str) -> bool {
        self.finds(name, true)
    }

    fn finds(&self, name: &str, also_in_lists: bool) -> bool {
        let (mut open, mut seen) = (vec![name], BTreeSet::new());
        while let Some(next) = open.pop() {
            let Some(named) = self.named.iter().find(|named| named.name == next) else { continue };
            for used in used(&named.form, also_in_lists) {
                if used == name {
                    return true;
                }
                if seen.insert(used) {
                    open.push(used);
                }
            }
        }
        false
    }
}

/// The names that a form has in itself, or also in its lists and maps.
fn used(form: &Form, also_in_lists: bool) -> Vec<&str> {
    fn add<'s>(shape: &'s Shape, also_in_lists: bool, names: &mut Vec<&'s str>) {
        match shape {
            Shape::Named(name) => names.push(name),
            Shape::Tuple(parts) | Shape::Either(parts) => {
                parts.iter().for_each(|part| add(part, also_in_lists, names));
            }
            Shape::List(part) | Shape::Map(part) if also_in_lists => add(part, also_in_lists, names),
            _ => {}
        }
    }
    let mut names = Vec::new();
    match form {
        Form::Record(fields) => fields.iter().for_each(|field| add(&field.shape, also_in_lists, &mut names)),
        Form::Shape(shape) => add(shape, also_in_lists, &mut names),
    }
    names
}

/// Names that the modules use for something else.
const TAKEN: [&str; 27] = [
    "Any",
    "Array",
    "Box",
    "Date",
    "Deserialize",
    "Err",
    "Error",
    "Failure",
    "False",
    "Literal",
    "Message",
    "None",
    "NotRequired",
    "Ok",
    "Option",
    "Options",
    "Promise",
    "Queue",
    "Record",
    "Self",
    "Serialize",
    "Some",
    "String",
    "True",
    "TypeAlias",
    "TypedDict",
    "Vec",
];

struct Reader<'a> {
    whole: &'a Value,
    /// Names that are taken.
    names: &'a mut BTreeSet<String>,
    named: &'a mut Vec<Named>,
    /// The names of the definitions that were met.
    known: BTreeMap<String, String>,
}

impl Reader<'_> {
    /// A name that no other type has.
    fn free(&mut self, name: &str) -> String {
        let base = type_name(name);
        let mut name = base.clone();
        for number in 2.. {
            if self.names.insert(name.clone()) {
                break;
            }
            name = format!("{base}{number}");
        }
        name
    }

    /// The type at the top has a name, whatever its shape is.
    fn top(&mut self, schema: &Value, name: String) -> Shape {
        let form = match schema.as_object().filter(|map| is_record(map)) {
            Some(map) => Form::Record(self.fields(map, &name)),
            None => Form::Shape(self.shape(schema, &name)),
        };
        self.named.push(Named { name: name.clone(), description: description(schema), form });
        Shape::Named(name)
    }

    /// The shape of a schema. `hint` is the name of a type that is made for it.
    fn shape(&mut self, schema: &Value, hint: &str) -> Shape {
        let Some(map) = schema.as_object() else { return Shape::Any };
        if let Some(reference) = map.get("$ref").and_then(Value::as_str) {
            return self.reference(reference);
        }
        if let Some(value) = map.get("const") {
            return Shape::Values(vec![value.clone()]);
        }
        if let Some(Value::Array(values)) = map.get("enum") {
            return Shape::Values(values.clone());
        }
        for key in ["anyOf", "oneOf"] {
            if let Some(Value::Array(parts)) = map.get(key)
                && !map.contains_key("type")
            {
                let parts = parts
                    .iter()
                    .enumerate()
                    .map(|(i, part)| self.shape(part, &format!("{hint} {}", title(part, i))));
                return either(parts.collect());
            }
        }
        if let Some(Value::Array(parts)) = map.get("allOf")
            && let [only] = &parts[..]
            && !map.contains_key("type")
        {
            return self.shape(only, hint);
        }
        match map.get("type") {
            Some(Value::Array(types)) => {
                let parts = types.iter().map(|one| self.typed(one, map, hint));
                either(parts.collect())
            }
            Some(one) => self.typed(one, map, hint),
            None if map.contains_key("properties") => self.object(map, hint),
            None => Shape::Any,
        }
    }

    fn typed(&mut self, one: &Value, map: &Map<String, Value>, hint: &str) -> Shape {
        match one.as_str().unwrap_or_default() {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "integer" => Shape::Integer,
            "number" => Shape::Number,
            "string" => Shape::Text,
            "array" => self.array(map, hint),
            "object" => self.object(map, hint),
            _ => Shape::Any,
        }
    }

    fn array(&mut self, map: &Map<String, Value>, hint: &str) -> Shape {
        let size = |key: &str| map.get(key).and_then(Value::as_u64);
        if let Some(Value::Array(parts)) = map.get("prefixItems")
            && size("minItems") == Some(parts.len() as u64)
            && (size("maxItems") == size("minItems") || map.get("items") == Some(&Value::Bool(false)))
        {
            let parts = parts
                .iter()
                .enumerate()
                .map(|(i, part)| self.shape(part, &format!("{hint} {}", title(part, i))));
            return Shape::Tuple(parts.collect());
        }
        let items = match (map.get("prefixItems"), map.get("items")) {
            (None, Some(items)) => self.shape(items, &format!("{hint} item")),
            _ => Shape::Any,
        };
        Shape::List(Box::new(items))
    }

    fn object(&mut self, map: &Map<String, Value>, hint: &str) -> Shape {
        if is_record(map) {
            let name = self.free(hint);
            let form = Form::Record(self.fields(map, &name));
            let description = map.get("description").and_then(Value::as_str).map(str::to_owned);
            self.named.push(Named { name: name.clone(), description, form });
            return Shape::Named(name);
        }
        let values = match map.get("additionalProperties") {
            Some(values) => self.shape(values, &format!("{hint} value")),
            None => Shape::Any,
        };
        Shape::Map(Box::new(values))
    }

    fn fields(&mut self, map: &Map<String, Value>, name: &str) -> Vec<Field> {
        let required: Vec<_> = map
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let properties = map.get("properties").and_then(Value::as_object).into_iter().flatten();
        let mut fields: Vec<_> = properties
            .map(|(key, schema)| Field {
                key: key.clone(),
                shape: self.shape(schema, &format!("{name} {key}")),
                required: required.contains(&key.as_str()),
                description: description(schema),
            })
            .collect();
        // A key may be required without a schema of its own.
        for key in required {
            if fields.iter().all(|field| field.key != key) {
                fields.push(Field {
                    key: key.to_owned(),
                    shape: Shape::Any,
                    required: true,
                    description: None,
                });
            }
        }
        fields.sort_by_key(|field| !field.required);
        fields
    }

    fn reference(&mut self, reference: &str) -> Shape {
        let Some(key) = reference.strip_prefix("#/$defs/") else {
            // The whole schema.
            return Shape::Any;
        };
        let key = key.replace("~1", "/").replace("~0", "~");
        if let Some(name) = self.known.get(&key) {
            return Shape::Named(name.clone());
        }
        let Some(schema) = self.whole.get("$defs").and_then(|defs| defs.get(&key)).cloned() else {
            return Shape::Any;
        };
        let name = self.free(&key);
        self.known.insert(key, name.clone());
        self.top(&schema, name)
    }
}

/// Whether an object has keys of its own.
fn is_record(map: &Map<String, Value>) -> bool {
    let one_type = map.get("type").is_none_or(|one| one == "object");
    let has_keys = map.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty())
        || map.get("required").and_then(Value::as_array).is_some_and(|keys| !keys.is_empty());
    one_type && has_keys && !["anyOf", "oneOf", "$ref"].iter().any(|key| map.contains_key(*key))
}

fn either(parts: Vec<Shape>) -> Shape {
    let mut flat = Vec::new();
    for part in parts {
        match part {
            Shape::Any => return Shape::Any,
            Shape::Either(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    let mut each: Vec<Shape> = Vec::new();
    for part in flat {
        if !each.contains(&part) {
            each.push(part);
        }
    }
    // Null stands last.
    each.sort_by_key(|part| *part == Shape::Null);
    if each.len() == 1 { each.remove(0) } else { Shape::Either(each) }
}

fn title(schema: &Value, index: usize) -> String {
    schema.get("title").and_then(Value::as_str).map_or_else(|| (index + 1).to_string(), str::to_owned)
}

fn description(schema: &Value) -> Option<String> {
    schema.get("description").and_then(Value::as_str).map(str::to_owned)
}

/// A name such as `HomeAddress`, of ASCII letters and digits.
pub(super) fn type_name(text: &str) -> String {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name: String = words
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        })
        .collect();
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) { name } else { format!("Type{name}") }
}
