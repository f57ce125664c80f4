//! The URLs of `wasq:task/http`, read as the WHATWG URL standard has it: as browsers, curl and most HTTP
//! libraries do.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hyper::Uri;
use hyper::header::HeaderValue;
use percent_encoding::{AsciiSet, percent_decode_str, percent_encode};
use url::Url;

/// A URL of a request.
#[derive(Debug)]
pub(crate) struct RequestUrl {
    /// The URL without user, password and fragment. Letters outside ASCII and blanks are percent-encoded.
    pub(crate) uri: Uri,
    /// The value of the header `authorization`, if the URL has a user or a password.
    pub(crate) authorization: Option<HeaderValue>,
}

impl RequestUrl {
    /// Reads a URL. The error never contains a password.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut url = Url::parse(text).map_err(|e| {
            let why = match e {
                url::ParseError::RelativeUrlWithoutBase => {
                    "it does not begin with https:// or http://".to_owned()
                }
                e => e.to_string(),
            };
            format!("url: {:?}: {why}", without_credentials(text))
        })?;
        let authorization = authorization(&url);
        // From here on, no error can show a password.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        let error = |why: String| format!("url: {:?}: {why}", without_credentials(text));
        if !matches!(url.scheme(), "http" | "https") {
            return Err(error(format!("the scheme is {}, not https or http", url.scheme())));
        }
        let authorization = authorization.map_err(error)?;
        url.set_fragment(None);
        cleared.map_err(|()| error("it has no host".to_owned()))?;
        let uri = url.as_str().parse().map_err(|e| error(format!("{e}")))?;
        Ok(Self { uri, authorization })
    }
}

/// A URL as a request's line and its log lines have it. An error says why it is none.
pub fn normalized_url(text: &str) -> Result<String, String> {
    RequestUrl::parse(text).map(|url| url.uri.to_string())
}

fn authorization(url: &Url) -> Result<Option<HeaderValue>, String> {
    let (user, password) = (url.username(), url.password());
    if user.is_empty() && password.is_none() {
        return Ok(None);
    }
    let mut credentials: Vec<u8> = percent_decode_str(user).collect();
    credentials.push(b':');
    credentials.extend(percent_decode_str(password.unwrap_or_default()));
    let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(credentials)))
        .map_err(|_| "the user or the password is too long".to_owned())?;
    value.set_sensitive(true);
    Ok(Some(value))
}

/// Leaves out everything between the scheme and the last `@` of a text that may be no URL: a password with a
/// `/` in it ends nowhere else.
fn without_credentials(text: &str) -> String {
    let scheme = text.find(':').map_or(0, |colon| colon + 1);
    let start = text.len() - text[scheme..].trim_start_matches(['/', '\\']).len();
    match text[start..].rfind('@') {
        Some(at) => format!("{}{}", &text[..start], &text[start + at + 1..]),
        None => text.to_owned(),
    }
}

/// Percent-encodes the bytes outside ASCII in a request's URL: `wasi:http` takes them as they are.
pub(crate) fn encode_other_letters(uri: &mut Uri) -> Result<(), String> {
    if uri.path_and_query().is_none_or(|path| path.as_str().is_ascii()) {
        return Ok(());
    }
    let encoded = percent_encode(uri.to_string().as_bytes(), &AsciiSet::EMPTY).to_string();
    *uri = encoded.parse().map_err(|e| format!("url: {e}"))?;
    Ok(())
}
