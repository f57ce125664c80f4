#![doc = include_str!("../README.md")]

#[cfg(feature = "aws")]
mod aws;
mod drain;
mod hand_over;
mod pack;
mod ports;
mod state;

#[cfg(feature = "aws")]
pub use aws::{Config, Function};
pub use drain::drain;
pub use ports::{ConsumerParts, ConsumerPorts, InvokeError, Invoker, Source};
pub use state::{DrainSettings, Drained, Mode, Summary};
