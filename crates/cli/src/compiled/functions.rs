//! Functions that were compiled before.
//!
//! Every Python task contains the same interpreter, and so does every JavaScript task: all but the functions of the task itself are
//! the same in each build. The compiler asks by a key that covers the function, the options and the compiler's version, and makes the same
//! machine code with this as without.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Result, TransactionBehavior, params};
use wasq_engine::CacheStore;
use wasq_protocol::{Clock, Digest, SystemClock};

/// The largest size of the file. The functions of a Python task take 28 MB, those of a JavaScript task 40 MB.
const BYTES_MAX: i64 = 256 << 20;
/// Functions that wait to be written.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// The time of a use is exact to this.
const USE_SECONDS: i64 = 3600;
/// How long to wait for another process that writes.
const BUSY: Duration = Duration::from_secs(5);

/// The file of the functions. `None` if there is no folder that only this user may write.
pub(crate) fn functions_file() -> Option<PathBuf> {
    Some(super::own_folder("functions")?.join("1.db"))
}

/// Compiled functions in a file that several processes use at once.
pub(crate) struct CompiledFunctions(Mutex<Store>);

struct Store {
    database: Connection,
    file: PathBuf,
    bytes_max: i64,
    /// Functions that are not in the database yet, with their keys.
    pending: Vec<(Vec<u8>, Vec<u8>)>,
    pending_bytes: usize,
    /// Functions that were used, and whose time of use is old.
    used: Vec<Vec<u8>>,
}

impl CompiledFunctions {
    /// Opens the file, or makes it. `None` if this does not succeed: everything is compiled then.
    pub(crate) fn open(file: &Path) -> Option<Arc<dyn CacheStore>> {
        let mut opened = Store::open(file, BYTES_MAX);
        if opened.as_ref().is_err_and(is_damaged) {
            delete(file);
            opened = Store::open(file, BYTES_MAX);
        }
        match opened {
            Ok(store) => Some(Arc::new(Self(Mutex::new(store)))),
            Err(e) => {
                tracing::debug!("compiled functions are not remembered: {}: {e}", file.display());
                None
            }
        }
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheStore for CompiledFunctions {
    fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.store().get(key).ok().flatten().map(Cow::Owned)
    }

    fn insert(&self, key: &[u8], value: Vec<u8>) -> bool {
        self.store().insert(key, value).is_ok()
    }
}

impl fmt::Debug for CompiledFunctions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CompiledFunctions")
    }
}

