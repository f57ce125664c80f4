//! The destination of a request: parsed once for the policy by name, for secrets, and for the connection.

use std::fmt;

use hyper::Uri;
use wasq_protocol::AllowedHost;

/// Scheme, host and port of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    https: bool,
    /// Without the brackets of an IPv6 address.
    pub(crate) host: String,
    /// The port of the URL, or the scheme's own.
    pub(crate) port: u16,
    /// Host and port as the task wrote them, for messages. Never a user or a password.
    authority: String,
}

impl Destination {
    /// Reads the destination of a URL. An error says what is missing.
    pub(crate) fn of(uri: &Uri) -> Result<Self, SendError> {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(scheme) => {
                return Err(SendError::Denied(format!("the scheme is {scheme}, not http or https")));
            }
            None => return Err(SendError::Denied("the URL has no scheme http or https".to_owned())),
        };
        let authority = uri.authority().ok_or_else(|| SendError::Denied("the URL has no host".to_owned()))?;
        let authority_text = authority.as_str();
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        Ok(Self {
            https,
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(if https { 443 } else { 80 }),
            authority: authority_text.rsplit('@').next().unwrap_or(host).to_owned(),
        })
    }

    /// Whether one of the entries of `allow_hosts`, or of a secret's hosts, allows it.
    pub(crate) fn is_among(&self, hosts: &[AllowedHost]) -> bool {
        hosts.iter().any(|entry| entry.allows(self.https, &self.host, self.port))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

/// Why there is no response.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The policy forbids it.
    Denied(String),
    /// The request has too much of something.
    Invalid(String),
    /// The request was tried and failed, or the run has reached a limit on its requests.
    Failed(String),
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Denied(why) | Self::Invalid(why) | Self::Failed(why)) = self;
        f.write_str(why)
    }
}

impl std::error::Error for SendError {}
