#![doc = include_str!("../README.md")]

#[cfg(feature = "aws")]
mod aws;
mod drain;
mod hand_over;
mod pack;
mod ports;

#[cfg(feature = "aws")]
pub use aws::{Config, Function};
pub use drain::{DrainSettings, Drained, Mode, Summary, drain};
pub use ports::{ConsumerParts, ConsumerPorts, InvokeError, Invoker, Source};
