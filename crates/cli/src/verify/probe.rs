//! The tasks that `wasq verify` publishes, and the messages for them.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use wasq_protocol::{Clock, FailureKind, MAX_MESSAGE_BYTES, SystemClock, TaskName, Timestamp};

/// The task that most messages are for.
pub(super) const PROBE: &str = "wasq-verify";
/// The same module with a secret, and with another version.
pub(super) const WITH_SECRET: &str = "wasq-verify-secret";
/// An upload that is no component.
pub(super) const BROKEN: &str = "wasq-verify-broken";
/// The same module with more memory than a small worker has.
pub(super) const HEAVY: &str = "wasq-verify-heavy";
/// A task that is never uploaded.
const NOBODY: &str = "wasq-verify-nobody";

pub(super) const SETTINGS: &str = r#"# A probe of `wasq verify`.
timeout = "3s"
memory = "16MiB"
max_attempts = 2
allow_hosts = ["http://169.254.169.254", "http://127.0.0.1:9001", "http://[::1]:9001"]
[backoff]
base = "1s"
cap = "1s"
"#;
pub(super) const HEAVY_SETTINGS: &str = r#"# A probe of `wasq verify`.
timeout = "40s"
memory = "512MiB"
"#;
/// The number of messages that are sent at once, to see that each runs once.
pub(super) const MANY: usize = 20;
/// The wait that the probe asks for.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(8);
const DELAY: Duration = Duration::from_secs(20);

/// The probe as a component. Each number gives another module that does the same.
pub(super) fn module(number: u8) -> Result<Vec<u8>> {
    let mut module = wat::parse_str(include_str!("probe.wat")).context("read probe.wat")?;
    // A custom section: id 0, size, the length of the name, the name, the number.
    module.extend([0, 3, 1, b'n', number]);
    wasq_toolkit::component_of(module).context("make a component of the probe")
}

pub(super) fn task(name: &str) -> TaskName {
    name.parse().expect("our own names are valid")
}

/// How a message must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// It succeeds in its run of this number, each at least so long after the one before.
    Done { runs: usize, apart: Duration },
    /// As `Done` with one run, and so do this many children.
    Parent { children: usize },
    /// It becomes a dead letter after so many runs.
    Dead { kind: FailureKind, runs: usize },
}

/// A message, and what the promise says about it.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) promise: &'static str,
    pub(super) id: String,
    pub(super) body: String,
    pub(super) expected: Expected,
    /// The earliest time of its run.
    pub(super) not_before: Option<Timestamp>,
}

impl Probe {
    /// A message for a task. `verb` is the first letter of the params, as probe.wat reads them.
    pub(super) fn new(
        promise: &'static str,
        prefix: &str,
        name: &str,
        verb: &str,
        expected: Expected,
    ) -> Self {
        Self::of_task(PROBE, promise, prefix, name, verb, expected)
    }

    pub(super) fn of_task(
        task: &str,
        promise: &'static str,
        prefix: &str,
        name: &str,
        verb: &str,
        expected: Expected,
    ) -> Self {
        let id = format!("{prefix}-{name}");
        let body = body(task, &id, verb);
        Self { promise, id, body, expected, not_before: None }
    }

    /// Whether it must become a dead letter.
    pub(super) fn ends_dead(&self) -> bool {
        matches!(self.expected, Expected::Dead { .. })
    }
}

