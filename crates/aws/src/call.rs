//! Calls to services of AWS of which a function needs one operation or two. The SDK's own runtime signs, retries and waits. The crates of
//! these services hold hundreds of operations, and the checksums of S3's alone were a tenth of the worker's zip.

use std::fmt;

use aws_config::retry::RetryConfig;
use aws_config::{Region, SdkConfig};
use aws_runtime::auth::sigv4::{SCHEME_ID, SigV4AuthScheme};
use aws_runtime::auth::{SigV4OperationSigningConfig, SigningOptions};
use aws_runtime::retries::classifiers::AwsErrorCodeClassifier;
use aws_runtime::service_clock_skew::{ServiceClockSkewClassifier, ServiceClockSkewInterceptor};
use aws_smithy_runtime::client::identity::IdentityCache;
use aws_smithy_runtime::client::orchestrator::operation::Operation;
use aws_smithy_runtime::client::retries::classifiers::{HttpStatusCodeClassifier, TransientErrorClassifier};
use aws_smithy_runtime::client::stalled_stream_protection::StalledStreamProtectionInterceptor;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::auth::static_resolver::StaticAuthSchemeOptionResolver;
use aws_smithy_runtime_api::client::auth::{AuthSchemeOptionResolverParams, SharedAuthScheme};
use aws_smithy_runtime_api::client::identity::SharedIdentityResolver;
use aws_smithy_runtime_api::client::interceptors::context::{Error, Output};
use aws_smithy_runtime_api::client::orchestrator::{
    HttpRequest, HttpResponse, OrchestratorError, SensitiveOutput,
};
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponentsBuilder;
use aws_smithy_runtime_api::client::runtime_plugin::StaticRuntimePlugin;
use aws_smithy_runtime_api::client::ser_de::DeserializeResponse;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::config_bag::{ConfigBag, Layer};
use aws_smithy_types::error::ErrorMetadata;
use aws_types::SigningName;
use aws_types::region::SigningRegion;
use aws_types::service_config::ServiceConfigKey;
use serde::Deserialize;

/// Why a call failed: the code and the message of the service, or the SDK's own error.
pub type CallError = SdkError<ErrorMetadata, HttpResponse>;
/// Sends requests, and answers with their bodies: all bytes, or a stream of them.
pub(crate) type Call<O> = Operation<HttpRequest, O, ErrorMetadata>;

/// The body of an answer that was read whole. It may be a secret, and is never shown.
pub(crate) struct Body(pub(crate) Vec<u8>);

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A service of AWS.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Service {
    #[cfg(feature = "lambda")]
    Lambda,
    S3,
    #[cfg(feature = "secrets")]
    SecretsManager,
    #[cfg(feature = "secrets")]
    Ssm,
}

impl Service {
    /// The name in its endpoint, and in signatures.
    fn name(self) -> &'static str {
        match self {
            #[cfg(feature = "lambda")]
            Self::Lambda => "lambda",
            Self::S3 => "s3",
            #[cfg(feature = "secrets")]
            Self::SecretsManager => "secretsmanager",
            #[cfg(feature = "secrets")]
            Self::Ssm => "ssm",
        }
    }

    /// The SDK's id of the service; `AWS_ENDPOINT_URL_SECRETS_MANAGER` is made of it.
    fn id(self) -> &'static str {
        match self {
            #[cfg(feature = "lambda")]
            Self::Lambda => "Lambda",
            Self::S3 => "S3",
            #[cfg(feature = "secrets")]
            Self::SecretsManager => "Secrets Manager",
            #[cfg(feature = "secrets")]
            Self::Ssm => "SSM",
        }
    }

    fn signing_options(self) -> SigningOptions {
        let mut options = SigningOptions::default();
        if matches!(self, Self::S3) {
            // Its keys are signed as they are, and the digest of a body is a header.
            options.double_uri_encode = false;
            options.normalize_uri_path = false;
            options.content_sha256_header = true;
        }
        options
    }

    /// The endpoint that the configuration names, of this service or of all.
    pub(crate) fn configured_endpoint(self, sdk: &SdkConfig) -> Option<String> {
        let key =
            ServiceConfigKey::builder().service_id(self.id()).env("AWS_ENDPOINT_URL").profile("endpoint_url");
        let key = key.build().expect("all of it is set");
        let own = sdk.service_config().and_then(|config| config.load_config(key));
        own.or_else(|| sdk.endpoint_url().map(str::to_owned))
    }

    /// AWS's own endpoint, without its scheme.
    pub(crate) fn host(self, sdk: &SdkConfig) -> String {
        let name = self.name();
        let fips = if sdk.use_fips() == Some(true) { "-fips" } else { "" };
        // The other services have a domain of their own for it, and only functions call them here, which do not read this setting.
        let is_dual = matches!(self, Self::S3) && sdk.use_dual_stack() == Some(true);
        let dual = if is_dual { ".dualstack" } else { "" };
        let region = sdk.region().map_or("", Region::as_ref);
        format!("{name}{fips}{dual}.{region}.{}", domain(region))
    }

    #[cfg(any(feature = "lambda", feature = "secrets"))]
    pub(crate) fn endpoint(self, sdk: &SdkConfig) -> String {
        self.configured_endpoint(sdk).unwrap_or_else(|| format!("https://{}", self.host(sdk)))
    }
}

