//! docs/reference.md, compared with the code.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use wasq_protocol::{Caps, DeadLetter, Digest, EarlierEnd, Failure, FailureKind, Settings, Timestamp};

use crate::args::Args;
use crate::output::Ended;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two folders deep")
        .to_owned()
}

/// The rows of a section's tables: the first cell, without its backticks, and all cells.
fn rows(section: &str) -> BTreeMap<String, Vec<String>> {
    let page = std::fs::read_to_string(root().join("docs/reference.md")).expect("the page is there");
    let start = page.find(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section:?}"));
    let body = &page[start + 4..];
    let body = &body[..body.find("\n## ").unwrap_or(body.len())];
    let cells = |line: &str| {
        let line = line.trim().strip_prefix('|')?.strip_suffix('|')?;
        Some(line.split('|').map(|cell| cell.trim().to_owned()).collect::<Vec<_>>())
    };
    let rows = body.lines().filter_map(cells).filter(|cells| !cells[0].starts_with("---"));
    let headings = ["key", "variable", "code", "kind", "attribute"];
    rows.filter(|cells| !headings.contains(&cells[0].as_str()))
        .map(|cells| (cells[0].trim_matches('`').to_owned(), cells))
        .collect()
}

fn names(section: &str) -> BTreeSet<String> {
    rows(section).into_keys().collect()
}

/// The variables that the sources of a folder name in quotes.
fn variables(folder: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                found.extend(text.split('"').filter(|word| is_variable(word)).map(str::to_owned));
            }
        }
    }
    found
}

/// The variables that are defaults of options, of a command and all below it.
fn variables_of_options(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env());
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables_of_options)).collect()
}

fn is_variable(word: &str) -> bool {
    word.starts_with("WASQ_")
        && word.len() > "WASQ_".len()
        && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
}

/// The variables of `wasq-aws` for worker and publisher.
const SCHEDULES: [&str; 4] =
    ["WASQ_SCHEDULE_GROUP", "WASQ_SCHEDULE_ROLE", "WASQ_QUEUE_ARN", "WASQ_DEAD_LETTER_ARN"];

#[test]
fn every_variable_of_the_functions_is_listed() {
    for (folder, section) in
        [("runtime/src", "worker"), ("consumer/src", "consumer"), ("crates/publisher/src", "publisher")]
    {
        let mut read = variables(folder);
        // Every function reads it, in wasq-aws.
        read.extend(variables("crates/aws/src"));
        if section == "consumer" {
            // It makes no schedules.
            read.retain(|name| !SCHEDULES.contains(&name.as_str()));
        }
        if section == "worker" {
            read.extend(variables("crates/telemetry/src"));
        }
        assert_eq!(names(&format!("Variables of the {section}")), read, "{section}");
    }
    assert_eq!(names("Variables of the command"), variables_of_options(&Args::command()));
}

#[test]
fn every_setting_is_listed_with_its_default() {
    let settings = serde_json::to_value(Settings::default()).expect("string keys");
    let mut expected = BTreeMap::new();
    for (key, value) in settings.as_object().expect("a table") {
        match (key.as_str(), value) {
            ("env", _) => drop(expected.insert("[env]".to_owned(), "none".to_owned())),
            ("allow_hosts", _) => drop(expected.insert(key.clone(), "none".to_owned())),
            (_, serde_json::Value::Object(inner)) => {
                for (inner, value) in inner {
                    expected.insert(format!("{key}.{inner}"), plain(value));
                }
            }
            (_, value) => drop(expected.insert(key.clone(), plain(value))),
        }
    }
    // Written only if there are some.
    expected.insert("[secrets]".to_owned(), "none".to_owned());
    expected.insert("[[schedule]]".to_owned(), "none".to_owned());
    expected.insert("compatible".to_owned(), "none".to_owned());
    expected.insert("keep".to_owned(), wasq_protocol::format_duration(Settings::default().keep));
    expected.insert("once".to_owned(), Settings::default().once.to_string());
    expected.insert("idempotency_key".to_owned(), Settings::default().idempotency_key.to_string());
    let secret = ["from", "hosts", "expose"];
    let listed = rows("Settings of a task");
    for (key, default) in &expected {
        let row = listed.get(key).unwrap_or_else(|| panic!("{key} is not listed"));
        assert_eq!(row[2].trim_matches('`'), default, "the default of {key}");
    }
    let others: Vec<_> = listed.keys().filter(|key| !expected.contains_key(*key)).collect();
    assert_eq!(others, BTreeSet::from(secret).into_iter().collect::<Vec<_>>());
}

fn plain(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[test]
fn the_caps_are_the_defaults_of_the_code() {
    let Caps { timeout, memory, max_attempts, keep } = Caps::default();
    let worker = rows("Variables of the worker");
    let default = |name: &str| worker[name][2].clone();
    assert_eq!(default("WASQ_MAX_TIMEOUT"), wasq_protocol::format_duration(timeout));
    assert_eq!(default("WASQ_MAX_MEMORY"), memory.to_string());
    assert_eq!(default("WASQ_MAX_ATTEMPTS"), max_attempts.to_string());
    assert_eq!(wasq_protocol::parse_duration(&default("WASQ_MAX_KEEP")), Ok(keep));
    for section in ["Variables of the worker", "Variables of the consumer"] {
        let lease = wasq_protocol::format_duration(wasq_protocol::LEASE_BY_DEFAULT);
        assert_eq!(rows(section)["WASQ_LEASE"][2], lease);
    }
    let retention = wasq_protocol::parse_duration(&default("WASQ_RETENTION")).expect("a duration");
    assert_eq!(retention, wasq_protocol::RETENTION_BY_DEFAULT);
}

#[test]
fn every_failure_kind_is_listed() {
    let kinds: BTreeSet<_> = FailureKind::ALL.iter().map(|kind| kind.as_str().to_owned()).collect();
    assert_eq!(names("Failure kinds"), kinds);
}

#[test]
fn every_exit_code_is_listed() {
    let mut codes: BTreeSet<_> = Ended::ALL.iter().map(|ended| ended.exit_code().to_string()).collect();
    codes.insert(crate::output::EXIT_CODE_OF_ERRORS.to_string());
    assert_eq!(names("Exit codes of the command"), codes);
}

#[test]
fn every_attribute_of_a_dead_letter_is_listed() {
    let letter = DeadLetter {
        failure: Failure::new(FailureKind::Reject, "no"),
        id: "a".to_owned(),
        task: Some("hello".parse().expect("a name")),
        attempts: 1,
        first_received: Timestamp::from_ms(0),
        failed: Timestamp::from_ms(1),
        digest: Some(Digest::of(b"")),
        history: vec![EarlierEnd {
            kind: None,
            reason: "no".to_owned(),
            attempts: 1,
            failed: None,
            digest: None,
        }],
    };
    let attributes: BTreeSet<_> = letter.attributes(0).iter().map(|a| a.name.to_owned()).collect();
    assert_eq!(names("Attributes of a dead letter"), attributes);
}
