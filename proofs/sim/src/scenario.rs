//! The scenario of a world, and the numbers that all parts of a world share.

use std::time::Duration;

use wasq_consumer::Mode;

/// The maximum attempts of each task in a world.
pub const MAX_ATTEMPTS: u32 = 4;
/// The timeout of one run.
pub const TIMEOUT: Duration = Duration::from_secs(120);
/// The time after which an invoke of the worker is cut off.
pub const INVOKE_TIME: Duration = Duration::from_secs(300);
/// How long the end of a message is remembered, in a world with a table of runs.
pub const KEEP: Duration = Duration::from_secs(600);
/// The first bytes of simulated machine code.
pub const CODE: &[u8] = b"code:";

/// How long wasq's queue keeps messages.
const RETENTION: Duration = Duration::from_secs(4 * 24 * 3600);
/// The receives after which wasq's queue moves a message to the dead-letter queue.
const RECEIVES_MAX: u32 = 1000;
/// How long the reference's queue keeps messages.
const REFERENCE_RETENTION: Duration = Duration::from_secs(300);
/// The reference needs no redrive policy: each of its retries is a new message.
const REFERENCE_RECEIVES_MAX: u32 = u32::MAX;
/// Messages that are sent in one world.
pub const TASKS_A_WORLD: u32 = 500;
/// The maximum number of crashes in one world.
const CRASHES_A_WORLD: u32 = 150;

/// The input of a world. The same scenario gives the same world.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// The seed of all random choices.
    pub seed: u64,
    /// Messages that are sent from outside.
    pub tasks: u32,
    /// The maximum number of crashes.
    pub crashes: u32,
    /// The faults that happen.
    pub weather: Weather,
    /// How the queue is drained.
    pub drain: Drain,
    /// The messages that are sent.
    pub load: Load,
    /// The protocol that moves the messages.
    pub protocol: Protocol,
    /// Whether runs are remembered.
    pub runs: Remembering,
    /// The mistake in the protocol, if there is one. The simulator must detect it.
    pub mutation: Option<Mutation>,
}

/// The protocols that can move the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The protocol of wasq.
    Wasq,
    /// The protocol of the design that wasq replaces.
    Reference,
}

/// Whether runs are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remembering {
    /// There is no table of runs.
    Off,
    /// There is a table, and a message runs without it while it does not answer.
    On,
    /// There is a table, and the tasks say `once`.
    Once,
}

/// The faults that happen in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// No faults: every message has exactly the runs that its script says.
    Calm,
    /// All faults, until two minutes after the last message was sent.
    Stormy,
    /// Lambda refuses every invoke for eight hours; nothing else goes wrong.
    Busy,
    /// Lambda runs three invokes at once, and refuses the others.
    Crowded,
}

/// How the queue is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// By the consumer, every minute.
    Schedule(Mode),
    /// By an event source mapping.
    EventSource,
}

/// The messages that are sent in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Messages of every sort: about two a second, in bursts.
    Mixed,
    /// Fifty short tasks a second, which all succeed. The first half of them may not run before the next day.
    BesideWaiting,
    /// Tasks that run for a minute, sent 5 ms apart. One in ten always fails, the others succeed.
    Long,
    /// One message in twenty kills its worker whenever it runs; the others are short and succeed.
    Killers,
    /// Short tasks that succeed, sent at even intervals.
    Even {
        /// How far apart they are sent, in microseconds.
        apart_us: u64,
    },
}

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The consumer deletes the messages that it handed over.
    DeleteOnHandOver,
    /// Leases are not extended.
    NoHeartbeat,
    /// The original is deleted before the dead letter is sent.
    DeleteBeforeDeadLetter,
    /// The parent is deleted before its children are sent.
    DeleteBeforeChildren,
    /// Failed entries of a batch call count as done.
    EntryFailuresIgnored,
    /// Every attempt is taken for the first.
    AttemptsForgotten,
    /// Nothing is sent to the dead-letter queue.
    NoDeadLetters,
    /// Children are sent while their parent runs.
    EagerChildren,
    /// The worker runs deliveries with leases that are over.
    StaleLeasesTaken,
    /// A message that is to be retried is hidden for 12 hours, the longest time that SQS allows.
    NeverReleased,
    /// The consumer hands over by asynchronous invokes. Lambda drops an event that waits for too long, and the receive of its
    /// messages counts as an attempt.
    Asynchronous,
    /// The consumer does not see that a worker died.
    DeathsUnseen,
    /// The end of a run is written into the table whoever has the message.
    CommitWithoutOwner,
    /// A message is deleted before the table has the end of its run.
    DeleteBeforeCommit,
    /// Children are sent before the table has the end of their parent's run.
    ChildrenBeforeCommit,
    /// An item that is forgotten counts as one that is there.
    TtlIgnored,
    /// A message that was cancelled is run.
    CancelIgnored,
    /// The steps of an attempt that failed are not kept.
    StepsForgotten,
    /// A message that waits for its time is deleted, and no schedule is made.
    DelayedForgotten,
    /// Each message of a firing has an id of its own, so two of one firing are two messages.
    FiringsWithoutIds,
    /// A schedule that is gone from the settings of its task goes on.
    SchedulesStay,
}

