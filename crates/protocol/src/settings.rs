//! A task's settings: `NAME.toml` next to `NAME.wasm`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::{ByteCount, duration, format_duration};
use crate::{Schedule, Secret};

/// How a task is run. Every key has a default; a key that is not listed here is refused.
///
/// ```
/// let settings = wasq_protocol::Settings::from_toml(r#"
///     timeout = "10s"
///     allow_hosts = ["https://api.github.com"]
///     [env]
///     GITHUB_API = "https://api.github.com"
/// "#)?;
/// assert_eq!(settings.max_attempts, 5);
/// # Ok::<(), wasq_protocol::SettingsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long one run may take, waiting included. 100 ms to 14 min; default 30 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How much memory one run may use: all linear memories and tables together. 1 MiB to 4 GiB; default 128 MiB.
    pub memory: ByteCount,
    /// The most attempts of a message before it goes to the dead-letter queue. 1 to 100; default 5.
    pub max_attempts: u32,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// Where the task may send HTTP requests; nowhere by default.
    pub allow_hosts: Vec<AllowedHost>,
    /// How long the end of a message can be asked for, and its id is not run again. 1 min to 30 days; default 1 day.
    // An older worker refuses a live record with a key that it does not know: this one and the next are
    // written only if they are set.
    #[serde(with = "duration", skip_serializing_if = "is_default_keep")]
    pub keep: Duration,
    /// Whether a message may run only where its run can be remembered: while the table of runs does not answer, it
    /// waits. Default false: it runs without being remembered.
    #[serde(skip_serializing_if = "is_false")]
    pub once: bool,
    /// Whether a POST, PUT, PATCH or DELETE without the header `idempotency-key` gets one. The same request of a later attempt has the
    /// same key. Default true.
    #[serde(skip_serializing_if = "is_true")]
    pub idempotency_key: bool,
    /// Environment variables that the task sees; it sees no others.
    pub env: BTreeMap<String, String>,
    /// Secrets, by environment variable: the task finds the secret or its placeholder in that variable. At
    /// most 32.
    // An older worker refuses a live record with this key, so the key is written only if the task has
    // secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, Secret>,
    /// The check of a new version against the live one. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compatible: Option<Compatible>,
    /// When wasq itself sends messages for the task. At most 20.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub schedule: Vec<Schedule>,
}

/// How the schema of a new version fits that of the live one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compatible {
    /// The new version takes all params that the live one takes.
    Backward,
}

/// Exponential backoff with full jitter: before attempt n + 1, wait a random time of up to `min(cap, base * 2^(n-1))`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backoff {
    /// The longest wait after the first failure. 0 s to 12 h; default 2 s.
    #[serde(with = "duration")]
    pub base: Duration,
    /// The longest wait after any failure. At least `base`, at most 12 h (the longest wait of SQS); default
    /// 15 min.
    #[serde(with = "duration")]
    pub cap: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            memory: ByteCount::mib(128),
            max_attempts: 5,
            backoff: Backoff::default(),
            allow_hosts: Vec::new(),
            keep: KEEP_BY_DEFAULT,
            once: false,
            idempotency_key: true,
            env: BTreeMap::new(),
            secrets: BTreeMap::new(),
            compatible: None,
            schedule: Vec::new(),
        }
    }
}

