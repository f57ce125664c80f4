//! From a record of a run to spans.
//!
//! A message is one span, from its send to its end. Its attempts are spans below it, each with the parts `load`, `run` and `settle`, and
//! the requests of the run below `run`. The first wait is a span beside the attempts.
//!
//! The ids of traces and spans are derived from the ids of messages. So attempts, children and redrives belong to one trace, whichever
//! worker has them, and nothing has to be remembered. A message that came with a trace context (W3C) stays in that trace.

use wasq_protocol::{Digest, RunOutcome, RunRecord, SentRequest, Then};

use crate::otlp::{Event, KeyValue, Span, SpanKind, Status, StatusCode};

type SpanId = [u8; 8];

/// The bytes of a reason that a span has.
const REASON_BYTES: usize = 1024;

/// The trace of a message.
struct Trace {
    id: [u8; 16],
    /// The sender's span, if it has sent its trace context.
    sender: Option<SpanId>,
    is_sampled: bool,
}

impl Trace {
    fn of(record: &RunRecord) -> Self {
        // Lambda puts X-Ray's header on everything that it sends: "not sampled" is no sender's wish there.
        if let Some(given) = record.traceparent.as_deref().and_then(Self::parse)
            && (given.is_sampled || !record.from_xray)
        {
            return given;
        }
        let top = record.root.as_ref().unwrap_or(&record.id);
        Self { id: derived(&["trace", top]), sender: None, is_sampled: true }
    }

    /// Reads `00-TRACE-SPAN-FLAGS`.
    fn parse(traceparent: &str) -> Option<Self> {
        let mut parts = traceparent.split('-').skip(1);
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        let flags = bytes::<1>(flags)?;
        Some(Self { id: bytes(trace)?, sender: Some(bytes(span)?), is_sampled: flags[0] & 1 == 1 })
    }

    /// The span of a message in this trace.
    fn message(&self, id: &str) -> SpanId {
        derived(&["message", &hex(&self.id), id])
    }
}

/// The spans of a record; none if its trace is not sampled, or if it was released without a run.
pub(crate) fn spans(record: &RunRecord) -> Vec<Span> {
    let trace = Trace::of(record);
    let has_run = record.digest.is_some();
    let has_ended = has_ended(record);
    if !trace.is_sampled || !(has_run || has_ended) {
        return Vec::new();
    }
    let times = Times::of(record);
    // A direct invoke has no message, and ends with its only attempt.
    let message = record.message_id.is_some().then(|| trace.message(&record.id));
    let sender = match &record.parent {
        Some(parent) => Some(trace.message(parent)),
        None => trace.sender,
    };
    let make = Make { trace: &trace };
    let mut spans = Vec::new();
    if has_run {
        spans.extend(attempt(&make, record, &times, message.is_some(), message.or(sender)));
        if let (Some(message), Some(sent), 1) = (message, times.sent, record.attempt) {
            let id = derived(&["wait", &hex(&message), &record.timestamp.ms().to_string()]);
            spans.push(make.span(id, Some(message), "wait", sent, times.loaded));
        }
    }
    if let Some(message) = message.filter(|_| has_ended) {
        let name = format!("{} message", task(record));
        let mut span = make.span(message, sender, &name, times.sent.unwrap_or(times.loaded), times.end);
        span.attributes = of_message(record);
        span.status = status(record).filter(|_| record.then != Then::Done);
        spans.push(span);
    }
    spans
}

/// Whether a message has ended by what a record tells. A message that had ended before is only deleted.
pub(crate) fn has_ended(record: &RunRecord) -> bool {
    match record.then {
        Then::Done => record.digest.is_some(),
        Then::DeadLetter | Then::Cancelled => true,
        Then::Retry | Then::Release | Then::Delayed => false,
    }
}

/// The moments of a record, in nanoseconds since 1970.
struct Times {
    sent: Option<u64>,
    /// When loading began.
    loaded: u64,
    run: u64,
    settle: u64,
    end: u64,
}

impl Times {
    fn of(record: &RunRecord) -> Self {
        let RunRecord { timestamp, queued_ms, load_ms, run_ms, acknowledge_ms, .. } = record;
        let end = timestamp.ms() * 1_000_000;
        let settle = end.saturating_sub(ns(*acknowledge_ms));
        let run = settle.saturating_sub(ns(*run_ms));
        let loaded = run.saturating_sub(ns(*load_ms));
        Self { sent: queued_ms.map(|queued| loaded.saturating_sub(ns(queued))), loaded, run, settle, end }
    }
}

