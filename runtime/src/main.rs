//! The worker's Lambda binary.

// The SDK's futures nest deeper than the compiler looks by default.
#![recursion_limit = "256"]

use anyhow::Result;
use wasq_protocol::Vars;
use wasq_runtime::{Config, Function};

#[tokio::main]
async fn main() -> Result<()> {
    wasq_aws::start_logging();
    let config = Config::from_vars(&Vars::new(env))?;
    let function = Function::new(config).await?;
    let function = &function;
    wasq_aws::serve(|payload, invoke| async move { function.handle(&payload, invoke).await }).await
}

#[allow(clippy::disallowed_methods, reason = "the configuration is read here")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
