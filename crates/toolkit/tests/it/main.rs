//! The messages about components that do not fit. (The Python tests build those that fit, in every language.)

use wasq_toolkit::Contract;

/// The types of `run`, as toolchains import them.
const TYPES: &str = r#"
    (import "wasq:task/outcome@0.1.0" (instance $outcome
        (type $after (record (field "seconds" u32) (field "reason" string)))
        (export "retry-after" (type $after-exported (eq $after)))
        (type $failure (variant
            (case "retry" string) (case "retry-after" $after-exported) (case "reject" string)))
        (export "failure" (type (eq $failure)))))
    (alias export $outcome "failure" (type $failure-alias))
    (import "failure" (type $failure (eq $failure-alias)))
"#;

/// A component with these imports and with a function `run` of this type.
fn component(imports: &str, run: &str) -> Vec<u8> {
    let text = format!(
        r#"(component
            {imports}
            (core module $m
                (memory (export "memory") 1)
                (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable)
                (func (export "run") (param i32 i32) (result i32) unreachable))
            (core instance $i (instantiate $m))
            {TYPES}
            (func $run {run}
                (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "realloc"))))
            (export "run" (func $run)))"#
    );
    wat::parse_str(text).expect("it is well-formed")
}

const RUN: &str = r#"(param "params" string) (result (result string (error $failure)))"#;

#[track_caller]
fn check(component: &[u8], expected: &[&str]) {
    let contract = Contract::of(component).expect("it is a component");
    let problems = &contract.problems;
    assert_eq!(problems.len(), expected.len(), "{problems:?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.contains(expected), "{problem}");
    }
}

fn log(version: &str, level: &str) -> String {
    format!(
        r#"(import "wasq:task/log@{version}" (instance
            (type $level (enum {level}))
            (export "level" (type $exported (eq $level)))
            (export "log" (func (param "level" $exported) (param "message" string)))))"#
    )
}

const LEVELS: &str = r#""trace" "debug" "info" "warn" "error""#;

#[test]
fn what_fits_has_no_problems() {
    check(&component("", RUN), &[]);
    check(&component(&log("0.1.0", LEVELS), RUN), &[]);
    // A later version of the same world that asks for nothing new.
    check(&component(&log("0.1.7", LEVELS), RUN), &[]);
    check(
        &component(
            r#"(import "wasi:random/random@0.2.3" (instance (export "get-random-u64" (func (result u64)))))"#,
            RUN,
        ),
        &[],
    );
    // An interface that has only types needs no linking.
    check(&component(r#"(import "acme:queue/kinds@1.0.0" (instance))"#, RUN), &[]);
}

#[test]
fn another_version_of_the_world_is_named() {
    check(
        &component(&log("0.2.0", LEVELS), RUN),
        &["another version of the world: it imports wasq:task/log@0.2.0, this wasq has wasq:task@0.1.2"],
    );
}

#[test]
fn a_function_of_a_later_version_is_named() {
    let later = r#"(import "wasq:task/context@0.1.2" (instance (export "region" (func (result string)))))"#;
    check(&component(later, RUN), &["region of wasq:task/context@0.1.2, which this wasq does not have"]);
    let interface = r#"(import "wasq:task/secrets@0.1.2" (instance (export "get" (func (result string)))))"#;
    check(&component(interface, RUN), &[r#"there is no interface "secrets""#]);
}

#[test]
fn a_function_of_another_type_is_named() {
    check(
        &component(&log("0.1.0", r#""quiet" "loud""#), RUN),
        &["log of wasq:task/log@0.1.0 as func(level: enum { quiet, loud }, message: string)"],
    );
}

#[test]
fn what_nobody_offers_is_named() {
    check(
        &component(r#"(import "wasi:keyvalue/store@0.2.0-draft" (instance (export "open" (func))))"#, RUN),
        &["does not offer"],
    );
    check(
        &component(r#"(import "wasi:clocks/wall-clock@0.3.0" (instance (export "now" (func))))"#, RUN),
        &["WASI 0.2"],
    );
    check(
        &component(r#"(import "acme:queue/send@1.0.0" (instance (export "send" (func))))"#, RUN),
        &["acme:queue/send@1.0.0"],
    );
    check(&component(r#"(import "sleep" (func (param "ms" u32)))"#, RUN), &[r#"it imports "sleep""#]);
}

#[test]
fn a_run_that_wasq_cannot_call_is_named() {
    check(
        &component("", r#"(param "params" string) (result string)"#),
        &[
            "its function run is func(params: string) -> string; wasq calls func(params: string) -> result<string, variant",
        ],
    );
    check(
        &wat::parse_str("(component)").expect("it is well-formed"),
        &["it exports no function run, but nothing"],
    );
}
