#![doc = include_str!("../README.md")]

mod compiling;
mod corpus;
mod costly;
mod plot;
mod run;
mod server;

pub use compiling::{Compilation, ON_AWS, compile};
pub use corpus::{Code, End, Guest, corpus};
pub use costly::{COSTLY, Costly};
pub use plot::{Cost, Limits, plot};
pub use run::{Host, Seen};
pub use server::start as start_server;
