//! The secrets of one run: the task holds placeholders, and the headers of requests get the values. The log
//! and the outcome of the run contain no values.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;
use wasq_protocol::{AllowedHost, Failure, Outcome, Secret, SecretValue};

use crate::destination::{Destination, SendError};

/// The values of the secrets that a task's settings name, by their names.
pub type SecretValues = BTreeMap<String, SecretValue>;

/// The secrets of one run; clones share them. Most tasks have none.
#[derive(Clone, Default)]
pub(crate) struct RunSecrets(Option<Arc<Held>>);

struct Held {
    secrets: Vec<HeldSecret>,
    /// Texts that reveal a value, the longest first.
    traces: Vec<Trace>,
    /// The lines of values with several lines, each with the text that replaces it. Logs are cut into lines,
    /// so a single line must be recognised.
    lines: BTreeMap<String, String>,
}

struct Trace {
    text: String,
    /// The text that replaces it.
    mark: String,
}

struct HeldSecret {
    name: String,
    value: SecretValue,
    /// The text that the task sees instead of the value; `None` if it sees the value.
    placeholder: Option<String>,
    hosts: Vec<AllowedHost>,
}

/// A piece of a value that is shorter than this reveals nothing.
const TRACE_BYTES_MIN: usize = 8;

impl RunSecrets {
    /// The secrets that the settings name and that have values.
    pub(crate) fn new(named: &BTreeMap<String, Secret>, values: &SecretValues) -> Self {
        if named.is_empty() {
            return Self(None);
        }
        let secrets = named.iter().filter_map(|(name, secret)| {
            Some(HeldSecret {
                name: name.clone(),
                value: values.get(name)?.clone(),
                placeholder: (!secret.expose).then(|| placeholder(name)),
                hosts: secret.hosts.clone(),
            })
        });
        let secrets: Vec<_> = secrets.collect();
        let (mut traces, mut lines) = (Vec::new(), BTreeMap::new());
        for secret in &secrets {
            let (value, mark) = (secret.value.reveal(), format!("[secret {}]", secret.name));
            let spellings = spellings(value).into_iter();
            traces.extend(spellings.map(|text| Trace { text, mark: mark.clone() }));
            lines.extend(telling_lines(value).map(|line| (line.to_owned(), mark.clone())));
        }
        // One value may be a part of another, and several names may have the same value.
        traces.sort_by(|one, other| {
            other.text.len().cmp(&one.text.len()).then_with(|| one.text.cmp(&other.text))
        });
        traces.dedup_by(|one, other| one.text == other.text);
        Self(Some(Arc::new(Held { secrets, traces, lines })))
    }

