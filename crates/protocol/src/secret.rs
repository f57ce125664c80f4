//! Secrets: their entries in a task's settings, and their values, which are never written anywhere.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::AllowedHost;

/// A secret that a task's settings name: where its value is kept, and how the task may use it.
///
/// In settings it is its source alone, `"ssm:/wasq/github-token"`, or a table:
/// `{ from = "ssm:/wasq/github-token", hosts = ["https://api.github.com"] }`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// Where its value is kept.
    pub from: SecretSource,
    /// Whether the task sees the value. Otherwise it sees a placeholder, and the host replaces the
    /// placeholder by the value in the headers of requests.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expose: bool,
    /// The hosts among the task's `allow_hosts` that the value may be sent to; all of them if the list is
    /// empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<AllowedHost>,
}

impl Secret {
    /// Checks the value that was found for the secret `name`, and returns it as the task and the host use it.
    /// The error names the secret. Spaces and line ends around the value are removed, unless the task sees
    /// it.
    pub fn found(
        &self,
        name: &str,
        found: Result<SecretValue, SecretError>,
    ) -> Result<SecretValue, SecretError> {
        let about = |why: String| format!("the secret {name} ({}): {why}", self.from);
        match found {
            Ok(value) => self.accept(value).map_err(|why| SecretError::Missing(about(why))),
            Err(SecretError::Missing(why)) => Err(SecretError::Missing(about(why))),
            Err(SecretError::Unavailable(why)) => Err(SecretError::Unavailable(about(why))),
        }
    }

    fn accept(&self, value: SecretValue) -> Result<SecretValue, String> {
        let value = if self.expose { value } else { SecretValue(value.0.trim().to_owned()) };
        let bytes = value.0.len();
        if !SECRET_BYTES.contains(&bytes) {
            return Err(format!(
                "its value has {bytes} bytes; a secret has {} to {} (wasq could not keep a shorter one \
                 out of logs; a value that is not secret belongs in [env])",
                SECRET_BYTES.start(),
                SECRET_BYTES.end()
            ));
        }
        if self.expose && value.0.contains('\0') {
            return Err("its value has a NUL, which no environment variable can have".to_owned());
        }
        if !self.expose && value.0.contains(|c: char| c.is_control()) {
            return Err("its value has a control character or a line break, which no header can have; \
                        with expose = true the task itself gets the value"
                .to_owned());
        }
        Ok(value)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceOrTable;

        impl<'de> Visitor<'de> for SourceOrTable {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "the source of a secret, such as \"ssm:/wasq/github-token\", or a table with from",
                )
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Secret, E> {
                let from = text.parse().map_err(E::custom)?;
                Ok(Secret { from, expose: false, hosts: Vec::new() })
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Secret, A::Error> {
                #[derive(Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Table {
                    from: SecretSource,
                    #[serde(default)]
                    expose: bool,
                    #[serde(default)]
                    hosts: Vec<AllowedHost>,
                }
                let Table { from, expose, hosts } = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Secret { from, expose, hosts })
            }
        }

        deserializer.deserialize_any(SourceOrTable)
    }
}

/// Where a secret's value is kept.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretSource {
    /// `ssm:/NAME`: a parameter of SSM Parameter Store.
    Parameter(String),
    /// `secretsmanager:NAME` or `secretsmanager:NAME#KEY`: a secret of Secrets Manager, or one value of the JSON object in it.
    Secret {
        /// The secret's name.
        name: String,
        /// The key of the JSON object.
        key: Option<String>,
    },
}

impl FromStr for SecretSource {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |what: &str| {
            format!(
                "{text:?} {what}; write where the secret is kept, like \"ssm:/wasq/github-token\", \"secretsmanager:wasq/github\" \
                 or \"secretsmanager:wasq/github#token\""
            )
        };
        let allowed = |name: &str, also: &str| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c))
        };
        match text.split_once(':') {
            Some(("ssm", name)) if !name.starts_with('/') => {
                Err(error("does not name a parameter by its full path, which begins with a slash"))
            }
            Some(("ssm", name)) if allowed(name, "/_.-") => Ok(Self::Parameter(name.to_owned())),
            Some(("secretsmanager", secret)) => {
                let (name, key) = match secret.split_once('#') {
                    Some((name, key)) => (name, Some(key)),
                    None => (secret, None),
                };
                if key == Some("") {
                    return Err(error("has no key behind the #"));
                }
                if !allowed(name, "/_+=.@-") {
                    return Err(error("names no secret"));
                }
                Ok(Self::Secret { name: name.to_owned(), key: key.map(str::to_owned) })
            }
            Some(("ssm", _)) => Err(error("names no parameter")),
            Some(("env" | "file", _)) => Err(error(
                "is no place for a secret: on one machine its value comes from WASQ_SECRET_NAME or from the secrets file, \
                 with the same settings as on AWS",
            )),
            _ => Err(error("has no scheme ssm or secretsmanager")),
        }
    }
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Parameter(name) => write!(f, "ssm:{name}"),
            Self::Secret { name, key: None } => write!(f, "secretsmanager:{name}"),
            Self::Secret { name, key: Some(key) } => write!(f, "secretsmanager:{name}#{key}"),
        }
    }
}

