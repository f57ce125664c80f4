//! The Lambda loop that every function of ours runs in.

use anyhow::Result;
use lambda_runtime::{LambdaEvent, service_fn};
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
        async { handled.await.map_err(|e| format!("{e:#}")) }
    }))
    .await
    .map_err(|e| anyhow::anyhow!("serve Lambda's runtime API: {e}"))
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
