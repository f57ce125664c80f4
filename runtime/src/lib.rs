#![doc = include_str!("../README.md")]

mod acknowledge;
mod artifacts;
mod attempt;
mod aws;
mod lease;
mod live;
mod modules;
mod ports;
mod record;
mod secrets;
mod verdict;
mod wasm;
mod worker;

pub use artifacts::{CheckedArtifact, Checks};
pub use aws::{Config, Function};
pub use ports::{
    ArtifactError, Finished, Observer, Parts, Ports, Queue, Registry, Runner, SecretStore, Visibility,
};
pub use verdict::Verdict;
pub use wasm::Wasm;
pub use worker::{Answer, Settings as WorkerSettings, Worker};