/// The body of a message, as most clients write JSON. The texts need no escapes.
fn body(task: &str, id: &str, params: &str) -> String {
    format!(r#"{{"task": "{task}", "params": "{params}", "id": "{id}"}}"#)
}

const ONCE: Expected = Expected::Done { runs: 1, apart: Duration::ZERO };

/// One message that succeeds.
pub(super) fn simple(promise: &'static str, prefix: &str, name: &str) -> Probe {
    Probe::new(promise, prefix, name, "e", ONCE)
}

/// The messages of which each shows a promise of its own. `largest` is the queue's largest message, in bytes.
pub(super) fn each(prefix: &str, largest: usize) -> Vec<Probe> {
    use FailureKind::{
        Malformed, OutOfMemory, OutOfTime, OutputNotJson, OutputTooLarge, Reject, Retry, Trap, UnknownTask,
    };
    let dead = |kind, runs| Expected::Dead { kind, runs };
    let twice = |apart| Expected::Done { runs: 2, apart };
    let new = |promise, name, verb, expected| Probe::new(promise, prefix, name, verb, expected);
    let mut probes = vec![
        new("A task that fails once runs again", "flaky", "f", twice(Duration::ZERO)),
        new("A task that asks for a later attempt gets it no sooner", "later", "a", twice(RETRY_AFTER)),
        new("retry: a dead letter after max_attempts runs", "retry", "t", dead(Retry, 2)),
        new("trap: a dead letter after max_attempts runs", "trap", "x", dead(Trap, 2)),
        new("out-of-time: ended, then a dead letter", "out-of-time", "s", dead(OutOfTime, 2)),
        new("out-of-memory: ended, then a dead letter", "out-of-memory", "m", dead(OutOfMemory, 2)),
        new("output-not-json: a dead letter", "not-json", "j", dead(OutputNotJson, 2)),
        new("output-too-large: a dead letter", "too-large", "o", dead(OutputTooLarge, 2)),
        new("reject: a dead letter after one run", "reject", "r", dead(Reject, 1)),
        new("Children run after their parent", "parent", "c", Expected::Parent { children: 3 }),
        new("Addresses of AWS and of the worker itself are denied", "denied", "d", ONCE),
        Probe::of_task(WITH_SECRET, "The worker can read a secret", prefix, "secret", "n", ONCE),
        Probe::of_task(
            NOBODY,
            "unknown-task: a dead letter after a minute, without a run",
            prefix,
            "nobody",
            "n",
            dead(UnknownTask, 0),
        ),
    ];
    let mut malformed = new("malformed: a dead letter, without a run", "malformed", "n", dead(Malformed, 0));
    malformed.body = json!({ "task": "no name of a task!", "id": malformed.id }).to_string();
    probes.push(malformed);
    let mut delayed = new("A message with not_before does not run sooner", "delayed", "n", ONCE);
    let not_before = SystemClock.now().plus(DELAY);
    delayed.not_before = Some(not_before);
    delayed.body =
        json!({ "task": PROBE, "params": "n", "id": delayed.id, "not_before": not_before }).to_string();
    probes.push(delayed);
    let mut large = new("A message of the largest size runs", "large", "n", ONCE);
    let room = largest.min(MAX_MESSAGE_BYTES).saturating_sub(large.body.len());
    large.body = body(PROBE, &large.id, &format!("n{}", "x".repeat(room)));
    probes.push(large);
    probes
}

/// Messages that are sent at once.
pub(super) fn many(promise: &'static str, prefix: &str, name: &str, verb: &str) -> Vec<Probe> {
    (0..MANY).map(|i| Probe::new(promise, prefix, &format!("{name}-{i}"), verb, ONCE)).collect()
}

/// A message that needs more memory than a worker of 128 MB has.
pub(super) fn heavy(prefix: &str) -> Probe {
    let killed = Expected::Dead { kind: FailureKind::KilledWorker, runs: 0 };
    Probe::of_task(HEAVY, "A message that kills its workers is a dead letter", prefix, "heavy", "h", killed)
}

#[cfg(test)]
mod tests {
    use wasq_protocol::{MAX_MESSAGE_BYTES, Message, Settings};
    use wasq_toolkit::Contract;

    use super::{HEAVY_SETTINGS, SETTINGS, each, module};

    #[test]
    fn the_probe_fits_the_world_and_its_numbers_differ() {
        let [one, two] = [1, 2].map(|number| module(number).unwrap());
        assert_eq!(Contract::of(&one).unwrap().problems, Vec::<String>::new());
        assert_ne!(one, two);
    }

    #[test]
    fn the_settings_are_valid() {
        for settings in [SETTINGS, HEAVY_SETTINGS] {
            Settings::from_toml(settings).unwrap();
        }
    }

    #[test]
    fn only_one_message_is_malformed_and_the_largest_fits_exactly() {
        let probes = each("verify-1", 1 << 20);
        let malformed: Vec<_> = probes.iter().filter(|probe| Message::parse(&probe.body).is_err()).collect();
        assert_eq!(malformed.len(), 1);
        assert_eq!(probes.iter().map(|probe| probe.body.len()).max(), Some(MAX_MESSAGE_BYTES));
    }
}
