//! Secrets: only the allowed hosts get their values, and nothing that a run leaves behind contains a value.

use serde_json::{Value, json};
use wasq_engine::{Report, SecretValues};
use wasq_protocol::{Outcome, SecretValue, Settings};

use crate::http::server;
use crate::{failure, output, run_secretly};

/// With a quotation mark, which JSON escapes.
const VALUE: &str = "t0p-secret-\"-value";

fn values() -> SecretValues {
    [("TOKEN".to_owned(), SecretValue::new(VALUE.to_owned()))].into()
}

/// Settings that allow the given hosts and have the secret TOKEN; `token` is its value in TOML.
#[track_caller]
fn settings(token: &str, hosts: &[String]) -> Settings {
    let toml = format!("allow_hosts = {hosts:?}\n[secrets]\nTOKEN = {token}\n");
    Settings::from_toml(&toml).expect("settings")
}

const HIDDEN: &str = "\"ssm:/wasq/token\"";
const EXPOSED: &str = "{ from = \"ssm:/wasq/token\", expose = true }";

/// Sends the header to a server that returns it, through both interfaces in turn. The answer is the output of
/// the run, with the secret's mark in place of its value.
async fn authorize(authorization: &str, basic: bool, token: &str) -> [Value; 2] {
    let address = server().await.to_string();
    let settings = settings(token, &[format!("http://{address}")]);
    let mut got = [Value::Null, Value::Null];
    for (wasi, got) in [false, true].into_iter().zip(&mut got) {
        let params = json!({
            "verb": "authorize", "authority": address, "authorization": authorization, "basic": basic, "wasi": wasi,
        });
        *got = output(&run_secretly(params, &settings, &values()).await);
    }
    got
}

#[tokio::test]
async fn headers_to_allowed_hosts_get_the_value() {
    for got in authorize("Bearer {TOKEN}", false, HIDDEN).await {
        // The server had the value, because only the value is redacted to this mark.
        assert_eq!(got, json!({"status": 200, "body": "Bearer [secret TOKEN]"}));
    }
    for got in authorize("{TOKEN}, {TOKEN}!", false, HIDDEN).await {
        assert_eq!(got["body"], "[secret TOKEN], [secret TOKEN]!");
    }
    for got in authorize("user:{TOKEN}", true, HIDDEN).await {
        // base64 of user:t0p-secret-"-value
        assert_eq!(got["body"], "Basic dXNlcjp0MHAtc2VjcmV0LSItdmFsdWU=");
    }
}

#[tokio::test]
async fn a_host_that_is_not_the_secrets_gets_nothing() {
    let token = "{ from = \"ssm:/wasq/token\", hosts = [\"https://api.github.com\"] }";
    for got in authorize("Bearer {TOKEN}", false, token).await {
        let error = got["error"].as_str().expect("an error");
        assert!(error.to_lowercase().contains("denied"), "{error}");
    }
    // A header without a secret may go there.
    for got in authorize("Bearer of another", false, token).await {
        assert_eq!(got["body"], "Bearer of another");
    }
}

#[tokio::test]
async fn the_task_sees_a_placeholder_that_nobody_can_guess() {
    let settings = settings(HIDDEN, &[]);
    let mut seen = Vec::new();
    for _ in 0..2 {
        let env = output(&run_secretly(json!({"verb": "env"}), &settings, &values()).await);
        let placeholder = env["TOKEN"].as_str().expect("it is there").to_owned();
        assert!(placeholder.starts_with("wasq-secret-TOKEN-") && placeholder.len() == 50, "{placeholder}");
        seen.push(placeholder);
    }
    assert_ne!(seen[0], seen[1]);
}

/// Everything that a run leaves behind.
fn left_behind(report: &Report) -> String {
    let Report {
        outcome,
        log,
        children: _,
        steps: _,
        log_dropped: _,
        duration: _,
        peak_memory: _,
        denied: _,
        requests,
    } = report;
    let outcome = match outcome {
        Outcome::Success { output } => output.get().to_owned(),
        Outcome::Failure(failure) => failure.to_string(),
    };
    let lines = log.iter().map(|line| line.text.clone());
    let requests = requests.iter().map(|request| format!("{} {}", request.method, request.to));
    lines.chain(requests).fold(outcome, |all, line| all + "\n" + &line)
}

