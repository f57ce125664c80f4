//! Parsing never panics, and every written text reads back.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;
use wasq_protocol::{
    AllowedHost, Attribute, Backoff, Batch, ByteCount, Compatible, Delivery, Message, Missed, Overlap,
    Schedule, Secret, Settings, TaskName, Timestamp, When, WorkerEvent, format_duration, parse_duration,
};

fn delivery() -> impl Strategy<Value = Delivery> {
    let body = prop_oneof![
        any::<String>(),
        Just("null".to_owned()),
        Just(" {\"task\": \"a\"}\n".to_owned()),
        "\\{\"task\": ?\"[a-z]{1,5}\"(, \"params\": \\[[0-9]{1,30}\\])?\\}",
    ];
    let attribute = any::<(String, Option<String>)>().prop_map(|(data_type, string_value)| Attribute {
        data_type,
        string_value,
        binary_value: None,
    });
    let attributes = proptest::collection::btree_map(any::<String>(), attribute, 0..3);
    let words = any::<(String, u32, Option<String>, Option<String>, u32)>();
    (body, words, 0..=253_402_207_200_000u64, attributes).prop_map(
        |(body, (message_id, receive_count, group, trace_header, deaths), ms, attributes)| Delivery {
            receipt: message_id.clone(),
            message_id,
            body,
            receive_count,
            lease_until: Timestamp::from_ms(ms),
            first_received: Timestamp::from_ms(ms / 2),
            sent: Timestamp::from_ms(ms / 3),
            attributes,
            group,
            trace_header,
            deaths,
        },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let cron = prop_oneof!["[0-5][0-9] 7 \\* (jan|6) 1-5", "@(daily|hourly)"]
        .prop_map(|cron| cron.parse().expect("valid"));
    let zone = prop_oneof![Just("UTC"), Just("Europe/Berlin")];
    let when = prop_oneof![
        (cron, zone).prop_map(|(cron, zone)| When::Cron(cron, zone.to_owned())),
        (1..500_000u64).prop_map(|minutes| When::Every(Duration::from_secs(minutes * 60))),
    ];
    let params = prop_oneof![
        Just(json!({})),
        any::<i32>().prop_map(|number| json!({ "n": number, "inner": { "list": [1.5, "é"] } })),
        Just(json!("a text")),
    ];
    (when, params, any::<bool>()).prop_map(|(when, params, run)| Schedule {
        name: run.then(|| "a-name".to_owned()),
        when,
        params,
        missed: if run { Missed::Run } else { Missed::Skip },
        overlap: if run { Overlap::Skip } else { Overlap::Allow },
    })
}

fn settings() -> impl Strategy<Value = Settings> {
    let env: BoxedStrategy<BTreeMap<String, String>> =
        proptest::collection::btree_map("[A-Z_]{1,8}", "[^\\x00]{0,20}", 0..4).boxed();
    let from = prop_oneof!["ssm:/[a-z/]{1,9}", "secretsmanager:[a-z/]{1,9}(#[a-z]{1,5})?"];
    let secret = (from, any::<bool>()).prop_map(|(from, expose)| Secret {
        from: from.parse().expect("valid"),
        expose,
        hosts: vec!["https://example.com".parse().expect("valid")],
    });
    (100..840_000u64, 1..4096u64, 1..=100u32, 0..43_200_000u64, env, secret, schedule()).prop_map(
        |(ms, mib, max_attempts, wait, env, secret, schedule)| Settings {
            timeout: Duration::from_millis(ms),
            memory: ByteCount((mib << 20).max(1 << 20)),
            max_attempts,
            backoff: Backoff { base: Duration::from_millis(wait / 2), cap: Duration::from_millis(wait) },
            allow_hosts: vec!["https://*.example.com".parse().expect("valid")],
            keep: Duration::from_millis(ms.max(60_000)),
            once: max_attempts % 2 == 0,
            idempotency_key: max_attempts % 3 == 0,
            env,
            compatible: (max_attempts % 5 == 0).then_some(Compatible::Backward),
            secrets: [("TOKEN".to_owned(), secret)].into(),
            schedule: vec![schedule],
        },
    )
}

proptest! {
    #[test]
    fn settings_are_written_as_they_are_read(settings in settings()) {
        prop_assert_eq!(Settings::from_toml(&settings.to_toml()), Ok(settings));
    }

    #[test]
    fn parsing_a_message_never_panics(text in any::<String>()) {
        let _ = Message::parse(&text);
        let _ = WorkerEvent::parse(&text, Timestamp::from_ms(0), Duration::ZERO);
        let _ = Settings::from_toml(&text);
        let _ = text.parse::<TaskName>();
        let _ = text.parse::<AllowedHost>();
        let _ = text.parse::<Timestamp>();
        let _ = text.parse::<ByteCount>();
        let _ = parse_duration(&text);
    }

    #[test]
    fn almost_messages_never_panic(
        key in "(task|params|id|not_before|depth|Records|deliveries)",
        value in "(\"[^\"\\\\]{0,70}\"|-?[0-9]{1,30}|null|true|\\[\\{\\}\\]|\\{\"a\":1\\})",
    ) {
        let text = format!("{{\"task\": \"a\", \"{key}\": {value}}}");
        if let Ok(message) = Message::parse(&text) {
            let again = Message::parse(&message.to_json()).expect("what is written reads back");
            prop_assert_eq!(again.to_json(), message.to_json());
        }
        let _ = WorkerEvent::parse(&text, Timestamp::from_ms(0), Duration::ZERO);
    }

    #[test]
    fn batches_read_back(deliveries in proptest::collection::vec(delivery(), 0..4)) {
        let batch = Batch { deliveries };
        let json = serde_json::to_string(&batch).expect("string keys");
        prop_assert_eq!(serde_json::from_str::<Batch>(&json).expect("reads back"), batch);
    }

    #[test]
    fn settings_read_back(settings in settings()) {
        let json = serde_json::to_string(&settings).expect("string keys");
        prop_assert_eq!(&serde_json::from_str::<Settings>(&json).expect("reads back"), &settings);
        let toml = toml::to_string(&settings).expect("writes as TOML");
        prop_assert_eq!(&Settings::from_toml(&toml).expect("reads back"), &settings);
    }

    #[test]
    fn allowed_hosts_read_back(text in "(https?)://(\\*\\.)?[a-z.]{1,10}[a-z](:[1-9][0-9]{0,3})?") {
        if let Ok(host) = text.parse::<AllowedHost>() {
            prop_assert_eq!(host.to_string().parse::<AllowedHost>().expect("reads back"), host);
        }
    }

    #[test]
    fn units_read_back(ms in 0..u64::from(u32::MAX), bytes in any::<u64>()) {
        let duration = Duration::from_millis(ms);
        prop_assert_eq!(parse_duration(&format_duration(duration)).expect("reads back"), duration);
        let bytes = ByteCount(bytes >> 11);
        prop_assert_eq!(bytes.to_string().parse::<ByteCount>().expect("reads back"), bytes);
    }

    #[test]
    fn times_read_back(ms in 0..=253_402_207_200_000u64) {
        let time = Timestamp::from_ms(ms);
        prop_assert_eq!(time.to_string().parse::<Timestamp>().expect("reads back"), time);
    }
}
