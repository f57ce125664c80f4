//! The token that opens the page. A browser that has opened the address with the token keeps it as a cookie.

use http::header::{COOKIE, HeaderMap};

/// The token of a page. It is in the address that `wasq` prints, and becomes a cookie.
#[derive(Clone)]
pub struct Token(String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// How long a browser keeps the cookie, in seconds.
const MONTH: u32 = 30 * 24 * 3600;

impl Token {
    /// A token from its text: letters, digits, `-` and `_` only.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for an address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a text is this token. The time of the comparison tells nothing of the place of a difference.
    pub(crate) fn is(&self, text: &str) -> bool {
        let differences = self.0.bytes().zip(text.bytes()).fold(0, |all, (one, other)| all | (one ^ other));
        self.0.len() == text.len() && differences == 0
    }

    /// Whether a request has the cookie.
    pub(crate) fn is_in(&self, headers: &HeaderMap, port: &str) -> bool {
        let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
        let name = cookie(port);
        cookies
            .flat_map(|line| line.split(';'))
            .filter_map(|pair| pair.trim().split_once('='))
            .any(|(found, value)| found == name && self.is(value))
    }

    /// The cookie, for the answer to a request with the token.
    pub(crate) fn set_cookie(&self, port: &str) -> String {
        format!("{}={}; Path=/; Max-Age={MONTH}; HttpOnly; SameSite=Strict", cookie(port), self.0)
    }
}

/// The name of the cookie: browsers send cookies to every port of a host.
fn cookie(port: &str) -> String {
    format!("wasq-page-{port}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_under_its_own_name_opens_the_page() {
        let token = Token::new("abc");
        let check = |line: &'static str, expected: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, line.parse().expect("a value"));
            assert_eq!(token.is_in(&headers, "9324"), expected, "{line}");
        };
        check("wasq-page-9324=abc", true);
        check("other=1; wasq-page-9324=abc", true);
        check("wasq-page-9324=ab", false);
        check("wasq-page-9324=abcd", false);
        check("wasq-page-9325=abc", false);
        check("wasq-page-9324=", false);
        check("x-wasq-page-9324=abc", false);
    }
}
