#![doc = include_str!("../README.md")]

mod addresses;
mod bindings;
mod capture;
#[cfg(feature = "compiler")]
mod compile;
mod config;
mod connect;
mod context;
mod engine;
mod http;
mod limits;
mod log;
mod outgoing;
mod queue;
mod secrets;
mod state;

pub use addresses::{Addresses, Refused};
pub use bindings::LogLevel;
pub use capture::LogLine;
pub use config::{Platform, Pool, WASMTIME_VERSION, fingerprint};
pub use connect::{Resolver, Resolving};
pub use context::RunContext;
pub use engine::{Engine, LoadError, Module, Report, Run};
pub use limits::Limits;
pub use outgoing::{Responder, Responding};
pub use queue::Child;
pub use secrets::SecretValues;
