//! SQS on one machine: its semantics over the database, without HTTP.
//!
//! `queues.rs` has the calls, `messages.rs` the handling of messages, `groups.rs` and `attempts.rs` what FIFO queues add to it,
//! `moves.rs` the way back from a dead-letter queue. Limits, error codes and texts are those of AWS's documentation, or recorded from AWS.

mod attempts;
pub(crate) mod error;
pub(crate) mod fair;
mod groups;
pub(crate) mod letters;
pub(crate) mod message_attributes;
pub(crate) mod messages;
pub(crate) mod moves;
pub(crate) mod permissions;
pub(crate) mod queue_attributes;
pub(crate) mod queues;
pub(crate) mod received;
pub(crate) mod store;
