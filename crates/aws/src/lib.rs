#![doc = include_str!("../README.md")]

mod call;
#[cfg(feature = "lambda")]
mod invoke;
#[cfg(feature = "lambda")]
mod lambda;
mod logging;
#[cfg(feature = "runs")]
mod runs;
mod s3;
#[cfg(feature = "scheduler")]
mod scheduler;
mod sdk;
#[cfg(feature = "secrets")]
mod secrets;
mod sqs;

pub use aws_config::SdkConfig;
pub use call::CallError;
#[cfg(feature = "lambda")]
pub use invoke::OtherFunction;
#[cfg(feature = "lambda")]
pub use lambda::{FunctionError, serve, start_logging};
pub use logging::{JsonLines, SpanFields, TextLines, Unformatted};
#[cfg(feature = "runs")]
pub use runs::RunsTable;
pub use s3::S3Objects;
#[cfg(feature = "scheduler")]
pub use scheduler::{
    GroupConfig, ListedSchedule, MESSAGES_PREFIX, MessageAt, NewSchedule, SCHEDULED_TIME, ScheduleGroup,
    ScheduleMaker, without_words,
};
pub use sdk::{CONNECT_TIMEOUT, explain, function_config, not_sent, sdk_config};
#[cfg(feature = "secrets")]
pub use secrets::SecretReader;
pub use sqs::{Counts, Outbound, QueueEndpoint};