impl Mutation {
    /// Every mistake.
    pub const ALL: [Mutation; 21] = [
        Mutation::DeleteOnHandOver,
        Mutation::NoHeartbeat,
        Mutation::DeleteBeforeDeadLetter,
        Mutation::DeleteBeforeChildren,
        Mutation::EntryFailuresIgnored,
        Mutation::AttemptsForgotten,
        Mutation::NoDeadLetters,
        Mutation::EagerChildren,
        Mutation::StaleLeasesTaken,
        Mutation::NeverReleased,
        Mutation::Asynchronous,
        Mutation::DeathsUnseen,
        Mutation::CommitWithoutOwner,
        Mutation::DeleteBeforeCommit,
        Mutation::ChildrenBeforeCommit,
        Mutation::TtlIgnored,
        Mutation::CancelIgnored,
        Mutation::StepsForgotten,
        Mutation::DelayedForgotten,
        Mutation::FiringsWithoutIds,
        Mutation::SchedulesStay,
    ];
}

/// The role of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// It drains the queue.
    Consumer,
    /// It runs tasks.
    Worker,
    /// It makes uploads live.
    Publisher,
}

impl Scenario {
    /// The scenario of a seed. The kinds of drain take turns. One world in ten has calm weather, where every
    /// run can be accounted for.
    pub fn of_seed(seed: u64) -> Self {
        let drain = match seed % 5 {
            0 | 1 => Drain::Schedule(Mode::Window),
            2 | 3 => Drain::Schedule(Mode::UntilEmpty),
            _ => Drain::EventSource,
        };
        let calm = (seed / 5).is_multiple_of(10);
        let runs = match seed % 3 {
            0 => Remembering::Off,
            1 => Remembering::On,
            _ => Remembering::Once,
        };
        Self {
            seed,
            tasks: TASKS_A_WORLD,
            crashes: CRASHES_A_WORLD,
            weather: if calm { Weather::Calm } else { Weather::Stormy },
            drain,
            load: Load::Mixed,
            protocol: Protocol::Wasq,
            runs,
            mutation: None,
        }
    }

    /// The lease of a message: longer than an event may wait in Lambda's queue. With an event source mapping
    /// it is six times the time limit of an invoke, as AWS recommends.
    pub fn lease(&self) -> Duration {
        match self.drain {
            Drain::Schedule(_) => Duration::from_secs(70),
            Drain::EventSource => INVOKE_TIME * 6,
        }
    }

    /// How many environments the worker's function may have at once.
    pub fn slots(&self) -> usize {
        if self.weather == Weather::Crowded { 3 } else { 120 }
    }

    /// How long the queue keeps messages.
    pub fn retention(&self) -> Duration {
        match self.protocol {
            Protocol::Wasq => RETENTION,
            Protocol::Reference => REFERENCE_RETENTION,
        }
    }

    /// The receives after which the queue moves a message to the dead-letter queue.
    pub fn receives_max(&self) -> u32 {
        match self.protocol {
            Protocol::Wasq => RECEIVES_MAX,
            Protocol::Reference => REFERENCE_RECEIVES_MAX,
        }
    }
}
