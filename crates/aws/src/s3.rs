//! Objects in a bucket of S3.

use anyhow::{Context, Result, anyhow};
use aws_config::SdkConfig;
use aws_smithy_types::byte_stream::ByteStream;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::call::{Body, Call, CallError, Service, calls, request, streaming_calls};
use crate::explain;

/// Reads and writes objects of one bucket.
#[derive(Clone, Debug)]
pub struct S3Objects {
    name: String,
    reads: Call<ByteStream>,
    writes: Call<Body>,
}

/// The characters of a key that are signed and sent as they are: those that S3 calls safe, and the slash.
const IN_KEYS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

impl S3Objects {
    /// A bucket in the region of a configuration.
    pub fn new(sdk: &SdkConfig, name: impl Into<String>) -> Self {
        let name = name.into();
        let endpoint = match Service::S3.configured_endpoint(sdk) {
            Some(endpoint) => format!("{}/{name}", endpoint.trim_end_matches('/')),
            // The certificates of S3 are good for one label before its host.
            None if name.contains('.') => format!("https://{}/{name}", Service::S3.host(sdk)),
            None => format!("https://{name}.{}", Service::S3.host(sdk)),
        };
        let reads = streaming_calls(sdk, Service::S3, &endpoint);
        Self { name, reads, writes: calls(sdk, Service::S3, &endpoint) }
    }

    /// Reads an object as a stream, or returns `None` if the bucket has none under `key`.
    pub async fn get(&self, key: &str) -> Result<Option<ByteStream>> {
        match self.read(key).await {
            Ok(body) => Ok(Some(body)),
            Err(e) if e.as_service_error().and_then(ProvideErrorMetadata::code) == Some("NoSuchKey") => {
                Ok(None)
            }
            Err(e) => Err(explain(e)).with_context(|| self.said("read", key)),
        }
    }

    /// Reads a whole object, or returns `None` if the bucket has none under `key`.
    pub async fn get_whole(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let Some(body) = self.get(key).await? else { return Ok(None) };
        Ok(Some(body.collect().await.with_context(|| self.said("read", key))?.to_vec()))
    }

    /// Reads an object as a stream. Without one, the error is the service's own.
    pub async fn read(&self, key: &str) -> Result<ByteStream, CallError> {
        let request = request("GET", &path(key), Vec::new()).map_err(CallError::construction_failure)?;
        self.reads.invoke(request).await
    }

    /// Writes a JSON text as an object.
    pub async fn put_json(&self, key: &str, json: Vec<u8>) -> Result<()> {
        let mut request = request("PUT", &path(key), json).map_err(|e| anyhow!(e))?;
        request.headers_mut().insert("content-type", "application/json");
        let put = self.writes.invoke(request).await.map_err(explain);
        put.map(drop).with_context(|| self.said("write", key))
    }

    fn said(&self, verb: &str, key: &str) -> String {
        format!("{verb} s3://{}/{key}", self.name)
    }
}

fn path(key: &str) -> String {
    format!("/{}", utf8_percent_encode(key, IN_KEYS))
}
