//! A cache of compiled functions.
//!
//! Every Python task contains the same interpreter, and so does every JavaScript task: all but the functions of the task itself are
//! the same in each build. The compiler asks by a key of the function and of the compiler's options, and makes the same machine code with
//! the cache as without.

use std::borrow::Cow;
use std::fmt;
use std::fs::{DirEntry, Metadata};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context;
use rusqlite::{Connection, ErrorCode, OptionalExtension, Result, TransactionBehavior, params};
use wasq_engine::CacheStore;
use wasq_protocol::{Clock, Digest, Hasher, SystemClock};

use super::{own_folder, owned};

/// The size at which a quarter of the functions is deleted. Those of a Python task take 28 MB, those of a JavaScript task 40 MB.
const BYTES_MAX: i64 = 256 << 20;
/// Functions that wait to be written.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// The time of a use is exact to this.
const USE_SECONDS: i64 = 3600;
/// How long to wait for another process that writes. Every thread of the compiler waits meanwhile.
const BUSY: Duration = Duration::from_secs(3);
/// The files of other versions of wasq are deleted if they were not written for so long.
const UNUSED_AFTER: Duration = Duration::from_secs(30 * 24 * 3600);

/// The file of the cache. `None` if there is no folder that only this user may write.
///
/// The key of a function does not name the version of the compiler. So each set of dependencies has a file of its own.
pub(crate) fn function_cache_file() -> Option<PathBuf> {
    let dependencies = Digest::of(include_bytes!("../../../../Cargo.lock"));
    Some(own_folder("functions")?.join(format!("{}.db", dependencies.short())))
}

/// Compiled functions in a file that several processes use at once.
pub(crate) struct FunctionCache(Mutex<Store>);

struct Store {
    database: Connection,
    file: PathBuf,
    bytes_max: i64,
    /// Functions that are not in the database yet, with their keys.
    pending: Vec<(Vec<u8>, Vec<u8>)>,
    pending_bytes: usize,
    /// Functions that were used, and whose time of use is old.
    used: Vec<Vec<u8>>,
    /// A write has failed, and no more are tried.
    failed: bool,
}

impl FunctionCache {
    /// Opens the file, or makes it. `None` if this does not succeed: everything is compiled then.
    pub(crate) fn open(file: &Path) -> Option<Arc<dyn CacheStore>> {
        match Self::opened(file) {
            Ok(cache) => Some(Arc::new(cache)),
            Err(e) => {
                tracing::debug!("no cache of compiled functions: {e:#}");
                None
            }
        }
    }

    fn opened(file: &Path) -> anyhow::Result<Self> {
        let (folder, name) = file.parent().zip(file.file_name()).context("it is no path of a file")?;
        // A compiling process gets the path from its parent, which may have looked long ago.
        let folder = owned(folder).with_context(|| format!("others can write {}", folder.display()))?;
        let file = &folder.join(name);
        if !file.exists() {
            delete_unused(&folder);
        }
        let mut store = Store::open(file, BYTES_MAX);
        if store.as_ref().is_err_and(is_damaged) {
            delete(file);
            store = Store::open(file, BYTES_MAX);
        }
        let store = store.with_context(|| format!("open {}", file.display()))?;
        Ok(Self(Mutex::new(store)))
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for FunctionCache {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.store().get(key).ok().flatten().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.store().insert(key, value)
    }
}

impl fmt::Debug for FunctionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FunctionCache")
    }
}

