//! Each limit: obeyed, and violated.

use serde_json::json;
use wasq_engine::Limits;
use wasq_protocol::{AHEAD_IN_QUEUE, ByteCount, FailureKind, Settings};

use crate::{context, failure, output, run, run_as, run_with, verbs_with};

#[tokio::test]
async fn memory() {
    let settings = Settings { memory: ByteCount::mib(16), ..Settings::default() };
    let obeyed = run(json!({"verb": "alloc", "mib": 8}), &settings).await;
    assert_eq!(output(&obeyed), 8 << 20);
    assert!((8 << 20..16 << 20).contains(&obeyed.peak_memory), "{}", obeyed.peak_memory);
    let violated = run(json!({"verb": "alloc", "mib": 17}), &settings).await;
    assert_eq!(failure(&violated).kind, FailureKind::OutOfMemory);
    assert!(failure(&violated).message.contains("the limit is 16MiB"), "{}", failure(&violated));
}

#[tokio::test]
async fn memory_that_is_too_little_to_start() {
    let settings = Settings { memory: ByteCount::mib(1), ..Settings::default() };
    let report = run(json!({"verb": "echo", "value": 1}), &settings).await;
    assert_eq!(failure(&report).kind, FailureKind::OutOfMemory, "{}", failure(&report));
}

#[tokio::test]
async fn output_size() {
    // The quotes of the JSON string count.
    let obeyed = run(json!({"verb": "output", "bytes": (1 << 20) - 2}), &Settings::default()).await;
    assert_eq!(output(&obeyed).as_str().map(str::len), Some((1 << 20) - 2));
    let violated = run(json!({"verb": "output", "bytes": (1 << 20) - 1}), &Settings::default()).await;
    assert_eq!(failure(&violated).kind, FailureKind::OutputTooLarge);
}

#[tokio::test]
async fn output_must_be_json() {
    let obeyed = run(json!({"verb": "raw", "text": " [1] "}), &Settings::default()).await;
    assert_eq!(output(&obeyed), json!([1]));
    let violated = run(json!({"verb": "raw", "text": "hello"}), &Settings::default()).await;
    assert_eq!(failure(&violated).kind, FailureKind::OutputNotJson);
}

#[tokio::test]
async fn log_lines() {
    let obeyed = run(json!({"verb": "log", "count": 998}), &Settings::default()).await;
    assert_eq!((obeyed.log.len(), obeyed.log_dropped), (1000, 0));
    let violated = run(json!({"verb": "log", "count": 1998}), &Settings::default()).await;
    assert_eq!((violated.log.len(), violated.log_dropped), (1000, 1000));
    assert_eq!(output(&violated), 1998, "a task that logs too much runs all the same");
}

#[tokio::test]
async fn children() {
    let enqueue = |count| json!({"verb": "enqueue", "task": "hello", "count": count, "fail": false});
    assert_eq!(run(enqueue(100), &Settings::default()).await.children.len(), 100);
    let violated = run(enqueue(101), &Settings::default()).await;
    assert!(failure(&violated).message.contains("TooMany(100)"), "{}", failure(&violated));
}

#[tokio::test]
async fn delays_of_children() {
    const DAY: u32 = 24 * 3600;
    let run = async |limits, delay: u32, more_bytes: usize| {
        let params = json!({"verb": "enqueue", "task": "hello", "count": 1, "fail": false, "delay": delay, "more_bytes": more_bytes});
        run_with(&verbs_with(limits), params, &Settings::default()).await
    };
    let obeyed = run(Limits::default(), 366 * DAY, 200_000).await;
    assert_eq!(obeyed.children[0].delay.as_secs(), u64::from(366 * DAY));
    let obeyed = run(Limits::default(), 3 * DAY, 300_000).await;
    assert_eq!(obeyed.children[0].delay.as_secs(), u64::from(3 * DAY));

    let without_group = || Limits { delay_max: AHEAD_IN_QUEUE, ..Limits::default() };
    for (limits, delay, more_bytes, said) in [
        (
            Limits::default(),
            366 * DAY + 1,
            0,
            "delay-seconds: 31622401 is more than 31622400 (366 days), the most",
        ),
        (
            Limits::default(),
            3 * DAY + 1,
            300_000,
            "delay-seconds: 259201 is more than 259200 (3 days), the most for a message of more than 250000 bytes",
        ),
        (
            without_group(),
            3 * DAY + 1,
            0,
            "delay-seconds: 259201 is more than 259200 (3 days), the most for a deployment without a schedule group",
        ),
    ] {
        let violated = run(limits, delay, more_bytes).await;
        let message = &failure(&violated).message;
        assert!(message.contains(&format!("{said}\"")), "{message}");
    }
}

