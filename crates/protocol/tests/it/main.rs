//! The wire contract, tested with golden files and random input.

mod golden;
mod message;
mod properties;
mod settings;
