//! The SDK's configuration.

use std::error::Error;
use std::time::Duration;

use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader};
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};

/// Longer than the longest long poll (20 s), or the client would give up on every empty receive.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The SDK's configuration from environment and profile as usual, with TLS by rustls on ring, which builds
/// everywhere.
pub fn sdk_config() -> ConfigLoader {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build();
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts)
}

/// An SDK error as the service says it, or with its causes; its own text alone is only "service error".
pub fn explain<E, R>(error: SdkError<E, R>) -> anyhow::Error
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if let Some((code, message)) = error.code().zip(error.message()) {
        return anyhow::anyhow!("{code}: {message}");
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    anyhow::anyhow!("{text}")
}