const KEEP_BY_DEFAULT: Duration = Duration::from_secs(24 * 3600);

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_default_keep(keep: &Duration) -> bool {
    *keep == KEEP_BY_DEFAULT
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_true(flag: &bool) -> bool {
    *flag
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

impl Default for Backoff {
    fn default() -> Self {
        Self { base: Duration::from_secs(2), cap: Duration::from_secs(15 * 60) }
    }
}

impl Backoff {
    /// The longest wait after the failed attempt `attempt` (the first is 1).
    pub fn ceiling(&self, attempt: u32) -> Duration {
        let factor = 2u32.saturating_pow(attempt.saturating_sub(1));
        self.base.saturating_mul(factor).min(self.cap)
    }
}

/// Why a text is no settings file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No TOML, an unknown key, or a value of the wrong type; the text shows the line.
    #[error("{0}")]
    Toml(String),
    /// A value outside its range.
    #[error("{key} = {value:?} is out of range: {key} lies between {least} and {most}")]
    Range {
        /// The key, such as `backoff.base`.
        key: &'static str,
        /// The given value.
        value: String,
        /// The least that is allowed.
        least: String,
        /// The most that is allowed.
        most: String,
    },
    /// A name that no environment variable can have.
    #[error("env: {0:?} is no name for an environment variable: it must not be empty nor contain '=' or NUL")]
    EnvName(String),
    /// A name that no secret can have.
    #[error("secrets: {0:?} is no name for a secret: letters, digits and _ (no digit first), at most 64")]
    SecretName(String),
    /// A name that is both in `[env]` and in `[secrets]`.
    #[error(
        "{0} is in [env] and in [secrets]: the task sees one environment, so give one of them another name"
    )]
    SecretInEnv(String),
    /// Too many secrets.
    #[error("secrets: {0} entries; the most is {SECRETS_MAX}")]
    Secrets(usize),
    /// Too many schedules.
    #[error("schedule: {0} tables; the most is {SCHEDULES_MAX}")]
    Schedules(usize),
    /// Several schedules have the same name, or none.
    #[error("schedule: {0}; if a task has several schedules, each has a name of its own")]
    ScheduleNames(String),
}

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(14 * 60);
const MEMORY: RangeInclusive<ByteCount> = ByteCount::mib(1)..=ByteCount::mib(4096);
const ATTEMPTS: RangeInclusive<u32> = 1..=100;
const SECRETS_MAX: usize = 32;
const SCHEDULES_MAX: usize = 20;
const KEEP: RangeInclusive<Duration> = Duration::from_secs(60)..=Duration::from_secs(30 * 24 * 3600);
const WAIT_MOST: Duration = Duration::from_secs(12 * 3600);

impl Settings {
    /// Reads a settings file and checks every range.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        let settings: Self =
            toml::from_str(text).map_err(|e| SettingsError::Toml(e.to_string().trim_end().into()))?;
        settings.check()?;
        Ok(settings)
    }

    /// A settings file that contains all these settings.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every key is a string, and TOML can write every value")
    }

    fn check(&self) -> Result<(), SettingsError> {
        let Self {
            timeout,
            memory,
            max_attempts,
            backoff: Backoff { base, cap },
            allow_hosts: _,
            keep,
            once: _,
            idempotency_key: _,
            env,
            secrets,
            compatible: _,
            schedule,
        } = self;
        within("timeout", timeout, &TIMEOUT, |d| format_duration(*d))?;
        within("memory", memory, &MEMORY, ByteCount::to_string)?;
        within("max_attempts", max_attempts, &ATTEMPTS, u32::to_string)?;
        within("keep", keep, &KEEP, |d| format_duration(*d))?;
        let wait = Duration::ZERO..=WAIT_MOST;
        within("backoff.base", base, &wait, |d| format_duration(*d))?;
        within("backoff.cap", cap, &(*base..=WAIT_MOST), |d| format_duration(*d))?;
        let unusable = |(name, value): &(&String, &String)| {
            name.is_empty() || name.contains(['=', '\0']) || value.contains('\0')
        };
        if let Some((name, _)) = env.iter().find(unusable) {
            return Err(SettingsError::EnvName(name.clone()));
        }
        if secrets.len() > SECRETS_MAX {
            return Err(SettingsError::Secrets(secrets.len()));
        }
        if let Some(name) = secrets.keys().find(|name| !is_secret_name(name)) {
            return Err(SettingsError::SecretName(name.clone()));
        }
        if let Some(name) = secrets.keys().find(|name| env.contains_key(*name)) {
            return Err(SettingsError::SecretInEnv(name.clone()));
        }
        if schedule.len() > SCHEDULES_MAX {
            return Err(SettingsError::Schedules(schedule.len()));
        }
        let mut names = BTreeSet::new();
        for schedule in schedule {
            if !names.insert(&schedule.name) {
                let which = match &schedule.name {
                    Some(name) => format!("two have the name {name:?}"),
                    None => "two have no name".to_owned(),
                };
                return Err(SettingsError::ScheduleNames(which));
            }
        }
        Ok(())
    }

    /// These settings within the operator's caps.
    pub fn capped(mut self, caps: &Caps) -> Self {
        let Caps { timeout, memory, max_attempts, keep } = caps;
        self.keep = self.keep.min(*keep);
        self.timeout = self.timeout.min(*timeout);
        self.memory = self.memory.min(*memory);
        self.max_attempts = self.max_attempts.min(*max_attempts);
        self
    }
}

