#![doc = include_str!("../README.md")]

mod aws;
mod compile;
mod event;
mod ports;
mod publish;

pub use aws::{Config, Function};
pub use compile::compile;
pub use event::PublisherEvent;
pub use ports::{Bucket, Condition, Object, Put};
pub use publish::{Published, Publisher};
