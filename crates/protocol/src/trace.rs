//! Trace context: turns X-Ray's header, which SQS and Lambda carry, into W3C's format.

/// W3C's `traceparent` of the trace that an X-Ray trace header names
/// (`Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`).
/// `None` if the header has another shape, or names no parent.
///
/// [X-Ray's documentation](https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html)
/// describes both formats.
pub fn traceparent_of(header: &str) -> Option<String> {
    let part = |name| header.split(';').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let mut root = part("Root")?.split('-');
    let (version, time, random) = (root.next()?, root.next()?, root.next()?);
    let parent = part("Parent")?;
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let valid = version == "1" && root.next().is_none() && hex(time, 8) && hex(random, 24) && hex(parent, 16);
    let sampled = if part("Sampled") == Some("1") { "01" } else { "00" };
    valid.then(|| format!("00-{time}{random}-{parent}-{sampled}").to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::traceparent_of;

    #[test]
    fn a_header_names_the_same_trace_in_both_words() {
        let header = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
        let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01";
        assert_eq!(traceparent_of(header).as_deref(), Some(expected));
        // Lambda adds a lineage; the order does not matter.
        let header =
            "Sampled=0; Parent=53995C3F42CD8AD8;Root=1-5759e988-bd862e3fe1be46a994272793;Lineage=1:a:0";
        let expected = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-00";
        assert_eq!(traceparent_of(header).as_deref(), Some(expected));
    }

    #[test]
    fn anything_else_is_no_trace() {
        for header in [
            "",
            "Root=1-5759e988-bd862e3fe1be46a994272793",
            "Root=2-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a99427279g;Parent=53995c3f42cd8ad8",
            "Root=1-5759e988-bd862e3fe1be46a994272793-0;Parent=53995c3f42cd8ad8",
        ] {
            assert_eq!(traceparent_of(header), None, "{header:?}");
        }
    }
}
