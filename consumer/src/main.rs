//! The consumer's Lambda binary.

// The SDK's futures nest deeper than the compiler looks by default.
#![recursion_limit = "256"]

use anyhow::Result;
use serde_json::value::RawValue;
use wasq_consumer::{Config, Function};
use wasq_protocol::Vars;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    wasq_aws::start_logging();
    let config = Config::from_vars(&Vars::new(env))?;
    let function = Function::new(config).await;
    let function = &function;
    wasq_aws::serve(|_, invoke| async move {
        let summary = function.handle(invoke.ends).await;
        let answer = serde_json::json!({
            "received": summary.received,
            "handed_over": summary.handed_over,
            "given_back": summary.released,
            "unknown": summary.unknown,
        });
        Ok(RawValue::from_string(answer.to_string())?)
    })
    .await
}

#[allow(clippy::disallowed_methods, reason = "the configuration is read here")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
