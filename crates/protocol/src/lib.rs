#![doc = include_str!("../README.md")]

mod address;
mod causes;
mod cron;
mod dead_letter;
mod delivery;
mod digest;
mod event;
mod live_record;
mod message;
mod name;
mod outcome;
mod overview;
mod printable;
mod publish;
mod run_item;
mod run_record;
mod schedule;
mod secret;
mod settings;
mod text;
mod time;
mod trace;
mod units;
mod vars;

pub use address::{AddressRange, AddressRanges};
pub use causes::with_causes;
pub use cron::{Cron, Day};
pub use dead_letter::{DeadLetter, DeadLetterAttributes, EarlierEnd, TextAttribute};
pub use delivery::{Attribute, Batch, DEATHS_MAX, Delivery};
pub use digest::{Digest, DigestError, Hasher};
pub use event::{BatchItemFailure, BatchResponse, EventError, Invoke, Pong, WorkerEvent};
pub use live_record::{Artifact, Fingerprint, LiveRecord, Rejection, Version, WORLD};
pub use message::{
    AHEAD_IN_QUEUE, AHEAD_MAX, DELAYED_BYTES_MAX, MAX_MESSAGE_BYTES, Message, MessageError,
    can_leave_the_queue, check_id,
};
pub use name::{NameError, TaskName};
pub use outcome::{End, Ended, Failure, FailureKind, Outcome, Unfinished};
pub use overview::{MessageCounts, Overview, OverviewSlice, Quantiles, TaskLoad};
pub use printable::{Printable, PrintableJson};
pub use publish::PublishRequest;
pub use run_item::{
    AttemptEnd, Cancelling, ChildRef, ItemState, ItemWrite, RunItem, Step, UnsentChild, Written,
};
pub use run_record::{Metrics, RecordLevel, RunOutcome, RunRecord, SavedStep, SentRequest, Then};
pub use schedule::{Missed, Overlap, Schedule, ScheduleState, When};
pub use secret::{Secret, SecretError, SecretSource, SecretStore, SecretValue};
pub use settings::{AllowedHost, Backoff, Caps, Compatible, Settings, SettingsError};
pub use time::{Clock, SystemClock, Timestamp};
pub use trace::traceparent_of;
pub use units::{ByteCount, UnitError, format_duration, parse_duration};
pub use vars::{LEASE_BY_DEFAULT, RETENTION_BY_DEFAULT, VarError, Vars};
