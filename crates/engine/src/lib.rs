#![doc = include_str!("../README.md")]

mod addresses;
mod bindings;
mod capture;
#[cfg(feature = "compiler")]
mod compile;
mod config;
mod connect;
mod content_coding;
mod destination;
mod engine;
#[cfg(feature = "compiler")]
mod guard;
mod holdings;
mod host;
mod idempotency;
mod limits;
mod outgoing;
#[cfg(feature = "compiler")]
mod producers;
mod request_url;
mod resolver;
mod run;
mod secrets;
mod state;
mod steps;

pub use addresses::{Addresses, Refused};
pub use bindings::LogLevel;
pub use config::{Platform, Pool, WASMTIME_VERSION, fingerprint};
pub use engine::{Engine, LoadError, Module};
pub use limits::Limits;
pub use outgoing::{Responder, Responding};
#[cfg(feature = "compiler")]
pub use producers::{SIGNATURE, made_with};
pub use request_url::normalized_url;
pub use resolver::{Resolver, Resolving};
pub use run::{CheckChild, Child, ChildCheck, LogLine, Report, Run, RunContext};
pub use secrets::SecretValues;
pub use steps::{NotStored, SaveStep, StepValues, Steps};
#[cfg(feature = "compiler")]
pub use wasmtime::CacheStore;