impl Store {
    fn open(file: &Path, bytes_max: i64) -> Result<Self> {
        let database = Connection::open(file)?;
        database.busy_timeout(BUSY)?;
        database.pragma_update(None, "journal_mode", "wal")?;
        database.pragma_update(None, "synchronous", "normal")?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS functions (
                key BLOB PRIMARY KEY, code BLOB NOT NULL, digest TEXT NOT NULL, used INTEGER NOT NULL
            )",
        )?;
        let file = file.to_owned();
        Ok(Self { database, file, bytes_max, pending: Vec::new(), pending_bytes: 0, used: Vec::new() })
    }

    /// The function of a key, if it is there and whole.
    fn get(&mut self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        let mut select =
            self.database.prepare_cached("SELECT code, digest, used FROM functions WHERE key = ?")?;
        let row = select.query_row([key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let Some((code, digest, used)): Option<(Vec<u8>, String, i64)> = row.optional()? else {
            return Ok(None);
        };
        // A damaged file must not become machine code.
        if digest != Digest::of(&code).short() {
            return Ok(None);
        }
        if used + USE_SECONDS < now() {
            self.used.push(key.to_owned());
        }
        Ok(Some(code))
    }

    fn insert(&mut self, key: &[u8], code: Vec<u8>) -> Result<()> {
        self.pending_bytes += code.len();
        self.pending.push((key.to_owned(), code));
        if self.pending_bytes > PENDING_BYTES_MAX { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<()> {
        let (pending, used) = (std::mem::take(&mut self.pending), std::mem::take(&mut self.used));
        self.pending_bytes = 0;
        if pending.is_empty() && used.is_empty() {
            return Ok(());
        }
        let now = now();
        let transaction = self.database.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT OR REPLACE INTO functions (key, code, digest, used) VALUES (?, ?, ?, ?)",
            )?;
            for (key, code) in pending {
                insert.execute(params![key, code, Digest::of(&code).short(), now])?;
            }
            let mut update = transaction.prepare_cached("UPDATE functions SET used = ? WHERE key = ?")?;
            for key in used {
                update.execute(params![now, key])?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// Deletes the quarter that was used longest ago, if the file is too large.
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
        if let Err(e) = self.write().and_then(|()| self.prune()) {
            tracing::debug!("compiled functions are not remembered: {}: {e}", self.file.display());
            if is_damaged(&e) {
                delete(&self.file);
            }
        }
    }
}

fn is_damaged(e: &rusqlite::Error) -> bool {
    matches!(e.sqlite_error_code(), Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt))
}

/// Deletes a damaged file, with the files that SQLite has beside it. Other processes may still have it open.
fn delete(file: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let mut path = file.as_os_str().to_owned();
        path.push(suffix);
        let _ = std::fs::remove_file(path);
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

    use rusqlite::Connection;
    use wasq_engine::{CacheStore, Engine};
    use wasq_testing::read_guest;

    use super::{CompiledFunctions, Store};

    fn compile(component: &[u8], file: &Path) -> Vec<u8> {
        let functions = CompiledFunctions::open(file).unwrap();
        Engine::compiler_with(functions).unwrap().compile(component).unwrap()
    }

    fn count(file: &Path, which: &str) -> i64 {
        let database = Connection::open(file).unwrap();
        database
            .query_row(&format!("SELECT count(*) FROM functions WHERE {which}"), [], |row| row.get(0))
            .unwrap()
    }

    #[test]
    fn machine_code_is_the_same_with_remembered_functions_and_with_damaged_ones() {
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

        database.execute("UPDATE functions SET code = zeroblob(length(code))", []).unwrap();
        assert!(compile(&hello, &file) == plain);
        assert!(count(&file, "code != zeroblob(length(code))") > most);
    }

    #[test]
    fn several_processes_write_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let write = |from: u32| {
            let functions = CompiledFunctions::open(&file).unwrap();
            for i in from..from + 2000 {
                assert!(functions.insert(&i.to_be_bytes(), vec![7; 10_000]));
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| write(0));
            scope.spawn(|| write(1000));
        });
        assert_eq!(count(&file, "true"), 3000);
    }

    #[test]
    fn those_that_were_used_longest_ago_go() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let open = || CompiledFunctions(Mutex::new(Store::open(&file, 1 << 20).unwrap()));
        let functions = open();
        for i in 0..200_u32 {
            assert!(functions.insert(&i.to_be_bytes(), vec![7; 10_000]));
        }
        drop(functions);
        assert_eq!(count(&file, "true"), 150);

        let database = Connection::open(&file).unwrap();
        database.execute("UPDATE functions SET used = 0", []).unwrap();
        let functions = open();
        assert!(functions.get(&199_u32.to_be_bytes()).is_some());
        drop(functions);
        assert_eq!((count(&file, "true"), count(&file, "used > 0")), (113, 1));
    }

    #[test]
    fn no_file_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(CompiledFunctions::open(&folder.path().join("absent/functions.db")).is_none());
    }

    #[test]
    fn a_damaged_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("functions.db");
        let insert = |key: &[u8]| {
            let functions = CompiledFunctions::open(&file).unwrap();
            for i in 0..100_u8 {
                functions.insert(&[key, &[i]].concat(), vec![7; 10_000]);
            }
        };
        std::fs::write(&file, "not a database, but longer than a header of one is".repeat(20)).unwrap();
        insert(b"a");
        assert_eq!(count(&file, "true"), 100);

        // All but the header and the first page.
        let mut bytes = std::fs::read(&file).unwrap();
        bytes[4096..].fill(b'?');
        std::fs::write(&file, bytes).unwrap();
        insert(b"b");
        insert(b"c");
        assert_eq!(count(&file, "true"), 100);
    }
}
