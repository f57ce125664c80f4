//! The Lambda loop that every function of ours runs in.

use anyhow::Result;
use lambda_runtime::{LambdaEvent, service_fn};
use serde_json::value::RawValue;
use tracing_subscriber::EnvFilter;
use wasq_protocol::Timestamp;

/// Answers invokes until the process ends. `handler` gets the payload as JSON text and the instant at which Lambda
/// will end the invoke; an error of it is the invoke's error.
///
/// Log lines are JSON on stdout, where Lambda collects them; `WASQ_LOG` filters them (default `info`).
pub async fn serve<H, F>(handler: H) -> Result<()>
where
    H: Fn(String, Timestamp) -> F,
    F: Future<Output = Result<Box<RawValue>>>,
{
    lambda_runtime::run(service_fn(|event: LambdaEvent<Box<RawValue>>| {
        let deadline = Timestamp::from_ms(event.context.deadline);
        let handled = handler(event.payload.get().to_owned(), deadline);
        async { handled.await.map_err(|e| lambda_runtime::Error::from(format!("{e:#}"))) }
    }))
    .await
    .map_err(|e| anyhow::anyhow!("serve Lambda's runtime API: {e}"))
}

/// Starts log lines in JSON on stdout, where Lambda collects them.
pub fn start_logging() {
    let filter = EnvFilter::try_from_env("WASQ_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_env_filter(filter)
        .init();
}
