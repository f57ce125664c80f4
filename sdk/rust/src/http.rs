//! HTTP in one call, to the hosts that the task's `allow_hosts` names. The host connects, does TLS and keeps connections.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Failure, host};

/// A request that is being put together.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) timeout: Option<Duration>,
    /// The reason why it cannot be sent.
    pub(crate) problem: Option<String>,
}

/// A response, whatever its status. Redirects are not followed.
#[derive(Clone, Debug)]
pub struct Response {
    pub(crate) url: String,
    /// The status code, such as 200.
    pub status: u16,
    /// The headers in the order in which they came, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
}

/// The reason why there is no response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The URL of the request, without user and password.
    pub url: String,
    /// The kind of the error.
    pub kind: ErrorKind,
}

/// The kind of an [`Error`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The task's `allow_hosts` does not name the address; the text says which entry would.
    Denied(String),
    /// The request itself is not valid; the text names the part.
    Invalid(String),
    /// There was no whole response in time.
    Timeout,
    /// The body is larger than allowed; the limit in bytes.
    TooLarge(u64),
    /// Connecting, TLS or the exchange failed; the text says how.
    Failed(String),
    /// The response's status or body is not the expected one.
    Unexpected(String),
}

/// A GET of a URL.
pub fn get(url: impl Into<String>) -> Request {
    Request::new("GET", url)
}

/// A POST to a URL.
pub fn post(url: impl Into<String>) -> Request {
    Request::new("POST", url)
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        let (method, url) = (method.into(), url.into());
        Self { method, url, headers: Vec::new(), body: None, timeout: None, problem: None }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self
    }

    /// Sets the body to a value as JSON, and says so in the headers.
    pub fn json(mut self, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => self.header("content-type", "application/json").body(body),
            Err(e) => {
                self.problem = Some(format!("the body: {e}"));
                self
            }
        }
    }

    /// How long to wait for the whole response. The run's own deadline holds as well.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Sends it, and waits for the whole response.
    pub fn send(mut self) -> Result<Response, Error> {
        match self.problem.take() {
            Some(problem) => {
                Err(Error { url: without_credentials(&self.url, false), kind: ErrorKind::Invalid(problem) })
            }
            None => host::send(self),
        }
    }
}

impl Response {
    /// Returns the response itself if its status is 2xx, and otherwise an error that names the status.
    pub fn success(self) -> Result<Self, Error> {
        if (200..300).contains(&self.status) {
            return Ok(self);
        }
        let body = self.text();
        let end = body.floor_char_boundary(200);
        let kind = ErrorKind::Unexpected(format!("status {}: {}", self.status, &body[..end]));
        Err(Error { url: self.url, kind })
    }

    /// The body, read as JSON. A byte order mark before it is skipped; anything after it is an error.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let error = |why: String| {
            let kind = ErrorKind::Unexpected(format!("the answer: {why}"));
            Error { url: self.url.clone(), kind }
        };
        let body = self.body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.body);
        let mut reader = serde_json::Deserializer::from_slice(body);
        let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| error(e.to_string()))?;
        reader.end().map_err(|e| error(e.to_string()))?;
        Ok(value)
    }

    /// The body as text; bytes that are not UTF-8 become U+FFFD.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The first header of a name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The failure that a busy server (status 429 or 503) asks for: another attempt after its `retry-after`,
    /// or after a minute if it names no time. `None` for any other status.
    pub fn busy(&self) -> Option<Failure> {
        let after = self.header("retry-after").and_then(|seconds| seconds.parse().ok()).unwrap_or(60);
        let reason = format!("{}: status {}", self.url, self.status);
        [429, 503].contains(&self.status).then(|| Failure::retry_after(Duration::from_secs(after), reason))
    }
}

/// A URL for messages: without the user and the password in it. In a text that is no URL, everything up to the
/// last `@` may be a password.
pub(crate) fn without_credentials(url: &str, is_url: bool) -> String {
    let trimmed = url.trim_start();
    let scheme = ["https:", "http:"]
        .into_iter()
        .find(|scheme| trimmed.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme)));
    let Some(scheme) = scheme else { return url.to_owned() };
    let rest = trimmed[scheme.len()..].trim_start_matches(['/', '\\']);
    let end = rest.find(['/', '?', '#', '\\']).filter(|_| is_url).unwrap_or(rest.len());
    match rest[..end].rfind('@') {
        Some(at) => format!("{}{}", &url[..url.len() - rest.len()], &rest[at + 1..]),
        None => url.to_owned(),
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.url)?;
        match &self.kind {
            ErrorKind::Denied(why) => write!(f, "denied: {why}"),
            ErrorKind::Invalid(why) => write!(f, "not a valid request: {why}"),
            ErrorKind::Timeout => write!(f, "no answer in time"),
            ErrorKind::TooLarge(limit) => write!(f, "the answer has more than {limit} bytes"),
            ErrorKind::Failed(why) | ErrorKind::Unexpected(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for Error {}
