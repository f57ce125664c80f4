//! The facts of a delivery.

use std::time::Duration;

use tokio::time::Instant;
use tracing::Span;
use wasq_protocol::{Backoff, Delivery, Digest, RunItem, SentRequest, Settings, TaskName, Timestamp};

use crate::runs::{Claim, Memory};

/// The facts of a delivery. The stages add to them; verdict, dead letter and log line are made of them.
pub(crate) struct Facts {
    /// The delivery; `None` for a direct invoke.
    pub(crate) delivery: Option<Delivery>,
    /// The message's own id: the one that its task sees.
    pub(crate) id: String,
    /// The task, if the message names one.
    pub(crate) task: Option<TaskName>,
    /// The id of the message whose task enqueued this one.
    pub(crate) parent: Option<String>,
    /// The id of the message at the top of the chain of parents; none if it is this one.
    pub(crate) root: Option<String>,
    /// The message's `not_before`.
    pub(crate) not_before: Option<Timestamp>,
    /// The trace context for the task and its children: the message's own, or X-Ray's in W3C's form.
    pub(crate) traceparent: Option<String>,
    /// Whether `traceparent` is X-Ray's.
    pub(crate) from_xray: bool,
    /// X-Ray's trace header, which came with the message.
    pub(crate) trace_header: Option<String>,
    /// When the worker received it.
    pub(crate) received: Timestamp,
    /// The same moment, to measure from.
    pub(crate) instant: Instant,
    /// Who sees it if the worker dies of this delivery.
    pub(crate) watch: Watch,
    /// Which attempt it is; the first is 1. The number of receives until the message is claimed. Without a claim, the receives that
    /// only waited are taken off once the live record is known.
    pub(crate) attempt: u32,
    /// How often the task may be attempted; `None` until its settings are known.
    pub(crate) retries: Option<Retries>,
    /// The module that ran; `None` if there was no run.
    pub(crate) digest: Option<Digest>,
    /// The memory of the message.
    pub(crate) memory: Memory,
    /// Times, memory and requests that the delivery has used.
    pub(crate) usage: Usage,
    /// Its span: log lines inside have `task`, `id`, `attempt`, and `message_id` if that is not the id.
    pub(crate) span: Span,
}

impl Facts {
    /// The claim of the message, if this delivery may have one.
    pub(crate) fn claim(&self) -> Option<&Claim> {
        match &self.memory {
            Memory::Claimed(claim) => Some(claim),
            Memory::Nothing | Memory::Ended(_) => None,
        }
    }

    /// As [`Self::claim`], to change it.
    pub(crate) fn claim_mut(&mut self) -> Option<&mut Claim> {
        match &mut self.memory {
            Memory::Claimed(claim) => Some(claim),
            Memory::Nothing | Memory::Ended(_) => None,
        }
    }

    /// The item of the message, as this delivery wrote or found it last.
    pub(crate) fn item(&self) -> Option<&RunItem> {
        match &self.memory {
            Memory::Claimed(claim) => Some(&claim.item),
            Memory::Ended(item) => Some(item),
            Memory::Nothing => None,
        }
    }
}

/// Who sees it if a worker dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watch {
    /// The consumer, or the caller of a direct invoke.
    Watched,
    /// Nobody: the delivery came by an event source mapping.
    Unwatched {
        /// No other delivery of its event runs beside it.
        alone: bool,
    },
}

/// How often the task's settings let a message be attempted, and after which waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retries {
    pub(crate) max_attempts: u32,
    pub(crate) backoff: Backoff,
}

impl Retries {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self { max_attempts: settings.max_attempts, backoff: settings.backoff }
    }
}

/// Times, memory and requests that a delivery has used.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// When it got its slot.
    pub(crate) slot_taken: Option<Timestamp>,
    /// The wait for the slot, and for memory.
    pub(crate) slot_wait: Duration,
    /// Reading the live record, loading the module, and reading secrets.
    pub(crate) load: Duration,
    /// The run itself.
    pub(crate) run: Duration,
    /// The most memory that the run had, in bytes.
    pub(crate) peak_memory: u64,
    /// HTTP requests that the policy denied.
    pub(crate) denied: u32,
    /// The first HTTP requests.
    pub(crate) requests: Vec<SentRequest>,
}
