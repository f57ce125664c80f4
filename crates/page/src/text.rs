//! Text of tasks and senders, numbers and times, for people.

use std::time::Duration;

use wasq_protocol::Timestamp;

/// A text with its hidden characters made visible: control characters, such as those of a terminal, and those that change the direction
/// of what follows. Line breaks and tabs stay.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(shown).collect()
}

/// The same on one line, shortened.
pub(crate) fn line(text: &str, chars_max: usize) -> String {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let mut line: String =
        first.chars().take(chars_max).map(|c| if c == '\t' { ' ' } else { shown(c) }).collect();
    if first.chars().nth(chars_max).is_some() || text.trim_end().contains('\n') {
        line.push('…');
    }
    line
}

/// Whether a character is invisible, or changes the direction of what follows.
pub(crate) fn is_hidden(c: char) -> bool {
    shown(c) != c
}

fn shown(c: char) -> char {
    match c {
        '\n' | '\t' => c,
        // The symbols of Unicode for the control characters.
        '\0'..='\x1f' => char::from_u32(0x2400 + c as u32).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}' => '\u{fffd}',
        // Marks, embeddings, overrides and isolates of direction, and characters without a width.
        '\u{200b}'..='\u{200f}'
        | '\u{202a}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}'
        | '\u{61c}' => '\u{fffd}',
        c => c,
    }
}

/// A long text for a page: its beginning and its end.
pub(crate) fn bounded(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return visible(text);
    }
    let half = bytes_max / 2;
    let (head, tail) =
        (&text[..text.floor_char_boundary(half)], &text[text.ceil_char_boundary(text.len() - half)..]);
    let left = text.len() - head.len() - tail.len();
    format!("{}\n\n… {left} bytes are left out …\n\n{}", visible(head), visible(tail))
}

/// A number of milliseconds.
pub(crate) fn ms(ms: f64) -> String {
    match ms {
        _ if ms < 1.0 => format!("{ms:.2} ms"),
        _ if ms < 100.0 => format!("{ms:.1} ms"),
        _ if ms < 10_000.0 => format!("{ms:.0} ms"),
        _ => duration(Duration::from_secs_f64(ms / 1000.0)),
    }
}

/// A duration in its two largest units.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

/// A number of bytes.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.0} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// A count with its thousands apart.
pub(crate) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An instant to the second, in UTC.
pub(crate) fn instant(at: Timestamp) -> String {
    let text = at.to_string().replace('T', " ");
    let end = text.find('.').unwrap_or(text.len() - 1);
    format!("{}Z", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_visible() {
        assert_eq!(visible("a\x1b[31mred\nb\tc"), "a\u{241b}[31mred\nb\tc");
        assert_eq!(visible("evil\u{202e}txt.exe\u{200b}"), "evil\u{fffd}txt.exe\u{fffd}");
        assert_eq!(line("  \n first \nsecond", 80), "first…");
        assert_eq!(line(&"x".repeat(100), 5), "xxxxx…");
    }

    #[test]
    fn a_long_text_has_its_beginning_and_its_end() {
        let text = format!("begin{}end", "é".repeat(1000));
        let shown = bounded(&text, 100);
        assert!(shown.starts_with("begin") && shown.ends_with("end") && shown.len() < 200, "{shown}");
        assert!(shown.contains(" bytes are left out"));
    }

    #[test]
    fn numbers_for_people() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [ms(0.123), ms(12.34), ms(1234.5), ms(90_000.0)],
            ["0.12 ms", "12.3 ms", "1234 ms", "1 min 30 s"]
        );
        assert_eq!(instant(Timestamp::from_ms(0)), "1970-01-01 00:00:00Z");
        assert_eq!(instant(Timestamp::from_ms(1_795_423_260_123)), "2026-11-23 08:41:00Z");
    }
}
