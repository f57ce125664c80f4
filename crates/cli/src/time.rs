//! Times on the command line.

use wasq_protocol::{Clock, SystemClock, Timestamp, parse_duration};

/// Parses a point in time, or a duration before now.
pub(crate) fn time(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = parse_duration(text) {
        return Ok(SystemClock.now().minus(ago));
    }
    text.parse().map_err(|_| {
        "neither a time such as \"2026-11-23T08:30:00Z\" nor a duration such as \"2h\"".to_owned()
    })
}
