//! Secrets in SSM Parameter Store and Secrets Manager.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasq_protocol::{SecretError, SecretSource, SecretStore, SecretValue};

use crate::call::{Body, Call, CallError, Service, calls, request};
use crate::sdk::explain;

/// Reads secrets with the role of this process. Its calls are prepared when they are needed: most tasks have no secrets.
#[derive(Clone, Debug)]
pub struct SecretReader {
    sdk: SdkConfig,
    parameters: OnceLock<Call<Body>>,
    secrets: OnceLock<Call<Body>>,
}

/// With full jitter, these waits last for about half a minute together: 1,000 workers get their answers in that time.
const ATTEMPTS_MAX: u32 = 9;
const BACKOFF_MAX: Duration = Duration::from_secs(10);

impl SecretReader {
    /// A reader.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { sdk: sdk.clone(), parameters: OnceLock::new(), secrets: OnceLock::new() }
    }

    async fn parameter(&self, name: &str) -> Result<SecretValue, SecretError> {
        let calls = self.parameters.get_or_init(|| {
            // Parameter Store answers 40 requests a second and account. When many workers start at once, most are refused at first.
            let retries =
                RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX).with_max_backoff(BACKOFF_MAX);
            let patient = self.sdk.to_builder().retry_config(retries).build();
            calls(&patient, Service::Ssm, &Service::Ssm.endpoint(&patient))
        });
        let asked = json!({ "Name": name, "WithDecryption": true });
        let answer: GetParameter = ask(calls, "AmazonSSM.GetParameter", &asked).await.map_err(|e| {
            let missing = ["ParameterNotFound", "ParameterVersionNotFound", "InvalidKeyId"];
            e.into_secret_error("SSM Parameter Store", &missing)
        })?;
        let value = answer.parameter.and_then(|parameter| parameter.value);
        value
            .map(SecretValue::new)
            .ok_or_else(|| SecretError::Missing("the parameter has no value".to_owned()))
    }

    async fn secret_of_manager(&self, name: &str, key: Option<&str>) -> Result<SecretValue, SecretError> {
        let service = Service::SecretsManager;
        let calls = self.secrets.get_or_init(|| calls(&self.sdk, service, &service.endpoint(&self.sdk)));
        let asked = json!({ "SecretId": name });
        let answer: GetSecretValue =
            ask(calls, "secretsmanager.GetSecretValue", &asked).await.map_err(|e| {
                let missing = ["ResourceNotFoundException", "InvalidRequestException", "DecryptionFailure"];
                e.into_secret_error("Secrets Manager", &missing)
            })?;
        let missing = |why: String| SecretError::Missing(why);
        let text =
            answer.secret_string.ok_or_else(|| missing("the secret has no text, only bytes".to_owned()))?;
        let Some(key) = key else {
            return Ok(SecretValue::new(text));
        };
        // An error of serde could quote the secret's text.
        let object: Value =
            serde_json::from_str(&text).map_err(|_| missing("the secret is no JSON object".to_owned()))?;
        match object.get(key) {
            Some(Value::String(value)) => Ok(SecretValue::new(value.clone())),
            Some(Value::Number(value)) => Ok(SecretValue::new(value.to_string())),
            Some(_) => Err(missing(format!("its key {key} is no text"))),
            None => Err(missing(format!("it has no key {key}"))),
        }
    }
}

impl SecretStore for SecretReader {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        match from {
            SecretSource::Parameter(name) => self.parameter(name).await,
            SecretSource::Secret { name, key } => self.secret_of_manager(name, key.as_deref()).await,
        }
    }
}

/// The answer of Parameter Store.
#[derive(Deserialize)]
struct GetParameter {
    #[serde(rename = "Parameter")]
    parameter: Option<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    #[serde(rename = "Value")]
    value: Option<String>,
}

/// The answer of Secrets Manager.
#[derive(Deserialize)]
struct GetSecretValue {
    #[serde(rename = "SecretString")]
    secret_string: Option<String>,
}

/// Why a service gave no answer.
enum Unanswered {
    Failed(Box<CallError>),
    /// The answer is something else. An error of serde could quote a secret.
    Unreadable,
}

/// Calls an operation of a service with JSON in and out.
async fn ask<T: DeserializeOwned>(
    calls: &Call<Body>,
    operation: &'static str,
    asked: &Value,
) -> Result<T, Unanswered> {
    let failed = |e| Unanswered::Failed(Box::new(e));
    let mut request = request("POST", "/", asked.to_string().into_bytes())
        .map_err(|e| failed(CallError::construction_failure(e)))?;
    request.headers_mut().insert("content-type", "application/x-amz-json-1.1");
    request.headers_mut().insert("x-amz-target", operation);
    let Body(answer) = calls.invoke(request).await.map_err(failed)?;
    serde_json::from_slice(&answer).map_err(|_| Unanswered::Unreadable)
}

impl Unanswered {
    /// `Missing` for an error that somebody must fix; `Unavailable` for an error that may pass: throttling, the
    /// service's own faults, and answers that do not come.
    fn into_secret_error(self, service: &str, missing: &[&str]) -> SecretError {
        let Self::Failed(error) = self else {
            return SecretError::Unavailable(format!("{service}: its answer cannot be read"));
        };
        // Trying again would not help with these either.
        let ours = ["AccessDenied", "ValidationException", "InvalidParameterException"];
        let code = error.code().unwrap_or_default();
        let is_final = missing.contains(&code) || ours.iter().any(|ours| code.starts_with(ours));
        let text = format!("{service}: {:#}", explain(*error));
        if is_final { SecretError::Missing(text) } else { SecretError::Unavailable(text) }
    }
}