#[tokio::test]
async fn descendants_of_one_root() {
    let with = |descendants, count| {
        let params = json!({"verb": "enqueue", "task": "hello", "count": count, "fail": false});
        let context = wasq_engine::RunContext { descendants, ..context() };
        async move { run_as(context, params, &Settings::default()).await }
    };
    // The budget that the children themselves leave is divided among them.
    let shares = |report: &wasq_engine::Report| {
        report.children.iter().map(|child| child.message.descendants).collect::<Vec<_>>()
    };
    assert_eq!(shares(&with(None, 100).await), vec![Some(999); 100]);
    assert_eq!(shares(&with(Some(10), 3).await), vec![Some(2); 3]);
    assert_eq!(shares(&with(Some(3), 3).await), vec![Some(0); 3]);
    // A sender cannot ask for more than a root has.
    assert_eq!(shares(&with(Some(u32::MAX), 100).await), vec![Some(999); 100]);
    // A task that goes on by itself, as `visit` does, keeps a half.
    let own = json!({"verb": "enqueue", "task": "verbs", "count": 4, "fail": false});
    let context =
        wasq_engine::RunContext { task: "verbs".parse().unwrap(), descendants: Some(24), ..context() };
    assert_eq!(shares(&run_as(context, own, &Settings::default()).await), vec![Some(5); 4]);
    let violated = with(Some(2), 3).await;
    assert!(failure(&violated).message.contains("TooMany(2)"), "{}", failure(&violated));
}

#[tokio::test]
async fn depth() {
    let at = |depth| {
        let params = json!({"verb": "enqueue", "task": "hello", "count": 1, "fail": false});
        let context = wasq_engine::RunContext { depth, ..context() };
        async { run_as(context, params, &Settings::default()).await }
    };
    assert_eq!(at(15).await.children[0].message.depth, 16);
    let violated = at(16).await;
    assert!(failure(&violated).message.contains("TooDeep(16)"), "{}", failure(&violated));
}

#[tokio::test]
async fn names_of_children() {
    let report =
        run(json!({"verb": "enqueue", "task": "a/b", "count": 1, "fail": false}), &Settings::default()).await;
    assert!(failure(&report).message.contains("a task name consists of"), "{}", failure(&report));
}

#[tokio::test]
async fn http_that_is_held() {
    let hold = |what: &str, count: usize| {
        let params = json!({"verb": "hold", "what": what, "count": count});
        async move { run(params, &Settings { memory: ByteCount::mib(16), ..Settings::default() }).await }
    };
    for (what, some, many) in
        [("body", 200, 3000), ("headers", 300, 3000), ("method", 20, 200), ("path", 300, 3000)]
    {
        assert_eq!(output(&hold(what, some).await), some, "{what}");
        let violated = hold(what, many).await;
        assert_eq!(failure(&violated).kind, FailureKind::OutOfMemory, "{what}: {}", failure(&violated));
        let says = "its HTTP requests and responses hold";
        assert!(failure(&violated).message.contains(says), "{what}: {}", failure(&violated));
    }
}

#[tokio::test]
async fn random_bytes_of_one_call() {
    let random = |bytes: u64| json!({"verb": "random", "bytes": bytes});
    assert_eq!(output(&run(random(1 << 20), &Settings::default()).await), 1 << 20);
    let violated = run(random((1 << 20) + 1), &Settings::default()).await;
    assert_eq!(failure(&violated).kind, FailureKind::Trap, "{}", failure(&violated));
}
