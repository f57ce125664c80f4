//! The fields of a form and of an address.

use url::form_urlencoded;

/// The fields, in their order. A name can occur more than once.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads what a browser has encoded.
    pub(crate) fn read(encoded: &[u8]) -> Self {
        Self(form_urlencoded::parse(encoded).into_owned().collect())
    }

    /// A field without the blanks around it; `None` if it is missing or empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).map(str::trim).find(|value| !value.is_empty())
    }

    /// A field as it is; empty if it is missing.
    pub(crate) fn exactly(&self, name: &str) -> &str {
        self.all(name).next().unwrap_or_default()
    }

    /// The names of the fields.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// All fields of a name.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

impl Form {
    /// The fields without those of a name.
    pub(crate) fn without(&self, name: &str) -> Self {
        Self(self.0.iter().filter(|(found, _)| found != name).cloned().collect())
    }

    /// An address with these fields.
    pub(crate) fn address(&self, path: &str) -> String {
        let fields: Vec<_> =
            self.0.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))).collect();
        address(path, &fields)
    }
}

/// A part of an address, encoded: a message's id can contain anything.
pub(crate) fn encoded(part: &str) -> String {
    form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>().replace('+', "%20")
}

/// An address with the fields that have a value.
pub(crate) fn address(path: &str, fields: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in fields {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// A part of an address, decoded; `None` if it is not UTF-8.
pub(crate) fn decoded(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{decoded, encoded};

    #[test]
    fn any_id_travels_in_an_address() {
        for id in ["order/7?&%", "é 😀\n", "a+b", "", "%2F"] {
            assert_eq!(decoded(&encoded(id)).as_deref(), Some(id), "{}", encoded(id));
            assert!(!encoded(id).contains(['/', '?', '#', ' ']), "{}", encoded(id));
        }
        assert_eq!(decoded("%ff"), None);
        assert_eq!(decoded("%f"), None);
    }
}
