//! A sender's possible mistakes: each error names the place, the problem, and the correct form.

use expect_test::{Expect, expect};
use wasq_protocol::{MAX_MESSAGE_BYTES, Message};

#[track_caller]
fn refused(body: &str, expected: Expect) {
    let error = Message::parse(body).expect_err("the message is not valid");
    expected.assert_eq(&error.to_string());
}

#[test]
fn not_json() {
    refused("hello", expect!["not a valid message: at $: not JSON: expected value at line 1 column 1"]);
    refused("", expect!["not a valid message: at $: not JSON: EOF while parsing a value at line 1 column 0"]);
    refused(
        r#"{"task": "x"} y"#,
        expect!["not a valid message: at $: not JSON: trailing characters at line 1 column 15"],
    );
}

#[test]
fn not_an_object() {
    refused(
        "[1, 2]",
        expect![[
            r#"not a valid message: at $: expected an object such as {"task": "NAME", "params": {}}, got an array: [1, 2]"#
        ]],
    );
    refused(
        "null",
        expect![[
            r#"not a valid message: at $: expected an object such as {"task": "NAME", "params": {}}, got null: null"#
        ]],
    );
}

#[test]
fn no_task() {
    refused(
        r#"{"params": {}}"#,
        expect![[
            r#"not a valid message: at $.task: missing; a message looks like {"task": "NAME", "params": {}}"#
        ]],
    );
    refused(
        r#"{"task": null}"#,
        expect![[
            r#"not a valid message: at $.task: missing; a message looks like {"task": "NAME", "params": {}}"#
        ]],
    );
    refused(r#"{"task": 5}"#, expect!["not a valid message: at $.task: expected a string, got a number: 5"]);
}

#[test]
fn bad_name() {
    refused(
        r#"{"task": "a/b"}"#,
        expect![[
            r#"not a valid message: at $.task: a task name consists of a-z A-Z 0-9 _ - . and has no '/': "a/b""#
        ]],
    );
    refused(
        r#"{"task": ".."}"#,
        expect![[r#"not a valid message: at $.task: a task name must not start with a dot: "..""#]],
    );
    refused(
        r#"{"task": ""}"#,
        expect![[r#"not a valid message: at $.task: a task name must not be empty: """#]],
    );
    let long = "a".repeat(65);
    let error = Message::parse(&format!(r#"{{"task": "{long}"}}"#)).expect_err("too long");
    assert!(error.problem.starts_with("a task name has at most 64 characters, this one has 65"));
}

#[test]
fn bad_optional_keys() {
    refused(
        r#"{"task": "a", "not_before": "tomorrow"}"#,
        expect![[
            r#"not a valid message: at $.not_before: "tomorrow" is no RFC 3339 time such as "2026-11-23T08:30:00Z""#
        ]],
    );
    refused(
        r#"{"task": "a", "depth": -1}"#,
        expect![
            "not a valid message: at $.depth: expected a whole number from 0 to 4294967295, got a number: -1"
        ],
    );
    refused(
        r#"{"task": "a", "id": "two words"}"#,
        expect![[
            r#"not a valid message: at $.id: an id has 1-128 printable ASCII characters and no blanks, not "two words""#
        ]],
    );
}

#[test]
fn a_key_that_occurs_twice_is_refused() {
    refused(
        r#"{"task": "a", "task": "b"}"#,
        expect![[r#"not a valid message: at $: the key "task" occurs twice at line 1 column 26"#]],
    );
}

#[test]
fn too_large() {
    let body = format!(r#"{{"task": "a", "params": "{}"}}"#, "x".repeat(MAX_MESSAGE_BYTES));
    let error = Message::parse(&body).expect_err("too large");
    assert_eq!(error.problem, format!("the body has {} bytes; the most is 1000000", body.len()));
}

#[test]
fn params_are_the_senders_own_text() {
    let params = |body| Message::parse(body).expect("valid").params.get().to_owned();
    assert_eq!(params(r#"{"task": "a"}"#), "{}");
    assert_eq!(params(r#"{"task": "a", "params": null}"#), "null");
    assert_eq!(
        params(r#"{"task": "a", "params": [1e400, 12345678901234567890123]}"#),
        "[1e400, 12345678901234567890123]"
    );
}

#[test]
fn times_may_have_any_offset() {
    let message =
        Message::parse(r#"{"task": "a", "not_before": "2026-11-23T09:30:00+01:00"}"#).expect("valid");
    assert_eq!(message.not_before.expect("set").to_string(), "2026-11-23T08:30:00Z");
}
