//! The worker's Lambda binary.

// The SDK's futures nest deeper than the compiler's default limit.
#![recursion_limit = "256"]

use std::sync::Arc;

use anyhow::Result;
use wasq_protocol::Vars;
use wasq_runtime::{Config, Function};

#[tokio::main]
async fn main() -> Result<()> {
    wasq_aws::start_logging();
    let config = Config::from_vars(&Vars::new(env))?;
    // On one of tokio's worker threads, which receives answers from the network itself. Another thread would
    // have to wake the main thread for each answer.
    tokio::spawn(serve(config)).await?
}

async fn serve(config: Config) -> Result<()> {
    let function = Arc::new(Function::new(config).await?);
    wasq_aws::serve(move |payload, invoke| {
        let function = function.clone();
        async move { function.handle(&payload, invoke).await }
    })
    .await
}

#[allow(clippy::disallowed_methods, reason = "the configuration is read here")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