/// Whether `name` can name a secret. The rule is narrow, so that placeholders and log lines can contain the
/// name as it is.
fn is_secret_name(name: &str) -> bool {
    let mut chars = name.chars();
    name.len() <= 64
        && chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn within<T: PartialOrd>(
    key: &'static str,
    value: &T,
    range: &RangeInclusive<T>,
    show: impl Fn(&T) -> String,
) -> Result<(), SettingsError> {
    if range.contains(value) {
        return Ok(());
    }
    Err(SettingsError::Range { key, value: show(value), least: show(range.start()), most: show(range.end()) })
}

/// The operator's upper limits for every task. A task's settings can only be narrower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// The most that a task's `timeout` can be.
    pub timeout: Duration,
    /// The most that a task's `memory` can be.
    pub memory: ByteCount,
    /// The most that a task's `max_attempts` can be.
    pub max_attempts: u32,
    /// The most that a task's `keep` can be.
    pub keep: Duration,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            timeout: *TIMEOUT.end(),
            memory: ByteCount::mib(512),
            max_attempts: *ATTEMPTS.end(),
            keep: *KEEP.end(),
        }
    }
}

/// An address that a task may send requests to: `SCHEME://HOST[:PORT]`, where HOST may start with `*.` for every
/// subdomain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AllowedHost {
    https: bool,
    host: String,
    subdomains: bool,
    port: u16,
}

impl AllowedHost {
    /// Whether a request to this scheme, host (without brackets or port) and port is allowed.
    pub fn allows(&self, https: bool, host: &str, port: u16) -> bool {
        if self.https != https || self.port != port {
            return false;
        }
        let host = match host.parse::<Ipv6Addr>() {
            Ok(address) => address.to_string(),
            Err(_) => host.to_ascii_lowercase(),
        };
        if self.subdomains {
            // The pattern *.example.com is kept as ".example.com".
            host.len() > self.host.len() && host.ends_with(&self.host)
        } else {
            host == self.host
        }
    }

    fn default_port(https: bool) -> u16 {
        if https { 443 } else { 80 }
    }
}

impl FromStr for AllowedHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = |what: &str| {
            format!(
                "{text:?} {what}; write a host like \"https://api.example.com\" or \"http://*.example.com:8080\""
            )
        };
        let (scheme, rest) = text.split_once("://").ok_or_else(|| error("has no scheme"))?;
        let https = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(error("has a scheme other than http and https")),
        };
        if rest.contains(['/', '?', '#', '@', ' ']) {
            return Err(error("has more than a scheme, a host and a port"));
        }
        let after_bracket = rest.rfind(']').map_or(0, |i| i + 1);
        let (host, port) = match rest[after_bracket..].rfind(':') {
            Some(colon) => {
                let (host, port) = rest.split_at(after_bracket + colon);
                let port =
                    port[1..].parse().map_err(|_| error("has a port that is no number from 0 to 65535"))?;
                (host, port)
            }
            None => (rest, Self::default_port(https)),
        };
        if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            let address: Ipv6Addr =
                address.parse().map_err(|_| error("has no IPv6 address in its brackets"))?;
            return Ok(Self { https, host: address.to_string(), subdomains: false, port });
        }
        let host = host.to_ascii_lowercase();
        let (host, subdomains) = match host.strip_prefix('*') {
            Some(domain) if domain.len() > 1 && domain.starts_with('.') => (domain.to_owned(), true),
            Some(_) => return Err(error("has a wildcard that is not followed by a domain")),
            None => (host, false),
        };
        if host.is_empty() || host.contains('*') {
            return Err(error("has no host, or a wildcard that is not at its start"));
        }
        if !host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
            return Err(error(
                "has a host that is no name and no address (write IPv6 in brackets, other alphabets as xn--)",
            ));
        }
        // Requests name an address in its usual form only, whatever the task has written.
        let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
        let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit())
            || last.strip_prefix("0x").is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if is_number && host.parse::<Ipv4Addr>().is_err() {
            return Err(error("has an address that is not written as four numbers from 0 to 255"));
        }
        Ok(Self { https, host, subdomains, port })
    }
}

impl TryFrom<String> for AllowedHost {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AllowedHost> for String {
    fn from(host: AllowedHost) -> Self {
        host.to_string()
    }
}

impl fmt::Display for AllowedHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        let star = if self.subdomains { "*" } else { "" };
        write!(f, "{scheme}://{star}")?;
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        if self.port != Self::default_port(self.https) {
            write!(f, ":{}", self.port)?;
        }
        Ok(())
    }
}
