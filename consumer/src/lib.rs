#![doc = include_str!("../README.md")]

mod aws;
mod drain;
mod hand_over;
mod ports;

pub use aws::{Config, Function};
pub use drain::{DrainSettings, Mode, Summary, drain};
pub use ports::{ConsumerParts, ConsumerPorts, InFlight, InvokeError, Invoker, Source};
