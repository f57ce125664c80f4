//! The table of hostile guests.

use serde_json::{Value, json};
use wasq_protocol::FailureKind::{self, OutOfMemory, OutOfTime, OutputNotJson, OutputTooLarge, Reject, Trap};

/// A guest that means harm.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name: the harm that it tries to do.
    pub name: &'static str,
    /// Its code.
    pub code: Code,
    /// How it must end.
    pub end: End,
    /// A text that its message must contain.
    pub says: &'static str,
}

/// The code of a guest.
#[derive(Clone, Debug)]
pub enum Code {
    /// A component as WebAssembly text.
    Text(String),
    /// The bytes of an upload.
    Binary(Vec<u8>),
    /// Params for the tests' guest. `SERVER` in them is replaced by the address of the hostile server.
    Verb(Value),
}

/// How a guest must end.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// With this kind of failure.
    Fails(FailureKind),
    /// Before it runs: the publisher refuses it.
    Refused,
    /// In success: it does no harm.
    Harmless,
}

/// All hostile guests.
pub fn corpus() -> Vec<Guest> {
    let groups = [loops(), memories(), traps(), lies(), refused(), misuses(), requests()];
    groups.into_iter().flatten().collect()
}

fn fails(name: &'static str, code: Code, kind: FailureKind, says: &'static str) -> Guest {
    Guest { name, code, end: End::Fails(kind), says }
}

fn refuse(name: &'static str, code: Code, says: &'static str) -> Guest {
    Guest { name, code, end: End::Refused, says }
}

/// A component around a module. `run` is the body of its function; `more` is the rest of the module.
fn module(more: &str, run: &str) -> Code {
    whole(&format!(
        r#"(memory (export "memory") 1)
        (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024))
        (func $run (export "run") (param i32 i32) (result i32) {run})
        {more}"#
    ))
}

/// A component around a module that brings its own memory and functions.
fn whole(module: &str) -> Code {
    around(&format!("(core module $m {module})\n(core instance $i (instantiate $m))"))
}

/// A component whose core instance `$i` has `memory`, `realloc` and `run`.
fn around(instances: &str) -> Code {
    Code::Text(format!(
        r#"(component
            (import "wasq:task/outcome@0.1.0" (instance $outcome
                (type $after (record (field "seconds" u32) (field "reason" string)))
                (export "retry-after" (type $after-exported (eq $after)))
                (type $failure (variant
                    (case "retry" string) (case "retry-after" $after-exported) (case "reject" string)))
                (export "failure" (type (eq $failure)))))
            (alias export $outcome "failure" (type $failure-alias))
            (import "failure" (type $failure (eq $failure-alias)))
            {instances}
            (func $run (param "params" string) (result (result string (error $failure)))
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
            (export "run" (func $run)))"#
    ))
}

fn verb(params: Value) -> Code {
    Code::Verb(params)
}

/// Guests that never end.
fn loops() -> Vec<Guest> {
    let ended = "not done after";
    vec![
        fails("computes for ever", module("", "(loop (br 0)) unreachable"), OutOfTime, ended),
        fails(
            "writes memory for ever",
            module(
                "",
                "(loop (i32.store (i32.const 0) (i32.add (i32.load (i32.const 0)) (i32.const 1))) (br 0)) unreachable",
            ),
            OutOfTime,
            ended,
        ),
        fails(
            "fills much memory with one instruction, for ever",
            module(
                "",
                "(drop (memory.grow (i32.const 400)))
                (loop (memory.fill (i32.const 0) (i32.const 7) (i32.const 26000000)) (br 0)) unreachable",
            ),
            OutOfTime,
            ended,
        ),
        fails(
            "starts for ever",
            module("(func $start (loop (br 0))) (start $start)", "unreachable"),
            OutOfTime,
            ended,
        ),
        fails(
            "takes its params for ever",
            whole(
                r#"(memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (loop (br 0)) unreachable)
                (func (export "run") (param i32 i32) (result i32) unreachable)"#,
            ),
            OutOfTime,
            ended,
        ),
        fails("computes for ever, in Rust", verb(json!({"verb": "spin"})), OutOfTime, ended),
        fails("sleeps too long", verb(json!({"verb": "sleep", "ms": 600_000})), OutOfTime, ended),
        fails("calls the host for ever", verb(json!({"verb": "host-calls"})), OutOfTime, ended),
        fails(
            "calls itself for ever",
            module("(func $f (result i32) (call $f) (i32.add (i32.const 1)))", "(call $f)"),
            Trap,
            "call stack exhausted",
        ),
        fails(
            "calls itself for ever, by a table",
            module(
                "(type $t (func (result i32))) (table 1 funcref) (elem (i32.const 0) $f)
                (func $f (result i32) (call_indirect (type $t) (i32.const 0)) (i32.add (i32.const 1)))",
                "(call $f)",
            ),
            Trap,
            "call stack exhausted",
        ),
        // The guest's own stack lies at the bottom of its memory, and is full before the host's stack.
        fails(
            "calls itself for ever, in Rust",
            verb(json!({"verb": "recurse"})),
            Trap,
            "out of bounds memory access",
        ),
    ]
}

