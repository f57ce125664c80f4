//! The formats that a check knows. Any other format only tells readers something.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A format that a value must have.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Format {
    /// A whole number that is written as one, and that a type of a language can hold.
    Whole { name: &'static str, least: i128, most: i128 },
    /// A text.
    Text { words: &'static str, fits: fn(&str) -> bool },
}

const fn whole(name: &'static str, least: i128, most: i128) -> Format {
    Format::Whole { name, least, most }
}

impl Format {
    /// The format of a name, if a check knows it.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let text = |words, fits| Self::Text { words, fits };
        Some(match name {
            "int8" => whole("int8", i8::MIN as i128, i8::MAX as i128),
            "int16" => whole("int16", i16::MIN as i128, i16::MAX as i128),
            "int32" => whole("int32", i32::MIN as i128, i32::MAX as i128),
            "int64" | "int" => whole("int64", i64::MIN as i128, i64::MAX as i128),
            "uint8" => whole("uint8", 0, u8::MAX as i128),
            "uint16" => whole("uint16", 0, u16::MAX as i128),
            "uint32" => whole("uint32", 0, u32::MAX as i128),
            "uint64" | "uint" => whole("uint64", 0, u64::MAX as i128),
            "date" => text("a date such as 2026-11-27", is_date),
            "time" => text("a time with its offset, such as 10:00:00Z", is_time),
            "partial-time" => text("a time without an offset, such as 10:00:00", is_partial_time),
            "date-time" => {
                text("a date and time with its offset, such as 2026-11-27T10:00:00Z", is_date_time)
            }
            "partial-date-time" => {
                text("a date and time without an offset, such as 2026-11-27T10:00:00", is_partial_date_time)
            }
            "uuid" => text("a UUID", is_uuid),
            "ip" => text("an IP address", |text| text.parse::<IpAddr>().is_ok()),
            "ipv4" => text("an IPv4 address", |text| text.parse::<Ipv4Addr>().is_ok()),
            "ipv6" => text("an IPv6 address", |text| text.parse::<Ipv6Addr>().is_ok()),
            _ => return None,
        })
    }
}

/// As RFC 3339 writes it.
fn is_date(text: &str) -> bool {
    let [year, month, day] = parts(text, '-', [4, 2, 2]).unwrap_or_default();
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    year > 0 && (1..=days).contains(&day)
}

fn is_partial_time(text: &str) -> bool {
    let (time, fraction) = text.split_once('.').map_or((text, None), |(time, rest)| (time, Some(rest)));
    // As Python's and Go's times have it, no more than nanoseconds.
    let fraction_fits = fraction.is_none_or(|digits| {
        (1..=9).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
    });
    fraction_fits
        && parts(time, ':', [2, 2, 2]).is_some_and(|[hour, minute, second]| {
            // No clock here knows leap seconds.
            hour < 24 && minute < 60 && second < 60
        })
}

fn is_time(text: &str) -> bool {
    if let Some(time) = text.strip_suffix('Z') {
        return is_partial_time(time);
    }
    let Some(at) = text.rfind(['+', '-']) else { return false };
    let offset = parts(&text[at + 1..], ':', [2, 2]);
    is_partial_time(&text[..at]) && offset.is_some_and(|[hours, minutes]| hours < 24 && minutes < 60)
}

fn is_date_time(text: &str) -> bool {
    text.split_once('T').is_some_and(|(date, time)| is_date(date) && is_time(time))
}

fn is_partial_date_time(text: &str) -> bool {
    text.split_once('T').is_some_and(|(date, time)| is_date(date) && is_partial_time(time))
}

fn is_uuid(text: &str) -> bool {
    let mut lengths = [8, 4, 4, 4, 12].into_iter();
    let is_part =
        |part: &str| lengths.next() == Some(part.len()) && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.len() == 36 && text.split('-').all(is_part)
}

/// The numbers of a text, each with its number of digits.
fn parts<const N: usize>(text: &str, between: char, digits: [usize; N]) -> Option<[u32; N]> {
    let mut numbers = [0; N];
    let mut rest = text.split(between);
    for (number, digits) in numbers.iter_mut().zip(digits) {
        let part = rest.next()?;
        if part.len() != digits || !part.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = part.parse().ok()?;
    }
    rest.next().is_none().then_some(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, good: &[&str], bad: &[&str]) {
        let Some(Format::Text { fits, .. }) = Format::named(name) else {
            panic!("{name} is no format of texts")
        };
        for text in good {
            assert!(fits(text), "{name}: {text}");
        }
        for text in bad {
            assert!(!fits(text), "{name}: {text}");
        }
    }

    #[test]
    fn texts() {
        check(
            "date",
            &["2026-11-27", "2024-02-29", "2000-02-29"],
            &[
                "2026-02-29",
                "1900-02-29",
                "2026-13-01",
                "2026-1-1",
                "0000-01-01",
                "20261127",
                "2026-11-27T",
                "２026-11-27",
            ],
        );
        check(
            "time",
            &["10:00:00Z", "23:59:59.123456789+01:00", "00:00:00-12:30"],
            &["10:00:00", "24:00:00Z", "10:00Z", "10:00:00.Z", "10:00:00+1:00", "10:00:60Z", ""],
        );
        check("partial-time", &["10:00:00", "10:00:00.5"], &["10:00:00Z", "10:60:00", "10:00:00.1234567890"]);
        check(
            "date-time",
            &["2026-11-27T10:00:00Z", "2026-11-27T10:00:00.25-08:00"],
            &["2026-11-27 10:00:00Z", "2026-11-27T10:00:00", "2026-11-31T10:00:00Z", "2026-11-27"],
        );
        check("partial-date-time", &["2026-11-27T10:00:00"], &["2026-11-27T10:00:00Z"]);
        check(
            "uuid",
            &["67e55044-10b1-426f-9247-BB680E5FE0C8"],
            &[
                "67e5504410b1426f9247bb680e5fe0c8",
                "67e55044-10b1-426f-9247-bb680e5fe0cg",
                "67e55044-10b1-426f-9247bb680e5fe0c8-",
            ],
        );
        check("ipv4", &["127.0.0.1"], &["::1", "127.0.0.1.1"]);
        check("ip", &["127.0.0.1", "::1"], &["localhost"]);
    }
}
