//! Every wire type has a golden file: it reads as the expected value, and is written as the same JSON again.
//!
//! A change of a golden file is a change of the contract, and needs a line in the CHANGELOG.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wasq_protocol::{
    Attribute, Batch, BatchResponse, DeadLetter, DeadLetterAttributes, Delivery, Digest, Ended, Failure,
    FailureKind, ItemState, LiveRecord, Message, Metrics, Outcome, PublishRequest, Rejection, RunItem,
    RunOutcome, RunRecord, Then, Timestamp, WorkerEvent,
};

/// Reads a golden file as `T`, and expects that writing it gives the same JSON.
#[track_caller]
fn round_trip<T: DeserializeOwned + Serialize>(file: &str) -> T {
    let value: T = serde_json::from_str(file).expect("the golden file is of this type");
    let written: Value = serde_json::to_value(&value).expect("it can be written");
    let expected: Value = serde_json::from_str(file).expect("the golden file is JSON");
    assert_eq!(written, expected);
    value
}

#[test]
fn message_in_full() {
    let file = include_str!("fixtures/message.json");
    let message = Message::parse(file).expect("valid");
    let written: Value = serde_json::from_str(&message.to_json()).expect("JSON");
    assert_eq!(written, serde_json::from_str::<Value>(file).expect("JSON"));
    assert_eq!(message.depth, 2);
    assert_eq!(message.unknown.keys().collect::<Vec<_>>(), ["priority"]);
}

