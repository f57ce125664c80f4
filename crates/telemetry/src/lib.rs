//! Traces and metrics of runs, sent to any collector of OpenTelemetry (OTLP over HTTP, as protobuf).
//!
//! They are made of the [`RunRecord`](wasq_protocol::RunRecord)s that the log has as well. Nothing is measured for them.

mod config;
mod export;
mod metrics;
mod otlp;
#[cfg(feature = "aws")]
mod sign;
mod spans;

pub use config::{Headers, OtlpConfig};
pub use export::Exporter;
#[cfg(feature = "aws")]
pub use sign::Signer;
