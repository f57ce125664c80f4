//! Reading the bodies of requests, with bounds for all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::sync::{Mutex, MutexGuard};

use crate::sqs::error::SqsError;

/// The largest body: a batch of 1 MiB, each byte escaped as `\u00xx`, and its envelope.
const BODY_BYTES_MAX: usize = 8 << 20;
/// A body up to this size is always read. The number of connections bounds how many there are.
const SMALL_BYTES: usize = 64 << 10;
/// The bytes that all larger bodies together may hold.
const ALL_BYTES_MAX: usize = 64 << 20;
/// A client that takes longer than this for the body of a request is cut off.
const TIME_MAX: Duration = Duration::from_secs(60);

/// The largest component that the page takes, as the publisher does.
const UPLOAD_BYTES_MAX: usize = 256 << 20;
/// A browser that takes longer than this for a component is cut off.
const UPLOAD_TIME_MAX: Duration = Duration::from_secs(600);

/// The bodies that are being read. Clones are about the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Bodies {
    /// The bytes that all larger bodies hold together.
    bytes: Arc<AtomicUsize>,
    /// One component after the other: each is held in memory.
    upload: Arc<Mutex<()>>,
}

/// The bytes that a body holds, until dropped.
pub(crate) struct Held<'a> {
    all: &'a AtomicUsize,
    bytes: usize,
    _upload: Option<MutexGuard<'a, ()>>,
}

impl Held<'_> {
    /// Adds bytes; returns whether there is room for them.
    fn add(&mut self, bytes: usize) -> bool {
        self.bytes += bytes;
        self.all.fetch_add(bytes, Ordering::Relaxed) + bytes <= ALL_BYTES_MAX
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Bodies {
    /// Reads a body to its end. It counts for as long as the second value lives.
    pub(crate) async fn read(&self, body: Incoming) -> Result<(Bytes, Held<'_>), SqsError> {
        let reading = tokio::time::timeout(TIME_MAX, self.read_in_time(body));
        reading.await.unwrap_or_else(|_| {
            let seconds = TIME_MAX.as_secs();
            Err(SqsError::malformed(format!("read the request: its body took longer than {seconds} s")))
        })
    }

    /// Reads a component to its end, after those that are being read.
    pub(crate) async fn read_upload(&self, body: Incoming) -> Result<(Bytes, Held<'_>), SqsError> {
        let held = Held { all: &self.bytes, bytes: 0, _upload: Some(self.upload.lock().await) };
        let reading = Limited::new(body, UPLOAD_BYTES_MAX).collect();
        let read = tokio::time::timeout(UPLOAD_TIME_MAX, reading).await;
        let read = read.map_err(|_| SqsError::malformed("the upload took longer than 10 minutes"))?;
        let read =
            read.map_err(|e| SqsError::malformed(format!("read the upload (at most 256 MiB): {e}")))?;
        Ok((read.to_bytes(), held))
    }

    async fn read_in_time(&self, mut body: Incoming) -> Result<(Bytes, Held<'_>), SqsError> {
        let mut held = Held { all: &self.bytes, bytes: 0, _upload: None };
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| SqsError::malformed(format!("read the request: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            read.extend_from_slice(&data);
            if read.len() > BODY_BYTES_MAX {
                return Err(SqsError::malformed(format!("the request has more than {BODY_BYTES_MAX} bytes")));
            }
            let large = read.len().saturating_sub(SMALL_BYTES);
            if large > held.bytes && !held.add(large - held.bytes) {
                return Err(SqsError::unavailable(
                    "the endpoint reads too many large requests at once; try again",
                ));
            }
        }
        Ok((read.freeze(), held))
    }
}
