#![doc = include_str!("../README.md")]

mod component;
mod endpoint;
mod texts;

pub use component::component;
pub use endpoint::sqs_endpoint;
pub use texts::{live_record, message, publisher_event, schema, settings, worker_event};

/// A fuzz target: takes any bytes, and panics if a property does not hold.
pub type Target = fn(&[u8]);

/// All targets by name. The corpus of a target has the same name.
pub const TARGETS: [(&str, Target); 8] = [
    ("message", message),
    ("settings", settings),
    ("live_record", live_record),
    ("worker_event", worker_event),
    ("publisher_event", publisher_event),
    ("sqs_endpoint", sqs_endpoint),
    ("component", component),
    ("schema", schema),
];
