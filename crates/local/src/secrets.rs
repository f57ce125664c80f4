//! Secrets on one machine: the settings name where AWS keeps them, and their values come from the environment or a file.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use wasq_engine::SecretValues;
use wasq_protocol::{SecretError, SecretSource, SecretStore, SecretValue, Settings};

/// The values of secrets on this machine. The value of the secret NAME is `WASQ_SECRET_NAME` in the
/// environment, or else `NAME` in the secrets file.
#[derive(Clone)]
pub struct LocalSecrets {
    env: Arc<Lookup>,
    file: PathBuf,
}

/// Looks a variable of the environment up.
type Lookup = dyn Fn(&str) -> Option<String> + Send + Sync;

impl fmt::Debug for LocalSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSecrets").field("file", &self.file).finish_non_exhaustive()
    }
}

impl LocalSecrets {
    /// Looks variables up by `env`. `file` has lines like `NAME = "VALUE"` (TOML), and is read each time; it need not be there.
    pub fn new(env: impl Fn(&str) -> Option<String> + Send + Sync + 'static, file: PathBuf) -> Self {
        Self { env: Arc::new(env), file }
    }

    /// The values of the secrets that a task's settings name. The error names the secret that has no value.
    pub fn of(&self, settings: &Settings) -> Result<SecretValues, SecretError> {
        let named = settings.secrets.iter();
        let values = named.map(|(name, secret)| Ok((name.clone(), secret.found(name, self.value(name))?)));
        values.collect()
    }

    /// When the content or the permissions of the secrets file were changed last, in seconds and nanoseconds since the
    /// epoch; `None` if it is not there.
    pub(crate) fn changed(&self) -> Option<(i64, i64)> {
        let metadata = std::fs::metadata(&self.file).ok()?;
        Some((metadata.ctime(), metadata.ctime_nsec()))
    }

    fn value(&self, name: &str) -> Result<SecretValue, SecretError> {
        let variable = format!("WASQ_SECRET_{name}");
        if let Some(value) = (self.env)(&variable) {
            return Ok(SecretValue::new(value));
        }
        let file = self.file.display();
        let value = read(&self.file).map_err(SecretError::Missing)?.remove(name);
        value.map(SecretValue::new).ok_or_else(|| {
            SecretError::Missing(format!(
                "it has no value on this machine; set {variable}, or write {name} = \"VALUE\" into {file}"
            ))
        })
    }
}

fn read(file: &Path) -> Result<BTreeMap<String, String>, String> {
    let problem = |why: String| format!("read the secrets file {}: {why}", file.display());
    let metadata = match std::fs::metadata(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        metadata => metadata.map_err(|e| problem(e.to_string()))?,
    };
    if metadata.permissions().mode() & 0o077 != 0 {
        let file = file.display();
        return Err(problem(format!("users other than its owner may read it; run `chmod 600 {file}`")));
    }
    let text = std::fs::read_to_string(file).map_err(|e| problem(e.to_string()))?;
    // The parser's own text would quote the line, and so the secret.
    toml::from_str(&text).map_err(|e: toml::de::Error| {
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        problem(format!("line {line} is not like NAME = \"VALUE\""))
    })
}

impl SecretStore for LocalSecrets {
    async fn secret(&self, name: &str, _: &SecretSource) -> Result<SecretValue, SecretError> {
        self.value(name)
    }
}