/// The spans of an attempt. That of a direct invoke stands for the message, which there is none of.
fn attempt(
    make: &Make<'_>,
    record: &RunRecord,
    times: &Times,
    has_message: bool,
    parent: Option<SpanId>,
) -> Vec<Span> {
    let of_this = format!("{}\0{}", record.attempt, record.timestamp.ms());
    let id = |part: &str| derived(&[part, &hex(&make.trace.id), &record.id, &of_this]);
    let own: SpanId = if has_message { id("attempt") } else { make.trace.message(&record.id) };
    let mut whole = make.span(own, parent, task(record), times.loaded, times.end);
    whole.kind = SpanKind::Consumer.into();
    whole.attributes = of_message(record);
    whole.attributes.push(KeyValue::int("wasq.attempt", record.attempt.into()));
    whole.attributes.push(KeyValue::text("wasq.then", then(record.then)));
    let memory = i64::try_from(record.peak_memory_bytes).unwrap_or(i64::MAX);
    whole.attributes.push(KeyValue::int("wasq.peak_memory_bytes", memory));
    whole.attributes.extend(record.digest.map(|digest| KeyValue::text("wasq.module", digest.to_string())));
    let invoke = record.request_id.as_ref();
    whole.attributes.extend(invoke.map(|invoke| KeyValue::text("faas.invocation_id", invoke)));
    whole.attributes.extend(record.kind.map(|kind| KeyValue::text("error.type", kind.as_str())));
    whole.status = status(record);

    let mut run = make.span(id("run"), Some(own), "run", times.run, times.settle);
    run.events = record
        .steps
        .iter()
        .map(|step| Event {
            time: step.at.ms() * 1_000_000,
            name: "step saved".to_owned(),
            attributes: vec![KeyValue::text("wasq.step", &step.name)],
        })
        .collect();
    let requests = record.requests.iter().enumerate().map(|(number, request)| {
        let id = id(&format!("request {number}"));
        let mut span = make.request(request, times.run);
        (span.span_id, span.parent_span_id) = (id.to_vec(), run.span_id.clone());
        span
    });
    let mut spans: Vec<Span> = requests.collect();
    spans.push(make.span(id("load"), Some(own), "load", times.loaded, times.run));
    spans.push(run);
    spans.push(make.span(id("settle"), Some(own), "settle", times.settle, times.end));
    spans.push(whole);
    spans
}

/// Makes the spans of a trace.
struct Make<'a> {
    trace: &'a Trace,
}

impl Make<'_> {
    fn span(&self, id: SpanId, parent: Option<SpanId>, name: &str, start: u64, end: u64) -> Span {
        Span {
            trace_id: self.trace.id.to_vec(),
            span_id: id.to_vec(),
            parent_span_id: parent.map(|parent| parent.to_vec()).unwrap_or_default(),
            name: name.to_owned(),
            kind: SpanKind::Internal.into(),
            start,
            end: end.max(start),
            ..Span::default()
        }
    }

    /// A request, without its ids. `run`: when its run began.
    fn request(&self, request: &SentRequest, run: u64) -> Span {
        let SentRequest { method, to, status, began_ms, took_ms } = request;
        let start = run + ns(*began_ms);
        let mut span = self.span(SpanId::default(), None, method, start, start + ns(*took_ms));
        span.kind = SpanKind::Client.into();
        let (host, port) = host_and_port(to);
        span.attributes =
            vec![KeyValue::text("http.request.method", method), KeyValue::text("server.address", host)];
        span.attributes.extend(port.map(|port| KeyValue::int("server.port", port)));
        span.attributes
            .extend(status.map(|status| KeyValue::int("http.response.status_code", status.into())));
        let error = match status {
            None => Some("no response".to_owned()),
            Some(status) if *status >= 400 => Some(status.to_string()),
            Some(_) => None,
        };
        if let Some(error) = error {
            span.attributes.push(KeyValue::text("error.type", error));
            span.status = Some(Status { message: String::new(), code: StatusCode::Error.into() });
        }
        span
    }
}

fn task(record: &RunRecord) -> &str {
    record.task.as_ref().map_or("no task", |task| task.as_str())
}

fn of_message(record: &RunRecord) -> Vec<KeyValue> {
    let mut attributes =
        vec![KeyValue::text("wasq.task", task(record)), KeyValue::text("wasq.id", &record.id)];
    if let Some(message_id) = &record.message_id {
        attributes.push(KeyValue::text("messaging.system", "aws_sqs"));
        attributes.push(KeyValue::text("messaging.operation.type", "process"));
        attributes.push(KeyValue::text("messaging.message.id", message_id));
    }
    attributes
}

fn status(record: &RunRecord) -> Option<Status> {
    match record.outcome {
        RunOutcome::Success => None,
        RunOutcome::Failure => {
            let message =
                &record.message[..record.message.floor_char_boundary(REASON_BYTES.min(record.message.len()))];
            Some(Status { message: message.to_owned(), code: StatusCode::Error.into() })
        }
    }
}

