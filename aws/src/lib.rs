#![doc = include_str!("../README.md")]

mod lambda;
mod sdk;
mod secrets;
mod sqs;

pub use aws_config::SdkConfig;
pub use lambda::{serve, start_logging};
pub use sdk::{explain, function_config, sdk_config};
pub use secrets::SecretReader;
pub use sqs::{Counts, Outbound, QueueEndpoint};
