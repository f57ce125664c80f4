#![doc = include_str!("../README.md")]
// The futures of the SDK nest deeper than the compiler allows by default.
#![recursion_limit = "256"]

mod artifacts;
#[cfg(feature = "aws")]
mod aws;
mod delivery;
mod lease;
mod live_records;
mod modules;
mod ports;
mod runs;
mod secrets;
mod slots;
mod state;
#[cfg(feature = "aws")]
mod telemetry;
mod verdict;
mod wasm;
mod worker;

pub use artifacts::{CheckedArtifact, Checks};
#[cfg(feature = "aws")]
pub use aws::{Config, Function};
pub use ports::{
    ArtifactError, Delayed, Finished, Observer, Queue, Registry, Release, Runner, Runs, Timer, WorkerParts,
    WorkerPorts,
};
pub use state::WorkerSettings;
#[cfg(feature = "aws")]
pub use telemetry::TelemetryConfig;
pub use verdict::Verdict;
pub use wasm::Wasm;
pub use worker::{Answer, Worker};