/// The domain of AWS's endpoints in a region
/// (<https://docs.aws.amazon.com/whitepapers/latest/aws-fault-isolation-boundaries/partitions.html>).
fn domain(region: &str) -> &'static str {
    const DOMAINS: [(&str, &str); 6] = [
        ("cn-", "amazonaws.com.cn"),
        ("eusc-", "amazonaws.eu"),
        ("us-iso-", "c2s.ic.gov"),
        ("us-isob-", "sc2s.sgov.gov"),
        ("us-isof-", "csp.hci.ic.gov"),
        ("eu-isoe-", "cloud.adc-e.uk"),
    ];
    DOMAINS
        .iter()
        .find(|(prefix, _)| region.starts_with(prefix))
        .map_or("amazonaws.com", |(_, domain)| domain)
}

/// Calls of a service whose answers are read whole.
pub(crate) fn calls(sdk: &SdkConfig, service: Service, endpoint: &str) -> Call<Body> {
    operation(sdk, service, endpoint).deserializer_impl(Whole).build()
}

/// Calls of a service whose answers are read as they come.
pub(crate) fn streaming_calls(sdk: &SdkConfig, service: Service, endpoint: &str) -> Call<ByteStream> {
    let operation = operation(sdk, service, endpoint).deserializer_impl(Stream);
    operation.interceptor(StalledStreamProtectionInterceptor::default()).build()
}

type Builder = aws_smithy_runtime::client::orchestrator::operation::OperationBuilder<HttpRequest, (), ()>;

fn operation(sdk: &SdkConfig, service: Service, endpoint: &str) -> Builder {
    let mut signing = Layer::new("signing");
    signing.store_put(AuthSchemeOptionResolverParams::new(()));
    // Answers are not shown in the log of the SDK.
    signing.store_put(SensitiveOutput);
    signing.store_put(SigV4OperationSigningConfig {
        region: sdk.region().cloned().map(SigningRegion::from),
        name: Some(SigningName::from_static(service.name())),
        signing_options: service.signing_options(),
        ..SigV4OperationSigningConfig::default()
    });
    let mut components = RuntimeComponentsBuilder::new("signing");
    let schemes = StaticAuthSchemeOptionResolver::new(vec![SCHEME_ID]);
    components.set_auth_scheme_option_resolver(Some(schemes));
    components.push_auth_scheme(SharedAuthScheme::new(SigV4AuthScheme::new()));
    let cache = sdk.identity_cache().unwrap_or_else(|| IdentityCache::lazy().build());
    components.set_identity_cache(Some(cache));
    if let Some(credentials) = sdk.credentials_provider() {
        components.set_identity_resolver(SCHEME_ID, SharedIdentityResolver::new(credentials));
    }
    let mut operation = Operation::builder()
        .service_name(service.name())
        .operation_name("call")
        .endpoint_url(endpoint)
        .standard_retry(sdk.retry_config().unwrap_or(&RetryConfig::standard()))
        .retry_classifier(TransientErrorClassifier::<ErrorMetadata>::new())
        .retry_classifier(HttpStatusCodeClassifier::default())
        .retry_classifier(AwsErrorCodeClassifier::<ErrorMetadata>::new())
        .retry_classifier(ServiceClockSkewClassifier::<ErrorMetadata>::new())
        .interceptor(ServiceClockSkewInterceptor::new())
        .with_connection_poisoning()
        .runtime_plugin(
            StaticRuntimePlugin::new().with_config(signing.freeze()).with_runtime_components(components),
        );
    if let Some(version) = sdk.behavior_version() {
        operation = operation.behavior_version(version);
    }
    if let Some(client) = sdk.http_client() {
        operation = operation.http_client(client);
    }
    if let Some(timeouts) = sdk.timeout_config() {
        operation = operation.timeout_config(timeouts.clone());
    }
    if let Some(sleep) = sdk.sleep_impl() {
        operation = operation.sleep_impl(sleep);
    }
    if let Some(time) = sdk.time_source() {
        operation = operation.time_source(time);
    }
    operation.serializer(|request: HttpRequest| Ok(request))
}

