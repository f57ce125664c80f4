//! Every target on its corpus, and on mutations of it: the same ones each time.

mod mutate;

use std::path::Path;

use crate::mutate::Mutator;

/// The corpus of a target: file names and contents.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let read = |path: &Path| std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    files.iter().map(|path| (path.file_name().expect("a name").display().to_string(), read(path))).collect()
}

/// Runs a target on its corpus, and on `mutations` mutations of it.
fn fuzz(name: &str, mutations: usize) {
    let (_, target) = wasq_fuzz::TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    let mut corpus: Vec<_> = corpus(name).into_iter().map(|(_, content)| content).collect();
    corpus.iter().for_each(|content| target(content));
    // The binaries of the components are mutated as well.
    let binaries: Vec<_> =
        corpus.iter().filter(|_| name == "component").map(|text| wat::parse_bytes(text)).collect();
    let binaries: Vec<_> = binaries.into_iter().filter_map(|wasm| Some(wasm.ok()?.into_owned())).collect();
    corpus.extend(binaries);
    let mut mutator = Mutator::new(name);
    for _ in 0..mutations {
        let input = mutator.mutated(&corpus);
        let ran = std::panic::catch_unwind(|| target(&input));
        assert!(ran.is_ok(), "{name} on {:?}", String::from_utf8_lossy(&input));
    }
}

#[test]
fn message() {
    fuzz("message", 200_000);
}

#[test]
fn settings() {
    fuzz("settings", 100_000);
}

#[test]
fn live_record() {
    fuzz("live_record", 100_000);
}

#[test]
fn worker_event() {
    fuzz("worker_event", 200_000);
}

#[test]
fn publisher_event() {
    fuzz("publisher_event", 200_000);
}

#[test]
fn sqs_endpoint() {
    fuzz("sqs_endpoint", 1_500);
}

#[test]
fn component() {
    fuzz("component", 30_000);
}

#[test]
fn schema() {
    fuzz("schema", 50_000);
}

#[test]
fn every_target_has_a_corpus_a_binary_and_a_test() {
    let tests = include_str!("main.rs");
    for (name, _) in wasq_fuzz::TARGETS {
        assert!(tests.contains(&format!("fuzz(\"{name}\", ")), "{name}");
        assert!(corpus(name).len() >= 5, "{name}");
        let binary = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets").join(format!("{name}.rs"));
        assert!(binary.exists(), "{}", binary.display());
    }
}