impl Store {
    fn open(file: &Path, bytes_max: i64) -> Result<Self> {
        let mut database = Connection::open(file)?;
        database.busy_timeout(BUSY)?;
        // After a power cut the file may be damaged. Each row has a digest, and a damaged file is made anew.
        database.pragma_update(None, "synchronous", "off")?;
        let exists = "SELECT count(*) > 0 FROM sqlite_schema WHERE name = 'functions'";
        if !database.query_row(exists, [], |row| row.get::<_, bool>(0))? {
            let transaction = database.transaction_with_behavior(TransactionBehavior::Immediate)?;
            transaction.execute_batch(
                "CREATE TABLE IF NOT EXISTS functions (
                    key BLOB PRIMARY KEY, code BLOB NOT NULL, digest TEXT NOT NULL, used INTEGER NOT NULL
                )",
            )?;
            transaction.commit()?;
        }
        let file = file.to_owned();
        let (pending, used) = (Vec::new(), Vec::new());
        Ok(Self { database, file, bytes_max, pending, pending_bytes: 0, used, failed: false })
    }

    /// The function of a key, if it is there and whole.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut select =
            self.database.prepare_cached("SELECT code, digest, used FROM functions WHERE key = ?")?;
        let row = select.query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let Some((code, stored, used)): Option<(Vec<u8>, String, i64)> = row.optional()? else {
            return Ok(None);
        };
        // A damaged file must not become machine code.
        if stored != digest(key, &code) {
            return Ok(None);
        }
        if used + USE_SECONDS < now() {
            self.used.push(key.to_owned());
        }
        Ok(Some(code))
    }

    /// Keeps a function. Returns whether it is kept.
    fn insert(&mut self, key: &[u8], code: Vec<u8>) -> bool {
        if self.failed {
            return false;
        }
        self.pending_bytes += code.len();
        self.pending.push((key.to_owned(), code));
        if self.pending_bytes > PENDING_BYTES_MAX {
            self.write();
        }
        !self.failed
    }

    /// Writes what waits. After a failure, nothing is written any more.
    fn write(&mut self) {
        let (pending, used) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.used));
        self.pending_bytes = 0;
        if self.failed || pending.is_empty() && used.is_empty() {
            return;
        }
        if let Err(e) = self.put(pending, used).and_then(|()| self.prune()) {
            tracing::debug!("compiled functions are not kept in {}: {e}", self.file.display());
            self.failed = true;
            if is_damaged(&e) {
                delete(&self.file);
            }
        }
    }

    fn put(&mut self, functions: Vec<(Vec<u8>, Vec<u8>)>, used: Vec<Vec<u8>>) -> Result<()> {
        let now = now();
        // Others wait for the transaction.
        let digests: Vec<_> = functions.iter().map(|(key, code)| digest(key, code)).collect();
        let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO functions (key, code, digest, used) VALUES (?, ?, ?, ?)",
            )?;
            for ((key, code), digest) in functions.into_iter().zip(digests) {
                insert.execute(params![key, code, digest, now])?;
            }
            let mut update = transaction.prepare_cached("UPDATE functions SET used = ? WHERE key = ?")?;
            for key in used {
                update.execute(params![now, key])?;
            }
        }
        transaction.commit()
    }

    /// Deletes the quarter of the functions that was used longest ago, if they take too much. The file does not become smaller, but
    /// others take their place.
    fn prune(&mut self) -> Result<()> {
        let number = |name| self.database.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = number("page_count")? - number("freelist_count")?;
        if pages * number("page_size")? > self.bytes_max {
            self.database.execute(
                "DELETE FROM functions WHERE key IN
                    (SELECT key FROM functions ORDER BY used LIMIT (SELECT count(*) / 4 FROM functions))",
                [],
            )?;
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.write();
    }
}

/// Binds a function to its key.
fn digest(key: &[u8], code: &[u8]) -> String {
    let mut hasher = Hasher::default();
    hasher.update(key);
    hasher.update(code);
    hasher.finish().short()
}

