//! Log lines about a delivery name its task, its id and its attempt.

use std::io::Write;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::prelude::*;
use wasq_aws::{JsonLines, SpanFields, Unformatted};
use wasq_protocol::Settings;

use crate::{delivery, hand_over, verb, worker};

/// The log, as the functions write it on AWS.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// The lines of the worker, without those of its tasks.
    fn of_worker(&self) -> Vec<Value> {
        let bytes = self.0.lock().expect("no panic").clone();
        let lines = String::from_utf8(bytes).expect("UTF-8");
        let lines = lines.lines().map(|line| serde_json::from_str(line).expect("a line is JSON"));
        lines.filter(|line: &Value| line["target"].as_str().is_some_and(|target| target != "task")).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The log of this thread down to `level`, until the guards are dropped.
///
/// If there were only one subscriber, tracing would ask the thread that comes to a place first, which may be that of another
/// test and have none, and then leave the place out for ever. With two, it asks both.
fn log(level: LevelFilter) -> (Lines, (tracing::Dispatch, tracing::subscriber::DefaultGuard)) {
    let lines = Lines::default();
    let other = tracing::Dispatch::new(tracing_subscriber::registry());
    let json = tracing_subscriber::fmt::layer()
        .fmt_fields(Unformatted)
        .event_format(JsonLines)
        .with_writer(lines.clone());
    let guard = tracing_subscriber::registry().with(level).with(SpanFields).with(json).set_default();
    (lines, (other, guard))
}

#[tokio::test]
async fn a_line_about_a_delivery_names_it() {
    // At a level above the spans' usual one: they must exist all the same.
    let (lines, _guard) = log(LevelFilter::WARN);
    let (worker, queue, _folder) = worker(Settings::default());
    queue.break_on("delete a");
    queue.break_on("send");
    let child = json!({"verb": "enqueue", "task": "verbs", "count": 1, "fail": false});
    let mut second = verb("b", child);
    second.receive_count = 3;
    let unknown =
        delivery("c", json!({"task": "verbs", "params": {"verb": "echo"}, "id": "mine", "colour": 1}));
    let unreachable = delivery("d", json!({"task": "unreachable"}));
    let echo = verb("a", json!({"verb": "echo", "value": 1}));
    hand_over(&worker, vec![echo, second, unknown, unreachable]).await;

    let found: Vec<_> = lines
        .of_worker()
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            let message: String =
                text("message").split([',', ':', ';']).next().unwrap_or_default().to_owned();
            (message, text("task"), text("id"), line["attempt"].as_u64(), text("message_id"))
        })
        .collect();
    let line = |message: &str, task: &str, id: &str, attempt, message_id: &str| {
        let [message, task, id, message_id] = [message, task, id, message_id].map(str::to_owned);
        (message, task, id, Some(attempt), message_id)
    };
    for expected in [
        line("the message could not be deleted", "verbs", "a", 1, "-"),
        line("send a child task", "verbs", "b", 3, "-"),
        line("the message has unknown keys", "verbs", "mine", 1, "c"),
        line("the registry does not answer", "unreachable", "d", 1, "-"),
    ] {
        assert!(found.contains(&expected), "{expected:?} is not among {found:#?}");
    }
}
