//! Access to an AWS account in one region, and hints for AWS's errors.

use std::error::Error;
use std::fmt::Debug;

use anyhow::{Context, Result, anyhow, bail};
use aws_config::{Region, SdkConfig};
use aws_credential_types::provider::ProvideCredentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};

/// Access to an account in one region.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    pub(crate) sdk: SdkConfig,
    pub(crate) region: String,
}

/// The account that the credentials belong to.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) account: String,
}

/// Whether a bucket is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bucket {
    Absent,
    Ours,
    /// Of another account, or closed to us.
    NotOurs,
}

impl Session {
    /// Opens access as the AWS CLI does, from environment, profile or role. `region` overrides the region
    /// that they name.
    pub(crate) async fn open(region: Option<String>) -> Result<Self> {
        let mut loader = wasq_aws::sdk_config();
        if let Some(region) = region {
            loader = loader.region(Region::new(region));
        }
        let sdk = loader.load().await;
        let region = sdk.region().filter(|region| !region.as_ref().is_empty()).context(
            "no AWS region is set: name it by --region, by AWS_REGION, or in the profile (`aws configure`)",
        )?;
        let region = region.to_string();
        let provider = sdk.credentials_provider().context("no AWS credentials")?;
        provider.provide_credentials().await.map_err(no_credentials)?;
        Ok(Self { sdk, region })
    }

    /// Returns whether a bucket is there, and whether this account owns it.
    pub(crate) async fn bucket(&self, name: &str, account: &str) -> Result<Bucket> {
        let s3 = aws_sdk_s3::Client::new(&self.sdk);
        match s3.head_bucket().bucket(name).expected_bucket_owner(account).send().await {
            Ok(_) => Ok(Bucket::Ours),
            Err(SdkError::ServiceError(e)) => match e.raw().status().as_u16() {
                404 => Ok(Bucket::Absent),
                403 => Ok(Bucket::NotOurs),
                301 => bail!("the bucket {name} is in another region than {}; name another one", self.region),
                status => bail!("look for the bucket {name}: status {status}"),
            },
            Err(e) => Err(explain(e)).with_context(|| format!("look for the bucket {name}")),
        }
    }

    /// Asks AWS for the caller's account. It is the first call, and shows whether credentials and region are
    /// right.
    pub(crate) async fn identity(&self) -> Result<Identity> {
        let client = aws_sdk_sts::Client::new(&self.sdk);
        let answer = client.get_caller_identity().send().await;
        let answer = answer
            .map_err(explain)
            .with_context(|| format!("ask AWS who we are, in the region {}", self.region))?;
        Ok(Identity { account: answer.account.context("the answer names no account")? })
    }
}

fn no_credentials(error: CredentialsError) -> anyhow::Error {
    let what_to_do = "set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or run `aws configure` or `aws sso login`";
    match error {
        CredentialsError::CredentialsNotLoaded(_) => anyhow!("no AWS credentials: {what_to_do}"),
        error => {
            let cause = error.source().map(|cause| format!(" ({cause})")).unwrap_or_default();
            anyhow!("no AWS credentials{cause}: {what_to_do}")
        }
    }
}

/// An error of AWS with its causes and a hint.
pub(crate) fn explain<E, R>(error: SdkError<E, R>) -> anyhow::Error
where
    E: Error + ProvideErrorMetadata + Send + Sync + 'static,
    R: Debug + Send + Sync + 'static,
{
    let hint = match &error {
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => {
            Some("AWS was not reached: is the region's name right, and is there a network?")
        }
        _ => error.code().and_then(hint),
    };
    let error = wasq_aws::explain(error);
    match hint {
        Some(hint) => anyhow!("{error:#}. {hint}"),
        None => error,
    }
}

fn hint(code: &str) -> Option<&'static str> {
    match code {
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            Some("The credentials have expired: get new ones, such as by `aws sso login`")
        }
        "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "SignatureDoesNotMatch"
        | "AuthFailure" => Some("AWS does not know these credentials: check AWS_PROFILE or the keys"),
        "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation" => {
            Some("The credentials may not do this: docs/operating.md lists what a deployment needs")
        }
        "Throttling" | "ThrottlingException" | "TooManyRequestsException" => {
            Some("AWS limits the rate of requests: run the command again in a minute")
        }
        _ => None,
    }
}
