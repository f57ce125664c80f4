//! The wire contract, held against golden files and random input.

mod golden;
mod message;
mod properties;
mod settings;
