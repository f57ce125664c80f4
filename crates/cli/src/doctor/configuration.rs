//! The live configuration, as far as the doctor looks at it.

use std::collections::BTreeMap;
use std::time::Duration;

use wasq_protocol::{Fingerprint, Pong, TaskName};

use crate::doctor::policy::Statement;

/// A part of the configuration, as far as it was read.
#[derive(Clone, Debug, Default)]
pub(crate) enum Read<T> {
    /// It was read.
    Known(T),
    /// It is not known: it does not exist (see [`Live::missing`]), or could not be read (see [`Live::unread`]).
    #[default]
    Unknown,
}

impl<T> Read<T> {
    /// The part, if it was read.
    pub(crate) fn known(&self) -> Option<&T> {
        match self {
            Self::Known(part) => Some(part),
            Self::Unknown => None,
        }
    }
}

/// The live configuration of a wasq.
#[derive(Clone, Debug, Default)]
pub(crate) struct Live {
    pub(crate) queue: QueueSettings,
    pub(crate) dead_letters: Read<QueueSettings>,
    /// The parts that exist only on AWS.
    pub(crate) deployed: Option<Deployed>,
    /// The options that commands in findings need to name this wasq.
    pub(crate) place: Place,
    /// Resources of the stack that do not exist any more.
    pub(crate) missing: Vec<String>,
    /// Parts that could not be read, with the reasons.
    pub(crate) unread: Vec<String>,
}

/// Options of the AWS CLI and of `wasq` that say which wasq is meant.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub(crate) aws: String,
    pub(crate) wasq: String,
}

/// A queue's attributes.
#[derive(Clone, Debug, Default)]
pub(crate) struct QueueSettings {
    pub(crate) name: String,
    pub(crate) url: String,
    pub(crate) arn: String,
    pub(crate) visibility: Duration,
    pub(crate) retention: Duration,
    /// How long every message waits that names no delay of its own.
    pub(crate) delay: Duration,
    /// The largest message that it takes, in bytes.
    pub(crate) message_max: u64,
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

/// The parts of a deployment other than its queues.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deployed {
    pub(crate) worker: Read<FunctionSettings>,
    pub(crate) publisher: Read<FunctionSettings>,
    /// `None` if Lambda polls the queue itself.
    pub(crate) consumer: Option<Read<FunctionSettings>>,
    pub(crate) schedule: Option<Read<ScheduleSettings>>,
    /// The mappings of every function that polls the queue.
    pub(crate) mappings: Read<Vec<MappingSettings>>,
    pub(crate) roles: Vec<RoleSettings>,
    pub(crate) tasks_bucket: Read<BucketSettings>,
    pub(crate) registry_bucket: Read<BucketSettings>,
    /// Functions that are notified of uploads, by ARN or name.
    pub(crate) told_of_uploads: Read<Vec<String>>,
    /// The table of runs; `None` if the stack has none.
    pub(crate) runs_table: Option<Read<TableSettings>>,
    /// Executions that the account may have at once, over all functions.
    pub(crate) account_concurrency: Read<u32>,
    /// Uploads that are neither live nor refused, although there was time enough: the names of their tasks.
    pub(crate) unpublished: Read<Vec<TaskName>>,
    /// The worker's answer to a ping.
    pub(crate) pong: Read<Pong>,
    /// Live tasks, each with the fingerprints of the engines that it is compiled for.
    pub(crate) tasks: BTreeMap<TaskName, Vec<Fingerprint>>,
    /// The live tasks whose settings say `once`, as far as they are known.
    pub(crate) once: Vec<TaskName>,
    /// The schedules that live tasks should have: their full names by their names on AWS.
    pub(crate) expected_schedules: Read<BTreeMap<String, String>>,
    /// The schedules of tasks that are there; `None` if the stack has no schedule group.
    pub(crate) task_schedules: Option<Read<TaskSchedules>>,
}

/// The schedules of tasks in the schedule group.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskSchedules {
    pub(crate) group: String,
    pub(crate) schedules: Vec<TaskSchedule>,
}

/// A schedule of a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct TaskSchedule {
    pub(crate) name: String,
    pub(crate) enabled: bool,
    /// The ARN that it sends to.
    pub(crate) target: String,
}

/// A function's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct FunctionSettings {
    pub(crate) name: String,
    pub(crate) timeout: Duration,
    pub(crate) environment: BTreeMap<String, String>,
    /// Whether Lambda lets a chain of invokes through the same queue continue.
    pub(crate) may_recur: bool,
    pub(crate) reserved: Option<u32>,
}

/// The configuration of the table of runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct TableSettings {
    pub(crate) name: String,
    /// Whether DynamoDB deletes items by the attribute `expires`.
    pub(crate) forgets: bool,
    /// Whether an earlier state can be restored.
    pub(crate) recoverable: bool,
}

/// The schedule that wakes the consumer.
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
    /// Whether Lambda reads from the answer which messages of a batch failed.
    pub(crate) reports_failures: bool,
    /// Whether Lambda looks at messages before it hands them over. It deletes those that match no pattern.
    pub(crate) filters: bool,
    /// The most invokes of the mapping at once.
    pub(crate) concurrency_max: Option<u32>,
}

/// The permissions of a function or of the schedule.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoleSettings {
    /// The owner of the role: `worker`, `consumer`, `publisher`, `schedule` or `sweep`.
    pub(crate) whose: &'static str,
    pub(crate) name: String,
    /// The statements of the role's own policies.
    pub(crate) statements: Vec<Statement>,
    /// Managed policies that are attached in addition, by ARN.
    pub(crate) attached: Vec<String>,
}

/// A bucket's configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct BucketSettings {
    pub(crate) name: String,
    pub(crate) arn: String,
    /// Whether all four settings that block public access are on.
    pub(crate) closed_to_public: bool,
    pub(crate) encrypted: bool,
    pub(crate) versioned: bool,
    pub(crate) policy: Vec<Statement>,
    /// The rules that delete objects after some time.
    pub(crate) expiry: Vec<ExpiryRule>,
}

/// A lifecycle rule that is on.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpiryRule {
    pub(crate) id: String,
    /// The beginning of the names of the objects that it is for.
    pub(crate) prefix: String,
    /// Whether it deletes objects that nobody has overwritten.
    pub(crate) current: bool,
    /// Whether it deletes earlier versions of objects.
    pub(crate) noncurrent: bool,
}

impl FunctionSettings {
    /// A variable of its environment.
    pub(crate) fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }
}
