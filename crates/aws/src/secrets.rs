//! Secrets in SSM Parameter Store and Secrets Manager.

use std::sync::OnceLock;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueError;
use aws_sdk_ssm::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ssm::operation::get_parameter::GetParameterError;
use serde_json::Value;
use wasq_protocol::{SecretError, SecretSource, SecretStore, SecretValue};

use crate::sdk::explain;

/// Reads secrets with the role of this process. Its clients are made when they are needed: most tasks have no secrets.
#[derive(Clone, Debug)]
pub struct SecretReader {
    sdk: SdkConfig,
    parameters: OnceLock<aws_sdk_ssm::Client>,
    secrets: OnceLock<aws_sdk_secretsmanager::Client>,
}

/// With full jitter, these waits last for about half a minute together: 1,000 workers get their answers in that time.
const ATTEMPTS_MAX: u32 = 9;
const BACKOFF_MAX: Duration = Duration::from_secs(10);

impl SecretReader {
    /// A reader.
    pub fn new(sdk: &SdkConfig) -> Self {
        Self { sdk: sdk.clone(), parameters: OnceLock::new(), secrets: OnceLock::new() }
    }

    /// Parameter Store answers 40 requests a second and account. When many workers start at once, most are refused at first.
    fn patient(&self) -> aws_sdk_ssm::Config {
        let retries = RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX).with_max_backoff(BACKOFF_MAX);
        aws_sdk_ssm::config::Builder::from(&self.sdk).retry_config(retries).build()
    }

    async fn parameter(&self, name: &str) -> Result<SecretValue, SecretError> {
        let client = self.parameters.get_or_init(|| aws_sdk_ssm::Client::from_conf(self.patient()));
        let answer = client.get_parameter().name(name).with_decryption(true).send().await;
        let answer = answer.map_err(|e| {
            let missing = matches!(
                e.as_service_error(),
                Some(
                    GetParameterError::ParameterNotFound(_)
                        | GetParameterError::ParameterVersionNotFound(_)
                        | GetParameterError::InvalidKeyId(_)
                )
            );
            error("SSM Parameter Store", missing, e)
        })?;
        let value = answer.parameter.and_then(|parameter| parameter.value);
        value
            .map(SecretValue::new)
            .ok_or_else(|| SecretError::Missing("the parameter has no value".to_owned()))
    }

    async fn secret_of_manager(&self, name: &str, key: Option<&str>) -> Result<SecretValue, SecretError> {
        let client = self.secrets.get_or_init(|| aws_sdk_secretsmanager::Client::new(&self.sdk));
        let answer = client.get_secret_value().secret_id(name).send().await;
        let answer = answer.map_err(|e| {
            let missing = matches!(
                e.as_service_error(),
                Some(
                    GetSecretValueError::ResourceNotFoundException(_)
                        | GetSecretValueError::InvalidRequestException(_)
                        | GetSecretValueError::DecryptionFailure(_)
                )
            );
            error("Secrets Manager", missing, e)
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

/// `Missing` for an error that somebody must fix; `Unavailable` for an error that may pass: throttling, the
/// service's own faults, and answers that do not come.
fn error<E, R>(service: &str, missing: bool, error: SdkError<E, R>) -> SecretError
where
    E: std::error::Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    // Trying again would not help with these either.
    let ours = ["AccessDenied", "ValidationException", "InvalidParameterException"];
    let denied = error.code().is_some_and(|code| ours.iter().any(|ours| code.starts_with(ours)));
    let text = format!("{service}: {:#}", explain(error));
    if missing || denied { SecretError::Missing(text) } else { SecretError::Unavailable(text) }
}
