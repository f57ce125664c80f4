//! Costly components, compiled as the publisher does it, under small limits.

use std::sync::Mutex;
use std::time::Duration;

use wasq_hostile::{COSTLY, Costly};
use wasq_protocol::ByteCount;
use wasq_publisher::{CompileLimits, Compiled, Compiler, Wasm};

const LIMITS: CompileLimits = CompileLimits {
    memory: ByteCount::mib(700),
    processor: Duration::from_secs(60),
    time: Duration::from_secs(120),
    at_once: 2,
};

fn compiler(limits: CompileLimits) -> Wasm {
    let compiler = Wasm::new(limits).expect("this program is known");
    compiler.in_program(env!("CARGO_BIN_EXE_wasq-hostile").into())
}

fn kind(name: &str) -> Costly {
    *COSTLY.iter().find(|kind| kind.name == name).expect("a kind of this name")
}

async fn refused(limits: CompileLimits, kind: Costly, n: usize) -> String {
    let wasm = kind.component(n).expect("well-formed");
    match compiler(limits).compile(wasm).await.expect("no fault of the host") {
        Compiled::Refused(why) => why,
        Compiled::Fits { .. } => panic!("{n} {} fit", kind.name),
    }
}

const CALLS: &str = "one long function of calls through a table";

#[tokio::test]
async fn every_kind_ends_within_the_limits() {
    assert!(COSTLY.len() >= 25);
    for kind in COSTLY {
        // None of them fits the world, so each is refused, before or after it was compiled.
        let n = kind.from * 32;
        let Ok(wasm) = kind.component(n) else { continue };
        let compiled = compiler(LIMITS).compile(wasm).await.expect("no fault of the host");
        assert!(matches!(compiled, Compiled::Refused(_)), "{n} {}", kind.name);
    }
}

#[tokio::test]
async fn too_much_memory() {
    let limits = CompileLimits { memory: ByteCount::mib(256), ..LIMITS };
    let why = refused(limits, kind(CALLS), 32 << 10).await;
    assert_eq!(why, "its compilation takes more than 256MiB of memory");
}

#[tokio::test]
async fn too_much_processor_time() {
    let limits = CompileLimits { processor: Duration::from_secs(1), ..LIMITS };
    let why = refused(limits, kind(CALLS), 24 << 10).await;
    assert_eq!(why, "its compilation takes more than 1s of processor time");
}

#[tokio::test]
async fn too_much_time_and_a_neighbour_that_is_not_held_up() {
    let limits = CompileLimits { memory: ByteCount::mib(2048), time: Duration::from_secs(2), ..LIMITS };
    let compiler = compiler(limits);
    let slow = kind(CALLS).component(32 << 10).expect("well-formed");
    let quick = kind("functions").component(10).expect("well-formed");
    let ended = Mutex::new(Vec::new());
    let compile = async |wasm| {
        let compiled = compiler.compile(wasm).await.expect("no fault of the host");
        ended.lock().expect("nobody panics with it").push(compiled);
    };
    tokio::join!(compile(slow), compile(quick));
    let ended = ended.into_inner().expect("nobody panics with it");
    let says =
        |compiled: &Compiled, text: &str| matches!(compiled, Compiled::Refused(why) if why.contains(text));
    assert!(says(&ended[0], "does not fit the world"), "{ended:?}");
    assert!(says(&ended[1], "its compilation takes more than 2s"), "{ended:?}");
}

#[tokio::test]
async fn the_guard_names_the_part_and_the_limit() {
    for (name, n, says) in [
        (
            "loops inside each other",
            201,
            "function 2 of module 1 has too many loops inside each other: 201; the limit is 200",
        ),
        ("locals", 20_001, "function 2 of module 1 has too many locals: 20001; the limit is 20000"),
        (
            "values on the stack",
            10_001,
            "function 2 of module 1 has too many values on its stack: 10001; the limit is 10000",
        ),
        ("a branch table that carries 500 values", 3_000, "has too many values on its branches"),
        ("modules", 1_001, "the component has too many modules: 1001; the limit is 1000"),
        ("components inside each other", 33, "components lie in each other too deep: 33; the limit is 32"),
        ("components inside each other, each made twice", 26, "the component makes too many instances"),
        ("globals", 10_001, "the component has too many globals: 10001; the limit is 10000"),
    ] {
        let why = refused(LIMITS, kind(name), n).await;
        assert!(why.starts_with("too costly to compile: ") && why.contains(says), "{name}: {why}");
    }
}