/// Guests that take or produce too much.
fn memories() -> Vec<Guest> {
    let limit = "the limit is 32MiB";
    let held = |what: &str| verb(json!({ "verb": "hold", "what": what, "count": 3000 }));
    let held_too_much = "its HTTP requests and responses hold";
    vec![
        fails(
            "grows its memory for ever",
            module("", "(loop (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable)) (br 0)) unreachable"),
            OutOfMemory,
            limit,
        ),
        fails(
            "grows a table for ever",
            module(
                "(table $t 1 funcref)",
                "(loop (if (i32.eq (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)) (then unreachable)) (br 0))
                unreachable",
            ),
            // The pool's tables are smaller than its memory.
            Trap,
            "unreachable",
        ),
        fails(
            "begins with too much memory",
            whole(
                r#"(memory (export "memory") 600)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "run") (param i32 i32) (result i32) unreachable)"#,
            ),
            OutOfMemory,
            limit,
        ),
        fails(
            "begins with too many memories together",
            around(
                r#"(core module $m (memory (export "memory") 100)
                    (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                    (func (export "run") (param i32 i32) (result i32) unreachable))
                (core instance $a (instantiate $m)) (core instance $b (instantiate $m)) (core instance $c (instantiate $m))
                (core instance $d (instantiate $m)) (core instance $e (instantiate $m)) (core instance $i (instantiate $m))"#,
            ),
            OutOfMemory,
            limit,
        ),
        fails("takes too much memory, in Rust", verb(json!({"verb": "alloc", "mib": 64})), OutOfMemory, limit),
        fails(
            "asks for random bytes without limit",
            verb(json!({"verb": "random", "bytes": 1 << 30})),
            Trap,
            "",
        ),
        fails(
            "holds host resources without limit",
            verb(json!({"verb": "resources"})),
            Trap,
            "",
        ),
        fails("writes into requests that it never sends", held("body"), OutOfMemory, held_too_much),
        fails("fills headers that it never sends", held("headers"), OutOfMemory, held_too_much),
        fails("has requests with long methods", held("method"), OutOfMemory, held_too_much),
        fails("has requests with long paths", held("path"), OutOfMemory, held_too_much),
        fails("returns too much", verb(json!({"verb": "output", "bytes": 2 << 20})), OutputTooLarge, "the most is 1048576"),
        Guest {
            name: "logs without limit",
            code: verb(json!({"verb": "log", "count": 50_000})),
            end: End::Harmless,
            says: "50000",
        },
        Guest {
            name: "prints without limit",
            code: verb(json!({"verb": "flood", "bytes": 20 << 20})),
            end: End::Harmless,
            says: "20971520",
        },
        fails(
            "enqueues without limit",
            verb(json!({"verb": "enqueue", "task": "hello", "count": 5000, "fail": false})),
            Reject,
            "TooMany(100)",
        ),
        fails(
            "enqueues large messages",
            verb(json!({"verb": "enqueue-large", "bytes": 900_000})),
            Reject,
            "4194304",
        ),
    ]
}

