//! The publisher's Lambda binary.

// The SDK's futures nest deeper than the compiler looks by default.
#![recursion_limit = "256"]

use anyhow::Result;
use serde_json::value::RawValue;
use wasq_protocol::Vars;
use wasq_publisher::{Config, Function, compile_if_asked};

fn main() -> Result<()> {
    // Before anything else: the process may be one that compiles.
    compile_if_asked(|_| None);
    serve()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn serve() -> Result<()> {
    wasq_aws::start_logging();
    let config = Config::from_vars(&Vars::new(env))?;
    let function = Function::new(config).await?;
    let function = &function;
    wasq_aws::serve(|payload, _| async move {
        function.handle(&payload).await?;
        Ok(RawValue::from_string("null".to_owned())?)
    })
    .await
}

#[allow(clippy::disallowed_methods, reason = "the configuration is read here")]
fn env(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