#[test]
fn consumer_batch() {
    let batch: Batch = round_trip(include_str!("fixtures/batch.json"));
    assert_eq!(batch.deliveries[0].body, r#"{"task":"github_users","params":{"city":"Madrid"}}"#);
    assert_eq!(batch.deliveries[1].body, "not JSON \u{1F600}");
    assert_eq!(batch.deliveries[0].lease_until, Timestamp::from_ms(1_795_423_260_000));
}

#[test]
fn worker_event_of_each_kind() {
    let now = Timestamp::from_ms(7);
    let parse = |text| WorkerEvent::parse(text, now, Duration::from_secs(120)).expect("valid");
    assert!(matches!(parse(include_str!("fixtures/message.json")), WorkerEvent::Message(_)));
    assert!(matches!(parse(include_str!("fixtures/batch.json")), WorkerEvent::Batch(_)));
    let WorkerEvent::EventSource(batch) = parse(include_str!("fixtures/sqs_event.json")) else {
        panic!("an SQS event was read as something else");
    };
    let delivery = &batch.deliveries[0];
    assert_eq!(delivery.message_id, "059f36b4-87a3-44ab-83d2-661975830a7d");
    assert_eq!(delivery.receive_count, 3);
    assert_eq!(delivery.first_received.ms(), 1_545_082_649_185);
    assert_eq!(delivery.lease_until, now, "how long ago its third receive was is not known");
    assert_eq!(delivery.sent.ms(), 1_545_082_649_183);
    assert_eq!(delivery.group.as_deref(), Some("github_users"));
    assert_eq!(delivery.attributes["origin"].string_value.as_deref(), Some("web"));
    assert!(delivery.trace_header.as_ref().is_some_and(|header| header.starts_with("Root=1-5759e988")));
}

/// A sender may invent keys that wasq uses in other events; the event is still a message.
#[test]
fn worker_event_with_a_task_is_a_message() {
    for made_up in [r#""deliveries": 5"#, r#""Records": [{}]"#, r#""ping": 1, "deliveries": []"#] {
        let payload = format!(r#"{{{made_up}, "task": "a"}}"#);
        let event = WorkerEvent::parse(&payload, Timestamp::from_ms(0), Duration::ZERO).expect("valid");
        assert!(matches!(event, WorkerEvent::Message(_)), "{payload}");
    }
}

#[test]
fn worker_event_of_no_kind() {
    let error = |text| {
        WorkerEvent::parse(text, Timestamp::from_ms(0), Duration::ZERO).expect_err("invalid").to_string()
    };
    assert!(error(r#"{"tsak": "x"}"#).contains(r#"its keys are ["tsak"]"#));
    assert!(error("[1]").contains("expected an object such as"));
    assert!(error("1").contains("not a worker event"));
    assert!(
        error(r#"{"deliveries": [{}]}"#).contains("not a valid consumer batch: missing field `message_id`")
    );
    assert!(error(r#"{"Records": [{"eventSource": "aws:s3"}]}"#).contains("not a valid SQS event"));
    assert!(error(r#"{"task": 5}"#).contains("at $.task"));
    assert!(error(r#"{"task": null}"#).contains("at $.task: missing"));
    assert!(error(r#"{"deliveries": null}"#).contains("not a valid consumer batch: invalid type: null"));
    assert!(error(r#"{"ping": {}, "ping": {}}"#).contains("duplicate field `ping`"));
}

#[test]
fn event_source_response() {
    let response: BatchResponse = round_trip(include_str!("fixtures/batch_response.json"));
    assert_eq!(response.failures[0].message_id, "059f36b4-87a3-44ab-83d2-661975830a7d");
}

#[test]
fn outcomes() {
    let success: Outcome = round_trip(include_str!("fixtures/outcome_success.json"));
    let Outcome::Success { output } = success else { panic!("not a success") };
    assert_eq!(output.get(), r#"{"repositories": 12345678901234567890123}"#);
    let failure: Outcome = round_trip(include_str!("fixtures/outcome_failure.json"));
    let Outcome::Failure(failure) = failure else { panic!("not a failure") };
    assert_eq!((failure.kind, failure.retry_after_seconds), (FailureKind::Retry, Some(60)));
}

#[test]
fn ended_message() {
    let ended: Ended = round_trip(include_str!("fixtures/ended.json"));
    assert_eq!(ended.attempt, 2);
}

#[test]
fn run_item() {
    let item: RunItem = round_trip(include_str!("fixtures/run_item.json"));
    assert_eq!((item.state, item.attempts, item.children.len()), (ItemState::Done, 2, 1));
    assert_eq!(item.result.map(|result| result.get().to_owned()).as_deref(), Some("12345678901234567890123"));
    let running: RunItem = round_trip(include_str!("fixtures/run_item_running.json"));
    assert_eq!((running.state, running.cancel, running.once), (ItemState::Running, true, true));
    for state in ItemState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
    }
}

/// A worker of an earlier version reads what a later one has written, and keeps the fields that it does not know.
#[test]
fn run_item_with_fields_of_a_later_version() {
    let text = include_str!("fixtures/run_item.json").replacen('{', r#"{"invented_later": [1],"#, 1);
    let item: RunItem = serde_json::from_str(&text).expect("it is read");
    assert_eq!(item.id, "order-7");
    // It writes the item, and the later version finds its field.
    let written = serde_json::to_value(RunItem { attempts: 3, ..item }).expect("JSON");
    assert_eq!((&written["invented_later"], &written["attempts"]), (&json!([1]), &json!(3)));
}

#[test]
fn run_record() {
    let record: RunRecord = round_trip(include_str!("fixtures/run_record.json"));
    assert_eq!((record.outcome, record.then), (RunOutcome::Failure, Then::Retry));
    assert_eq!(record.to_json_with_metrics(Metrics::Off, "wasq-worker"), record.to_json());
}

/// As CloudWatch's specification requires: each metric and each dimension is a key of the line itself, and
/// dimensions are strings.
#[test]
fn run_record_with_metrics() {
    let mut record: RunRecord = round_trip(include_str!("fixtures/run_record.json"));
    let read = |record: &RunRecord, metrics| -> Value {
        serde_json::from_str(&record.to_json_with_metrics(metrics, "wasq-worker")).expect("JSON")
    };
    let dimensions = |line: &Value| line["_aws"]["CloudWatchMetrics"][0]["Dimensions"].clone();
    let line = read(&record, Metrics::Task);
    assert_eq!(dimensions(&line), json!([["function"], ["function", "task"]]));
    assert_eq!(line["_aws"]["Timestamp"], record.timestamp.ms());
    assert_eq!((&line["failed"], &line["dead_lettered"]), (&json!(1), &json!(0)));
    for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().expect("a list") {
        assert!(line[metric["Name"].as_str().expect("a name")].is_number(), "{metric}");
    }
    for name in ["function", "task"] {
        assert!(line[name].is_string());
    }
    assert_eq!(dimensions(&read(&record, Metrics::Function)), json!([["function"]]));
    // A message that names no task has no such dimension.
    record.task = None;
    assert_eq!(dimensions(&read(&record, Metrics::Task)), json!([["function"]]));
    // Without a run there is nothing to measure, and a released message has not failed.
    let names = |line: &Value| -> Vec<String> {
        let listed = line["_aws"]["CloudWatchMetrics"][0]["Metrics"].as_array().cloned().unwrap_or_default();
        listed.iter().map(|metric| metric["Name"].as_str().expect("a name").to_owned()).collect()
    };
    record.digest = None;
    assert_eq!(names(&read(&record, Metrics::Function)), ["failed", "dead_lettered"]);
    record.then = Then::Release;
    assert!(read(&record, Metrics::Function).get("_aws").is_none());
}

#[test]
fn live_record() {
    let record: LiveRecord = round_trip(include_str!("fixtures/live.json"));
    assert_eq!(record.version.version, 2);
    assert_eq!(record.version.uploader.as_deref(), Some("AWS:AROAEXAMPLEEXAMPLE:javimb"));
    assert_eq!(record.history.len(), 1);
    assert_eq!(record.history[0].bytes, None, "an older wasq did not write it");
}

#[test]
fn rejection_and_publish_request() {
    let rejection: Rejection = round_trip(include_str!("fixtures/rejected.json"));
    assert!(rejection.reason.contains("not a component"));
    let request: PublishRequest = round_trip(r#"{"recompile": "github_users"}"#);
    assert_eq!((request.recompile.as_str(), request.unusable), ("github_users", false));
    let request: PublishRequest = round_trip(r#"{"recompile": "github_users", "unusable": true}"#);
    assert!(request.unusable);
}

#[test]
fn failure_kinds_are_written_as_their_names() {
    for kind in FailureKind::ALL {
        assert_eq!(serde_json::to_value(kind).expect("plain"), kind.as_str());
    }
}

fn letter(reason: &str) -> DeadLetter {
    DeadLetter {
        failure: Failure::new(FailureKind::Reject, reason),
        id: "order-7".to_owned(),
        task: Some("github_users".parse().expect("a name")),
        attempts: 3,
        first_received: Timestamp::from_ms(1_000),
        failed: Timestamp::from_ms(2_000),
        digest: None,
        history: Vec::new(),
    }
}

#[test]
fn dead_letter_attributes() {
    let attributes = letter("no such city").attributes(100);
    let pairs: Vec<_> = attributes.iter().map(|a| (a.name, a.value.as_str())).collect();
    assert_eq!(
        pairs,
        [
            ("wasq.kind", "reject"),
            ("wasq.reason", "no such city"),
            ("wasq.id", "order-7"),
            (
                "wasq.attempts",
                r#"{"attempts":3,"first_received":"1970-01-01T00:00:01Z","failed":"1970-01-01T00:00:02Z"}"#
            ),
            ("wasq.task", "github_users"),
        ]
    );
}

#[test]
fn a_redriven_message_keeps_its_id_and_its_history() {
    let mut attributes = BTreeMap::from([("sender".to_owned(), Attribute::text("theirs"))]);
    for (round, reason) in ["no such city", "no such street"].into_iter().enumerate() {
        let mut letter = letter(reason);
        letter.history = DeadLetterAttributes::read(&attributes).history;
        assert_eq!(letter.history.len(), round);
        let ours = letter.attributes(100);
        attributes.extend(ours.into_iter().map(|a| (a.name.to_owned(), Attribute::text(a.value))));
        let read = DeadLetterAttributes::read(&attributes);
        assert_eq!((read.kind, read.reason.as_deref()), (Some(FailureKind::Reject), Some(reason)));
        attributes = read.redriven("the queue's", &attributes);
    }
    let names: Vec<_> = attributes.keys().map(String::as_str).collect();
    assert_eq!(names, ["sender", "wasq.history", "wasq.id"]);
    let delivery = Delivery { attributes, ..serde_json::from_str(DELIVERY).expect("a delivery") };
    assert_eq!(delivery.id(None), "order-7");
    let history = DeadLetterAttributes::read(&delivery.attributes).history;
    let reasons: Vec<_> = history.iter().map(|end| (end.reason.as_str(), end.attempts)).collect();
    assert_eq!(reasons, [("no such city", 3), ("no such street", 3)]);
}

#[test]
fn a_history_stays_small() {
    let mut attributes = BTreeMap::new();
    for round in 0..30 {
        let letter = DeadLetterAttributes {
            // Each quote takes two bytes in JSON.
            reason: Some("\"".repeat(4000)),
            digest: Some(Digest::of(b"module")),
            ..DeadLetterAttributes::read(&attributes)
        };
        attributes = letter.redriven(&format!("m{round}"), &attributes);
    }
    let read = DeadLetterAttributes::read(&attributes);
    assert!((5..=10).contains(&read.history.len()), "{} ends", read.history.len());
    assert_eq!(read.id.as_deref(), Some("m0"));
    let bytes = attributes["wasq.history"].string_value.as_ref().map_or(0, String::len);
    assert!(bytes < 4096, "{bytes} bytes");
}

#[test]
fn a_redriven_message_has_no_more_attributes_than_sqs_takes() {
    for theirs in 0..=10 {
        let attributes: BTreeMap<_, _> =
            (0..theirs).map(|i| (format!("a{i}"), Attribute::text("x"))).collect();
        let redriven = DeadLetterAttributes::default().redriven("m", &attributes);
        assert_eq!(redriven.len(), (theirs + 2).min(10));
        assert_eq!(redriven.contains_key("wasq.id"), theirs < 10, "the id is worth more than the history");
    }
}

const DELIVERY: &str = r#"{"message_id": "m", "body": "", "receipt": "r", "receive_count": 1,
    "lease_until": "1970-01-01T00:00:01Z", "first_received": "1970-01-01T00:00:01Z",
    "sent": "1970-01-01T00:00:01Z"}"#;

#[test]
fn dead_letter_attributes_are_what_sqs_takes() {
    // Control characters are refused by SQS, and so are empty values; a long reason is cut between characters.
    let reason = |text: &str| letter(text).attributes(0)[1].value.clone();
    assert_eq!(reason("a\u{0}b\u{1b}c"), "a\u{fffd}b\u{fffd}c");
    assert_eq!(reason(""), "-");
    let long = reason(&"é".repeat(10_000));
    assert!(long.len() <= 4096 && long.ends_with(" ..."), "{} bytes", long.len());
    // With a body that fills the message, only the attributes that fit are kept, the kind first.
    let names = |body| letter("x").attributes(body).iter().map(|a| a.name).collect::<Vec<_>>();
    assert_eq!(names((1 << 20) - 30), ["wasq.kind"]);
    assert!(names(1 << 20).is_empty());
}
