//! Compiled components and functions of this user, so that the same ones need not be compiled again.
//!
//! They lie in the user's cache folder, which only the user may write: their machine code is executed. A fault of the cache
//! costs a compilation, and nothing else.

mod components;
mod functions;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

pub(crate) use components::CompiledComponents;
pub(crate) use functions::{CompiledFunctions, functions_file};

/// `$XDG_CACHE_HOME/wasq`, or below `~/.cache`, with the folder `below` in it. `None` if others may write it.
fn own_folder(below: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "only the environment says where a user's files are")]
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    let folder = cache.join("wasq").join(below);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&folder);
    let metadata = made.and_then(|()| std::fs::metadata(&folder)).ok()?;
    let own = rustix::process::geteuid().as_raw();
    (metadata.uid() == own && metadata.mode() & 0o022 == 0).then_some(folder)
}
