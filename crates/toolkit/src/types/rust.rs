//! Types in Rust, for serde.

use serde_json::Value;
use wasq_protocol::TaskName;

use crate::types::comment;
use crate::types::shape::{Form, Named, Shape, Types, type_name};

/// Words that are no names.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
    "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop",
    "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static",
    "struct", "super", "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual",
    "where", "while", "yield",
];

pub(super) fn module(task: &TaskName, types: &Types) -> String {
    let (declarations, params) = declarations(types);
    format!(
        r#"//! The types of the task {task}. Made by `wasq types`. They need serde, with its feature `derive`, and serde_json.

use serde::{{Deserialize, Serialize}};

/// The name of the task.
pub const TASK: &str = "{task}";

{declarations}/// The body of a message for the task {task}: send it by `send_message` of aws-sdk-sqs. A message that is sent again with the same id
/// runs once while its end is remembered.
pub fn message(params: &{params}, id: Option<&str>) -> serde_json::Result<String> {{
    #[derive(Serialize)]
    struct Message<'a> {{
        task: &'a str,
        params: &'a {params},
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a str>,
    }}
    serde_json::to_string(&Message {{ task: TASK, params, id }})
}}
"#
    )
}

/// The types alone, and the type of the params.
pub(super) fn declarations(types: &Types) -> (String, String) {
    let mut writer = Writer { types, text: String::new(), more: String::new() };
    for named in &types.named {
        writer.named(named);
    }
    let params = writer.shape(&types.params, "Params");
    let Writer { text, more, .. } = writer;
    (text + &more, params)
}

struct Writer<'a> {
    types: &'a Types,
    text: String,
    /// Enums that are made for a field.
    more: String,
}