impl TryFrom<String> for SecretSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<SecretSource> for String {
    fn from(source: SecretSource) -> Self {
        source.to_string()
    }
}

/// How long a secret's value can be.
const SECRET_BYTES: RangeInclusive<usize> = 8..=8 << 10;

/// A secret's value. It cannot be printed or serialized.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(String);

impl SecretValue {
    /// A value as it was found; [`Secret::found`] says whether it can be used.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The value itself. Never show a text that contains it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

/// Why there is no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// There is no value, or wasq may not read it: somebody must fix that.
    #[error("{0}")]
    Missing(String),
    /// The service that keeps the secret did not answer: trying again may help.
    #[error("{0}")]
    Unavailable(String),
}

/// The port to the place where secrets are kept. The worker and the publisher share it.
pub trait SecretStore: Send + Sync + 'static {
    /// Reads the value of a secret, which the task's settings call `name`.
    fn secret(
        &self,
        name: &str,
        from: &SecretSource,
    ) -> impl Future<Output = Result<SecretValue, SecretError>> + Send;
}

#[cfg(test)]
mod tests {
    use super::{Secret, SecretSource, SecretValue};

    #[track_caller]
    fn secret(toml: &str) -> Result<Secret, String> {
        #[derive(serde::Deserialize)]
        struct Holder {
            secret: Secret,
        }
        toml::from_str::<Holder>(&format!("secret = {toml}")).map(|h| h.secret).map_err(|e| e.to_string())
    }

    #[test]
    fn both_notations_mean_the_same() {
        let short = secret(r#""secretsmanager:wasq/db#password""#).expect("a secret");
        let long = secret(r#"{ from = "secretsmanager:wasq/db#password" }"#).expect("a secret");
        assert_eq!(short, long);
        let name = "wasq/db".to_owned();
        assert_eq!(short.from, SecretSource::Secret { name, key: Some("password".to_owned()) });
        let json = serde_json::to_string(&long).expect("JSON");
        assert_eq!(json, r#"{"from":"secretsmanager:wasq/db#password"}"#);
        assert_eq!(serde_json::from_str::<Secret>(&json).expect("read"), long);
    }

    #[test]
    fn what_is_no_source_is_named() {
        for (toml, told) in [
            (r#""token""#, "has no scheme"),
            (r#""ssm:token""#, "begins with a slash"),
            (r#""ssm:/a b""#, "names no parameter"),
            (r#""secretsmanager:""#, "names no secret"),
            (r#""secretsmanager:a#""#, "no key behind the #"),
            (r#""env:AWS_SECRET_ACCESS_KEY""#, "WASQ_SECRET_NAME"),
            (r#""file:/etc/passwd""#, "secrets file"),
            (r#"{ from = "ssm:/a", exposed = true }"#, "unknown field `exposed`"),
            (r#"{ expose = true }"#, "missing field `from`"),
            ("1", "the source of a secret"),
        ] {
            let error = secret(toml).expect_err("no secret");
            assert!(error.contains(told), "{toml}: {error}");
        }
    }

    #[test]
    fn a_value_must_fit_its_use() {
        let hidden = secret(r#""ssm:/a""#).expect("a secret");
        let exposed = secret(r#"{ from = "ssm:/a", expose = true }"#).expect("a secret");
        let accept = |secret: &Secret, text: &str| secret.accept(SecretValue::new(text.to_owned()));
        assert_eq!(accept(&hidden, " 12345678\n").expect("trimmed").reveal(), "12345678");
        assert_eq!(accept(&exposed, "a PEM\nof lines\n").expect("as it is").reveal(), "a PEM\nof lines\n");
        for (secret, value, told) in [
            (&hidden, "1234567\n", "has 7 bytes"),
            (&hidden, "1234\n5678", "a line break"),
            (&exposed, "1234\u{0}5678", "a NUL"),
            (&exposed, &*"x".repeat(9 << 10), "has 9216 bytes"),
        ] {
            let error = accept(secret, value).expect_err("refused");
            assert!(error.contains(told) && !error.contains(value), "{error}");
        }
        assert_eq!(format!("{:?}", accept(&hidden, "12345678")), "Ok([secret])");
    }
}
