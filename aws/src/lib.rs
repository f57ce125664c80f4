#![doc = include_str!("../README.md")]

mod lambda;
mod sdk;
mod sqs;

pub use lambda::{serve, start_logging};
pub use sdk::{explain, sdk_config};
pub use sqs::{Counts, Outbound, QueueEndpoint};