/// A request of this method and path, which is percent-encoded.
pub(crate) fn request(method: &'static str, path: &str, body: Vec<u8>) -> Result<HttpRequest, BoxError> {
    let mut request = HttpRequest::new(SdkBody::from(body));
    request.set_method(method)?;
    request.set_uri(path)?;
    request.headers_mut().insert("user-agent", concat!("wasq/", env!("CARGO_PKG_VERSION")));
    Ok(request)
}

/// An answer that is read whole.
#[derive(Debug)]
struct Whole;

impl DeserializeResponse for Whole {
    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        if !response.status().is_success() {
            return Err(refused(response));
        }
        Ok(Output::erase(Body(response.body().bytes().unwrap_or_default().to_vec())))
    }
}

/// An answer whose body is handed on.
#[derive(Debug)]
struct Stream;

impl DeserializeResponse for Stream {
    fn deserialize_streaming_with_config(
        &self,
        response: &mut HttpResponse,
        _: &ConfigBag,
    ) -> Option<Result<Output, OrchestratorError<Error>>> {
        let body = response.status().is_success().then(|| response.take_body())?;
        Some(Ok(Output::erase(ByteStream::new(body))))
    }

    fn deserialize_nonstreaming_with_config(
        &self,
        response: &HttpResponse,
        _: &ConfigBag,
    ) -> Result<Output, OrchestratorError<Error>> {
        Err(refused(response))
    }
}

fn refused(response: &HttpResponse) -> OrchestratorError<Error> {
    let body = String::from_utf8_lossy(response.body().bytes().unwrap_or_default());
    let error_type = response.headers().get("x-amzn-errortype");
    let (code, message) = code_and_message(error_type, &body);
    let status = response.status().as_u16();
    let error = ErrorMetadata::builder()
        .code(code.unwrap_or_else(|| format!("status {status}")))
        .message(message.unwrap_or_else(|| "the service gave no reason".to_owned()));
    OrchestratorError::operation(Error::erase(error.build()))
}

/// The code and the message in an error of AWS, which is XML of S3 or JSON of the other services.
fn code_and_message(error_type: Option<&str>, body: &str) -> (Option<String>, Option<String>) {
    /// The parts of an error in JSON.
    #[derive(Default, Deserialize)]
    struct Json {
        #[serde(rename = "__type")]
        kind: Option<String>,
        #[serde(alias = "Message")]
        message: Option<String>,
    }
    let element = |name: &str| {
        let (_, after) = body.split_once(&format!("<{name}>"))?;
        let (text, _) = after.split_once(&format!("</{name}>"))?;
        let text =
            text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&apos;", "'");
        Some(text.replace("&amp;", "&"))
    };
    let json: Json = serde_json::from_str(body).unwrap_or_default();
    // As in `com.amazonaws.ssm#ParameterNotFound`, and `AccessDenied:http://internal.amazon.com/`.
    let code = error_type.map(str::to_owned).or(json.kind);
    let code = code.map(|code| {
        let code = code.split(':').next().unwrap_or_default();
        code.rsplit('#').next().unwrap_or_default().to_owned()
    });
    (code.or_else(|| element("Code")), json.message.or_else(|| element("Message")))
}
