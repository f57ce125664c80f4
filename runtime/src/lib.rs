#![doc = include_str!("../README.md")]

mod acknowledge;
mod attempt;
mod aws;
mod lease;
mod modules;
mod ports;
mod verdict;
mod worker;

pub use aws::{Config, Function};
pub use ports::{ArtifactError, Finished, Observer, Queue, Registry, Visibility};
pub use verdict::Verdict;
pub use worker::{Answer, Settings as WorkerSettings, Worker};
