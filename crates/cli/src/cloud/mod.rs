//! AWS beyond queues: the account, stacks, and the functions' code.

mod buckets;
mod code;
mod logs;
mod publisher;
mod runs;
mod schedules;
mod session;
mod stack;
mod template;

pub(crate) use buckets::Buckets;
pub(crate) use code::{ARCHITECTURES, CodeBucket, Functions};
pub(crate) use logs::records;
pub(crate) use publisher::{PublisherFunction, Recompiled};
pub(crate) use runs::DeployedRuns;
pub(crate) use session::{Bucket, Identity, Session, explain};
pub(crate) use stack::{Deployment, Kept, Namespace, Stack};
