//! The callers that a server on this machine answers: programs and its own page, and no other page of a browser.
//!
//! A page may send requests to any port of this machine. If a name of its own points to this machine (DNS rebinding), it may
//! even read the answers. Its requests show that: they have its name as `Host`, or an `Origin`, or say that they come from
//! another site.

use std::net::IpAddr;

use http::header::{HOST, HeaderMap, HeaderValue, ORIGIN};

/// The names under which a server on this machine may be called, besides addresses and `localhost`.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// Further names, without a port.
    pub allow_hosts: Vec<String>,
    /// Whether the server has an option for further names.
    pub can_allow: bool,
}

impl Callers {
    /// Whether a request with these headers is answered. The error says why not, and what to do.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), String> {
        let text = |name| headers.get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
        let host = text(HOST).ok_or("the request has no header Host")?;
        let name = name_of(host);
        if !self.is_ours(name) {
            let or = if self.can_allow {
                format!(", or start `wasq dev --allow-host {name}`")
            } else {
                String::new()
            };
            return Err(format!("this server is not called {name:?}: use localhost or an address{or}"));
        }
        // A page of the endpoint itself, under the same name and port.
        if let Some(origin) = text(ORIGIN)
            && origin != format!("http://{host}")
        {
            return Err(format!("requests of pages in a browser are not answered (Origin: {origin})"));
        }
        if let Some(site) = headers.get("sec-fetch-site")
            && site != "same-origin"
            && site != "none"
        {
            return Err("requests of pages of another site are not answered (Sec-Fetch-Site)".to_owned());
        }
        Ok(())
    }

    /// An address is nobody else's name. `localhost` and the names below it never leave this machine.
    fn is_ours(&self, name: &str) -> bool {
        let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
        let lower = name.trim_end_matches('.').to_ascii_lowercase();
        address.parse::<IpAddr>().is_ok()
            || lower == "localhost"
            || lower.ends_with(".localhost")
            || self.allow_hosts.iter().any(|host| host.eq_ignore_ascii_case(&lower))
    }
}

/// A host without its port.
fn name_of(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(headers: &[(&'static str, &str)], answered: bool) {
        let callers = Callers { allow_hosts: vec!["queue.internal".to_owned()], can_allow: true };
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().expect("a value"));
        }
        assert_eq!(callers.check(&map).is_ok(), answered, "{headers:?}: {:?}", callers.check(&map));
    }

    #[test]
    fn programs_are_answered() {
        for host in [
            "127.0.0.1:9324",
            "localhost:9324",
            "LOCALHOST",
            "localhost.:80",
            "sqs.us-east-1.localhost:9324",
            "[::1]:9324",
            "[::1]",
            "192.168.1.5:9324",
            "queue.internal:9324",
            "QUEUE.internal",
        ] {
            check(&[("host", host)], true);
        }
    }

    #[test]
    fn other_names_are_not() {
        for host in [
            "evil.test:9324",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "notlocalhost",
            "",
            "evil.test@localhost",
        ] {
            check(&[("host", host)], false);
        }
        check(&[], false);
    }

    #[test]
    fn pages_of_others_are_not() {
        let host = ("host", "localhost:9324");
        check(&[host, ("origin", "http://localhost:9324")], true);
        check(&[host, ("sec-fetch-site", "same-origin")], true);
        check(&[host, ("sec-fetch-site", "none")], true);
        for origin in [
            "http://evil.test",
            "null",
            "http://localhost:3000",
            "https://localhost:9324",
            "http://localhost:9324/",
        ] {
            check(&[host, ("origin", origin)], false);
        }
        check(&[host, ("sec-fetch-site", "cross-site")], false);
        check(&[host, ("sec-fetch-site", "same-site")], false);
    }
}
