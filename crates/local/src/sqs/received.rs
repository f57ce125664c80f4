//! Messages that were received, and their receipt handles.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rusqlite::Row;
use serde_json::{Map, Value};

use super::error::SqsError;

/// A message that was received.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) seq: i64,
    pub(crate) message_id: String,
    pub(crate) body: String,
    pub(crate) attributes: Map<String, Value>,
    pub(crate) trace_header: Option<String>,
    pub(crate) receipt_handle: String,
    pub(crate) sent_ms: i64,
    pub(crate) first_received_ms: i64,
    pub(crate) receive_count: u32,
    pub(crate) group: Option<String>,
    pub(crate) deduplication: Option<String>,
    pub(crate) source: Option<String>,
    /// How many processes died while they held it.
    pub(crate) deaths: u32,
    /// Its tenant, on the stack's own queue.
    pub(crate) tenant: Option<i64>,
    /// When the lease ends.
    pub(crate) visible_ms: i64,
}

/// A FIFO queue forgets a deduplication id, and the id of a receive, after this.
pub(super) const DEDUPLICATION_MS: i64 = 5 * 60 * 1000;
/// A message that may be received.
pub(super) struct Candidate {
    pub(super) seq: i64,
    pub(super) queue_receives: u32,
}

/// Reads a message from the columns that every receive returns.
pub(super) fn received(
    row: &Row<'_>,
    seq: i64,
    queue: &str,
    receipt: i64,
    visible_ms: i64,
) -> rusqlite::Result<Received> {
    let attributes: String = row.get(2)?;
    Ok(Received {
        seq,
        message_id: row.get(0)?,
        body: row.get(1)?,
        attributes: serde_json::from_str(&attributes).unwrap_or_default(),
        trace_header: row.get(3)?,
        receipt_handle: Receipt { queue: queue.to_owned(), seq, receipt }.encode(),
        sent_ms: row.get(4)?,
        first_received_ms: row.get(5)?,
        receive_count: row.get(6)?,
        group: row.get(7)?,
        deduplication: row.get(8)?,
        source: row.get(9)?,
        deaths: row.get(10)?,
        tenant: row.get(11)?,
        visible_ms,
    })
}

/// The contents of a receipt handle.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Receipt {
    pub(super) queue: String,
    pub(super) seq: i64,
    pub(super) receipt: i64,
}

impl Receipt {
    pub(super) fn encode(&self) -> String {
        let Self { queue, seq, receipt } = self;
        BASE64_URL_SAFE_NO_PAD.encode(format!("wasq {seq} {receipt} {queue}"))
    }

    /// Reads a handle for a queue; the error is SQS's.
    pub(super) fn decode(handle: &str, queue: &str) -> Result<Self, SqsError> {
        let invalid = || {
            SqsError::invalid_receipt(format!(
                "The input receipt handle \"{handle}\" is not a valid receipt handle."
            ))
        };
        let text = BASE64_URL_SAFE_NO_PAD.decode(handle).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(invalid)?;
        let mut parts = text.split(' ');
        let (Some("wasq"), Some(seq), Some(receipt), Some(name), None) =
            (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(invalid());
        };
        if name != queue {
            return Err(SqsError::invalid_receipt(format!(
                "The receipt handle \"{handle}\" is not valid for this queue."
            )));
        }
        Ok(Self {
            queue: name.to_owned(),
            seq: seq.parse().map_err(|_| invalid())?,
            receipt: receipt.parse().map_err(|_| invalid())?,
        })
    }
}
