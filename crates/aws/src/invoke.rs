//! Invokes of another Lambda function.

use anyhow::{Context, Result, anyhow};
use aws_config::SdkConfig;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::call::{Body, Call, CallError, Service, calls, request};
use crate::explain;

/// Another function, by its name or ARN.
#[derive(Clone, Debug)]
pub struct OtherFunction {
    name: String,
    calls: Call<Body>,
}

const IN_NAMES: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

impl OtherFunction {
    /// A function in the region of a configuration.
    pub fn new(sdk: &SdkConfig, name: impl Into<String>) -> Self {
        Self { name: name.into(), calls: calls(sdk, Service::Lambda, &Service::Lambda.endpoint(sdk)) }
    }

    /// Hands it an event. Returns when Lambda has the event, not when the function has handled it.
    pub async fn send(&self, event: Vec<u8>) -> Result<()> {
        let sent = self.invoke("Event", event).await.map_err(explain);
        sent.with_context(|| format!("invoke {}", self.name))
    }

    /// Asks Lambda whether it would take an invoke.
    pub async fn dry_run(&self) -> Result<(), CallError> {
        self.invoke("DryRun", Vec::new()).await
    }

    async fn invoke(&self, invocation_type: &'static str, event: Vec<u8>) -> Result<(), CallError> {
        let path = format!("/2015-03-31/functions/{}/invocations", utf8_percent_encode(&self.name, IN_NAMES));
        let mut request =
            request("POST", &path, event).map_err(|e| CallError::construction_failure(anyhow!(e)))?;
        request.headers_mut().insert("content-type", "application/json");
        request.headers_mut().insert("x-amz-invocation-type", invocation_type);
        self.calls.invoke(request).await.map(drop)
    }
}
