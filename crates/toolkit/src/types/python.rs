//! Types in Python.

use serde_json::Value;
use wasq_protocol::TaskName;

use crate::types::comment;
use crate::types::shape::{Field, Form, Named, Shape, Types};

/// Words that cannot be names in a class.
const KEYWORDS: [&str; 35] = [
    "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class", "continue", "def",
    "del", "elif", "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is",
    "lambda", "nonlocal", "not", "or", "pass", "raise", "return", "try", "while", "with", "yield",
];

pub(super) fn module(task: &TaskName, types: &Types) -> String {
    let text = format!(
        "\"\"\"The types of the task {task}. Made by `wasq types`.\"\"\"\n\nfrom __future__ import annotations\n\nimport \
         json\nfrom datetime import datetime\nfrom typing import Any, Literal, NotRequired, TypeAlias, TypedDict\n\n"
    );
    let text = text + &declarations(types);
    let params = shape(&types.params);
    text + &format!(
        r#"
def message(params: {params}, *, id: str | None = None, not_before: datetime | None = None) -> str:
    """The body of a message for the task {task}. The task does not run before `not_before`, a time with a time zone."""
    body: dict[str, Any] = {{"task": "{task}", "params": params}}
    if id is not None:
        body["id"] = id
    if not_before is not None:
        body["not_before"] = not_before.isoformat()
    return json.dumps(body)


def enqueue(sqs: Any, queue_url: str, params: {params}, *, id: str | None = None, not_before: datetime | None = None) -> str:
    """Sends a message to the task {task}, and returns its id. `sqs` is boto3.client("sqs").

    Sent again with the same `id`, it runs once while its end is remembered.
    """
    body = message(params, id=id, not_before=not_before)
    sent = sqs.send_message(QueueUrl=queue_url, MessageBody=body, MessageGroupId="{task}")
    return id or sent["MessageId"]
"#
    )
}

/// The types alone.
pub(super) fn declarations(types: &Types) -> String {
    let mut text = String::new();
    for Named { name, description, form } in &types.named {
        text += "\n";
        match form {
            Form::Record(fields) if fields.iter().all(|field| is_name(&field.key)) => {
                text += &class(name, description.as_deref(), fields);
            }
            Form::Record(fields) => {
                text += &described(description.as_deref(), "# ");
                let fields = fields.iter().map(|field| {
                    let key = Value::from(field.key.as_str());
                    format!("    {key}: {},\n", Value::from(field_shape(field)))
                });
                text += &format!("{name} = TypedDict(\"{name}\", {{\n{}}})\n", fields.collect::<String>());
            }
            Form::Shape(form) => {
                text += &described(description.as_deref(), "# ");
                // A text, because it may name types that come later.
                text += &format!("{name}: TypeAlias = {}\n", Value::from(shape(form)));
            }
        }
        text += "\n";
    }
    text
}

fn described(text: Option<&str>, before: &str) -> String {
    text.map(|text| comment(text, before)).unwrap_or_default()
}

fn class(name: &str, description: Option<&str>, fields: &[Field]) -> String {
    let mut text = format!("class {name}(TypedDict):\n");
    // A comment, because a text would have to be escaped.
    text += &described(description, "    # ");
    for field in fields {
        text += &described(field.description.as_deref(), "    # ");
        text += &format!("    {}: {}\n", field.key, field_shape(field));
    }
    text
}

fn field_shape(field: &Field) -> String {
    match field.required {
        true => shape(&field.shape),
        false => format!("NotRequired[{}]", shape(&field.shape)),
    }
}

fn is_name(key: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let begins = |c: char| c.is_ascii_alphabetic() || c == '_';
    // In a class, two underscores in front change the name.
    key.starts_with(begins) && key.chars().all(plain) && !key.starts_with("__") && !KEYWORDS.contains(&key)
}

pub(super) fn shape(shape_of: &Shape) -> String {
    let joined = |parts: &[Shape]| parts.iter().map(shape).collect::<Vec<_>>();
    match shape_of {
        Shape::Any => "Any".to_owned(),
        Shape::Null => "None".to_owned(),
        Shape::Boolean => "bool".to_owned(),
        Shape::Integer => "int".to_owned(),
        Shape::Number => "float".to_owned(),
        Shape::Text => "str".to_owned(),
        Shape::Values(values) => literals(values),
        Shape::List(items) => format!("list[{}]", shape(items)),
        Shape::Tuple(parts) if parts.is_empty() => "tuple[()]".to_owned(),
        Shape::Tuple(parts) => format!("tuple[{}]", joined(parts).join(", ")),
        Shape::Map(values) => format!("dict[str, {}]", shape(values)),
        Shape::Named(name) => name.clone(),
        Shape::Either(parts) => joined(parts).join(" | "),
    }
}

fn literals(values: &[Value]) -> String {
    let literal = |value: &Value| match value {
        Value::Null => Some("None".to_owned()),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::String(_) => Some(value.to_string()),
        Value::Number(number) if number.is_i64() || number.is_u64() => Some(value.to_string()),
        // No literal type has these.
        Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match values.iter().map(literal).collect::<Option<Vec<_>>>() {
        Some(literals) if !literals.is_empty() => format!("Literal[{}]", literals.join(", ")),
        _ => "Any".to_owned(),
    }
}
