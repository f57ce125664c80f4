//! The values of secrets, believed for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use wasq_engine::SecretValues;
use wasq_protocol::{SecretError, SecretSource, SecretValue, Settings};

use crate::ports::SecretStore;

/// The values that were read last.
pub(crate) struct Secrets {
    /// How long a value is believed.
    ttl: Duration,
    /// Locked while a value is read, so that of many runs that wait for it one asks.
    read: Mutex<HashMap<SecretSource, Arc<tokio::sync::Mutex<Option<Known>>>>>,
}

#[derive(Clone)]
struct Known {
    value: SecretValue,
    read: Instant,
}

/// A value that cannot be read again is used no longer than this.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// Values that are remembered; beyond that, all are forgotten.
const REMEMBERED_MAX: usize = 1000;

impl Secrets {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, read: Mutex::default() }
    }

    /// The values of what a task's settings name. The error says which has none.
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
            // What was right a while ago is better than no run.
            Err(SecretError::Unavailable(why))
                if known.as_ref().is_some_and(|known| known.read.elapsed() < STALE_MAX) =>
            {
                tracing::warn!(%from, "a secret could not be read again, its last value is used: {why}");
                Ok(known.as_ref().map(|known| known.value.clone()).expect("looked at above"))
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
