//! Requests to the publisher's function to compile a task.

use std::time::Duration;

use anyhow::{Context, Result};
use aws_sdk_lambda::Client;
use aws_sdk_lambda::config::timeout::TimeoutConfig;
use aws_sdk_lambda::primitives::Blob;
use aws_sdk_lambda::types::InvocationType;
use wasq_protocol::{PublishRequest, TaskName};

use crate::cloud::{Stack, explain};

/// The function's own timeout, and some time for the answer.
const TIMEOUT: Duration = Duration::from_secs(310);

/// The publisher's answer when it was asked to compile a task.
pub(crate) enum Recompiled {
    /// The live record names the artifact.
    Done,
    /// It could not; the reason is the publisher's.
    Refused(String),
}

/// The publisher of a stack.
pub(crate) struct PublisherFunction {
    client: Client,
    name: String,
}

impl PublisherFunction {
    pub(crate) fn of(stack: &Stack) -> Self {
        let timeouts = TimeoutConfig::builder().operation_timeout(TIMEOUT).read_timeout(TIMEOUT).build();
        let config = aws_sdk_lambda::config::Builder::from(&stack.session.sdk).timeout_config(timeouts);
        Self { client: Client::from_conf(config.build()), name: format!("{}-publisher", stack.name) }
    }

    /// Compiles the live version of a task for the publisher's own engine, unless the registry has its artifact. Returns when
    /// the live record names the artifact, or when the publisher refused.
    pub(crate) async fn compile(&self, task: &TaskName) -> Result<Recompiled> {
        self.request(&PublishRequest { recompile: task.clone(), unusable: false }).await
    }

    /// As [`Self::compile`], also if the registry has the artifact.
    pub(crate) async fn compile_again(&self, task: &TaskName) -> Result<Recompiled> {
        self.request(&PublishRequest { recompile: task.clone(), unusable: true }).await
    }

    /// Lets it compare all uploads with the registry, and set all schedules. Does not wait for it.
    pub(crate) async fn sweep(&self) -> Result<()> {
        let sweep = self.client.invoke().function_name(&self.name).payload(Blob::new(r#"{"sweep": {}}"#));
        let asked = sweep.invocation_type(InvocationType::Event).send().await;
        asked.map_err(explain).with_context(|| format!("invoke {}", self.name))?;
        Ok(())
    }

    async fn request(&self, request: &PublishRequest) -> Result<Recompiled> {
        let request = serde_json::to_vec(request)?;
        let asked = self.client.invoke().function_name(&self.name).payload(Blob::new(request)).send().await;
        let answer = asked.map_err(explain).with_context(|| format!("invoke {}", self.name))?;
        if answer.function_error.is_none() {
            return Ok(Recompiled::Done);
        }
        let payload = answer.payload.map(Blob::into_inner).unwrap_or_default();
        let said: serde_json::Value = serde_json::from_slice(&payload).unwrap_or_default();
        let why = said["errorMessage"].as_str().map(str::to_owned);
        Ok(Recompiled::Refused(why.unwrap_or_else(|| String::from_utf8_lossy(&payload).into_owned())))
    }
}
