//! The files that the compiler refuses, and the errors that their authors get.

use wasq_engine::Engine;

fn compile(engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, String> {
    engine.compile(wasm).map_err(|e| e.to_string())
}

#[track_caller]
fn refused(wat: &str, words: &[&str]) {
    let wasm = wat::parse_str(wat).expect("valid text");
    let error = compile(&Engine::compiler().expect("it starts"), &wasm).expect_err("it does not fit");
    for word in words {
        assert!(error.contains(word), "{word:?} is missing: {error}");
    }
}

#[test]
fn no_run() {
    refused("(component)", &["does not fit the world wasq:task/task", "no export `run` found"]);
}

#[test]
fn an_import_that_nobody_has() {
    refused(
        r#"(component (import "my:own/thing@1.0.0" (instance (export "do-it" (func)))))"#,
        &["does not fit the world", "my:own/thing@1.0.0"],
    );
}

#[test]
fn another_version_of_the_world() {
    refused(
        r#"(component (import "wasq:task/log@9.0.0" (instance (export "log" (func (param "message" string))))))"#,
        &["does not fit the world", "wasq:task/log@9.0.0"],
    );
}

#[test]
fn a_function_of_another_type() {
    refused(
        r#"(component (import "wasq:task/context@0.1.0" (instance (export "attempt" (func (result string))))))"#,
        &["does not fit the world", "wasq:task/context@0.1.0", "attempt"],
    );
}

#[test]
fn run_of_another_type() {
    refused(
        r#"(component
            (core module $m (func (export "run")))
            (core instance $i (instantiate $m))
            (func $run (canon lift (core func $i "run")))
            (export "run" (func $run)))"#,
        &["does not fit the world", "run"],
    );
}

#[test]
fn core_modules_and_text() {
    let engine = Engine::compiler().expect("it starts");
    let core = wat::parse_str("(module)").expect("valid text");
    assert!(compile(&engine, &core).expect_err("refused").starts_with("a core WebAssembly module"));
    assert!(compile(&engine, b"(component)").expect_err("refused").starts_with("WebAssembly text"));
}

#[test]
fn what_no_worker_could_hold() {
    // 1 GiB at the start: more than any of our workers gives.
    let wat = r#"(component (core module $m (memory 16384)) (core instance (instantiate $m)))"#;
    let wasm = wat::parse_str(wat).expect("valid text");
    let error = compile(&Engine::compiler().expect("it starts"), &wasm).expect_err("it does not fit");
    assert!(error.contains("memory"), "{error}");
}
