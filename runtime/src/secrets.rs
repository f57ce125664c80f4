//! The cache of secret values, with a time to live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasq_engine::SecretValues;
use wasq_protocol::{SecretError, SecretSource, SecretStore, SecretValue, Settings};

/// The values that were read last.
pub(crate) struct SecretCache {
    /// The time for which a value is used before it is read again.
    ttl: Duration,
    /// Each value is locked while it is read, so that only one of the runs that wait for it asks the store.
    read: Mutex<HashMap<SecretSource, Arc<tokio::sync::Mutex<Option<Known>>>>>,
}

#[derive(Clone)]
struct Known {
    value: SecretValue,
    read: Instant,
}

/// A value that cannot be read again is used no longer than this.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// The most values in the cache. If it is full, the next new value clears it.
const REMEMBERED_MAX: usize = 1000;

impl SecretCache {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, read: Mutex::default() }
    }

    /// Returns the values of the secrets that a task's settings name. The error names a secret
    /// that has no value.
    pub(crate) async fn of<S: SecretStore>(
        &self,
        store: &S,
        settings: &Settings,
    ) -> Result<SecretValues, SecretError> {
        let mut values = SecretValues::new();
        for (name, secret) in &settings.secrets {
            let found = self.value(store, name, &secret.from).await;
            values.insert(name.clone(), secret.found(name, found)?);
        }
        Ok(values)
    }

    async fn value<S: SecretStore>(
        &self,
        store: &S,
        name: &str,
        from: &SecretSource,
    ) -> Result<SecretValue, SecretError> {
        let cell = self.cell(from);
        let mut known = cell.lock().await;
        if let Some(known) = &*known
            && known.read.elapsed() < self.ttl
        {
            return Ok(known.value.clone());
        }
        match store.secret(name, from).await {
            Ok(value) => {
                *known = Some(Known { value: value.clone(), read: Instant::now() });
                Ok(value)
            }
            // A value that was right up to an hour ago is better than no run.
            Err(SecretError::Unavailable(why))
                if known.as_ref().is_some_and(|known| known.read.elapsed() < STALE_MAX) =>
            {
                tracing::warn!(%from, "a secret could not be read again, its last value is used: {why}");
                Ok(known.as_ref().map(|known| known.value.clone()).expect("the guard has found a value"))
            }
            Err(e) => {
                *known = None;
                Err(e)
            }
        }
    }

    fn cell(&self, from: &SecretSource) -> Arc<tokio::sync::Mutex<Option<Known>>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= REMEMBERED_MAX && !read.contains_key(from) {
            read.clear();
        }
        read.entry(from.clone()).or_default().clone()
    }
}
