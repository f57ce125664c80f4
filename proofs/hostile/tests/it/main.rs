//! The whole corpus, once; and costly components.

mod compiling;

use std::collections::HashSet;
use std::path::Path;

use wasq_hostile::{Host, corpus};

#[tokio::test(flavor = "multi_thread")]
async fn every_guest_ends_as_it_must_and_hurts_no_neighbour() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the crate lies two folders below the root");
    let host =
        Host::start(&root.join("target/guests/wasm32-wasip2/release/verbs.wasm")).await.expect("it starts");
    let mut problems = Vec::new();
    for guest in corpus() {
        let seen = host.run(&guest).await.expect("it can be run");
        problems.extend(seen.problems.into_iter().map(|problem| format!("{}: {problem}", guest.name)));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn there_are_many_and_each_is_another() {
    let names: HashSet<_> = corpus().into_iter().map(|guest| guest.name).collect();
    assert!(names.len() >= 40 && names.len() == corpus().len());
}
