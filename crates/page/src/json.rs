//! JSON as a tree that can be folded. It keeps the order of its members, and every digit.

use std::fmt::{self, Write};

use maud::{Markup, html};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::text::{bounded, count, is_hidden, visible};

/// Members and elements that are shown in all.
const NODES_MAX: usize = 2000;
/// Levels that are open at first, and those that are shown.
const OPEN_LEVELS: usize = 2;
const LEVELS_MAX: usize = 60;
/// The bytes of one text that are shown, and of a text that is no JSON.
const TEXT_BYTES_MAX: usize = 2000;
const RAW_BYTES_MAX: usize = 64 << 10;

/// A JSON text as a tree. A text that is no JSON is shown as it is.
pub(crate) fn tree(json: &str) -> Markup {
    match serde_json::from_str::<&RawValue>(json) {
        Ok(value) => {
            let mut left = NODES_MAX;
            html! { div.json tabindex="0" { (node(value, 0, &mut left)) @if left == 0 { p.note { "The rest is left out." } } } }
        }
        Err(_) => html! { pre tabindex="0" { (bounded(json, RAW_BYTES_MAX)) } },
    }
}

/// A JSON text as one argument of a shell. Characters that would be invisible, or would change the direction of others, are escaped.
pub(crate) fn quoted(json: &str) -> String {
    let mut text = String::with_capacity(json.len() + 2);
    text.push('\'');
    for c in json.chars() {
        match c {
            // The end of the quotes, a quote, and quotes again.
            '\'' => text.push_str("'\\''"),
            // Between values, because JSON has it nowhere else.
            '\n' | '\r' | '\t' => text.push(' '),
            // Only a text of JSON has others.
            c if is_hidden(c) => {
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('\'');
    text
}

fn node(value: &RawValue, level: usize, left: &mut usize) -> Markup {
    let text = value.get();
    match text.as_bytes().first() {
        Some(b'[' | b'{') if level >= LEVELS_MAX => html! { "…" },
        Some(b'[') => {
            let elements: Vec<&RawValue> = serde_json::from_str(text).unwrap_or_default();
            let rows = rows(&elements, left, |element, left| node(element, level + 1, left));
            folded(["[", "]"], elements.len(), "element", level, rows)
        }
        Some(b'{') => {
            let Members(members) = serde_json::from_str(text).unwrap_or_default();
            let rows = rows(&members, left, |(key, member), left| {
                html! { span.key { (visible(key)) } ": " (node(member, level + 1, left)) }
            });
            folded(["{", "}"], members.len(), "member", level, rows)
        }
        Some(b'"') => {
            // Half a surrogate pair is valid JSON, and no text.
            let said = serde_json::from_str::<String>(text).unwrap_or_else(|_| text.to_owned());
            html! { span.string { "\"" (bounded(&said, TEXT_BYTES_MAX)) "\"" } }
        }
        Some(b'-' | b'0'..=b'9') => html! { span.number { (bounded(text, TEXT_BYTES_MAX)) } },
        _ => html! { span.literal { (text) } },
    }
}

/// The members of an object, in their order.
#[derive(Default)]
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

fn rows<T>(all: &[T], left: &mut usize, mut row: impl FnMut(&T, &mut usize) -> Markup) -> Vec<Markup> {
    let mut rows = Vec::new();
    for each in all {
        if *left == 0 {
            break;
        }
        *left -= 1;
        rows.push(row(each, left));
    }
    rows
}

fn folded([begin, end]: [&str; 2], length: usize, what: &str, level: usize, rows: Vec<Markup>) -> Markup {
    if length == 0 {
        return html! { (begin) " " (end) };
    }
    html! {
        details open[level < OPEN_LEVELS] {
            summary { (begin) " " span.note { (count(length as u64)) " " (what) @if length > 1 { "s" } } }
            ul { @for row in rows { li { (row) } } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{quoted, tree};

    #[test]
    fn json_is_one_argument_of_a_shell() {
        for (json, argument) in [
            (r#"{"a": 1}"#, r#"'{"a": 1}'"#),
            (r#""it's""#, r#"'"it'\''s"'"#),
            ("{\n\t\"a\":1}", r#"'{  "a":1}'"#),
            ("\"\u{202e}\u{1f600}\u{7f}\"", "'\"\\u202e\u{1f600}\\u007f\"'"),
            (r#""$(rm) `x` \n""#, r#"'"$(rm) `x` \n"'"#),
        ] {
            assert_eq!(quoted(json), argument, "{json}");
        }
    }

    #[test]
    fn what_a_task_says_is_text() {
        let shown = tree(r#"{"<b>": "<script>alert(1)</script>", "n": [1, 2.5, null]}"#).into_string();
        assert!(
            shown.contains("&lt;script&gt;") && !shown.contains("<script") && !shown.contains("<b>"),
            "{shown}"
        );
        assert!(tree("no JSON <i>").into_string().contains("no JSON &lt;i&gt;"));
        assert!(tree(r#""\ud800""#).into_string().contains("ud800"));
    }

    #[test]
    fn every_digit_and_the_order_are_kept() {
        let shown = tree(r#"{"z": 12345678901234567890123, "a": 1.50}"#).into_string();
        let (z, a) = (shown.find("12345678901234567890123"), shown.find("1.50"));
        assert!(z.is_some() && z < a, "{shown}");
    }

    #[test]
    fn a_large_value_is_bounded() {
        let large = serde_json::to_string(&vec![vec![1; 100]; 1000]).expect("JSON");
        let shown = tree(&large).into_string();
        assert!(shown.contains("The rest is left out.") && shown.len() < 200_000, "{}", shown.len());
        let deep = "[".repeat(400) + &"]".repeat(400);
        assert!(tree(&deep).into_string().contains("…"));
    }
}
