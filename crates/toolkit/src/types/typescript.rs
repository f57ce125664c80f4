//! Types in TypeScript.

use serde_json::Value;
use wasq_protocol::TaskName;

use crate::types::comment;
use crate::types::shape::{Form, Named, Shape, Types};

pub(super) fn module(task: &TaskName, types: &Types) -> String {
    let text = format!("// The types of the task {task}. Made by `wasq types`.\n\n") + &declarations(types);
    let params = shape(&types.params);
    text + &format!(
        r#"/** How a message is sent. */
export interface Options {{
  /** The id of the message: sent again with the same id, it runs once while its end is remembered. */
  id?: string;
  /** The task does not run before this time. */
  notBefore?: Date;
}}

/** A client of SQS, such as `new SQS()` of @aws-sdk/client-sqs. */
export interface Queue {{
  sendMessage(input: {{ QueueUrl: string; MessageBody: string; MessageGroupId?: string }}): Promise<{{ MessageId?: string }}>;
}}

/** The body of a message for the task {task}. */
export function message(params: {params}, options: Options = {{}}): string {{
  return JSON.stringify({{ task: "{task}", params, id: options.id, not_before: options.notBefore?.toISOString() }});
}}

/** Sends a message to the task {task}. Returns its id. */
export async function enqueue(queue: Queue, queueUrl: string, params: {params}, options: Options = {{}}): Promise<string> {{
  const sent = await queue.sendMessage({{ QueueUrl: queueUrl, MessageBody: message(params, options), MessageGroupId: "{task}" }});
  return options.id ?? sent.MessageId ?? "";
}}
"#
    )
}

/// The types alone.
pub(super) fn declarations(types: &Types) -> String {
    let mut text = String::new();
    for Named { name, description, form } in &types.named {
        if let Some(description) = description {
            text += &documented(description, "");
        }
        match form {
            Form::Record(fields) => {
                text += &format!("export interface {name} {{\n");
                for field in fields {
                    if let Some(description) = &field.description {
                        text += &documented(description, "  ");
                    }
                    let optional = if field.required { "" } else { "?" };
                    text += &format!("  {}{optional}: {};\n", key(&field.key), shape(&field.shape));
                }
                text += "}\n\n";
            }
            Form::Shape(form) => text += &format!("export type {name} = {};\n\n", shape(form)),
        }
    }
    text
}

fn documented(text: &str, indent: &str) -> String {
    format!("{indent}/**\n{}{indent} */\n", comment(text, &format!("{indent} * ")))
}

fn key(key: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '$';
    let is_name = !key.is_empty() && key.chars().all(plain) && !key.starts_with(|c: char| c.is_ascii_digit());
    if is_name { key.to_owned() } else { Value::from(key).to_string() }
}

pub(super) fn shape(shape_of: &Shape) -> String {
    let joined = |parts: &[Shape]| parts.iter().map(shape).collect::<Vec<_>>();
    match shape_of {
        Shape::Any => "unknown".to_owned(),
        Shape::Null => "null".to_owned(),
        Shape::Boolean => "boolean".to_owned(),
        Shape::Integer | Shape::Number => "number".to_owned(),
        Shape::Text => "string".to_owned(),
        // An object or a list as a value has no literal type.
        Shape::Values(values) if values.iter().any(|value| value.is_object() || value.is_array()) => {
            "unknown".to_owned()
        }
        Shape::Values(values) if values.is_empty() => "never".to_owned(),
        Shape::Values(values) => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "),
        Shape::List(items) => format!("Array<{}>", shape(items)),
        Shape::Tuple(parts) => format!("[{}]", joined(parts).join(", ")),
        // Not a `Record`: an alias may name itself in an object only.
        Shape::Map(values) => format!("{{ [key: string]: {} }}", shape(values)),
        Shape::Named(name) => name.clone(),
        Shape::Either(parts) => joined(parts).join(" | "),
    }
}
