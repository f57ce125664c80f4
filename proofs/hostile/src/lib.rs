#![doc = include_str!("../README.md")]

mod corpus;
mod run;
mod server;

pub use corpus::{Code, End, Guest, corpus};
pub use run::{Host, Seen};
