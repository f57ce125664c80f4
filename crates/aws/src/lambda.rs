//! The Lambda loop that every function of ours runs in.

use std::fmt;

use anyhow::Result;
use lambda_runtime::{Diagnostic, LambdaEvent, service_fn};
use serde::Deserialize;
use serde_json::value::RawValue;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;
use wasq_protocol::{Invoke, Timestamp};

use crate::logging::{JsonLines, SpanFields, Unformatted};

/// Answers invokes until the process ends. `handler` gets the payload as JSON text, and Lambda's data about
/// the invoke. If it returns an error, the invoke fails with that error.
///
/// Log lines are JSON on stdout, where Lambda collects them; `WASQ_LOG` filters them (default `info`).
pub async fn serve<H, F>(handler: H) -> Result<()>
where
    H: Fn(String, Invoke) -> F,
    F: Future<Output = Result<Box<RawValue>>>,
{
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| {
        let invoke = Invoke {
            ends: Timestamp::from_ms(event.context.deadline),
            request_id: Some(event.context.request_id),
            trace_header: event.context.xray_trace_id,
        };
        let handled = handler(event.payload.get().to_owned(), invoke);
        async {
            handled
                .await
                .map_err(|e| Diagnostic { error_type: ANSWERED.to_owned(), error_message: format!("{e:#}") })
        }
    }))
    .await
    .map_err(|e| anyhow::anyhow!("serve Lambda's runtime API: {e}"))
}

/// The type of the errors that a function of ours answers with.
const ANSWERED: &str = "wasq.Error";

/// The payload of an invoke that ended in an error.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FunctionError {
    error_type: String,
    error_message: String,
}

impl FunctionError {
    /// Reads the payload. A payload of another shape is the message.
    pub fn read(payload: &[u8]) -> Self {
        serde_json::from_slice(payload).unwrap_or_else(|_| Self {
            error_type: String::new(),
            error_message: String::from_utf8_lossy(payload).into_owned(),
        })
    }

    /// Whether the function itself answered with this error. Otherwise Lambda did: the function crashed, or its time was up.
    pub fn is_answer(&self) -> bool {
        self.error_type == ANSWERED
    }
}

impl fmt::Display for FunctionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { error_type, error_message } = self;
        match self.is_answer() || error_type.is_empty() {
            true => f.write_str(error_message),
            false => write!(f, "{error_type}: {error_message}"),
        }
    }
}

/// Starts logging: JSON lines on stdout, where Lambda collects them.
pub fn start_logging() {
    #[allow(clippy::disallowed_methods, reason = "before there is a configuration")]
    let filter = std::env::var("WASQ_LOG").unwrap_or_else(|_| "info".to_owned());
    let parsed = filter.parse::<Targets>();
    let targets = parsed.as_ref().cloned().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let json = tracing_subscriber::fmt::layer().fmt_fields(Unformatted).event_format(JsonLines);
    tracing_subscriber::registry().with(SpanFields).with(json).with(targets).init();
    if let Err(e) = parsed {
        tracing::warn!("WASQ_LOG {filter:?}: {e}; using \"info\"");
    }
}

#[cfg(test)]
mod tests {
    use super::FunctionError;

    #[test]
    fn a_function_that_answers_has_not_died() {
        let crashed = br#"{"errorType": "Runtime.ExitError", "errorMessage": "RequestId: 1 Error: Runtime exited with error: signal: killed"}"#;
        let late = br#"{"errorMessage": "2026-11-26T04:00:00.000Z 1 Task timed out after 3.00 seconds"}"#;
        for died in [&crashed[..], late, b"no JSON", b""] {
            assert!(!FunctionError::read(died).is_answer());
        }
        assert!(FunctionError::read(late).to_string().contains("timed out"));
        let answered = br#"{"errorType": "wasq.Error", "errorMessage": "not a worker event"}"#;
        let answered = FunctionError::read(answered);
        assert!(answered.is_answer() && answered.to_string() == "not a worker event");
    }
}
