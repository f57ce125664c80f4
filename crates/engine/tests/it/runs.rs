//! The outputs of a run, the things that it can see, and those that it cannot see.

use std::time::Duration;

use serde_json::json;
use wasq_engine::{Engine, LogLevel};
use wasq_protocol::{FailureKind, Settings};

use crate::{context, failure, guest, output, run, run_as, verbs, within};

#[tokio::test]
async fn context_is_what_the_worker_says() {
    let mut asked = context();
    asked.parent = Some("m-0".to_owned());
    asked.traceparent = Some("00-a-b-01".to_owned());
    let report = run_as(asked, json!({"verb": "context"}), &Settings::default()).await;
    assert_eq!(
        output(&report),
        json!({
            "id": "m-1", "task": "verbs", "attempt": 2, "max_attempts": 5, "deadline": 1_795_423_260_000u64,
            "parent": "m-0", "root": "m-1", "depth": 0, "traceparent": "00-a-b-01",
        })
    );
}

#[tokio::test]
async fn failures_of_the_tasks_own() {
    let settings = Settings::default();
    let report = run(json!({"verb": "retry", "reason": "later"}), &settings).await;
    assert_eq!((failure(&report).kind, failure(&report).message.as_str()), (FailureKind::Retry, "later"));
    let report = run(json!({"verb": "retry-after", "seconds": 7, "reason": "limit"}), &settings).await;
    assert_eq!(failure(&report).retry_after(), Some(Duration::from_secs(7)));
    let report = run(json!({"verb": "reject", "reason": "never"}), &settings).await;
    assert_eq!(failure(&report).kind, FailureKind::Reject);
}

#[tokio::test]
async fn a_panic_is_a_trap_with_its_message() {
    let report = run(json!({"verb": "panic", "message": "oh no"}), &Settings::default()).await;
    assert_eq!(failure(&report).kind, FailureKind::Trap);
    assert!(failure(&report).message.contains("unreachable"), "{}", failure(&report));
    assert!(failure(&report).message.contains("oh no"), "{}", failure(&report));
}

#[tokio::test]
async fn log_lines_of_every_source() {
    let report = run(json!({"verb": "log", "count": 1}), &Settings::default()).await;
    let lines: Vec<_> = report.log.iter().map(|line| (line.level, line.text.as_str())).collect();
    assert_eq!(
        lines,
        [
            (LogLevel::Debug, "line 0"),
            (LogLevel::Info, "to stdout"),
            (LogLevel::Warn, "to stderr, without an end"),
        ]
    );
}

#[tokio::test]
async fn the_environment_is_the_settings_alone() {
    let settings = Settings { env: [("A".to_owned(), "b".to_owned())].into(), ..Settings::default() };
    assert_eq!(output(&run(json!({"verb": "env"}), &settings).await), json!({"A": "b"}));
    assert_eq!(output(&run(json!({"verb": "env"}), &Settings::default()).await), json!({}));
}

#[tokio::test]
async fn no_files_and_no_sockets() {
    let outside = output(&run(json!({"verb": "escape"}), &Settings::default()).await);
    assert!(outside["file"].is_string() && outside["socket"].is_string(), "{outside}");
}

#[tokio::test]
async fn a_computing_task_leaves_its_neighbours_their_turn() {
    // On one thread: unless the endless loop yields, the neighbour never runs, and the loop never ends.
    let settings = within(Duration::from_millis(300));
    let spinning = run(json!({"verb": "spin"}), &settings);
    let neighbour = run(json!({"verb": "echo", "value": 1}), &settings);
    let (spun, echoed) = tokio::join!(spinning, neighbour);
    assert_eq!(failure(&spun).kind, FailureKind::OutOfTime);
    assert_eq!(output(&echoed), 1);
}

#[tokio::test]
async fn a_sleeping_task_runs_out_of_time() {
    let report = run(json!({"verb": "sleep", "ms": 60_000}), &within(Duration::from_millis(100))).await;
    assert_eq!(failure(&report).kind, FailureKind::OutOfTime);
}

#[tokio::test]
async fn children_are_held_back_until_success() {
    let enqueue = |fail| json!({"verb": "enqueue", "task": "hello", "count": 2, "fail": fail});
    let report = run(enqueue(false), &Settings::default()).await;
    let ids = output(&report);
    let children: Vec<_> = report.children.iter().map(|child| &child.message).collect();
    assert_eq!(children.len(), 2);
    for (i, child) in children.iter().enumerate() {
        assert_eq!(child.id.as_deref(), ids[i].as_str());
        assert_eq!(
            (child.parent.as_deref(), child.root.as_deref(), child.depth),
            (Some("m-1"), Some("m-1"), 1)
        );
    }
    assert_ne!(ids[0], ids[1]);
    let again = run(enqueue(false), &Settings::default()).await;
    assert_eq!(output(&again), ids, "a parent that runs twice sends the same ids");
    let failed = run(enqueue(true), &Settings::default()).await;
    assert!(failed.children.is_empty(), "a parent that failed sends nothing");
}

#[test]
fn damaged_artifacts_are_refused() {
    let (engine, _) = verbs();
    let artifact = engine.compile(&guest("hello")).expect("it compiles");
    for damaged in [&artifact[..artifact.len() / 2], &artifact[1..], b"", b"hello"] {
        // Safety: the engine refuses bytes that are no artifact before it runs any of them.
        let error = unsafe { engine.load_bytes(damaged) }.err().expect("it is refused").to_string();
        assert!(error.starts_with("load the artifact: "), "{error}");
    }
}

#[test]
fn artifacts_for_another_engine_or_cpu_are_refused() {
    let (engine, _) = verbs();
    let artifact = engine.compile(&guest("hello")).expect("it compiles");
    // The notes that wasmtime puts into an artifact: its own version, and the CPU features that the artifact
    // needs.
    let cases: [(&[u8], &[u8], &str); 2] = [
        (b"\x0248", b"\x0247", "incompatible version '47'"),
        (b"has_sse42\x02\x01", b"has_sse43\x02\x01", "has_sse43"),
    ];
    for (ours, another, says) in cases {
        let place = memchr::memmem::find(&artifact, ours).expect("an artifact says what it was made for");
        let mut foreign = artifact.clone();
        foreign[place..place + ours.len()].copy_from_slice(another);
        // Safety: a refused artifact does not run.
        let error = unsafe { engine.load_bytes(&foreign) }.err().expect("it is refused").to_string();
        assert!(error.starts_with("load the artifact: ") && error.contains(says), "{error}");
    }
}

#[test]
fn the_compiler_alone_makes_what_a_worker_loads() {
    let artifact = Engine::compiler().expect("it starts").compile(&guest("hello")).expect("it compiles");
    // Safety: made by our own compiler, a moment ago.
    unsafe { verbs().0.load_bytes(&artifact) }.expect("the same configuration, so it loads");
}

#[test]
fn the_fingerprint_names_the_wasmtime_that_is_linked() {
    let lock = include_str!("../../../../Cargo.lock");
    let version = format!("name = \"wasmtime\"\nversion = \"{}\"", wasq_engine::WASMTIME_VERSION);
    assert!(
        lock.contains(&version),
        "Cargo.lock has another wasmtime than {}",
        wasq_engine::WASMTIME_VERSION
    );
    assert!(wasq_engine::fingerprint().0.starts_with(wasq_engine::WASMTIME_VERSION));
}