/// Every kind of trap.
fn traps() -> Vec<Guest> {
    let trap = |name, code, says| fails(name, code, Trap, says);
    vec![
        trap("is unreachable", module("", "unreachable"), "unreachable"),
        trap("divides by zero", module("", "(i32.div_s (i32.const 1) (i32.const 0))"), "divide by zero"),
        trap(
            "overflows a division",
            module("", "(i32.div_s (i32.const 0x80000000) (i32.const -1))"),
            "integer overflow",
        ),
        trap(
            "converts NaN to an integer",
            module("", "(i32.trunc_f32_s (f32.const nan))"),
            "invalid conversion to integer",
        ),
        trap(
            "reads beyond its memory",
            module("", "(i32.load (i32.const -4))"),
            "out of bounds memory access",
        ),
        trap(
            "writes beyond its memory",
            module("", "(i64.store offset=0xffffffff (i32.const -1) (i64.const 0)) unreachable"),
            "out of bounds memory access",
        ),
        trap(
            "copies beyond its memory",
            module("", "(memory.copy (i32.const 0) (i32.const 65000) (i32.const 65000)) unreachable"),
            "out of bounds memory access",
        ),
        trap(
            "calls beyond its table",
            module(
                "(type $t (func (result i32))) (table 1 funcref)",
                "(call_indirect (type $t) (i32.const 7))",
            ),
            "undefined element",
        ),
        trap(
            "calls an empty table entry",
            module(
                "(type $t (func (result i32))) (table 1 funcref)",
                "(call_indirect (type $t) (i32.const 0))",
            ),
            "uninitialized element",
        ),
        trap(
            "calls a function of another type",
            module(
                "(type $t (func (result i64))) (table 1 funcref) (elem (i32.const 0) $run)",
                "(drop (call_indirect (type $t) (i32.const 0))) (i32.const 0)",
            ),
            "indirect call type mismatch",
        ),
        trap(
            "has data beyond its memory",
            module(r#"(data (i32.const 65535) "xx")"#, "unreachable"),
            "out of bounds",
        ),
        trap(
            "traps when it starts",
            module("(func $start unreachable) (start $start)", "unreachable"),
            "unreachable",
        ),
        trap("panics", verb(json!({"verb": "panic", "message": "on purpose"})), "on purpose"),
        trap("panics at length", verb(json!({"verb": "panic", "message": "x".repeat(100_000)})), "xxxx"),
        trap("panics while it holds streams", verb(json!({"verb": "panic-with-streams"})), "holding streams"),
        trap("ends its process", verb(json!({"verb": "exit"})), "exit"),
    ]
}

/// Guests that give the host invalid data.
fn lies() -> Vec<Guest> {
    let trap = |name, code| fails(name, code, Trap, "");
    let returns = |text: &str| {
        // A result<string, failure> at 16: ok, and a string.
        let data = format!(r#"(data (i32.const 16) "\00\00\00\00{text}")"#);
        module(&data, "(i32.const 16)")
    };
    vec![
        trap("returns an address beyond its memory", module("", "(i32.const -4)")),
        trap("returns an unaligned address", module("", "(i32.const 17)")),
        trap("returns a text of four gigabytes", returns(r"\20\00\00\00\ff\ff\ff\ff")),
        trap("returns a text beyond its memory", returns(r"\f0\ff\ff\7f\10\00\00\00")),
        trap(
            "returns invalid UTF-8",
            module(
                r#"(data (i32.const 16) "\00\00\00\00\20\00\00\00\02\00\00\00\00\00\00\00\ff\fe")"#,
                "(i32.const 16)",
            ),
        ),
        trap(
            "returns neither success nor failure",
            module(r#"(data (i32.const 16) "\07")"#, "(i32.const 16)"),
        ),
        trap(
            "takes its params beyond its memory",
            whole(
                r#"(memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const -1))
                (func (export "run") (param i32 i32) (result i32) unreachable)"#,
            ),
        ),
        fails(
            "returns invalid JSON",
            verb(json!({"verb": "raw", "text": "{\"half\":"})),
            OutputNotJson,
            "not JSON",
        ),
        Guest {
            name: "returns JSON that is nested too deeply",
            code: verb(
                json!({"verb": "raw", "text": format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))}),
            ),
            end: End::Harmless,
            says: "[[[[",
        },
    ]
}

/// Guests that the publisher refuses, at once and with little memory.
fn refused() -> Vec<Guest> {
    let fits = "(component)";
    let whole_component = match module("", "(i32.const 0)") {
        Code::Text(text) => wat::parse_str(text).expect("it is well-formed"),
        _ => unreachable!("a module is text"),
    };
    let instances = |count: usize| {
        let many: String = (0..count).map(|i| format!("(core instance $i{i} (instantiate $n))")).collect();
        let module = r#"(core module $n)
            (core module $m (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "run") (param i32 i32) (result i32) unreachable))
            (core instance $i (instantiate $m))"#;
        around(&format!("{module} {many}"))
    };
    vec![
        refuse("is empty", Code::Binary(Vec::new()), "the file is empty"),
        refuse("is no WebAssembly", Code::Binary(b"MZ\x90\0\x03\0\0\0".to_vec()), "not WebAssembly"),
        refuse("is a module", Code::Text("(module)".to_owned()), "a core WebAssembly module"),
        refuse("is half a component", Code::Binary(whole_component[..whole_component.len() / 2].to_vec()), "was it uploaded whole?"),
        refuse("has no function run", Code::Text(fits.to_owned()), "run"),
        refuse(
            "imports an interface that does not exist",
            Code::Text(r#"(component (import "evil:host/files@1.0.0" (instance (export "read" (func (result string))))))"#.to_owned()),
            "evil:host/files@1.0.0",
        ),
        refuse("has too many instances", instances(200), "instances"),
        refuse(
            "begins with more memory than any worker has",
            module("(memory 60000)", "unreachable"),
            "memory",
        ),
        refuse(
            "begins with a larger table than any worker has",
            module("(table 10000000 funcref)", "unreachable"),
            "table",
        ),
        refuse("has memory of 64 bits", module("(memory i64 1)", "unreachable"), "memory64"),
        refuse("shares memory between threads", module("(memory 1 1 shared)", "unreachable"), "threads"),
        refuse("is nested 2,000 levels deep", Code::Binary(nested(2000)), "components lie in each other too deep"),
        refuse(
            "has a function with too many variables",
            module(&format!("(func (local {}))", "i64 ".repeat(60_000)), "unreachable"),
            "locals",
        ),
        refuse(
            "has a function that breaks its type",
            module("(func (result i32) (i64.const 1))", "unreachable"),
            "type mismatch",
        ),
    ]
}

/// Components nested `depth` levels deep. (The text format has a limit of its own.)
fn nested(depth: usize) -> Vec<u8> {
    const BEGIN: &[u8] = b"\0asm\x0d\0\x01\0";
    let mut component = BEGIN.to_vec();
    for _ in 0..depth {
        // A section of components: its number, and its size in LEB128.
        let mut outer = [BEGIN, &[4]].concat();
        let mut size = component.len();
        loop {
            let more = size > 0x7f;
            outer.push((size & 0x7f) as u8 | if more { 0x80 } else { 0 });
            size >>= 7;
            if !more {
                break;
            }
        }
        outer.extend(component);
        component = outer;
    }
    component
}

/// Guests that misuse the functions that they may call.
fn misuses() -> Vec<Guest> {
    vec![
        Guest {
            name: "looks for files and sockets",
            code: verb(json!({"verb": "escape"})),
            end: End::Harmless,
            says: r#""file":""#,
        },
        Guest {
            name: "looks for the process's environment",
            code: verb(json!({"verb": "env"})),
            end: End::Harmless,
            says: "{\"SECRET_0\":\"[secret SECRET_0]\",\"SECRET_1\"",
        },
        fails(
            "asks for another attempt for ever",
            verb(json!({"verb": "retry", "reason": "x".repeat(900_000)})),
            FailureKind::Retry,
            "xxx ...",
        ),
        fails(
            "asks for another attempt in a century",
            verb(json!({"verb": "retry-after", "seconds": u32::MAX, "reason": "later"})),
            FailureKind::Retry,
            "later",
        ),
    ]
}

/// Guests that misuse HTTP.
fn requests() -> Vec<Guest> {
    let fetch = |name, url, says| Guest {
        name,
        code: verb(json!({"verb": "fetch", "url": url})),
        end: End::Harmless,
        says,
    };
    vec![
        fetch("asks the cloud for credentials", "http://169.254.169.254/latest/meta-data/", "metadata"),
        fetch("asks this machine by its name", "http://localhost:1/", "error"),
        fetch("asks a private network, in disguise", "http://[::ffff:10.0.0.1]/", "a private address"),
        fetch("asks a host that is not in its settings", "https://elsewhere.test/", "allow_hosts"),
        fetch("is redirected to the cloud's credentials", "http://SERVER/moved", "302"),
        fetch("reads an answer without an end", "http://SERVER/endless", "TooLarge(8388608)"),
        fetch("reads headers without an end", "http://SERVER/headers", "too large"),
        fetch("reads an answer that is not HTTP", "http://SERVER/garbage", "Failed"),
        fetch("reads less than was promised", "http://SERVER/short", "Failed"),
        fails(
            "waits for an answer that does not come",
            verb(json!({"verb": "wasi-fetch", "authority": "SERVER", "path": "/silent"})),
            OutOfTime,
            "not done after",
        ),
        fails(
            "waits for an answer that comes in drops",
            verb(json!({"verb": "wasi-fetch", "authority": "SERVER", "path": "/slow"})),
            OutOfTime,
            "not done after",
        ),
        fails(
            "reads an answer without an end, through WASI",
            verb(json!({"verb": "wasi-fetch", "authority": "SERVER", "path": "/endless"})),
            OutOfMemory,
            "the limit is 32MiB",
        ),
        Guest {
            name: "opens requests without limit",
            code: verb(json!({"verb": "wasi-open", "authority": "SERVER", "path": "/endless", "count": 100})),
            end: End::Harmless,
            says: "32 requests under way",
        },
        Guest {
            name: "sends headers without limit",
            code: verb(
                json!({"verb": "fetch-headers", "url": "http://SERVER/moved", "count": 1000, "bytes": 10_000}),
            ),
            end: End::Harmless,
            says: "headers: 1000; the most is 100",
        },
    ]
}
