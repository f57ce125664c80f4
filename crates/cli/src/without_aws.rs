//! `cloud` in a `wasq` that was built without its feature `aws`: there are no deployments.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::ControlFlow;

use anyhow::{Result, bail};
use serde::de::DeserializeOwned;
use wasq_protocol::{ItemState, RunItem};

use crate::deployed::{DeployedQueues, DeploymentStatus};
use crate::log_lines::Printer;

/// A deployment on AWS: there is none.
pub(crate) struct Deployment(Infallible);

/// The table of runs of a deployment: there is none.
pub(crate) struct DeployedRuns(Infallible);

/// The buckets of a deployment: there are none.
pub(crate) struct Buckets(Infallible);

/// The schedule group of a deployment: there is none.
pub(crate) struct DeployedSchedules(Infallible);

impl Deployment {
    pub(crate) async fn find(stack: String, _: Option<String>) -> Result<Self> {
        bail!(
            "this wasq was built without AWS, so it cannot reach the stack {stack}: build it with its feature `aws`"
        )
    }

    /// It cannot be there.
    pub(crate) fn never(&self) -> ! {
        match self.0 {}
    }

    pub(crate) fn queues(&self) -> Result<DeployedQueues> {
        match self.0 {}
    }

    pub(crate) fn buckets(&self) -> Result<Box<Buckets>> {
        match self.0 {}
    }

    pub(crate) fn status(&self) -> Result<DeploymentStatus> {
        match self.0 {}
    }

    pub(crate) fn runs(&self) -> Result<DeployedRuns> {
        match self.0 {}
    }

    pub(crate) fn schedule_group(&self) -> Option<DeployedSchedules> {
        match self.0 {}
    }

    pub(crate) fn schedules(&self) -> Result<DeployedSchedules> {
        match self.0 {}
    }

    pub(crate) async fn print_logs(&self, _: &Printer, _: bool) -> Result<()> {
        match self.0 {}
    }
}

impl DeployedRuns {
    pub(crate) async fn get(&self, _: &str) -> Result<Option<RunItem>> {
        match self.0 {}
    }

    pub(crate) async fn scan(&self, _: impl FnMut(RunItem) -> ControlFlow<()>) -> Result<()> {
        match self.0 {}
    }

    pub(crate) async fn cancel(&self, _: &str) -> Result<Result<RunItem, ItemState>> {
        match self.0 {}
    }
}

impl DeployedSchedules {
    pub(crate) async fn enabled(&self) -> Result<BTreeMap<String, bool>> {
        match self.0 {}
    }

    pub(crate) async fn pause(&self, _: &str, _: bool) -> Result<bool> {
        match self.0 {}
    }

    pub(crate) async fn delayed(&self, _: usize) -> Result<u64> {
        match self.0 {}
    }
}

impl Buckets {
    pub(crate) async fn stored(&self, _: &str) -> Result<Option<Vec<u8>>> {
        match self.0 {}
    }

    pub(crate) async fn uploaded(&self, _: &str) -> Result<Option<Vec<u8>>> {
        match self.0 {}
    }

    pub(crate) async fn upload(&self, _: &str, _: Vec<u8>) -> Result<()> {
        match self.0 {}
    }

    pub(crate) async fn withdraw(&self, _: &str) -> Result<()> {
        match self.0 {}
    }

    pub(crate) async fn registered<T: DeserializeOwned>(&self, _: &str) -> Result<Vec<T>> {
        match self.0 {}
    }
}
