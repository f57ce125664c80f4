//! The table of runs of a deployment.

use std::ops::ControlFlow;

use anyhow::{Result, bail};
use wasq_aws::{RunsTable, ScheduleGroup};
use wasq_protocol::{Cancelling, Clock, ItemState, RunItem, SystemClock, Written};

use crate::cloud::Deployment;

/// The table of runs of a deployment.
pub(crate) struct DeployedRuns {
    table: RunsTable,
    /// The group of the messages that wait for their time.
    group: Option<ScheduleGroup>,
}

/// How often a cancel is tried while others write the same item.
const ROUNDS: usize = 10;

const TABLE: &str = "RunsTableName";

impl Deployment {
    /// Whether it has a table of runs.
    pub(crate) fn remembers_runs(&self) -> bool {
        self.outputs.contains_key(TABLE)
    }

    /// Its table of runs.
    pub(crate) fn runs(&self) -> Result<DeployedRuns> {
        let Some(table) = self.outputs.get(TABLE) else {
            bail!(
                "the deployment {} remembers no runs: `wasq deploy --stack {} --runs on` adds the table",
                self.name,
                self.name
            );
        };
        let bucket = self.output("RegistryBucketName")?;
        let group = self.outputs.get("ScheduleGroupName");
        Ok(DeployedRuns {
            table: RunsTable::new(&self.session.sdk, table, bucket),
            group: group.map(|group| ScheduleGroup::new(&self.session.sdk, group.clone())),
        })
    }
}

impl DeployedRuns {
    pub(crate) async fn get(&self, id: &str) -> Result<Option<RunItem>> {
        self.table.get(id).await
    }

    /// Reads the items of all messages.
    pub(crate) async fn scan(&self, mut look: impl FnMut(RunItem) -> ControlFlow<()>) -> Result<()> {
        let look = |item: RunItem| if item.is_of_message() { look(item) } else { ControlFlow::Continue(()) };
        self.table.scan(look).await
    }

    /// Cancels a message. If it has ended, the answer is its state.
    pub(crate) async fn cancel(&self, id: &str) -> Result<Result<RunItem, ItemState>> {
        for _ in 0..ROUNDS {
            let stored = self.get(id).await?;
            let revision = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
            let write = match RunItem::cancel(stored.as_ref(), id, revision, SystemClock.now()) {
                Cancelling::Ended(state) => return Ok(Err(state)),
                Cancelling::Write(write) => *write,
            };
            let item = write.item.clone();
            if let Written::Yes = self.table.put(&[write]).await.remove(0)? {
                if let (Some(group), Some(kept_as)) =
                    (&self.group, stored.as_ref().and_then(RunItem::kept_as))
                    && let Err(e) = group.delete(&ScheduleGroup::message_name(&kept_as)).await
                {
                    // It is cancelled in any case: at its time, the worker deletes it.
                    tracing::warn!("the schedule of {id} stays until its time: {e:#}");
                }
                return Ok(Ok(item));
            }
        }
        bail!("{id} changes again and again; try once more")
    }
}