fn is_damaged(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Deletes a damaged file, and SQLite's journal beside it. Other processes may still have it open.
fn delete(file: &Path) {
    let mut journal = file.as_os_str().to_owned();
    journal.push("-journal");
    for path in [file, Path::new(&journal)] {
        let _ = std::fs::remove_file(path);
    }
}

/// Deletes the files of other versions that nobody uses any more.
fn delete_unused(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let age = |file: &Metadata| {
        let written = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Duration::from_millis(SystemClock.now().ms()).checked_sub(written)
    };
    let is_unused = |entry: &DirEntry| {
        entry.metadata().is_ok_and(|file| age(&file).is_some_and(|age| age > UNUSED_AFTER))
    };
    for entry in entries.flatten().filter(is_unused) {
        let _ = std::fs::remove_file(entry.path());
    }
}

/// In seconds.
fn now() -> i64 {
    (SystemClock.now().ms() / 1000).cast_signed()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Mutex;
    use std::time::Duration;

    use rusqlite::{Connection, params};
    use wasq_engine::{CacheStore, Engine};
    use wasq_protocol::{Clock, SystemClock};
    use wasq_testing::read_guest;

    use super::{FunctionCache, Store};

    fn compile(component: &[u8], file: &Path) -> Vec<u8> {
        let cache = FunctionCache::open(file).unwrap();
        Engine::compiler_with(cache).unwrap().compile(component).unwrap()
    }

    fn count(file: &Path, which: &str) -> i64 {
        let database = Connection::open(file).unwrap();
        database
            .query_row(&format!("SELECT count(*) FROM functions WHERE {which}"), [], |row| row.get(0))
            .unwrap()
    }

    /// Stores a hundred functions of 10,000 bytes, whose keys begin with `key`.
    fn insert_100(cache: &dyn CacheStore, key: &[u8]) {
        for i in 0..100_u8 {
            cache.insert(&[key, &[i]].concat(), vec![7; 10_000]);
        }
    }

    #[test]
    fn machine_code_is_the_same_with_a_cache() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let [hello, verbs] = ["hello", "verbs"].map(|name| read_guest(name).unwrap());
        let plain = Engine::compiler().unwrap().compile(&hello).unwrap();

        assert!(compile(&hello, &file) == plain);
        let of_hello = count(&file, "true");
        compile(&verbs, &file);
        let all = count(&file, "true");
        assert!(of_hello > 50 && all > of_hello);

        // The compiler gives some of its trampolines another key each time.
        let most = of_hello * 8 / 10;
        let database = Connection::open(&file).unwrap();
        database.execute("UPDATE functions SET used = 0", []).unwrap();
        assert!(compile(&hello, &file) == plain);
        assert!(count(&file, &format!("used > 0 AND rowid <= {all}")) > most);
        assert!(count(&file, "true") < all + of_hello - most);
    }

    #[test]
    fn damaged_functions_are_compiled_again() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let hello = read_guest("hello").unwrap();
        let plain = compile(&hello, &file);
        let database = Connection::open(&file).unwrap();

        // One bit of each, in the middle of its machine code.
        let mut select = database.prepare("SELECT rowid, code FROM functions").unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        let rows: Vec<(i64, Vec<u8>)> = rows.collect::<Result<_, _>>().unwrap();
        for (rowid, mut code) in rows {
            let middle = code.len() / 2;
            code[middle] ^= 1;
            database.execute("UPDATE functions SET code = ? WHERE rowid = ?", params![code, rowid]).unwrap();
        }
        assert!(compile(&hello, &file) == plain);

        // Each key has the function of another one.
        let swap = "UPDATE functions SET (code, digest) = (SELECT code, digest FROM functions ORDER BY length(code) DESC LIMIT 1)";
        database.execute(swap, []).unwrap();
        assert!(compile(&hello, &file) == plain);
    }

    #[test]
    fn two_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let caches = [(); 2].map(|()| FunctionCache::open(&file).unwrap());
        std::thread::scope(|scope| {
            for cache in caches {
                scope.spawn(move || (0..20_u8).for_each(|key| insert_100(&*cache, &[key])));
            }
        });
        assert_eq!(count(&file, "true"), 2000);
    }

    #[test]
    fn the_functions_that_were_used_longest_ago_are_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let open = || FunctionCache(Mutex::new(Store::open(&file, 1 << 20).unwrap()));
        let cache = open();
        insert_100(&cache, b"a");
        insert_100(&cache, b"b");
        drop(cache);
        assert_eq!(count(&file, "true"), 150);

        let database = Connection::open(&file).unwrap();
        database.execute("UPDATE functions SET used = 0", []).unwrap();
        let cache = open();
        assert!(cache.get(&[b'b', 99]).is_some());
        drop(cache);
        assert_eq!((count(&file, "true"), count(&file, "used > 0")), (113, 1));
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let insert = |key: &[u8]| insert_100(&*FunctionCache::open(&file).unwrap(), key);
        std::fs::write(&file, "not a database, but longer than a header of one is".repeat(20)).unwrap();
        insert(b"a");
        assert_eq!(count(&file, "true"), 100);

        // All but the first page.
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[4096..].fill(b'?');
        std::fs::write(&file, bytes).unwrap();
        insert(b"b");
        insert(b"c");
        assert_eq!(count(&file, "true"), 100);
    }

    #[test]
    fn no_cache_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(FunctionCache::open(&folder.path().join("absent/functions.db")).is_none());
    }

    #[test]
    fn the_file_of_an_old_version_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let [old, new] = ["old.db", "new.db"].map(|name| folder.path().join(name));
        let made = |age_days: u64, file: &Path| {
            let now = Duration::from_millis(SystemClock.now().ms());
            let then = std::time::UNIX_EPOCH + now - Duration::from_secs(age_days * 24 * 3600);
            std::fs::File::create(file).and_then(|file| file.set_modified(then)).unwrap();
        };
        made(29, &old);
        FunctionCache::open(&folder.path().join("1.db")).unwrap();
        assert!(old.exists());
        made(31, &old);
        made(31, &new);
        FunctionCache::open(&folder.path().join("1.db")).unwrap();
        assert!(old.exists() && new.exists(), "only when a file is made");
        FunctionCache::open(&folder.path().join("2.db")).unwrap();
        assert!(!old.exists() && !new.exists());
    }
}