impl Writer<'_> {
    fn named(&mut self, Named { name, description, form }: &Named) {
        let mut text = described(description.as_deref(), "/// ");
        match form {
            Form::Record(fields) => {
                text += &format!("{DERIVE}pub struct {name} {{\n");
                let mut taken: Vec<String> = Vec::new();
                for field in fields {
                    text += &described(field.description.as_deref(), "    /// ");
                    let is_optional = !field.required;
                    let mut shape = self.shape(&field.shape, &format!("{name} {}", field.key));
                    if is_optional {
                        text += "    #[serde(default, skip_serializing_if = \"Option::is_none\")]\n";
                        if !shape.starts_with("Option<") {
                            shape = format!("Option<{shape}>");
                        }
                    }
                    let mut ident = ident(&field.key);
                    while taken.contains(&ident) {
                        ident.push('_');
                    }
                    taken.push(ident.clone());
                    if ident.trim_start_matches("r#") != field.key {
                        text += &format!("    #[serde(rename = {:?})]\n", field.key);
                    }
                    text += &format!("    pub {ident}: {shape},\n");
                }
                text += "}\n\n";
            }
            Form::Shape(Shape::Values(values)) if let Some(variants) = texts(values) => {
                text += &enum_of_texts(name, &variants);
            }
            Form::Shape(Shape::Either(parts)) if !parts.contains(&Shape::Null) => {
                text += &self.enum_of_shapes(name, parts);
            }
            Form::Shape(shape) => {
                let shape = self.shape(shape, &format!("{name} value"));
                // A name for itself would have no end.
                text += &match self.types.reaches_itself(name) {
                    true => format!("{DERIVE}#[serde(transparent)]\npub struct {name}(pub {shape});\n\n"),
                    false => format!("pub type {name} = {shape};\n\n"),
                };
            }
        }
        self.text += &text;
    }

    /// The type of a shape. `hint` is the name of an enum that is made for it.
    fn shape(&mut self, shape: &Shape, hint: &str) -> String {
        match shape {
            Shape::Any => "serde_json::Value".to_owned(),
            Shape::Null => "()".to_owned(),
            Shape::Boolean => "bool".to_owned(),
            Shape::Integer => "i64".to_owned(),
            Shape::Number => "f64".to_owned(),
            Shape::Text => "String".to_owned(),
            Shape::Values(values) => match texts(values) {
                Some(variants) => {
                    let name = self.free(hint);
                    self.more += &enum_of_texts(&name, &variants);
                    name
                }
                None => "serde_json::Value".to_owned(),
            },
            Shape::List(items) => format!("Vec<{}>", self.shape(items, hint)),
            Shape::Tuple(parts) => {
                let parts: Vec<_> = parts
                    .iter()
                    .enumerate()
                    .map(|(i, part)| self.shape(part, &format!("{hint} {}", i + 1)))
                    .collect();
                format!("({}{})", parts.join(", "), if parts.len() == 1 { "," } else { "" })
            }
            Shape::Map(values) => {
                format!("std::collections::BTreeMap<String, {}>", self.shape(values, hint))
            }
            Shape::Named(name) if self.types.contains_itself(name) => format!("Box<{name}>"),
            Shape::Named(name) => name.clone(),
            Shape::Either(parts) => match &parts[..] {
                [one, Shape::Null] => format!("Option<{}>", self.shape(one, hint)),
                [others @ .., Shape::Null] => {
                    format!("Option<{}>", self.shape(&Shape::Either(others.to_vec()), hint))
                }
                _ => {
                    let name = self.free(hint);
                    let made = self.enum_of_shapes(&name, parts);
                    self.more += &made;
                    name
                }
            },
        }
    }

    /// A name that no other type of the module has.
    fn free(&self, hint: &str) -> String {
        let base = type_name(hint);
        let is_taken = |name: &str| {
            self.types.named.iter().any(|named| named.name == name)
                || self.more.contains(&format!("pub enum {name} "))
        };
        let numbered = (2..).map(|number| format!("{base}{number}"));
        std::iter::once(base.clone()).chain(numbered).find(|name| !is_taken(name)).unwrap_or(base)
    }

    fn enum_of_shapes(&mut self, name: &str, parts: &[Shape]) -> String {
        let mut text = format!("{DERIVE}#[serde(untagged)]\npub enum {name} {{\n");
        let mut taken: Vec<String> = Vec::new();
        for (i, part) in parts.iter().enumerate() {
            let mut variant = match part {
                Shape::Boolean => "Boolean".to_owned(),
                Shape::Integer => "Integer".to_owned(),
                Shape::Number => "Number".to_owned(),
                Shape::Text => "Text".to_owned(),
                Shape::Named(name) => name.clone(),
                _ => format!("Form{}", i + 1),
            };
            while taken.contains(&variant) {
                variant.push('_');
            }
            let shape = self.shape(part, &format!("{name} {}", i + 1));
            text += &format!("    {variant}({shape}),\n");
            taken.push(variant);
        }
        text + "}\n\n"
    }
}

const DERIVE: &str = "#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]\n";

fn described(text: Option<&str>, before: &str) -> String {
    text.map(|text| comment(text, before)).unwrap_or_default()
}

/// The values, if all are texts.
fn texts(values: &[Value]) -> Option<Vec<&str>> {
    values.iter().map(Value::as_str).collect::<Option<Vec<_>>>().filter(|texts| !texts.is_empty())
}

fn enum_of_texts(name: &str, values: &[&str]) -> String {
    let mut text = format!("{DERIVE}pub enum {name} {{\n");
    let mut taken: Vec<String> = Vec::new();
    for value in values {
        let mut variant = type_name(value);
        while taken.contains(&variant) || variant == "Self" {
            variant.push('_');
        }
        text += &format!("    #[serde(rename = {value:?})]\n    {variant},\n");
        taken.push(variant);
    }
    text + "}\n\n"
}

fn ident(key: &str) -> String {
    let mut name = String::new();
    for c in key.chars() {
        match c {
            'a'..='z' | '0'..='9' | '_' => name.push(c),
            'A'..='Z' => {
                if name.ends_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()) {
                    name.push('_');
                }
                name.push(c.to_ascii_lowercase());
            }
            _ => name.push('_'),
        }
    }
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
        name = format!("key_{}", name.trim_start_matches('_'));
    }
    match name.as_str() {
        "self" | "super" | "crate" => name + "_",
        word if KEYWORDS.contains(&word) => format!("r#{word}"),
        _ => name,
    }
}
