use serde_json::{Value, json};

use crate::{Schema, Schemas};

fn schema(value: Value) -> Schema {
    Schema::of(&value).expect("a schema")
}

#[track_caller]
fn fits(schema: &Schema, value: Value) {
    if let Err(mismatch) = schema.check(&value.to_string()) {
        panic!("{value}: {mismatch}");
    }
}

#[track_caller]
fn refused(schema: &Schema, value: Value, expected: &str) {
    let mismatch = schema.check(&value.to_string()).expect_err("it does not fit");
    assert_eq!(mismatch.to_string(), expected);
}

fn user() -> Schema {
    schema(json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "description": "A user.",
        "properties": {
            "user": {"type": "string", "minLength": 1, "maxLength": 39, "pattern": "^[a-z-]+$"},
            "count": {"type": "integer", "minimum": 1, "maximum": 100, "default": 10},
            "kind": {"enum": ["new", "old", 7]},
            "tags": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "uniqueItems": true},
            "since": {"type": ["string", "null"], "format": "date"},
            "of": {"$ref": "#/$defs/Node"}
        },
        "required": ["user"],
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {"value": {"type": "number"}, "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}},
                "required": ["value"],
                "additionalProperties": false
            }
        }
    }))
}

#[test]
fn what_fits() {
    let user = user();
    fits(&user, json!({"user": "javimb"}));
    fits(
        &user,
        json!({"user": "javimb", "count": 1.0, "kind": 7.0, "tags": ["a", "b"], "since": null, "other": 1}),
    );
    fits(&user, json!({"user": "javimb", "of": {"value": 1.5, "next": {"value": 2, "next": null}}}));
}

#[test]
fn what_does_not_fit_is_named() {
    let user = user();
    refused(&user, json!({}), "at the whole: expected the key \"user\", got an empty object");
    refused(&user, json!([1]), "at the whole: expected an object, got a list of 1");
    refused(&user, json!({"user": 7}), "at /user: expected a text, got a number: 7");
    refused(&user, json!({"user": ""}), "at /user: expected at least 1 characters, got a text: \"\"");
    refused(
        &user,
        json!({"user": "Ä"}),
        "at /user: expected a text with the pattern ^[a-z-]+$, got a text: \"Ä\"",
    );
    refused(
        &user,
        json!({"user": "a", "count": 1.5}),
        "at /count: expected a whole number, got a number: 1.5",
    );
    refused(&user, json!({"user": "a", "count": 0}), "at /count: expected at least 1, got a number: 0");
    refused(
        &user,
        json!({"user": "a", "kind": "odd"}),
        "at /kind: expected \"new\" or \"old\" or 7, got a text: \"odd\"",
    );
    refused(&user, json!({"user": "a", "tags": ["x", 2]}), "at /tags/1: expected a text, got a number: 2");
    refused(
        &user,
        json!({"user": "a", "tags": ["x", "x"]}),
        "at /tags/1: expected an item that is there once, got a text: \"x\"",
    );
    refused(
        &user,
        json!({"user": "a", "since": 2026}),
        "at /since: expected a text or null, got a number: 2026",
    );
    refused(
        &user,
        json!({"user": "a", "of": {"value": 1, "next": {"value": "x"}}}),
        "at /of/next/value: expected a number, got a text: \"x\"",
    );
    refused(
        &user,
        json!({"user": "a", "of": {"value": 1, "nxt": 2}}),
        "at /of/nxt: expected only the keys \"next\", \"value\", got a number: 2",
    );
    refused(
        &user,
        json!({"user": "a", "of": {"value": 1, "next": 5}}),
        "at /of/next: expected an object or null, got a number: 5",
    );
}

