//! The beginning of a task that has its schema already: `wasq new --from-schema`.

use serde_json::{Map, Value};
use wasq_protocol::TaskName;
use wasq_schema::Schemas;

use crate::language::Language;
use crate::types::shape::Types;
use crate::types::{python, rust, typescript};

/// The source of a task in a language that has types for its params.
pub(crate) fn source(task: &TaskName, schema: &Value, language: Language) -> Option<String> {
    let types = Types::of(schema);
    Some(match language {
        Language::Rust => {
            let (declarations, params) = rust::declarations(&types);
            format!(
                "//! The task {task}. Its params fit schema.json when it starts.\n\nuse serde::{{Deserialize, Serialize}};\nuse \
                 wasq_task::{{Failure, task}};\n\n{declarations}#[task]\nfn run(params: {params}) -> std::result::Result<serde_json::Value, Failure> \
                 {{\n    log::info!(\"params: {{params:?}}\");\n    Ok(serde_json::Value::Null)\n}}\n"
            )
        }
        Language::Python => {
            let params = python::shape(&types.params);
            let declarations = python::declarations(&types);
            format!(
                "\"\"\"The task {task}. Its params fit schema.json when it starts.\"\"\"\n\nimport logging\nfrom typing import Any, \
                 Literal, NotRequired, TypeAlias, TypedDict\n\nfrom wasq_task import task\n\n{declarations}\n@task\ndef run(params: \
                 {params}):\n    logging.info(\"params: %s\", params)\n"
            )
        }
        Language::TypeScript => {
            let params = typescript::shape(&types.params);
            let declarations = typescript::declarations(&types);
            format!(
                "// The task {task}. Its params fit schema.json when it starts.\n\nimport {{ log }} from \
                 \"wasq-task\";\n\n{declarations}export default function run(params: {params}): unknown {{\n  log.info(`params: \
                 ${{JSON.stringify(params)}}`);\n  return null;\n}}\n"
            )
        }
        Language::JavaScript | Language::C | Language::Cpp | Language::Zig | Language::Go => return None,
    })
}

/// The tests of such a task: one with params that fit, if some can be made up.
pub(crate) fn cases(schema: &Value) -> String {
    let params = schema.get("params").cloned().unwrap_or(Value::Bool(true));
    let sample = sample(&params, &params, 0);
    let fits = Schemas::of(schema)
        .ok()
        .and_then(|schemas| schemas.params)
        .is_none_or(|schema| schema.check(&sample.to_string()).is_ok());
    let text = sample.to_string();
    if !fits || text.contains("'''") {
        return "# Write params that fit schema.json:\n#\n# [[case]]\n# name = \"it runs\"\n# params = {}\n"
            .to_owned();
    }
    format!("[[case]]\nname = \"it runs\"\nparams_json = '''{text}'''\nexpect.success_json = \"null\"\n")
}

/// The levels of a made-up value: schemas may refer to themselves.
const LEVELS_MAX: u8 = 10;

/// A value that may fit a schema.
fn sample(schema: &Value, whole: &Value, level: u8) -> Value {
    let Some(map) = schema.as_object().filter(|_| level < LEVELS_MAX) else { return Value::Null };
    let first = |key: &str| map.get(key).and_then(Value::as_array).and_then(|values| values.first());
    if let Some(value) = map
        .get("const")
        .or_else(|| map.get("default"))
        .or_else(|| first("examples"))
        .or_else(|| first("enum"))
    {
        return value.clone();
    }
    if let Some(name) = map.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/$defs/"))
    {
        let name = name.replace("~1", "/").replace("~0", "~");
        return whole
            .get("$defs")
            .and_then(|defs| defs.get(&name))
            .map_or(Value::Null, |target| sample(target, whole, level + 1));
    }
    if let Some(part) = first("anyOf").or_else(|| first("oneOf")).or_else(|| first("allOf")) {
        return sample(part, whole, level + 1);
    }
    let one = match map.get("type") {
        Some(Value::Array(types)) => types.first(),
        one => one,
    };
    let number = |key: &str| {
        map.get(key).and_then(Value::as_u64).and_then(|count| usize::try_from(count.min(100)).ok())
    };
    match one.and_then(Value::as_str) {
        Some("string") => match map.get("format").and_then(Value::as_str) {
            Some("date") => "2026-11-27".into(),
            Some("date-time") => "2026-11-27T10:00:00Z".into(),
            Some("partial-date-time") => "2026-11-27T10:00:00".into(),
            Some("time") => "10:00:00Z".into(),
            Some("uuid") => "67e55044-10b1-426f-9247-bb680e5fe0c8".into(),
            _ => "x".repeat(number("minLength").unwrap_or(1).max(1)).into(),
        },
        Some("integer" | "number") => map.get("minimum").cloned().unwrap_or_else(|| 1.into()),
        Some("boolean") => true.into(),
        Some("array") => {
            let items = map.get("prefixItems").and_then(Value::as_array);
            let mut values: Vec<_> =
                items.into_iter().flatten().map(|item| sample(item, whole, level + 1)).collect();
            while values.len() < number("minItems").unwrap_or(0) {
                values.push(map.get("items").map_or(Value::Null, |item| sample(item, whole, level + 1)));
            }
            values.into()
        }
        Some("object") => {
            let mut object = Map::new();
            let required =
                map.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
            for key in required {
                let property = map.get("properties").and_then(|properties| properties.get(key));
                object.insert(
                    key.to_owned(),
                    property.map_or(Value::Null, |schema| sample(schema, whole, level + 1)),
                );
            }
            object.into()
        }
        _ => Value::Null,
    }
}
