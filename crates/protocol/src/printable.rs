//! Text of others on a terminal.

use std::fmt::{self, Write};

/// Text that cannot steer a terminal, nor change the order in which it is read. Control characters (but for line feeds and
/// tabs) and marks of direction are shown as their numbers. Tasks, senders and uploaders write what gets there.
///
/// ```
/// use wasq_protocol::Printable;
///
/// assert_eq!(Printable("red \x1b[31m, \u{202e}back, ü").to_string(), r"red \u{1b}[31m, \u{202e}back, ü");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

/// As [`Printable`], for JSON text: the text stays JSON with the same value.
#[derive(Clone, Copy, Debug)]
pub struct PrintableJson<'a>(pub &'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pieces(self.0, f, |f, c| write!(f, "{}", c.escape_unicode()))
    }
}

impl fmt::Display for PrintableJson<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        pieces(self.0, f, |f, c| match c {
            // In JSON such a character stands in a string, and all of them have four digits. A carriage return also
            // stands between values.
            '\r' => f.write_char(' '),
            c => write!(f, "\\u{:04x}", u32::from(c)),
        })
    }
}

/// Writes a text in pieces: what lies between two characters that steer as it is, and these by `write`.
fn pieces(
    text: &str,
    f: &mut fmt::Formatter<'_>,
    write: impl Fn(&mut fmt::Formatter<'_>, char) -> fmt::Result,
) -> fmt::Result {
    let mut rest = text;
    while let Some((at, c)) = rest.char_indices().find(|(_, c)| steers(*c)) {
        f.write_str(&rest[..at])?;
        write(f, c)?;
        rest = &rest[at + c.len_utf8()..];
    }
    f.write_str(rest)
}

fn steers(c: char) -> bool {
    match c {
        '\n' | '\t' => false,
        // Marks of direction: Arabic letter mark, left-to-right and right-to-left marks, embeddings, overrides, isolates.
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => true,
        // Line and paragraph separators.
        '\u{2028}' | '\u{2029}' => true,
        c => c.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_task_cannot_steer_a_terminal() {
        let hostile = "red \x1b[31m, bell \x07, home \r, C1 \u{9b}2J, delete \x7f,\n\tplain ü, back \u{202e}";
        let shown = "red \\u{1b}[31m, bell \\u{7}, home \\u{d}, C1 \\u{9b}2J, delete \\u{7f},\n\tplain ü, back \\u{202e}";
        assert_eq!(Printable(hostile).to_string(), shown);
    }

    #[test]
    fn json_keeps_its_value() {
        let json = "{\"a\u{9b}\":\r\"\u{202e}\u{7f}\"}";
        let shown = PrintableJson(json).to_string();
        assert_eq!(shown, "{\"a\\u009b\": \"\\u202e\\u007f\"}");
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        assert_eq!(value(json), value(&shown));
    }
}
