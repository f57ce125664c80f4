//! SQS on one machine: its semantics over the database, without HTTP.
//!
//! `queues.rs` has the calls, `messages.rs` what happens to messages, `moves.rs` the way back from a dead-letter queue.
//! Limits, error codes and texts are those of AWS's documentation, or recorded from it.

pub(crate) mod attributes;
pub(crate) mod error;
pub(crate) mod messages;
pub(crate) mod moves;
pub(crate) mod queues;
pub(crate) mod settings;
