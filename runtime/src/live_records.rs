//! The cache of live records, with a time to live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;
use wasq_protocol::{Caps, LiveRecord, Settings, TaskName};
use wasq_schema::{Schema, Schemas};

use crate::ports::Registry;

/// The live record of a task, and its settings.
pub(crate) struct Live {
    pub(crate) record: Arc<LiveRecord>,
    /// Its settings, within the operator's caps.
    pub(crate) settings: Settings,
    /// The schema of its params, if it has one.
    pub(crate) params: Option<Arc<Schema>>,
}

/// The records that were read last.
pub(crate) struct LiveRecords {
    /// The time for which a record is used before it is read again.
    ttl: Duration,
    caps: Caps,
    read: Mutex<HashMap<TaskName, (Instant, Arc<Live>)>>,
}

/// The most records in the cache. If it is full, the next record clears it.
const REMEMBERED_MAX: usize = 1000;

impl LiveRecords {
    pub(crate) fn new(ttl: Duration, caps: Caps) -> Self {
        Self { ttl, caps, read: Mutex::default() }
    }

    /// Returns the live record of a task at the time `now`. A missing record is not cached: the publisher may
    /// be working on the task.
    pub(crate) async fn get<R: Registry>(
        &self,
        registry: &R,
        task: &TaskName,
        now: Instant,
    ) -> Result<Option<Arc<Live>>> {
        let earlier = self.read().get(task).cloned();
        if let Some((read, live)) = &earlier
            && now.saturating_duration_since(*read) < self.ttl
        {
            return Ok(Some(live.clone()));
        }
        let record = registry.live(task).await?.filter(|record| record.removed.is_none());
        let Some(record) = record else {
            return Ok(None);
        };
        let live = match earlier {
            Some((_, live)) if Arc::ptr_eq(&live.record, &record) => live,
            earlier => {
                let settings = record.version.settings.clone().capped(&self.caps);
                let params = params_of(&record, earlier.map(|(_, live)| live).as_deref());
                Arc::new(Live { record, settings, params })
            }
        };
        let mut read = self.read();
        if read.len() >= REMEMBERED_MAX {
            read.clear();
        }
        // The time is from before the read. A version that goes live during the read must be seen after
        // the time to live at the latest.
        read.insert(task.clone(), (now, live.clone()));
        Ok(Some(live))
    }

    fn read(&self) -> MutexGuard<'_, HashMap<TaskName, (Instant, Arc<Live>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The schema of the params. The one of the record that was read last stays, because most records say the same again.
fn params_of(record: &LiveRecord, earlier: Option<&Live>) -> Option<Arc<Schema>> {
    let schema = record.version.schema.as_ref()?;
    if let Some(earlier) = earlier
        && earlier.record.version.digest == record.version.digest
        && earlier.record.version.schema.as_ref() == Some(schema)
    {
        return earlier.params.clone();
    }
    match Schemas::of(schema) {
        Ok(schemas) => schemas.params.map(Arc::new),
        Err(e) => {
            // The publisher has checked it: a newer one may know more keywords.
            tracing::error!(task = %record.task, "params are not checked, this worker cannot read their schema: {e}");
            None
        }
    }
}
