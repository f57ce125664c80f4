#![doc = include_str!("../README.md")]

pub mod context;
mod failure;
mod host;
pub mod http;
mod logging;
pub mod queue;
mod steps;
mod task;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use failure::Failure;
pub use steps::step;
pub use wasq_task_macros::task;

/// For the attribute's own code.
#[cfg(target_family = "wasm")]
#[doc(hidden)]
pub mod __private {
    pub use crate::host::bindings;
    pub use crate::host::bindings::{Failure as WitFailure, Guest, export_task};
    pub use crate::task::run_exported as run;
}
