#![doc = include_str!("../README.md")]

#[cfg(feature = "aws")]
mod aws;
mod compile;
mod event;
mod ports;
mod publish;

#[cfg(feature = "aws")]
pub use aws::{Config, Function};
pub use compile::{CompileLimits, OpenCache, Wasm, compile_if_asked};
pub use event::{Change, PublisherEvent};
pub use ports::{
    Bucket, Compiled, Compiler, Condition, Object, PublisherParts, PublisherPorts, Put, Scheduler, Upload,
    Uploader, Uploads,
};
pub use publish::{Published, Publisher};
