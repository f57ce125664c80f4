//! Nothing of one run is visible to another: memory, tables, globals, environment, log, children, HTTP.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use wasq_engine::{Engine, Limits, Module, Pool, Report, Run, Steps};
use wasq_protocol::{ByteCount, FailureKind, Settings};

use crate::http::server;
use crate::{context, failure, output, run};

/// A guest with one letter as its params. `w` writes everywhere: 25 MiB of memory, a table, a global. `t`
/// writes and traps; `s` writes and computes for ever. `r` looks for changes since the start, and returns 1
/// if it found one. `b` writes and then looks.
const SPY: &str = r#"(component
    (import "wasq:task/outcome@0.1.0" (instance $outcome
        (type $after (record (field "seconds" u32) (field "reason" string)))
        (export "retry-after" (type $after-exported (eq $after)))
        (type $failure (variant
            (case "retry" string) (case "retry-after" $after-exported) (case "reject" string)))
        (export "failure" (type (eq $failure)))))
    (alias export $outcome "failure" (type $failure-alias))
    (import "failure" (type $failure (eq $failure-alias)))
    (core module $m
        (memory (export "memory") 1)
        (table $t 1000 funcref)
        (global $g (mut i32) (i32.const 0))
        (func $noted)
        (elem declare func $noted)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 256))
        (func $write
            (memory.fill (i32.const 4096) (i32.const 0xAA) (i32.const 26210304))
            (table.fill $t (i32.const 0) (ref.func $noted) (i32.const 1000))
            (global.set $g (i32.const 1)))
        (func $found (result i32) (local $at i32) (local $found i32)
            (local.set $at (i32.const 4096))
            (loop $next
                (if (i64.ne (i64.load (local.get $at)) (i64.const 0))
                    (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
                (local.set $at (i32.add (local.get $at) (i32.const 8)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 26214400))))
            (local.set $at (i32.const 0))
            (loop $next
                (if (i32.eqz (ref.is_null (table.get $t (local.get $at))))
                    (then (local.set $found (i32.add (local.get $found) (i32.const 1)))))
                (local.set $at (i32.add (local.get $at) (i32.const 1)))
                (br_if $next (i32.lt_u (local.get $at) (i32.const 1000))))
            (i32.add (local.get $found) (global.get $g)))
        (func (export "run") (param $params i32) (param $length i32) (result i32) (local $verb i32)
            (local.set $verb (i32.load8_u (i32.add (local.get $params) (i32.const 1))))
            (drop (memory.grow (i32.const 399)))
            ;; The result: ok, a text of one digit at 64.
            (i32.store8 (i32.const 0) (i32.const 0))
            (i32.store (i32.const 4) (i32.const 64))
            (i32.store (i32.const 8) (i32.const 1))
            (i32.store8 (i32.const 64) (i32.const 48))
            (if (i32.ne (local.get $verb) (i32.const 114)) (then (call $write))) ;; r
            (if (i32.or (i32.eq (local.get $verb) (i32.const 114)) (i32.eq (local.get $verb) (i32.const 98))) ;; r, b
                (then (if (call $found) (then (i32.store8 (i32.const 64) (i32.const 49))))))
            (if (i32.eq (local.get $verb) (i32.const 116)) (then unreachable)) ;; t
            (loop $spin (br_if $spin (i32.eq (local.get $verb) (i32.const 115)))) ;; s
            (i32.const 0)))
    (core instance $i (instantiate $m))
    (func $run (param "params" string) (result (result string (error $failure)))
        (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
    (export "run" (func $run)))"#;

/// An engine with one slot: each run gets the slot of the run before.
fn spy() -> (Engine, Module) {
    let pool = Pool { concurrency: 1, memory: ByteCount::mib(64) };
    let engine = Engine::new(pool, Limits::default()).expect("the engine starts");
    let artifact = engine.compile(&wat::parse_str(SPY).expect("well-formed")).expect("it fits");
    // Safety: compiled by this very engine.
    let module = unsafe { engine.load_bytes(&artifact) }.expect("it loads");
    (engine, module)
}

async fn spying((engine, module): &(Engine, Module), verb: &str) -> Report {
    let settings = Settings { timeout: Duration::from_millis(500), ..Settings::default() };
    let (secrets, deadline) = (Default::default(), Instant::now() + settings.timeout);
    let params = json!(verb).to_string();
    let run = Run {
        context: context(),
        params: &params,
        settings: &settings,
        secrets: &secrets,
        steps: Steps::default(),
        deadline,
        child_checks: None,
    };
    engine.run(module, run).await
}

#[tokio::test]
async fn memory_tables_and_globals() {
    let spy = spy();
    assert_eq!(output(&spying(&spy, "b").await), 1, "it sees what is there");
    for (verb, end) in [("w", None), ("t", Some(FailureKind::Trap)), ("s", Some(FailureKind::OutOfTime))] {
        let wrote = spying(&spy, verb).await;
        match end {
            None => assert_eq!(output(&wrote), 0),
            Some(kind) => assert_eq!(failure(&wrote).kind, kind),
        }
        assert_eq!(output(&spying(&spy, "r").await), 0, "something is left of the run {verb}");
    }
}

/// Makes a run that writes its own name to every log and to its output. Returns the expected output and the
/// report.
async fn told(i: u32) -> (Value, Report) {
    let me = format!("run number {i} alone");
    let settings = Settings { env: [("ME".to_owned(), me.clone())].into(), ..Settings::default() };
    let report = run(json!({"verb": "say", "text": "{ME}", "end": "success"}), &settings).await;
    (json!({"said": me.clone(), me: [1]}), report)
}

#[tokio::test(flavor = "multi_thread")]
async fn environment_log_and_output_of_runs_at_once() {
    let runs: Vec<_> = (0..64).map(|i| tokio::spawn(told(i))).collect();
    let mut made = 0;
    for run in runs {
        let (expected, report) = run.await.expect("no panic");
        // There are 16 slots; a run that finds no free slot fails with `Unavailable`.
        if let wasq_protocol::Outcome::Failure(failure) = &report.outcome {
            assert_eq!(failure.kind, FailureKind::Unavailable, "{failure}");
            continue;
        }
        assert_eq!(output(&report), expected);
        let lines: Vec<_> = report.log.iter().map(|line| json!(line.text)).collect();
        assert_eq!(lines, vec![expected["said"].clone(); 3]);
        made += 1;
    }
    assert!(made >= 16, "{made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_leaves_unread_on_a_connection() {
    let address = server().await;
    let allow_hosts = vec![format!("http://{address}").parse().expect("a valid entry")];
    let settings = Settings { allow_hosts, timeout: Duration::from_secs(10), ..Settings::default() };
    for _ in 0..10 {
        // One run reads only a part of 9 MiB, and one run opens responses that it never reads. Their
        // connections may or may not go back to the same pool.
        let params = json!({"verb": "fetch", "url": format!("http://{address}/large")});
        assert_eq!(output(&run(params, &settings).await)["error"], "HttpError::TooLarge(8388608)");
        let params =
            json!({"verb": "wasi-open", "authority": address.to_string(), "path": "/large", "count": 2});
        assert_eq!(output(&run(params, &settings).await)["answered"], 2);
        let params = json!({"verb": "fetch", "url": format!("http://{address}/echo")});
        let echoed = output(&run(params, &settings).await);
        assert_eq!(echoed, json!({"status": 200, "body": "GET wasq/0.1.0 fetch"}));
    }
}
