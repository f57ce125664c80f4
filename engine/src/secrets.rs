//! The secrets of one run: the task holds placeholders, the headers of requests get the values, and what the run leaves behind
//! has neither.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};
use memchr::memmem;
use serde_json::Value;
use serde_json::value::RawValue;
use wasq_protocol::{AllowedHost, Failure, Outcome, Secret, SecretValue};

use crate::outgoing::{Destination, SendError};

/// The values of the secrets that a task's settings name, by their names.
pub type SecretValues = BTreeMap<String, SecretValue>;

/// The secrets of one run; clones share them. Most tasks have none.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Option<Arc<Held>>);

struct Held {
    secrets: Vec<HeldSecret>,
    /// Texts that give a value away, the longest first, each with what is written in its stead.
    traces: Vec<(String, String)>,
}

struct HeldSecret {
    name: String,
    value: SecretValue,
    /// What the task sees in the value's stead; `None` if it sees the value.
    placeholder: Option<String>,
    hosts: Vec<AllowedHost>,
}

/// A piece of a value that is shorter than this gives nothing away.
const TRACE_BYTES_MIN: usize = 8;

impl Secrets {
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
        let mut traces: Vec<_> = secrets
            .iter()
            .flat_map(|secret| {
                let mark = format!("[secret {}]", secret.name);
                traces(secret.value.reveal()).into_iter().map(move |trace| (trace, mark.clone()))
            })
            .collect();
        // One value may be a part of another.
        traces.sort_by_key(|(trace, _)| std::cmp::Reverse(trace.len()));
        Self(Some(Arc::new(Held { secrets, traces })))
    }

    /// What the task finds in its environment.
    pub(crate) fn env(&self) -> impl Iterator<Item = (&str, &str)> {
        self.held().iter().map(|secret| {
            let seen = secret.placeholder.as_deref().unwrap_or_else(|| secret.value.reveal());
            (secret.name.as_str(), seen)
        })
    }

    /// Puts values into the headers of a request in the stead of their placeholders. Returns whether there was one.
    pub(crate) fn put_into(
        &self,
        headers: &mut HeaderMap,
        destination: &Destination<'_>,
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

    /// A text without any value in it.
    pub(crate) fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (trace, mark) in self.0.iter().flat_map(|held| &held.traces) {
            if text.contains(trace) {
                text = Cow::Owned(text.replace(trace, mark));
            }
        }
        text
    }

    /// An outcome without any value in it.
    pub(crate) fn redact_outcome(&self, outcome: Outcome) -> Outcome {
        if self.0.is_none() {
            return outcome;
        }
        match outcome {
            Outcome::Success { output } => Outcome::Success { output: self.redact_json(output) },
            Outcome::Failure(failure) => {
                let message = self.redact(&failure.message).into_owned();
                Outcome::Failure(Failure { message, ..failure })
            }
        }
    }

    /// How many bytes at the end may be the beginning of a value.
    pub(crate) fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let traces = self.0.iter().flat_map(|held| &held.traces);
        let begun = traces.filter_map(|(trace, _)| {
            let most = (trace.len() - 1).min(bytes.len());
            (1..=most).rev().find(|length| bytes.ends_with(&trace.as_bytes()[..*length]))
        });
        begun.max().unwrap_or(0)
    }

    /// JSON text stays JSON, in whatever way its strings are escaped.
    fn redact_json(&self, text: Box<RawValue>) -> Box<RawValue> {
        // What our own JSON cannot hold (half a surrogate pair, say) is looked at as text.
        let Ok(value) = serde_json::from_str::<Value>(text.get()) else {
            let redacted = self.redact(text.get()).into_owned();
            return RawValue::from_string(redacted).unwrap_or_else(|_| RawValue::NULL.to_owned());
        };
        let redacted = self.redact_value(value.clone());
        if redacted == value {
            return text;
        }
        RawValue::from_string(redacted.to_string()).expect("a value is JSON")
    }

    fn redact_value(&self, value: Value) -> Value {
        match value {
            Value::String(text) => self.redact(&text).into(),
            Value::Array(elements) => {
                elements.into_iter().map(|element| self.redact_value(element)).collect()
            }
            Value::Object(members) => members
                .into_iter()
                .map(|(key, value)| (self.redact(&key).into_owned(), self.redact_value(value)))
                .collect(),
            Value::Number(number) => match self.redact(&number.to_string()) {
                Cow::Borrowed(_) => Value::Number(number),
                Cow::Owned(text) => text.into(),
            },
            Value::Null | Value::Bool(_) => value,
        }
    }

    fn held(&self) -> &[HeldSecret] {
        self.0.as_ref().map_or(&[], |held| &held.secrets)
    }
}

/// Nobody but this run knows it: who could guess it would have the value put into a header by way of the message.
fn placeholder(name: &str) -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has randomness");
    format!("wasq-secret-{name}-{:032x}", u128::from_ne_bytes(random))
}

/// The texts by which a value is known: itself, as JSON writes it, and its lines, because logs are cut into lines.
fn traces(value: &str) -> Vec<String> {
    let json = Value::from(value).to_string();
    let mut traces = vec![value.to_owned(), json[1..json.len() - 1].to_owned()];
    traces.extend(value.lines().map(str::to_owned));
    traces.retain(|trace| trace.len() >= TRACE_BYTES_MIN);
    traces.sort();
    traces.dedup();
    traces
}

/// `USER:PASSWORD` of an authorization by the scheme Basic.
fn basic(is_authorization: bool, header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, credentials) = header.split_at_checked("Basic ".len())?;
    if !is_authorization || !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    BASE64.decode(credentials.trim_ascii()).ok()
}

/// Puts a value into a text wherever its placeholder stands; `None` if it stands nowhere.
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
