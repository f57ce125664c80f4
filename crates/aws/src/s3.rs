//! Objects in S3.

use anyhow::{Context, Result};
use aws_sdk_s3::Client;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::operation::get_object::{GetObjectError, GetObjectOutput};

use crate::explain;

/// Reads an object, or returns `None` if the bucket has none under `key`. The body comes as it is read.
pub async fn get_object(client: &Client, bucket: &str, key: &str) -> Result<Option<GetObjectOutput>> {
    match client.get_object().bucket(bucket).key(key).send().await {
        Err(SdkError::ServiceError(e)) if matches!(e.err(), GetObjectError::NoSuchKey(_)) => Ok(None),
        answer => answer.map(Some).map_err(explain).with_context(|| format!("read s3://{bucket}/{key}")),
    }
}
