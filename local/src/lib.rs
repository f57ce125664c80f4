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
pub use stack::{
    DEAD_LETTERS, LastStack, Listed, QUEUE, Stack, StackConfig, is_running, list_tasks, queue_url,
    registry_path,
};
