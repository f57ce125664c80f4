#![doc = include_str!("../README.md")]

mod lambda;
mod sdk;
mod secrets;
mod sqs;

pub use lambda::{serve, start_logging};
pub use sdk::{explain, sdk_config};
pub use secrets::SecretReader;
pub use sqs::{Counts, Outbound, QueueEndpoint};
