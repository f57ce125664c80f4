#![doc = include_str!("../README.md")]

mod adapters;
mod db;
mod endpoint;
mod folder;
mod log;
mod results;
mod secrets;
mod sqs;
mod stack;
mod watch;

pub use log::{Log, log_files};
pub use secrets::Secrets;
pub use stack::{DEAD_LETTERS, Listed, QUEUE, Stack, StackConfig, last_address, list_tasks, queue_url};
