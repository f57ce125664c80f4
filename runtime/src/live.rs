//! Live records, believed for a moment.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;
use wasq_protocol::{LiveRecord, TaskName};

use crate::ports::Registry;

/// The records that were read last.
pub(crate) struct LiveRecords {
    /// How long a record is believed.
    ttl: Duration,
    read: Mutex<HashMap<TaskName, (Instant, Arc<LiveRecord>)>>,
}

/// Records that are remembered; beyond that, all are forgotten.
const REMEMBERED_MAX: usize = 1000;

impl LiveRecords {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self { ttl, read: Mutex::default() }
    }

    /// What is live under a name. That nothing is, is not remembered: it may be being published.
    pub(crate) async fn get<R: Registry>(
        &self,
        registry: &R,
        task: &TaskName,
    ) -> Result<Option<Arc<LiveRecord>>> {
        if let Some((read, record)) = self.read().get(task)
            && read.elapsed() < self.ttl
        {
            return Ok(Some(record.clone()));
        }
        // Before it is read: what goes live meanwhile must be seen after the time to live at the latest.
        let asked = Instant::now();
        let live = registry.live(task).await?.filter(|record| record.removed.is_none());
        let Some(record) = live else {
            return Ok(None);
        };
        let record = Arc::new(record);
        if self.ttl > Duration::ZERO {
            let mut read = self.read();
            if read.len() >= REMEMBERED_MAX {
                read.clear();
            }
            read.insert(task.clone(), (asked, record.clone()));
        }
        Ok(Some(record))
    }

    fn read(&self) -> MutexGuard<'_, HashMap<TaskName, (Instant, Arc<LiveRecord>)>> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