    /// The variables that the task finds in its environment.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.held().iter().map(|secret| {
            let seen = secret.placeholder.as_deref().unwrap_or_else(|| secret.value.reveal());
            (secret.name.as_str(), seen)
        })
    }

    /// Replaces the placeholders in the headers of a request by their values. Returns whether there was a
    /// placeholder.
    pub(crate) fn put_into(
        &self,
        headers: &mut HeaderMap,
        destination: &Destination,
        bytes_max: usize,
    ) -> Result<bool, SendError> {
        let mut any = false;
        for secret in self.held() {
            let Some(placeholder) = &secret.placeholder else { continue };
            let finder = memmem::Finder::new(placeholder);
            for (name, header) in headers.iter_mut() {
                let replaced = match basic(name == AUTHORIZATION, header.as_bytes()) {
                    Some(credentials) => {
                        replace(&finder, &credentials, &secret.value, bytes_max).map(|replaced| {
                            replaced.map(|bytes| format!("Basic {}", BASE64.encode(bytes)).into())
                        })
                    }
                    None => replace(&finder, header.as_bytes(), &secret.value, bytes_max),
                };
                let Some(bytes) = replaced? else { continue };
                if !secret.hosts.is_empty() && !destination.is_among(&secret.hosts) {
                    return Err(SendError::Denied(format!(
                        "the secret {} may not be sent to {destination}; to allow it, add \"{destination}\" to its hosts",
                        secret.name
                    )));
                }
                *header = HeaderValue::from_bytes(&bytes).map_err(|_| {
                    SendError::Invalid(format!("headers: the value of {name} has a control character"))
                })?;
                header.set_sensitive(true);
                any = true;
            }
        }
        Ok(any)
    }

    /// Returns a text without any value in it. The time grows with the length of the text, so cut a long text
    /// with [`Self::enough`] first.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for Trace { text: trace, mark } in self.traces() {
            if text.contains(trace) {
                text = Cow::Owned(text.replace(trace, mark));
            }
        }
        text
    }

    /// Returns a log line without any value in it. A line that is itself a line of a value is replaced as a
    /// whole.
    pub(crate) fn redact_line<'a>(&self, line: &'a str) -> Cow<'a, str> {
        match self.0.as_ref().and_then(|held| held.lines.get(line.trim())) {
            Some(mark) => Cow::Owned(mark.clone()),
            None => self.redact(line),
        }
    }

    /// Returns the part of a text that is needed to redact its first `bytes` bytes. It does not end in the
    /// middle of a value, because half a value would not be recognised.
    pub(crate) fn enough<'a>(&self, text: &'a str, bytes: usize) -> &'a str {
        let longest = self.traces().first().map_or(0, |trace| trace.text.len());
        let end = bytes.saturating_add(longest);
        if end >= text.len() {
            return text;
        }
        let kept = &text[..text.floor_char_boundary(end)];
        &kept[..kept.floor_char_boundary(kept.len() - self.begun_at_end(kept.as_bytes()))]
    }

    /// Returns an outcome without any value in it. Of a failure's reason, it keeps the part that is needed
    /// for `reason_bytes_max` bytes.
    pub(crate) fn redact_outcome(&self, outcome: Outcome, reason_bytes_max: usize) -> Outcome {
        if self.0.is_none() {
            return outcome;
        }
        match outcome {
            Outcome::Success { output } => Outcome::Success { output: self.redact_json(output) },
            Outcome::Failure(failure) => {
                let enough = self.enough(&failure.message, reason_bytes_max);
                let message = self.redact(enough).into_owned();
                Outcome::Failure(Failure { message, ..failure })
            }
        }
    }

    /// Whether a value or a placeholder is in this text, which may be JSON.
    pub(crate) fn are_in(&self, text: &str) -> bool {
        let is_held = |secret: &HeldSecret| {
            secret.placeholder.as_ref().is_some_and(|placeholder| text.contains(placeholder.as_str()))
        };
        if self.0.is_none() {
            return false;
        }
        let escaped = || {
            let json = RawValue::from_string(text.to_owned());
            json.is_ok_and(|json| self.redact_json(json).get() != text)
        };
        self.held().iter().any(is_held) || self.redact(text) != text || escaped()
    }

    /// Returns the number of bytes at the end that may be the beginning of a value. It looks only behind the
    /// last whole value, as [`Self::redact`] finds the values.
    pub(crate) fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let last_end = |trace: &Trace| {
            let last = memmem::find_iter(bytes, &trace.text).last();
            last.map(|at| at + trace.text.len())
        };
        let behind = &bytes[self.traces().iter().filter_map(last_end).max().unwrap_or(0)..];
        let begun = self.traces().iter().filter_map(|trace| {
            let most = (trace.text.len() - 1).min(behind.len());
            (1..=most).rev().find(|length| behind.ends_with(&trace.text.as_bytes()[..*length]))
        });
        begun.max().unwrap_or(0)
    }

    /// Redacts JSON text. The text stays JSON, however its strings are escaped, because each string and each
    /// number is checked on its own.
    fn redact_json(&self, json: Box<RawValue>) -> Box<RawValue> {
        let (text, mut redacted, mut copied) = (json.get(), String::new(), 0);
        for token in tokens(text).filter(|token| token.len() >= TRACE_BYTES_MIN) {
            let raw = &text[token.clone()];
            let said =
                serde_json::from_str::<String>(raw).or_else(|_| serde_json::from_str(&well_formed(raw)));
            // A number stands as it is.
            let said = said.map_or(Cow::Borrowed(raw), Cow::Owned);
            if let Cow::Owned(said) = self.redact(&said) {
                redacted.push_str(&text[copied..token.start]);
                redacted.push_str(&Value::from(said).to_string());
                copied = token.end;
            }
        }
        if copied == 0 {
            return json;
        }
        redacted.push_str(&text[copied..]);
        RawValue::from_string(redacted).expect("JSON stays valid when a string replaces a string or a number")
    }

    fn traces(&self) -> &[Trace] {
        self.0.as_ref().map_or(&[], |held| &held.traces)
    }

    fn held(&self) -> &[HeldSecret] {
        self.0.as_ref().map_or(&[], |held| &held.secrets)
    }
}