#[tokio::test]
async fn nothing_that_is_left_behind_has_the_value() {
    let settings = settings(EXPOSED, &[]);
    let say = |text: &str, end: &str| json!({"verb": "say", "text": text, "end": end});
    for end in ["success", "retry", "panic"] {
        let report = run_secretly(say("it is {TOKEN}.", end), &settings, &values()).await;
        let left = left_behind(&report);
        assert!(!left.contains("t0p-secret"), "{end}: {left}");
        // In three log lines, and in the outcome.
        assert!(left.matches("it is [secret TOKEN].").count() >= 4, "{end}: {left}");
    }
    let report = run_secretly(say("{TOKEN}", "success"), &settings, &values()).await;
    assert_eq!(output(&report), json!({"said": "[secret TOKEN]", "[secret TOKEN]": [1]}), "still JSON");
}

#[tokio::test]
async fn a_value_is_recognised_across_every_cut() {
    let settings = settings(EXPOSED, &[]);
    // Lines are cut at 8 KiB, the reason of a failure at 4 KiB, the kept end of stderr at 2 KiB.
    for cut in [2 << 10, 4 << 10, 8 << 10] {
        for before in [0, 1, VALUE.len() / 2, VALUE.len() - 1, VALUE.len()] {
            for (end, at) in [("retry", cut - before), ("panic", cut - before)] {
                let text = format!("{}{{TOKEN}}{}", "a".repeat(at), "b".repeat(cut - before));
                let params = json!({"verb": "say", "text": text, "end": end});
                let left = left_behind(&run_secretly(params, &settings, &values()).await);
                for part in ["t0p-sec", "t0p-", "ret-\"-val", "-value"] {
                    assert!(
                        !left.contains(part),
                        "{part} is left: cut at {cut}, value begins {before} bytes before it, end is {end}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_value_that_begins_as_it_ends_and_ends_at_the_cut() {
    let settings = settings(EXPOSED, &[]);
    let value = "hunter2-is-oh";
    let values: SecretValues = [("TOKEN".to_owned(), SecretValue::new(value.to_owned()))].into();
    let text = format!("{}{{TOKEN}}bbb", "a".repeat((8 << 10) - value.len()));
    let left = left_behind(
        &run_secretly(json!({"verb": "say", "text": text, "end": "retry"}), &settings, &values).await,
    );
    assert!(!left.contains("hunter2"), "{left}");
}

#[tokio::test]
async fn many_values_before_a_cut_uncover_none_behind_it() {
    let settings = settings(EXPOSED, &[]);
    // Redaction makes each value shorter, so the text behind the cut moves before the cut.
    let long: SecretValues = [("TOKEN".to_owned(), SecretValue::new("s3cret-".repeat(20)))].into();
    for end in ["retry", "success"] {
        let params = json!({"verb": "say", "text": "{TOKEN}".repeat(4000), "end": end});
        let left = left_behind(&run_secretly(params, &settings, &long).await);
        assert!(!left.contains("s3cret-"), "{end}: {}", &left[..2000.min(left.len())]);
    }
}

#[tokio::test]
async fn results_in_every_spelling_of_json() {
    let settings = settings(EXPOSED, &[]);
    let raw = |text: &str| json!({"verb": "raw", "text": text});
    let values: SecretValues = [("TOKEN".to_owned(), SecretValue::new("p&ss<w/ö>rd".to_owned()))].into();
    for (text, expected) in [
        (r#"{"a": "p\u0026ss\u003cw/\u00f6\u003Erd", "a": 0}"#, r#"{"a": "[secret TOKEN]", "a": 0}"#),
        (r#"["\u0070&ss<w\/ö>rd"]"#, r#"["[secret TOKEN]"]"#),
        (r#"["\ud800 p&ss<w/ö>rd", -1.5e10]"#, ""),
        (
            r#"{"nothing": ["of", 1, "it", true, null, {}]}"#,
            r#"{"nothing": ["of", 1, "it", true, null, {}]}"#,
        ),
    ] {
        let report = run_secretly(raw(text), &settings, &values).await;
        let Outcome::Success { output } = &report.outcome else { panic!("{text}: {:?}", report.outcome) };
        assert!(!output.get().contains("ss<w"), "{output}");
        assert!(expected.is_empty() || output.get() == expected, "{text}: {output}");
    }
    let digits: SecretValues =
        [("TOKEN".to_owned(), SecretValue::new("12345678901234567890123".to_owned()))].into();
    let report = run_secretly(raw("[12345678901234567890123, 1]"), &settings, &digits).await;
    assert_eq!(output(&report), json!(["[secret TOKEN]", 1]));
    // The log as well, in the spellings of other languages.
    for spelling in [r"p\u0026ss\u003cw/ö\u003erd", r"p&ss<w/\u00f6>rd", r"p&ss<w\/\u00f6>rd"] {
        let params = json!({"verb": "say", "text": spelling, "end": "retry"});
        let left = left_behind(&run_secretly(params, &settings, &values).await);
        assert!(!left.contains("rd"), "{spelling}: {left}");
    }
}

#[tokio::test]
async fn what_merely_looks_like_a_line_of_a_value_stays() {
    let settings = settings(EXPOSED, &[]);
    let config = "apiVersion: v1\n        \ntoken: t0p-secret-value\n";
    let values: SecretValues = [("TOKEN".to_owned(), SecretValue::new(config.to_owned()))].into();
    let params = json!({"verb": "raw", "text": "\"apiVersion: v1 is what I read\""});
    assert_eq!(output(&run_secretly(params, &settings, &values).await), "apiVersion: v1 is what I read");
}

#[tokio::test]
async fn a_value_of_several_lines() {
    let settings = settings(EXPOSED, &[]);
    let pem = "-----BEGIN KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0BAQEF\n-----END KEY-----\n";
    let values: SecretValues = [("TOKEN".to_owned(), SecretValue::new(pem.to_owned()))].into();
    for end in ["success", "retry", "panic"] {
        let params = json!({"verb": "say", "text": "{TOKEN}", "end": end});
        let left = left_behind(&run_secretly(params, &settings, &values).await);
        assert!(!left.contains("MIIE") && !left.contains("hkiG"), "{end}: {left}");
    }
}

#[tokio::test]
async fn a_header_cannot_be_blown_up() {
    let address = server().await.to_string();
    let settings = settings(HIDDEN, &[format!("http://{address}")]);
    let long: SecretValues = [("TOKEN".to_owned(), SecretValue::new("x".repeat(8 << 10)))].into();
    let params = json!({"verb": "authorize", "authority": address, "authorization": "{TOKEN}".repeat(100)});
    let got = output(&run_secretly(params, &settings, &long).await);
    assert!(
        got["error"].as_str().is_some_and(|e| e.contains("InvalidRequest") && e.contains("65536")),
        "{got}"
    );
}

#[tokio::test]
async fn another_runs_placeholder_is_a_word_like_any_other() {
    let address = server().await.to_string();
    let settings = settings(HIDDEN, &[format!("http://{address}")]);
    let env = output(&run_secretly(json!({"verb": "env"}), &settings, &values()).await);
    let params = json!({"verb": "authorize", "authority": address, "authorization": env["TOKEN"]});
    let got = output(&run_secretly(params, &settings, &values()).await);
    assert_eq!(got["body"], env["TOKEN"]);
}

#[tokio::test]
async fn numbers_and_failures_of_the_platform() {
    let settings = settings(EXPOSED, &[]);
    let digits: SecretValues = [("TOKEN".to_owned(), SecretValue::new("1234567890".to_owned()))].into();
    let params = json!({"verb": "raw", "text": "{\"pin\": 1234567890, \"escaped\": \"\\u0031234567890\"}"});
    let report = run_secretly(params, &settings, &digits).await;
    assert_eq!(output(&report), json!({"pin": "[secret TOKEN]", "escaped": "[secret TOKEN]"}));
    let report = run_secretly(json!({"verb": "panic", "message": "{TOKEN}"}), &settings, &digits).await;
    assert!(!failure(&report).message.contains("1234567890"));
}

#[tokio::test]
async fn a_value_beside_half_a_surrogate_pair_is_found() {
    // Each letter of the value is escaped, so that the raw text does not have it.
    let escaped: String = VALUE.chars().map(|c| format!("\\u{:04x}", u32::from(c))).collect();
    for (text, shown) in [
        (format!("[\"\\ud800 {escaped}\"]"), "[\"\u{fffd} [secret TOKEN]\"]"),
        (format!("{{\"\\udc00\\\\{escaped}\\udbff\": 1}}"), "{\"\u{fffd}\\\\[secret TOKEN]\u{fffd}\": 1}"),
        (format!("[\"\\ud83d\\ude00{escaped}\"]"), "[\"\u{1f600}[secret TOKEN]\"]"),
    ] {
        let params = json!({"verb": "raw", "text": text});
        let report = run_secretly(params, &settings(EXPOSED, &[]), &values()).await;
        match &report.outcome {
            Outcome::Success { output } => assert_eq!(output.get(), shown),
            Outcome::Failure(failure) => panic!("{failure}"),
        }
    }
}