#[test]
fn forms_and_tuples() {
    let shape = schema(json!({
        "oneOf": [
            {"type": "object", "properties": {"type": {"const": "circle"}, "r": {"type": "number"}}, "required": ["type", "r"]},
            {"type": "object", "properties": {"type": {"const": "line"}}, "required": ["type"]}
        ]
    }));
    fits(&shape, json!({"type": "circle", "r": 1}));
    fits(&shape, json!({"type": "line"}));
    refused(
        &shape,
        json!({"type": "cube"}),
        "at /type: expected \"circle\" or \"line\", got a text: \"cube\"",
    );
    refused(&shape, json!(1), "at the whole: expected an object, got a number: 1");
    let both = schema(json!({"oneOf": [{"type": "number"}, {"type": "integer"}]}));
    refused(
        &both,
        json!(1),
        "at the whole: expected a value that fits one of 2 forms, and not 2, got a number: 1",
    );
    let pair = schema(json!({"prefixItems": [{"type": "string"}, {"type": "number"}], "items": false}));
    fits(&pair, json!(["a", 1]));
    refused(&pair, json!(["a", 1, 2]), "at /2: expected nothing, got a number: 2");
    let not = schema(json!({"not": {"type": "null"}, "multipleOf": 0.01}));
    fits(&not, json!(19.99));
    refused(&not, json!(null), "at the whole: expected something else, got null");
    refused(&not, json!(0.005), "at the whole: expected a multiple of 0.01, got a number: 0.005");
}

#[track_caller]
fn no_schema(content: &str, expected: &str) {
    assert_eq!(Schemas::parse(content.as_bytes()).expect_err("refused"), expected);
}