/// Makes a placeholder that only this run knows. A sender that could guess it could write it into a message,
/// and would so get the value into a header.
fn placeholder(name: &str) -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness");
    format!("wasq-secret-{name}-{:032x}", u128::from_ne_bytes(random))
}

/// A JSON string in which each half of a surrogate pair is U+FFFD. With such a half, a string is valid JSON, but no Rust string.
fn well_formed(json: &str) -> String {
    let unit = |at: usize| {
        let escape = json.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(escape, 16).ok()
    };
    let (mut text, mut at) = (String::with_capacity(json.len()), 0);
    while let Some(c) = json[at..].chars().next() {
        let length = match (unit(at), unit(at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                text.push('\u{fffd}');
                at += 6;
                continue;
            }
            (Some(_), _) => 6,
            // An escaped backslash is no begin of another escape.
            (None, _) if c == '\\' => 2,
            (None, _) => c.len_utf8(),
        };
        text.push_str(&json[at..at + length]);
        at += length;
    }
    text
}

/// The positions of the strings (with their quotation marks) and numbers in a JSON text.
fn tokens(json: &str) -> impl Iterator<Item = Range<usize>> {
    let bytes = json.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'-' && !bytes[at].is_ascii_digit() {
            at += 1;
        }
        let start = at;
        match bytes.get(start)? {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            _ => {
                let of_number = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                at += bytes[start..].iter().take_while(|byte| of_number(byte)).count();
            }
        }
        Some(start..at)
    })
}

/// The texts that reveal a value: the value itself, and its escaped forms as JSON writers make them.
fn spellings(value: &str) -> Vec<String> {
    let plain = |c: char| format!("\\u{:04x}", u32::from(c));
    let escaped = |ascii: bool, html: bool, slash: bool| {
        let mut text = String::new();
        for c in value.chars() {
            match c {
                '/' if slash => text.push_str("\\/"),
                '&' | '<' | '>' if html => text.push_str(&plain(c)),
                c if ascii && !c.is_ascii() => {
                    c.encode_utf16(&mut [0; 2])
                        .iter()
                        .for_each(|unit| text.push_str(&format!("\\u{unit:04x}")));
                }
                // A shortcut for most characters, because this is done for each run.
                ' '..='~' if c != '"' && c != '\\' => text.push(c),
                c => {
                    let quoted = Value::from(c.to_string()).to_string();
                    text.push_str(&quoted[1..quoted.len() - 1]);
                }
            }
        }
        text
    };
    let mut spellings = vec![
        value.to_owned(),
        escaped(false, false, false),
        // Python's.
        escaped(true, false, false),
        // Go's.
        escaped(false, true, false),
        // PHP's, and of old JavaScript libraries.
        escaped(true, false, true),
    ];
    spellings.sort();
    spellings.dedup();
    spellings
}

/// The lines of a value that reveal a part of it. A value of one line has none.
fn telling_lines(value: &str) -> impl Iterator<Item = &str> {
    let several = value.lines().nth(1).is_some();
    let lines = value.lines().map(str::trim).filter(move |_| several);
    lines.filter(|line| {
        line.len() >= TRACE_BYTES_MIN && !line.starts_with("-----") && line.contains(char::is_alphanumeric)
    })
}

/// Returns `USER:PASSWORD` from an authorization header with the scheme Basic.
fn basic(is_authorization: bool, header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = header.split_at_checked("Basic ".len())?;
    if !is_authorization || !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    BASE64.decode(credentials.trim_ascii()).ok()
}

/// Replaces every placeholder in a text by its value. Returns `None` if there is no placeholder.
fn replace(
    placeholder: &memmem::Finder<'_>,
    text: &[u8],
    value: &SecretValue,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, SendError> {
    let mut replaced = Vec::new();
    let mut copied = 0;
    for at in placeholder.find_iter(text) {
        replaced.extend_from_slice(&text[copied..at]);
        replaced.extend_from_slice(value.reveal().as_bytes());
        copied = at + placeholder.needle().len();
        if replaced.len() > bytes_max {
            let problem = format!("headers: more than {bytes_max} bytes with the secrets in them");
            return Err(SendError::Invalid(problem));
        }
    }
    if copied == 0 {
        return Ok(None);
    }
    replaced.extend_from_slice(&text[copied..]);
    Ok(Some(replaced))
}
