//! Texts that cross a boundary. A value that was read can be written, and reads as the same value again. The
//! reason of a refusal is short.

use std::fmt::Display;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wasq_protocol::{
    Caps, LiveRecord, MAX_MESSAGE_BYTES, Message, Rejection, Settings, Timestamp, WorkerEvent,
};
use wasq_publisher::{Change, PublisherEvent};
use wasq_schema::Schemas;

/// The most bytes of a reason. Reasons go into logs and into attributes of dead letters.
const REASON_BYTES_MAX: usize = 4096;

fn refused(error: impl Display) {
    let said = error.to_string();
    assert!(!said.is_empty() && said.len() <= REASON_BYTES_MAX, "{} bytes: {said}", said.len());
}

/// Checks that a value can be written, and reads as the same value again.
fn written_again<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let text = serde_json::to_string(value).expect("it can be written");
    let again: T = serde_json::from_str(&text).expect("what we write, we read");
    assert_eq!(&again, value, "{text}");
}

/// The body of a message.
pub fn message(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Message::parse(text) {
        Ok(message) => {
            assert!(text.len() <= MAX_MESSAGE_BYTES);
            let written = message.to_json();
            let again = Message::parse(&written).expect("what we write, we read");
            assert_eq!(again.to_json(), written);
            assert_eq!((&again.task, &again.id, again.depth), (&message.task, &message.id, message.depth));
        }
        Err(e) => refused(e),
    }
}

/// A settings file.
pub fn settings(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match Settings::from_toml(text) {
        Ok(settings) => {
            written_again(&settings);
            let caps = Caps::default();
            let capped = settings.clone().capped(&caps);
            assert!(capped.timeout <= caps.timeout && capped.memory <= caps.memory);
            assert!(settings.backoff.ceiling(u32::MAX) <= settings.backoff.cap);
        }
        // The message shows the faulty line.
        Err(e) => assert!(e.to_string().len() <= REASON_BYTES_MAX + text.len()),
    }
}

/// A live record, or the rejection of an upload.
pub fn live_record(data: &[u8]) {
    match serde_json::from_slice::<LiveRecord>(data) {
        Ok(record) => written_again(&record),
        Err(e) => refused(e),
    }
    match serde_json::from_slice::<Rejection>(data) {
        Ok(rejection) => written_again(&rejection),
        Err(e) => refused(e),
    }
}

/// A worker's event, and the messages in it.
pub fn worker_event(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match WorkerEvent::parse(text, Timestamp::from_ms(1_795_423_260_000), Duration::from_secs(120)) {
        Ok(WorkerEvent::Batch(batch) | WorkerEvent::EventSource(batch)) => {
            written_again(&batch);
            for delivery in &batch.deliveries {
                let parsed = Message::parse(&delivery.body);
                assert!(!delivery.id(parsed.as_ref().ok()).is_empty() || delivery.message_id.is_empty());
                if let Err(e) = parsed {
                    refused(e);
                }
            }
        }
        Ok(WorkerEvent::Message(_) | WorkerEvent::Ping) => {}
        Err(e) => refused(e),
    }
}

/// A publisher's event.
pub fn publisher_event(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    match PublisherEvent::parse(text) {
        Ok(PublisherEvent::Changed(changes)) => {
            for (i, Change { task, .. }) in changes.iter().enumerate() {
                let is_earlier = changes[..i].iter().any(|change| change.task == *task);
                assert!(!is_earlier, "{task} would be published twice");
            }
        }
        Ok(PublisherEvent::Recompile(_) | PublisherEvent::Sweep) => {}
        Err(e) => refused(e),
    }
}

/// A schema, a line, and a value that it is applied to. The content of a section goes the same way.
pub fn schema(data: &[u8]) {
    let _ = wasq_schema::find(data);
    let Ok(text) = str::from_utf8(data) else { return };
    let (schema, value) = text.split_once('\n').unwrap_or((text, "null"));
    let schemas = match Schemas::parse(schema.as_bytes()) {
        Ok(schemas) => schemas,
        Err(e) => {
            // The message may show a value of the schema.
            assert!(e.len() <= REASON_BYTES_MAX + 2 * schema.len(), "{} bytes", e.len());
            return;
        }
    };
    for schema in schemas.params.iter().chain(&schemas.result) {
        if let Err(mismatch) = schema.check(value) {
            refused(mismatch);
        }
    }
}
