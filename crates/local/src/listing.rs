//! The tasks of a registry, as commands list them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use wasq_page::Task;
use wasq_protocol::{LiveRecord, Rejection, TaskName, Timestamp};

use crate::data_folder::registry_path;

/// A task of a registry, or the refused upload of one.
#[derive(Clone, Debug, Default)]
pub struct Listed {
    /// The live record, if the task is live.
    pub live: Option<LiveRecord>,
    /// The last record, if the task was removed.
    pub removed: Option<LiveRecord>,
    /// The rejection of the last upload, if it was refused.
    pub rejected: Option<Rejection>,
}

impl Listed {
    /// The task that the entry is about; none if the entry is empty.
    pub fn task(&self) -> Option<&TaskName> {
        let record = self.live.as_ref().or(self.removed.as_ref()).map(|record| &record.task);
        record.or(self.rejected.as_ref().map(|rejection| &rejection.task))
    }

    /// Whether the registry has an answer to an upload that was made at this time.
    pub fn answers(&self, uploaded: Timestamp) -> bool {
        let published = self.live.iter().chain(&self.removed).map(|record| record.version.published);
        let refused = self.rejected.iter().filter(|rejection| !rejection.fault).map(|rejection| rejection.at);
        published.chain(refused).any(|answered| answered >= uploaded)
    }

    /// Combines a registry's records into one entry for each task, sorted by name.
    pub fn from_records(records: Vec<LiveRecord>, rejections: Vec<Rejection>) -> Vec<Self> {
        let mut tasks: BTreeMap<TaskName, Self> = BTreeMap::new();
        for record in records {
            let task = tasks.entry(record.task.clone()).or_default();
            let entry = if record.removed.is_none() { &mut task.live } else { &mut task.removed };
            *entry = Some(record);
        }
        for rejection in rejections {
            let task = tasks.entry(rejection.task.clone()).or_default();
            task.rejected = Some(rejection);
        }
        tasks.into_values().collect()
    }

    /// The task, as the page shows it; none if the entry is empty.
    pub fn for_page(self) -> Option<Task> {
        let name = self.task()?.clone();
        Some(Task { name, record: self.live.or(self.removed), rejected: self.rejected })
    }

    /// The record, whether the task is live or removed.
    pub fn record(&self) -> Option<&LiveRecord> {
        self.live.as_ref().or(self.removed.as_ref())
    }
}

/// The tasks in a stack's registry, by name.
pub fn list_tasks(data: &Path) -> Result<Vec<Listed>> {
    let registry = registry_path(data);
    Ok(Listed::from_records(read_all(&registry.join("live"))?, read_all(&registry.join("rejected"))?))
}

fn read_all<T: serde::de::DeserializeOwned>(folder: &Path) -> Result<Vec<T>> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Ok(Vec::new());
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            match serde_json::from_slice(&text) {
                Ok(record) => records.push(record),
                // One damaged record must not hide the others.
                Err(e) => tracing::error!("{} is damaged ({e}): push the task again", path.display()),
            }
        }
    }
    Ok(records)
}
