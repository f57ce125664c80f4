//! The schedule group of a deployment.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use wasq_aws::{MESSAGES_PREFIX, ScheduleGroup};
use wasq_schedule::TASKS_PREFIX;

use crate::cloud::Deployment;

/// The schedule group of a deployment.
pub(crate) struct DeployedSchedules(ScheduleGroup);

/// Schedules of tasks that are listed.
const SCHEDULES_MAX: usize = 10_000;

impl Deployment {
    /// Its schedule group; `None` if an earlier version of wasq has deployed it.
    pub(crate) fn schedule_group(&self) -> Option<DeployedSchedules> {
        let group = self.outputs.get("ScheduleGroupName")?;
        Some(DeployedSchedules(ScheduleGroup::new(&self.session.sdk, group.clone())))
    }

    /// Its schedule group, also if the stack is not complete and has no outputs.
    pub(crate) async fn schedule_group_that_is_there(&self) -> Result<Option<DeployedSchedules>> {
        let group = self.resources().await?.remove("ScheduleGroup");
        Ok(group.map(|group| DeployedSchedules(ScheduleGroup::new(&self.session.sdk, group))))
    }

    /// As [`Self::schedule_group`]; the error says what to do.
    pub(crate) fn schedules(&self) -> Result<DeployedSchedules> {
        match self.schedule_group() {
            Some(schedules) => Ok(schedules),
            None => bail!(
                "the deployment {} has no schedules: `wasq deploy --stack {}` adds them",
                self.name,
                self.name
            ),
        }
    }
}

impl DeployedSchedules {
    /// The schedules of tasks by their names on AWS: whether each fires, or is paused.
    pub(crate) async fn enabled(&self) -> Result<BTreeMap<String, bool>> {
        let listed = self.0.list(TASKS_PREFIX, SCHEDULES_MAX).await?;
        Ok(listed.into_iter().map(|schedule| (schedule.name, schedule.enabled)).collect())
    }

    /// Pauses a schedule, or lets it go on. Returns `false` if there is none with this name on AWS.
    pub(crate) async fn pause(&self, name: &str, paused: bool) -> Result<bool> {
        self.0.pause(name, paused).await
    }

    /// The number of messages that wait here for their time, up to about `max`.
    pub(crate) async fn delayed(&self, max: usize) -> Result<u64> {
        Ok(self.0.list(MESSAGES_PREFIX, max).await?.len() as u64)
    }
}
