#![doc = include_str!("../README.md")]

mod adapters;
mod data_folder;
mod db;
mod earlier;
mod endpoint;
mod folder;
mod listing;
mod log;
mod page;
mod results;
mod runs;
mod secrets;
mod sqs;
mod stack;
mod timer;
mod watch;

pub use data_folder::{LastStack, RunningStacks, is_running, registry_path};
pub use endpoint::serve_page;
pub use folder::write_whole;
pub use listing::{Listed, list_tasks};
pub use log::{Log, log_files};
pub use page::{fresh_token, page_url};
pub use secrets::LocalSecrets;
pub use stack::{DEAD_LETTERS, QUEUE, Stack, StackConfig, queue_url};
pub use wasq_publisher::{CompileLimits, compile_if_asked};
