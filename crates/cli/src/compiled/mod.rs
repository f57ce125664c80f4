//! Caches of compiled components and functions of this user, so that the same ones need not be compiled again.
//!
//! They lie in the user's cache folder, which only the user may write: their machine code is executed. A fault of a cache
//! costs a compilation, and nothing else.

mod components;
mod function_cache;

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

pub(crate) use components::CompiledComponents;
pub(crate) use function_cache::{FunctionCache, function_cache_file};

/// The folder `$XDG_CACHE_HOME/wasq/NAME`, or `~/.cache/wasq/NAME`. `None` if others can write it.
fn own_folder(name: &str) -> Option<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "only the environment says where a user's files are")]
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")))?;
    let folder = cache.join("wasq").join(name);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder).ok()?;
    owned(&folder)
}

/// The real path of a folder that only this user, and root, can write or replace: the same holds for the folders above it. `None` for
/// any other folder.
fn owned(folder: &Path) -> Option<PathBuf> {
    const OTHERS_WRITE: u32 = 0o022;
    // In such a folder (/tmp), nobody can replace the files of others.
    const STICKY: u32 = 0o1000;
    let me = rustix::process::geteuid().as_raw();
    let folder = folder.canonicalize().ok()?;
    let is_own = folder.ancestors().enumerate().all(|(level, folder)| {
        folder.metadata().is_ok_and(|metadata| {
            let (owner, mode) = (metadata.uid(), metadata.mode());
            (owner == me || owner == 0 && level > 0)
                && (mode & OTHERS_WRITE == 0 || mode & STICKY != 0 && level > 0)
        })
    });
    is_own.then_some(folder)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::owned;

    #[test]
    fn a_folder_that_others_can_write_or_replace_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("outer/inner");
        let outer = inner.parent().unwrap();
        std::fs::create_dir_all(&inner).unwrap();
        let set = |folder, mode| std::fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        set(outer, 0o755);
        for (mode, ours) in [(0o700, true), (0o755, true), (0o775, false), (0o777, false), (0o1777, false)] {
            set(&inner, mode);
            assert_eq!(owned(&inner).is_some(), ours, "{mode:o}");
        }
        set(&inner, 0o700);
        for (mode, ours) in [(0o775, false), (0o777, false), (0o1777, true)] {
            set(outer, mode);
            assert_eq!(owned(&inner).is_some(), ours, "{mode:o} above it");
        }
        assert_eq!(owned(&folder.path().join("absent")), None);

        // A link that others can replace does not count: its target is what is used.
        set(outer, 0o755);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&inner, &link).unwrap();
        assert_eq!(owned(&link), Some(inner.canonicalize().unwrap()));
    }
}
