//! The live configuration, as far as the doctor looks at it. `None` is what is not there.

use std::collections::BTreeMap;
use std::time::Duration;

use wasq_protocol::{Fingerprint, TaskName};

use crate::doctor::policy::Statement;

/// The live configuration of a wasq.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) queue: QueueSettings,
    pub(crate) dead_letters: QueueSettings,
    /// What there is on AWS only.
    pub(crate) deployed: Option<Deployed>,
    /// How a command of the AWS CLI and one of `wasq` say which wasq is meant.
    pub(crate) place: Place,
    /// What the stack consists of, and is not there any more.
    pub(crate) missing: Vec<String>,
    /// What could not be read, and why.
    pub(crate) unread: Vec<String>,
}

/// Options that name a place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) aws: String,
    pub(crate) wasq: String,
}

/// A queue's attributes. Without a name it could not be read, as everything else here.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueSettings {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) arn: String,
    pub(crate) visibility: Duration,
    pub(crate) retention: Duration,
    pub(crate) redrive: Option<Redrive>,
    pub(crate) encrypted: bool,
    pub(crate) policy: Vec<Statement>,
}

/// A redrive policy.
#[derive(Clone, Debug, Default)]
pub(crate) struct Redrive {
    pub(crate) target_arn: String,
    pub(crate) receives_max: u32,
}

/// What a deployment consists of beside its queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deployed {
    pub(crate) worker: FunctionSettings,
    pub(crate) publisher: FunctionSettings,
    /// None where Lambda polls by itself.
    pub(crate) consumer: Option<FunctionSettings>,
    pub(crate) schedule: Option<ScheduleSettings>,
    /// Of every function that polls the queue; `None` if that could not be read.
    pub(crate) mappings: Option<Vec<MappingSettings>>,
    pub(crate) roles: Vec<RoleSettings>,
    pub(crate) tasks_bucket: BucketSettings,
    pub(crate) registry_bucket: BucketSettings,
    /// Functions that hear of uploads, by ARN or name; `None` if that could not be read.
    pub(crate) told_of_uploads: Option<Vec<String>>,
    /// What the worker said of itself.
    pub(crate) worker_runs: Option<Fingerprint>,
    /// Live tasks, and what they are compiled for.
    pub(crate) tasks: BTreeMap<TaskName, Vec<Fingerprint>>,
}

/// A function's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct FunctionSettings {
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) environment: BTreeMap<String, String>,
    /// Lambda's own retries of asynchronous invokes.
    pub(crate) retries: u32,
    pub(crate) event_age: Duration,
    /// Whether a chain through the same queue goes on.
    pub(crate) may_recur: bool,
    pub(crate) reserved: Option<u32>,
}

/// What wakes the consumer.
#[derive(Clone, Debug, Default)]
pub(crate) struct ScheduleSettings {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    pub(crate) expression: String,
}

/// A function that polls the queue.
#[derive(Clone, Debug, Default)]
pub(crate) struct MappingSettings {
    pub(crate) id: String,
    pub(crate) function: String,
    pub(crate) enabled: bool,
    /// Whether Lambda looks at which messages failed.
    pub(crate) reports_failures: bool,
}

/// What a function may do.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleSettings {
    /// Whose role it is: `worker`, `consumer`, `publisher` or `schedule`.
    pub(crate) whose: &'static str,
    pub(crate) name: String,
    /// Of its own policies.
    pub(crate) statements: Vec<Statement>,
    /// Managed policies beside them, by ARN.
    pub(crate) attached: Vec<String>,
}

/// A bucket's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketSettings {
    pub(crate) name: String,
    pub(crate) arn: String,
    /// Whether all four locks against public access are on.
    pub(crate) closed_to_public: bool,
    pub(crate) encrypted: bool,
    pub(crate) versioned: bool,
    pub(crate) policy: Vec<Statement>,
}

impl FunctionSettings {
    /// A variable of its environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }
}
