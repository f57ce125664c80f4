//! The fields of a form, made from the schema of a task's params.

use serde_json::{Map, Value};

use crate::form::Form;

/// One param.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    /// Its key.
    pub(crate) key: String,
    pub(crate) kind: Kind,
    pub(crate) required: bool,
    pub(crate) description: Option<String>,
    /// The value that it has without one, as it would be written into the field.
    pub(crate) default: Option<String>,
    /// As it was filled in.
    pub(crate) value: String,
}

/// How a param is filled in.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Text,
    Number,
    /// One of these values, as JSON.
    Choice(Vec<Value>),
    /// Everything else is written as JSON.
    Json,
}

/// The most fields of a form, and the most values of a choice. What has more is written as JSON.
const FIELDS_MAX: usize = 50;
const CHOICES_MAX: usize = 100;

/// The fields of params that are an object with known keys.
pub(crate) fn fields_of(params: &Value) -> Option<Vec<Field>> {
    let whole = resolved(params, params);
    let properties = whole.get("properties")?.as_object()?;
    let is_object = whole.get("type").is_none_or(|one| one == "object");
    let is_plain = ["anyOf", "oneOf", "allOf"].iter().all(|key| whole.get(key).is_none());
    if !is_object || !is_plain || properties.is_empty() || properties.len() > FIELDS_MAX {
        return None;
    }
    let required: Vec<_> = whole
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let text = |schema: &Value, key: &str| schema.get(key).and_then(Value::as_str).map(str::to_owned);
    let mut fields: Vec<_> = properties
        .iter()
        .map(|(key, schema)| {
            let target = resolved(schema, params);
            Field {
                key: key.clone(),
                kind: kind(target),
                required: required.contains(&key.as_str()),
                description: text(schema, "description").or_else(|| text(target, "description")),
                default: schema.get("default").filter(|value| !value.is_null()).map(shown),
                value: String::new(),
            }
        })
        .collect();
    fields.sort_by_key(|field| !field.required);
    Some(fields)
}

/// The definition that a schema refers to, or itself.
fn resolved<'s>(schema: &'s Value, whole: &'s Value) -> &'s Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix("#/$defs/"));
    let definition = name.and_then(|name| {
        let name = name.replace("~1", "/").replace("~0", "~");
        whole.get("$defs")?.get(&name)
    });
    definition.unwrap_or(schema)
}

fn kind(schema: &Value) -> Kind {
    if let Some(Value::Array(values)) = schema.get("enum")
        && values.len() <= CHOICES_MAX
    {
        return Kind::Choice(values.clone());
    }
    if let Some(value) = schema.get("const") {
        return Kind::Choice(vec![value.clone()]);
    }
    let types: Vec<_> = match schema.get("type") {
        Some(Value::Array(types)) => types.iter().filter_map(Value::as_str).collect(),
        Some(one) => one.as_str().into_iter().collect(),
        None => Vec::new(),
    };
    // Null is an empty field.
    match types.iter().filter(|one| **one != "null").collect::<Vec<_>>()[..] {
        [&"string"] => Kind::Text,
        [&"integer" | &"number"] => Kind::Number,
        [&"boolean"] => Kind::Choice(vec![true.into(), false.into()]),
        _ => Kind::Json,
    }
}

/// A value as it stands in its field.
pub(crate) fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The name of a param's field.
pub(crate) fn name(key: &str) -> String {
    format!("param.{key}")
}

/// Takes over what was filled in.
pub(crate) fn fill(fields: &mut [Field], form: &Form) {
    for field in fields {
        form.exactly(&name(&field.key)).clone_into(&mut field.value);
    }
}

/// The params that the fields say, as JSON. A field that is empty and not required is left out. The error names the field.
pub(crate) fn params(fields: &[Field]) -> Result<String, String> {
    let mut map = Map::new();
    for Field { key, kind, required, value, .. } in fields {
        // A browser ends lines as HTTP does.
        let text = value.replace("\r\n", "\n");
        let trimmed = text.trim();
        if trimmed.is_empty() && !(*required && matches!(kind, Kind::Text)) {
            if *required {
                return Err(format!("{key}: it is required."));
            }
            continue;
        }
        let json = |what: &str| {
            serde_json::from_str::<Value>(trimmed)
                .map_err(|e| format!("{key}: {trimmed:?} is no {what}: {e}."))
        };
        let value = match kind {
            Kind::Text => Value::String(text),
            Kind::Number => {
                let number = json("number")?;
                if !number.is_number() {
                    return Err(format!("{key}: {trimmed:?} is no number."));
                }
                number
            }
            Kind::Choice(values) => match values.iter().find(|choice| shown(choice) == text) {
                Some(choice) => choice.clone(),
                None => return Err(format!("{key}: {trimmed:?} is none of its values.")),
            },
            Kind::Json => json("JSON")?,
        };
        map.insert(key.clone(), value);
    }
    Ok(Value::Object(map).to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields() -> Vec<Field> {
        fields_of(&json!({
            "$ref": "#/$defs/P",
            "$defs": {
                "P": {
                    "type": "object",
                    "properties": {
                        "user": {"type": "string"},
                        "count": {"type": ["integer", "null"], "default": 3},
                        "kind": {"$ref": "#/$defs/Kind"},
                        "old": {"type": "boolean"},
                        "tags": {"type": "array"},
                    },
                    "required": ["user"],
                },
                "Kind": {"enum": ["a", 1], "description": "Which."},
            },
        }))
        .expect("an object")
    }

    fn filled(values: &[(&str, &str)]) -> Result<String, String> {
        let mut fields = fields();
        for (key, value) in values {
            fields.iter_mut().find(|field| field.key == *key).expect("a field").value = (*value).to_owned();
        }
        params(&fields)
    }

    #[test]
    fn fields_become_params() {
        let found = fields();
        assert_eq!(found[0].key, "user", "what is required stands first");
        let kind = found.iter().find(|field| field.key == "kind").expect("a field");
        assert_eq!(kind.description.as_deref(), Some("Which."));
        assert_eq!(filled(&[]).as_deref(), Ok(r#"{"user":""}"#));
        assert_eq!(
            filled(&[
                ("user", "Ada"),
                ("count", " 7 "),
                ("kind", "1"),
                ("old", "false"),
                ("tags", "[\"x\"]")
            ])
            .as_deref(),
            Ok(r#"{"count":7,"kind":1,"old":false,"tags":["x"],"user":"Ada"}"#)
        );
        assert!(
            filled(&[("count", "many")]).expect_err("no number").starts_with("count: \"many\" is no number")
        );
        assert!(filled(&[("count", "true")]).is_err());
        assert_eq!(filled(&[("kind", "b")]), Err("kind: \"b\" is none of its values.".to_owned()));
        assert!(filled(&[("tags", "[")]).expect_err("no JSON").starts_with("tags: \"[\" is no JSON"));
    }

    #[test]
    fn other_schemas_have_no_fields() {
        for schema in
            [json!({}), json!(true), json!({"type": "array"}), json!({"anyOf": [{"properties": {"a": {}}}]})]
        {
            assert!(fields_of(&schema).is_none(), "{schema}");
        }
    }
}
