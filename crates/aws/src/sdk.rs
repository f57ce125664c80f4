//! The SDK's configuration.

use std::error::Error;
use std::ffi::OsString;
use std::time::Duration;

use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region, SdkConfig};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_types::service_config::{LoadServiceConfig, ServiceConfigKey};
use wasq_protocol::with_causes;

/// Longer than the longest long poll (20 s), or the client would give up on every empty receive.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest time to wait for a connection.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The roots of Amazon Trust Services, which sign for AWS: Amazon Root CA 1 to 4, and Starfield Services G2, as Mozilla's list
/// has them (<https://www.amazontrust.com/repository/>).
const AMAZON_ROOTS: &str = include_str!("amazon_roots.pem");
/// The prefixes of regions whose endpoints may have certificates of another authority.
const OTHER_PARTITIONS: [&str; 4] = ["cn-", "us-iso", "eu-iso", "eusc-"];

/// Connections that were idle for longer are not used again: a function that was frozen wakes up with dead ones.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The SDK's configuration from environment and profile as usual, with TLS by rustls on ring, which builds
/// everywhere.
pub fn sdk_config() -> ConfigLoader {
    let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
    aws_config::defaults(BehaviorVersion::latest()).http_client(http).timeout_config(timeouts())
}

/// The SDK's configuration of a Lambda function: credentials, region and endpoints come from the environment,
/// where Lambda puts them, and from nowhere else. It starts in a fraction of the time of [`sdk_config`],
/// which reads profiles and every root certificate of the system. Here Amazon's roots are enough, unless an
/// endpoint belongs to somebody else.
pub fn function_config() -> SdkConfig {
    let region = var("AWS_REGION").or_else(|| var("AWS_DEFAULT_REGION"));
    let others = |region: &String| OTHER_PARTITIONS.iter().any(|partition| region.starts_with(partition));
    let elsewhere = region.as_ref().is_some_and(others) || has_other_roots();
    let mut http =
        Builder::new().pool_idle_timeout(IDLE_MAX).tls_provider(Provider::Rustls(CryptoMode::Ring));
    if !elsewhere {
        let roots = TrustStore::empty().with_pem_certificate(AMAZON_ROOTS);
        let context = TlsContext::builder().with_trust_store(roots).build();
        http = http.tls_context(context.expect("the roots are certificates"));
    }
    let credentials = SharedCredentialsProvider::new(EnvironmentVariableCredentialsProvider::new());
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(region.map(Region::new))
        .credentials_provider(credentials)
        .http_client(http.build_https())
        .timeout_config(timeouts())
        .service_config(Endpoints);
    config.set_endpoint_url(var(ENDPOINT));
    config.build()
}

/// Whether a call failed before anything of it was sent: there was no connection.
pub fn not_sent<E, R>(error: &SdkError<E, R>) -> bool {
    let SdkError::DispatchFailure(failure) = error else { return false };
    let mut cause: Option<&(dyn Error + 'static)> = failure.as_connector_error().map(|error| error as _);
    while let Some(error) = cause {
        if error.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect()) {
            return true;
        }
        cause = error.source();
    }
    false
}

fn timeouts() -> TimeoutConfig {
    TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).read_timeout(READ_TIMEOUT).build()
}

const ENDPOINT: &str = "AWS_ENDPOINT_URL";

/// The endpoints of single services: `AWS_ENDPOINT_URL_SQS` and the like.
#[derive(Debug)]
struct Endpoints;

impl LoadServiceConfig for Endpoints {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_uppercase().replace([' ', '-'], "_");
        (key.env() == ENDPOINT).then(|| var(&format!("{ENDPOINT}_{service}")))?
    }
}

/// Whether the environment names an endpoint with TLS, or root certificates. The authority that signed the
/// endpoint's certificate is then not known.
fn has_other_roots() -> bool {
    let own = |(name, url): (OsString, OsString)| {
        let name = name.to_string_lossy();
        name == "SSL_CERT_FILE" || (name.starts_with(ENDPOINT) && url.to_string_lossy().starts_with("https:"))
    };
    std::env::vars_os().any(own)
}

#[allow(clippy::disallowed_methods, reason = "the SDK's own variables, as Lambda sets them")]
fn var(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// An SDK error as the service's code and message, or as its text with its causes. The SDK's text alone is
/// only "service error".
pub fn explain<E, R>(error: SdkError<E, R>) -> anyhow::Error
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    if let Some((code, message)) = error.code().zip(error.message()) {
        return anyhow::anyhow!("{code}: {message}");
    }
    anyhow::anyhow!("{}", with_causes(&error))
}
