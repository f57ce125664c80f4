//! The configuration.

use http::header::{HeaderName, HeaderValue};
use url::Url;
use wasq_protocol::{VarError, Vars};

/// Where traces and metrics go.
#[derive(Clone, Debug)]
pub struct OtlpConfig {
    /// The base of the addresses: `v1/traces` and `v1/metrics` are added to it.
    pub endpoint: Url,
    /// Headers of each request, such as a key of the service.
    pub headers: Headers,
}

/// Headers of a request.
pub type Headers = Vec<(HeaderName, HeaderValue)>;

const ENDPOINT: &str = "WASQ_OTLP_ENDPOINT";
const HEADERS: &str = "WASQ_OTLP_HEADERS";

impl OtlpConfig {
    /// Reads `WASQ_OTLP_ENDPOINT`, such as `https://otlp.example.com`, and `WASQ_OTLP_HEADERS`, such as `x-key=secret,x-team=tasks`.
    /// `None` if there is no endpoint: then nothing is sent.
    pub fn from_vars<F: Fn(&str) -> Option<String>>(vars: &Vars<F>) -> Result<Option<Self>, VarError> {
        let Some(text) = vars.text(ENDPOINT) else { return Ok(None) };
        let endpoint =
            endpoint(&text).map_err(|problem| VarError::Invalid { name: ENDPOINT, value: text, problem })?;
        let given = vars.text(HEADERS).unwrap_or_default();
        // The value stays out of the error: it can hold a key.
        let value = "...".to_owned();
        let headers =
            headers(&given).map_err(|problem| VarError::Invalid { name: HEADERS, value, problem })?;
        Ok(Some(Self { endpoint, headers }))
    }

    /// Reads the same two texts.
    pub fn read(endpoint: &str, headers: &str) -> Result<Self, String> {
        let headers = self::headers(headers).map_err(|problem| format!("its headers: {problem}"))?;
        Ok(Self { endpoint: self::endpoint(endpoint)?, headers })
    }

    /// The address for one kind of data.
    pub(crate) fn address(&self, kind: &str) -> String {
        format!("{}/v1/{kind}", self.endpoint.as_str().trim_end_matches('/'))
    }
}

fn endpoint(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|e: url::ParseError| e.to_string())?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(
            "expected an address such as https://otlp.example.com or http://127.0.0.1:4318".to_owned()
        );
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Err(
            "expected an address without a user, a query and a fragment; keys go into WASQ_OTLP_HEADERS"
                .to_owned(),
        );
    }
    Ok(url)
}

/// Reads `name=value,name=value`. The error does not contain a value.
pub(crate) fn headers(text: &str) -> Result<Headers, String> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let header = |pair: &str| {
        let (name, value) =
            pair.split_once('=').ok_or("expected pairs such as name=value, with commas between them")?;
        let name = name.trim().parse().map_err(|_| format!("{:?} is no name of a header", name.trim()))?;
        let mut value: HeaderValue =
            value.trim().parse().map_err(|_| format!("the value of {name} is no value of a header"))?;
        value.set_sensitive(true);
        Ok((name, value))
    };
    pairs.map(header).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(endpoint: &str, headers: &str) -> Result<Option<OtlpConfig>, String> {
        let vars = Vars::new(|name| match name {
            ENDPOINT => Some(endpoint.to_owned()),
            HEADERS => Some(headers.to_owned()),
            _ => None,
        });
        OtlpConfig::from_vars(&vars).map_err(|e| e.to_string())
    }

    #[test]
    fn an_endpoint_and_its_headers() {
        assert!(read("", "").is_ok_and(|config| config.is_none()));
        for base in ["https://otlp.example.com", "https://otlp.example.com/"] {
            let config = read(base, "x-key=a=b, x-team=tasks").expect("valid").expect("there is one");
            assert_eq!(config.address("traces"), "https://otlp.example.com/v1/traces");
            assert_eq!(config.headers[0].1, "a=b");
        }
        let config = read("http://127.0.0.1:4318/otlp", "").expect("valid").expect("there is one");
        assert_eq!(config.address("metrics"), "http://127.0.0.1:4318/otlp/v1/metrics");
    }

    #[test]
    fn what_is_wrong_is_named_without_the_key() {
        for endpoint in ["localhost:4318", "grpc://a", "nothing", "https://a/?x=1", "https://user@a"] {
            assert!(read(endpoint, "").is_err_and(|e| e.starts_with("WASQ_OTLP_ENDPOINT = ")), "{endpoint}");
        }
        let error = read("https://a", "x key=hidden").expect_err("a blank in a name");
        assert!(error.contains("x key") && !error.contains("hidden"), "{error}");
        assert!(read("https://a", "hidden").is_err_and(|e| !e.contains("hidden")));
    }
}
