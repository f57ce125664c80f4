//! Signatures of AWS (SigV4), for CloudWatch's own endpoint of OTLP.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use aws_smithy_runtime_api::client::identity::Identity;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use wasq_protocol::{Clock, SystemClock};

use crate::config::OtlpConfig;
use crate::export::is_xray;

/// Signs requests to a service of AWS.
#[derive(Debug)]
pub struct Signer {
    credentials: SharedCredentialsProvider,
    region: String,
}

impl Signer {
    /// The signer for `https://xray.REGION.amazonaws.com`; `None` for any other endpoint, also for a server of somebody on EC2.
    pub fn of(config: &OtlpConfig, credentials: SharedCredentialsProvider) -> Option<Self> {
        let region = config.endpoint.host_str().filter(|_| is_xray(&config.endpoint))?.split('.').nth(1)?;
        Some(Self { credentials, region: region.to_owned() })
    }

    /// The headers of the signature of a POST.
    pub(crate) async fn sign(&self, address: &str, body: &[u8]) -> Result<HeaderMap> {
        let credentials = self.credentials.provide_credentials().await.context("find credentials")?;
        let identity: Identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("xray")
            .time(UNIX_EPOCH + Duration::from_millis(SystemClock.now().ms()))
            .settings(SigningSettings::default())
            .build()
            .context("sign a request")?;
        let request = SignableRequest::new("POST", address, std::iter::empty(), SignableBody::Bytes(body))
            .context("sign a request")?;
        let (instructions, _signature) =
            sign(request, &params.into()).context("sign a request")?.into_parts();
        let mut headers = HeaderMap::new();
        for (name, value) in instructions.headers() {
            let name: HeaderName = name.parse().context("the name of a header")?;
            headers.insert(name, HeaderValue::from_str(value).context("the value of a header")?);
        }
        Ok(headers)
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;

    use super::*;

    fn signer(endpoint: &str) -> Option<Signer> {
        let credentials = Credentials::new("AKID", "secret", Some("token".to_owned()), None, "test");
        let config = OtlpConfig { endpoint: endpoint.parse().expect("an address"), headers: Vec::new() };
        Signer::of(&config, SharedCredentialsProvider::new(credentials))
    }

    #[tokio::test]
    async fn requests_to_cloudwatch_are_signed_and_others_are_not() {
        for other in [
            "https://otlp.example.com",
            "http://127.0.0.1:4318",
            "https://amazonaws.example.com",
            "https://ec2-1-2-3-4.compute-1.amazonaws.com",
            "https://xray.b.amazonaws.example.com",
            "http://xray.us-east-1.amazonaws.com",
        ] {
            assert!(signer(other).is_none(), "{other}");
        }
        let signer = signer("https://xray.eu-central-1.amazonaws.com").expect("it is AWS's");
        let address = "https://xray.eu-central-1.amazonaws.com/v1/traces";
        let headers = signer.sign(address, b"body").await.expect("it can be signed");
        let authorization = headers["authorization"].to_str().expect("ASCII");
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKID/"), "{authorization}");
        assert!(authorization.contains("/eu-central-1/xray/aws4_request"), "{authorization}");
        assert_eq!(headers["x-amz-security-token"], "token");
    }
}