#[test]
fn what_is_no_schema() {
    no_schema("{", "wasq:schema: not JSON: EOF while parsing an object at line 1 column 1");
    no_schema("[]", "wasq:schema: expected an object with the keys params and result");
    no_schema(
        r#"{"type": "object"}"#,
        "wasq:schema: unknown key \"type\"; the keys are params and result, each a JSON Schema",
    );
    no_schema(r#"{"params": 1}"#, "wasq:schema: params: expected a schema, an object or a boolean, got 1");
    no_schema(
        r#"{"params": {"properties": {"a/b": {"typ": "string"}}}}"#,
        "wasq:schema: params/properties/a~1b/typ: the keyword \"typ\" is unknown, or not supported; docs/types.md lists the keywords",
    );
    no_schema(
        r#"{"params": {"type": "text"}}"#,
        "wasq:schema: params/type: expected null, boolean, integer, number, string, array or object, or a list of them, got \"text\"",
    );
    no_schema(
        r#"{"result": {"$ref": "https://example.com/schema.json"}}"#,
        "wasq:schema: result/$ref: expected \"#\", or the name of a definition such as \"#/$defs/NAME\" that is there, got \"https://example.com/schema.json\"",
    );
    no_schema(
        r#"{"params": {"$schema": "http://json-schema.org/draft-07/schema#"}}"#,
        "wasq:schema: params/$schema: expected \"https://json-schema.org/draft/2020-12/schema\", got \"http://json-schema.org/draft-07/schema#\"",
    );
    assert!(
        Schemas::parse(br#"{"params": {"pattern": "(a"}}"#)
            .expect_err("refused")
            .contains("/pattern: the pattern \"(a\" cannot be used")
    );
    assert!(Schemas::parse(br#"{"params": {"pattern": "(?:a{999}){999}"}}"#).is_err());
}

/// Schemas that are made to cost: each ends, and says so.
#[test]
fn hostile_schemas_end() {
    // Schemas that refer to themselves, and take nothing of the value.
    for circle in [
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
        json!({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}),
        json!({"not": {"$ref": "#"}}),
    ] {
        let problem = Schema::of(&circle).expect_err("a circle");
        assert_eq!(problem, ": a schema refers to itself with no key and no item between");
    }
    // Twenty levels of two choices, none of which fits: a million ways.
    let mut doubled = json!({"type": "string"});
    for _ in 0..20 {
        doubled = json!({"anyOf": [doubled.clone(), doubled]});
        if doubled.to_string().len() > 60_000 {
            break;
        }
    }
    let _ = Schema::of(&doubled).map(|schema| schema.check("1"));
    let ways = schema(json!({
        "$ref": "#/$defs/l0",
        "$defs": (0..40).map(|i| {
            let next = if i == 39 { json!({"type": "string"}) } else { json!({"$ref": format!("#/$defs/l{}", i + 1)}) };
            (format!("l{i}"), json!({"anyOf": [next.clone(), next]}))
        }).collect::<serde_json::Map<_, _>>()
    }));
    refused(
        &ways,
        json!(1),
        "at the whole: expected a value that the schema can be applied to in 20020 steps, got a value that takes more",
    );
    // A pattern that backtracking engines take for ever for.
    let slow = schema(json!({"pattern": "^(a+)+$"}));
    assert!(slow.check(&json!("a".repeat(30_000) + "b").to_string()).is_err());
    // A large enum for each item of a long list.
    let wide = schema(json!({"items": {"enum": (0..5000).collect::<Vec<_>>()}}));
    assert!(wide.check(&json!(vec![-1; 1]).to_string()).is_err());
    assert!(wide.check(&json!(vec![4999; 10_000]).to_string()).is_err(), "too costly");
    // Deep values and deep schemas.
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(schema(json!({"items": {"$ref": "#"}})).check(&deep).is_err());
    let mut nested = json!({});
    for _ in 0..250 {
        nested = json!({"items": nested});
    }
    assert!(Schema::of(&nested).expect_err("too deep").contains("more than 64 levels deep"));
    let many: serde_json::Map<_, _> = (0..6000).map(|i| (format!("k{i}"), json!(true))).collect();
    assert!(Schema::of(&json!({"properties": many})).expect_err("too many").contains("more than 5000 parts"));
}

#[test]
fn whole_numbers_of_a_language() {
    let count = schema(json!({"type": "integer", "format": "uint8"}));
    fits(&count, json!(255));
    refused(&count, json!(256), "at the whole: expected a whole number of the type uint8, got a number: 256");
    refused(&count, json!(1.0), "at the whole: expected a whole number of the type uint8, got a number: 1.0");
    for (format, text) in [
        ("int8", "-128"),
        ("uint8", "255"),
        ("int64", "-9223372036854775808"),
        ("uint64", "18446744073709551615"),
        ("int", "0"),
    ] {
        assert_eq!(schema(json!({ "format": format })).check(text), Ok(()), "{format}");
    }
    for (format, text) in [
        ("int8", "128"),
        ("uint8", "-1"),
        ("int64", "9223372036854775808"),
        ("uint64", "18446744073709551616"),
        ("int32", "1e2"),
    ] {
        assert!(schema(json!({ "format": format })).check(text).is_err(), "{format}: {text}");
    }
    // A format that nobody knows, or that is for another type, changes nothing.
    fits(&schema(json!({"format": "email"})), json!("x"));
    fits(&schema(json!({"format": "uint8"})), json!("x"));
}

#[test]
fn texts_of_a_format() {
    let since = schema(json!({"type": "string", "anyOf": [{"format": "date-time"}, {"format": "date"}]}));
    fits(&since, json!("2026-11-27T10:00:00Z"));
    fits(&since, json!("2026-11-27"));
    refused(
        &since,
        json!("2026-11-31"),
        "at the whole: expected a date and time with its offset, such as 2026-11-27T10:00:00Z or a date such as 2026-11-27, got a \
         text: \"2026-11-31\"",
    );
}

#[test]
fn keys_by_pattern_and_by_a_schema() {
    let by_id = schema(json!({
        "type": "object", "patternProperties": {"^[0-9]+$": {"type": "string"}}, "additionalProperties": false
    }));
    fits(&by_id, json!({"7": "a", "12": "b"}));
    refused(&by_id, json!({"7": 1}), "at /7: expected a text, got a number: 1");
    refused(&by_id, json!({"x": "a"}), "at /x: expected a key with the pattern ^[0-9]+$, got a text: \"a\"");
    let named =
        schema(json!({"propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "integer"}}));
    fits(&named, json!({"a": 1}));
    refused(&named, json!({"c": 1}), "at /c: expected a key that is \"a\" or \"b\", got a number: 1");
}

/// A part that no schema looks at may be any JSON.
#[test]
fn a_part_that_no_schema_looks_at_is_not_read() {
    let user = user();
    let deep = "[".repeat(5_000) + &"]".repeat(5_000);
    for other in [deep.as_str(), "1e400", r#""\ud800""#, "123456789012345678901234567890"] {
        assert_eq!(user.check(&format!(r#"{{"user": "a", "other": {other}}}"#)), Ok(()), "{other}");
    }
    let mismatch = user.check(r#"{"user": "\ud800"}"#).expect_err("no text");
    assert_eq!(mismatch.to_string(), r#"at /user: expected a text, got a text that is no Unicode: "\ud800""#);
    let number = schema(json!({"type": "number", "maximum": 10}));
    assert!(number.check("1e400").is_err() && number.check("-1e400").is_ok());
    assert_eq!(schema(json!({"type": "integer"})).check("123456789012345678901234567890"), Ok(()));
}

/// A later schema, compared with an earlier one: `None` if it takes as much.
#[track_caller]
fn compared(earlier: Value, later: Value, narrower: Option<&str>) {
    let found = schema(later).takes_all_of(&schema(earlier)).err().map(|narrower| narrower.to_string());
    assert_eq!(found.as_deref(), narrower);
}

#[test]
fn later_schemas_that_take_as_much() {
    let same = json!({
        "type": "object", "properties": {"a": {"type": "string", "pattern": "^x"}, "n": {"$ref": "#/$defs/N"}}, "required": ["a"],
        "$defs": {"N": {"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#/$defs/N"}, {"type": "null"}]}}}}
    });
    compared(same.clone(), same, None);
    let user = |more: Value| {
        let mut user =
            json!({"type": "object", "properties": {"user": {"type": "string"}}, "required": ["user"]});
        for (key, value) in more.as_object().expect("an object") {
            user["properties"][key] = value.clone();
        }
        user
    };
    // A new param that may be missing.
    compared(user(json!({})), user(json!({"limit": {"type": "integer"}})), None);
    compared(user(json!({"limit": {"type": "integer"}})), user(json!({})), None);
    compared(
        user(json!({"limit": {"type": "integer"}})),
        user(json!({"limit": {"type": ["number", "null"]}})),
        None,
    );
    compared(json!({"enum": ["a", "b"]}), json!({"type": "string", "maxLength": 1}), None);
    compared(json!({"enum": ["a"]}), json!({"enum": ["b", "a"]}), None);
    compared(
        json!({"type": ["string", "null"]}),
        json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
        None,
    );
    compared(
        json!({"anyOf": [{"type": "null"}, {"type": "string"}]}),
        json!({"type": ["string", "null"]}),
        None,
    );
    compared(
        json!({"type": "integer", "format": "uint8"}),
        json!({"type": "number", "minimum": 0, "maximum": 255}),
        None,
    );
    compared(
        json!({"type": "integer", "format": "uint8"}),
        json!({"type": "integer", "format": "int64"}),
        None,
    );
    compared(json!({"type": "string", "format": "date"}), json!({"type": "string"}), None);
    compared(
        json!({"type": "array", "items": {"const": 1}, "maxItems": 3}),
        json!({"items": {"type": "integer"}}),
        None,
    );
    compared(json!(false), json!({"type": "null"}), None);
    // As serde's enums are.
    let tagged = |more: Value| {
        let mut forms = vec![
            json!({"type": "object", "properties": {"Move": {"type": "integer"}}, "required": ["Move"], "additionalProperties": false}),
            json!({"type": "string", "enum": ["Stop", "Wait"]}),
        ];
        forms.extend(more.as_array().expect("forms").clone());
        json!({ "oneOf": forms })
    };
    let one_more = json!([{"type": "object", "properties": {"Say": {"type": "string"}}, "required": ["Say"], "additionalProperties": false}]);
    compared(tagged(json!([])), tagged(one_more), None);
    let pattern = json!({"type": "object", "patternProperties": {"^[0-9]+$": {"type": "string"}}, "additionalProperties": false});
    compared(pattern.clone(), pattern, None);
    compared(
        json!({"type": "string", "anyOf": [{"format": "date"}, {"format": "time"}]}),
        json!({"type": "string", "maxLength": 40}),
        Some("at the whole: it takes at most 40 characters"),
    );
    compared(json!({"type": "null"}), json!({}), None);
}

#[test]
fn later_schemas_that_take_less() {
    let of = |properties: Value, required: Value| json!({"type": "object", "properties": properties, "required": required});
    compared(
        of(json!({"user": {"type": "string"}}), json!(["user"])),
        of(json!({"user": {"type": "string"}, "limit": {"type": "integer"}}), json!(["user", "limit"])),
        Some("at the whole: the key \"limit\" is required now"),
    );
    compared(
        of(json!({"home": {"properties": {"zip": {"type": "string"}}, "type": "object"}}), json!([])),
        of(json!({"home": {"properties": {"zip": {"type": "integer"}}, "type": "object"}}), json!([])),
        Some("at /home/zip: it refuses a text"),
    );
    compared(json!({}), json!({"type": "object"}), Some("at the whole: it refuses null"));
    compared(json!({"enum": ["a", "b"]}), json!({"enum": ["a"]}), Some("at the whole: it refuses \"b\""));
    compared(
        json!({"type": "integer", "maximum": 10}),
        json!({"type": "integer", "maximum": 9}),
        Some("at the whole: it takes at most 9"),
    );
    compared(
        json!({"type": "integer"}),
        json!({"type": "integer", "format": "int32"}),
        Some("at the whole: it takes whole numbers of the type int32"),
    );
    compared(
        json!({"type": "string"}),
        json!({"type": "string", "pattern": "^a"}),
        Some("at the whole: it wants the pattern ^a"),
    );
    compared(
        json!({"type": ["string", "null"]}),
        json!({"type": "string"}),
        Some("at the whole: it refuses null"),
    );
    compared(
        json!({"type": "array", "items": {"type": "string"}}),
        json!({"type": "array", "items": {"type": "string", "minLength": 1}}),
        Some("at /*: it takes at least 1 characters"),
    );
    compared(
        json!({"type": "object"}),
        json!({"type": "object", "additionalProperties": false}),
        Some("at /*: the live version takes anything here"),
    );
    compared(
        json!({"anyOf": [{"type": "string"}, {"type": "integer"}]}),
        json!({"anyOf": [{"type": "string"}, {"type": "boolean"}]}),
        Some("at the whole: it refuses a whole number"),
    );
    compared(
        json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "number"}}}),
        json!({"type": "object", "properties": {"n": {"$ref": "#/$defs/N"}}, "$defs": {"N": {"type": "integer"}}}),
        Some("at /n: it refuses a number"),
    );
    // Where several parts speak of one object, nothing may change.
    let parts = "at the whole: it is made of several parts, and they have changed";
    compared(
        json!({"type": "object", "properties": {"id": {"type": "string"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]}),
        of(json!({"id": {"type": "integer"}}), json!([])),
        Some(parts),
    );
    compared(
        json!({"allOf": [of(json!({"a": {}}), json!([])), of(json!({"b": {"type": "string"}}), json!([]))]}),
        of(json!({"b": {"type": "integer"}}), json!([])),
        Some(parts),
    );
    compared(
        json!({"type": "integer", "allOf": [{"minimum": 0}]}),
        json!({"anyOf": [{"type": "string"}]}),
        Some("at the whole: it refuses a whole number"),
    );
    let one_form = "at the whole: it takes what fits exactly one of several forms, and these may overlap";
    compared(
        json!({"type": "integer"}),
        json!({"oneOf": [{"type": "integer"}, {"type": "number"}]}),
        Some(one_form),
    );
    let by_pattern = "at the whole: what it says of keys by a pattern has changed";
    let x = json!({"^x": {"type": "integer"}});
    compared(
        json!({"patternProperties": x, "additionalProperties": false}),
        json!({"additionalProperties": false}),
        Some("at the whole: what it says of keys by a pattern has changed"),
    );
    compared(
        json!({"type": "object", "properties": {"xa": {"type": "string"}}, "additionalProperties": false}),
        json!({"type": "object", "properties": {"xa": {"type": "string"}}, "additionalProperties": false, "patternProperties": x}),
        Some(by_pattern),
    );
    compared(
        json!({"patternProperties": x}),
        json!({"patternProperties": x, "properties": {"xa": {"type": "string"}}}),
        Some(by_pattern),
    );
    compared(
        json!({"not": {"required": ["a"], "properties": {"b": {"type": "string"}}}}),
        json!({"not": {"required": ["a"]}}),
        Some("at the whole: it excludes some values"),
    );
    assert!(schema(json!({"type": "object"})).takes_anything().is_err());
    assert!(schema(json!({"description": "anything"})).takes_anything().is_ok());
}

/// Comparing ends, whatever the schemas are.
#[test]
fn hostile_comparisons_end() {
    let deep = |last: &str| {
        json!({
            "$ref": "#/$defs/l0",
            "$defs": (0..60).map(|i| {
                let next = if i == 59 { json!({"type": last}) } else { json!({"$ref": format!("#/$defs/l{}", i + 1)}) };
                (format!("l{i}"), json!({"anyOf": [next.clone(), next.clone(), {"type": "array", "items": next}]}))
            }).collect::<serde_json::Map<_, _>>()
        })
    };
    let (one, other) = (schema(deep("string")), schema(deep("number")));
    assert!(one.takes_all_of(&other).is_err());
    let keys = schema(json!({"propertyNames": {"properties": {"a": {"$ref": "#"}}}}));
    assert!(keys.takes_all_of(&keys).is_ok());
    let mut nested = json!({"type": "string"});
    for _ in 0..60 {
        nested = json!({"not": nested});
    }
    let (one, other) = (schema(nested), schema(json!({"not": {"not": {}}})));
    assert!(one.takes_all_of(&other).is_err() && one.takes_all_of(&one).is_ok());
    // Many values, each of which costs a lot.
    let mut costly = json!({"type": "number"});
    for _ in 0..11 {
        costly = json!({"allOf": [costly.clone(), costly]});
    }
    let values: Vec<_> = (0..4000).collect();
    assert!(schema(costly).takes_all_of(&schema(json!({"enum": values}))).is_err());
}

/// Keys of 200 KB, which are cheap to write and dear to copy.
#[test]
fn long_keys_cost_steps() {
    let mut definitions = serde_json::Map::from_iter([("d0".to_owned(), json!({"type": "string"}))]);
    for level in 1..=22 {
        let below = json!({"$ref": format!("#/$defs/d{}", level - 1)});
        definitions.insert(format!("d{level}"), json!({"anyOf": [below.clone(), below]}));
    }
    let schema = schema(json!({"additionalProperties": {"$ref": "#/$defs/d22"}, "$defs": definitions}));
    let mismatch = schema.check(&format!("{{\"{}\": 1}}", "k".repeat(200_000))).expect_err("too costly");
    assert!(mismatch.expected.starts_with("a value that the schema can be applied to in"), "{mismatch}");
}
