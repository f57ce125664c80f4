//! The WIT package's versioning rule.

use std::path::Path;

/// A version that is both in `wit` and in `released` must be the same in both: a released version is never
/// edited.
#[test]
fn released_versions_are_not_edited() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tasks-wit");
    let current = std::fs::read_to_string(folder.join("wit/task.wit")).expect("the package");
    let line = current.lines().find(|line| line.starts_with("package ")).expect("a package line");
    let version = line.trim_end_matches(';').split('@').nth(1).expect("a version");
    let released = folder.join("released").join(version).join("task.wit");
    if released.exists() {
        let released = std::fs::read_to_string(released).expect("the released copy");
        assert!(current == released, "wasq:task@{version} was released: give the change a new version");
    }
}