/// The step that follows, as in the log.
pub(crate) fn then(then: Then) -> &'static str {
    match then {
        Then::Done => "done",
        Then::Retry => "retry",
        Then::Release => "give-back",
        Then::DeadLetter => "dead-letter",
        Then::Cancelled => "cancelled",
        Then::Delayed => "delayed",
    }
}

/// The host and the port of `https://host:port`.
fn host_and_port(to: &str) -> (&str, Option<i64>) {
    let authority = to.split_once("://").map_or(to, |(_, authority)| authority);
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => {
            (host, port.parse().ok())
        }
        _ => (authority, None),
    }
}

fn ns(ms: f64) -> u64 {
    (ms * 1e6) as u64
}

/// An id of so many bytes, the same for the same parts.
fn derived<const N: usize>(parts: &[&str]) -> [u8; N] {
    let digest = Digest::of(parts.join("\0").as_bytes()).to_string();
    bytes(&digest[..2 * N]).expect("a digest is hexadecimal and longer")
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    if hex.len() != 2 * N || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, digits) in bytes.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use wasq_protocol::RunRecord;

    use super::*;

    fn record(more: &str) -> RunRecord {
        attempt(1, more)
    }

    fn attempt(number: u32, more: &str) -> RunRecord {
        let text = format!(
            r#"{{"timestamp": "2026-11-26T12:00:10Z", "level": "INFO", "message": "done", "task": "hello", "message_id": "m-1",
                "attempt": {number}, "outcome": "success", "then": "done", "queued_ms": 5000.0, "place_ms": 0.0, "load_ms": 10.0,
                "run_ms": 1000.0, "acknowledge_ms": 20.0, "peak_memory_bytes": 1, "digest": "{}", {more}}}"#,
            "0".repeat(64)
        );
        serde_json::from_str(&text).expect("a record")
    }

    fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no span {name}"))
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_message_is_a_span_with_its_attempts_below() {
        let spans = spans(&record(r#""id": "order-7""#));
        let (message, attempt) = (named(&spans, "hello message"), named(&spans, "hello"));
        assert_eq!(spans.len(), 6);
        assert!(message.parent_span_id.is_empty());
        assert_eq!(attempt.parent_span_id, message.span_id);
        assert_eq!(named(&spans, "wait").parent_span_id, message.span_id);
        assert_eq!(attempt.end - attempt.start, SECOND + 30_000_000);
        assert_eq!(message.end - message.start, 6 * SECOND + 30_000_000);
        for part in ["load", "run", "settle"] {
            assert_eq!(named(&spans, part).parent_span_id, attempt.span_id);
        }
    }

    #[test]
    fn children_and_later_attempts_stay_in_the_trace() {
        let parent = spans(&record(r#""id": "order-7""#));
        let child = spans(&record(r#""id": "child", "parent": "order-7", "root": "order-7""#));
        let again = spans(&attempt(2, r#""id": "order-7""#));
        let trace = &named(&parent, "hello message").trace_id;
        assert_eq!(&named(&child, "hello message").trace_id, trace);
        assert_eq!(named(&child, "hello message").parent_span_id, named(&parent, "hello message").span_id);
        assert_eq!(&named(&again, "hello").trace_id, trace);
        let other = spans(&record(r#""id": "order-8""#));
        assert_ne!(&named(&other, "hello").trace_id, trace);
    }

    #[test]
    fn the_senders_trace_goes_on() {
        let given = r#""id": "a", "traceparent": "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01""#;
        let spans_of = spans(&record(given));
        let message = named(&spans_of, "hello message");
        assert_eq!(hex(&message.trace_id), "5759e988bd862e3fe1be46a994272793");
        assert_eq!(hex(&message.parent_span_id), "53995c3f42cd8ad8");
        // The sender does not want it to be recorded.
        assert_eq!(spans(&record(&given.replace("-01\"", "-00\""))), []);
        // A text that is no trace context does not matter.
        assert_eq!(spans(&record(&given.replace("00-5759", "00-xyz"))).len(), 6);
    }

    #[test]
    fn requests_and_steps_are_in_the_run() {
        let spans = spans(&record(
            r#""id": "a", "steps": [{"name": "charge", "at": "2026-11-26T12:00:09.5Z"}], "requests": [
                {"method": "GET", "to": "https://api.github.com", "status": 200, "began_ms": 100.0, "took_ms": 50.0},
                {"method": "POST", "to": "http://127.0.0.1:8080", "began_ms": 200.0, "took_ms": 1.0}]"#,
        ));
        let run = named(&spans, "run");
        assert_eq!(run.events.len(), 1);
        let (get, post) = (named(&spans, "GET"), named(&spans, "POST"));
        assert_eq!((&get.parent_span_id, get.start - run.start), (&run.span_id, 100_000_000));
        assert_eq!((get.status.clone(), post.status.as_ref().map(|status| status.code)), (None, Some(2)));
        assert!(post.attributes.contains(&KeyValue::int("server.port", 8080)));
    }
}
