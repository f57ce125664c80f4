#![doc = include_str!("../README.md")]

#[cfg(feature = "aws")]
mod aws;
mod drain;
mod hand_over;
mod ports;

#[cfg(feature = "aws")]
pub use aws::{Config, Function};
pub use drain::{DrainSettings, Mode, Summary, drain};
pub use ports::{ConsumerParts, ConsumerPorts, InFlight, InvokeError, Invoker, Source};
