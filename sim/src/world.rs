//! One simulated world: a queue, Lambda, a registry, time, and chance; all from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_consumer::Mode as DrainMode;
use wasq_protocol::{Attribute, Clock, FailureKind, Message, Timestamp};

use crate::ledger::{Accepted, Ledger};
use crate::process::Kind;
use crate::queue::{QueueMoods, SimQueue};
use crate::script::Script;
use crate::{reference, system};

/// Attempts that the tasks of a world have.
pub const MAX_ATTEMPTS: u32 = 4;
/// How long one of their runs may take.
pub const TIMEOUT: Duration = Duration::from_secs(120);
/// When an invoke of the worker is cut off.
pub const INVOKE_TIME: Duration = Duration::from_secs(300);
/// What machine code begins with here.
pub const CODE: &[u8] = b"code:";

/// What a world is made from. The same scenario is the same world.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Where all chance comes from.
    pub seed: u64,
    /// Messages that are sent from outside.
    pub tasks: u32,
    /// The most crashes.
    pub crashes: u32,
    /// Whether anything goes wrong.
    pub weather: Weather,
    /// How the queue is drained.
    pub drain: Drain,
    /// What is sent.
    pub load: Load,
    /// Whose protocol it is.
    pub protocol: Protocol,
    /// What is wrong with the protocol: the simulator must see it.
    pub mutation: Option<Mutation>,
}

/// Whose protocol moves the messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Ours.
    Wasq,
    /// That of the design that wasq replaces.
    Reference,
}

/// Whether anything goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Nothing does: every message has exactly the runs that its script says.
    Calm,
    /// Everything does, until some minutes after the last message was sent.
    Stormy,
    /// Lambda refuses every invoke for hours; nothing else goes wrong.
    Busy,
    /// Lambda accepts every invoke, and has places for three; what waits for longer than the event age is dropped.
    Crowded,
}

/// How the queue is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drain {
    /// By the consumer, every minute.
    Schedule(DrainMode),
    /// By an event source mapping.
    EventSource,
}

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// Messages of every sort: about two a second, in bursts.
    Mixed,
    /// The first half waits for tomorrow; then short tasks that do well, fifty a second.
    BesideWaiting,
    /// Tasks of a minute that do well, all at once.
    Long,
    /// Short tasks that do well, evenly.
    Even {
        /// How far apart they are sent, in microseconds.
        apart_us: u64,
    },
}

/// A mistake in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// The consumer deletes what it handed over.
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
    /// Deliveries are taken up whose leases are over.
    StaleLeasesTaken,
    /// A message that is to be tried again is made invisible for as long as SQS allows.
    NeverGivenBack,
    /// What a busy worker does not take is visible again at once.
    GivenBackAtOnce,
}

impl Mutation {
    /// Every mistake.
    pub const ALL: [Mutation; 11] = [
        Mutation::DeleteOnHandOver,
        Mutation::NoHeartbeat,
        Mutation::DeleteBeforeDeadLetter,
        Mutation::DeleteBeforeChildren,
        Mutation::EntryFailuresIgnored,
        Mutation::AttemptsForgotten,
        Mutation::NoDeadLetters,
        Mutation::EagerChildren,
        Mutation::StaleLeasesTaken,
        Mutation::NeverGivenBack,
        Mutation::GivenBackAtOnce,
    ];
}

/// A world.
pub struct World {
    pub scenario: Scenario,
    /// Told when a message was sent, or its visibility changed.
    pub arrivals: Arc<Notify>,
    started: Instant,
    state: Mutex<State>,
}

/// Everything in it.
pub struct State {
    pub clock: VirtualClock,
    pub arrivals: Arc<Notify>,
    pub rng: Rng,
    pub storm: bool,
    pub queue: SimQueue,
    pub tasks: Bucket,
    pub registry: Bucket,
    pub ledger: Ledger,
    /// API calls by name.
    pub calls: BTreeMap<&'static str, u64>,
    pub crashes: u64,
    pub crashed: BTreeMap<Kind, u64>,
    /// Dead letters by kind.
    pub dead: BTreeMap<&'static str, u64>,
    /// Time for which workers and consumers ran, in milliseconds.
    pub ran_ms: BTreeMap<Kind, u64>,
    /// Events that Lambda has accepted and not finished.
    pub events: u64,
    /// Keys that somebody removed from the registry.
    pub removed: BTreeSet<String>,
}

/// A bucket: content and tag by key.
#[derive(Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<String, (Vec<u8>, u64)>,
    writes: u64,
}

impl Bucket {
    pub fn get(&self, key: &str) -> Option<(Vec<u8>, u64)> {
        self.objects.get(key).cloned()
    }

    pub fn put(&mut self, key: &str, bytes: Vec<u8>) {
        self.writes += 1;
        self.objects.insert(key.to_owned(), (bytes, self.writes));
    }

    pub fn remove(&mut self, key: &str) {
        self.objects.remove(key);
    }

    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.objects.keys()
    }
}

/// Virtual time: it stands still while anything can be done.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock(Instant);

/// When every world begins, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_800_000_000_000;

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(EPOCH_MS).plus(self.0.elapsed())
    }
}

impl World {
    /// A new world; must be made within the runtime whose time it has.
    pub fn new(scenario: Scenario) -> Arc<Self> {
        let (retention, receives_max) = match scenario.protocol {
            Protocol::Wasq => (system::RETENTION, system::RECEIVES_MAX),
            Protocol::Reference => (reference::RETENTION, reference::RECEIVES_MAX),
        };
        let storm = scenario.weather == Weather::Stormy;
        let moods = QueueMoods {
            overlooked: 0.2,
            duplicate: 0.0004,
            resurrected: 0.004,
            stale_works: 0.5,
            entry_fails: 0.01,
        };
        let arrivals = Arc::new(Notify::new());
        let moods = if storm { moods } else { QueueMoods::default() };
        let started = Instant::now();
        Arc::new(Self {
            scenario,
            arrivals: arrivals.clone(),
            started,
            state: Mutex::new(State {
                clock: VirtualClock(started),
                arrivals,
                rng: Rng::with_seed(scenario.seed),
                storm,
                queue: SimQueue::new(retention, receives_max, moods),
                tasks: Bucket::default(),
                registry: Bucket::default(),
                ledger: Ledger::default(),
                calls: BTreeMap::new(),
                crashes: 0,
                crashed: BTreeMap::new(),
                dead: BTreeMap::new(),
                ran_ms: BTreeMap::new(),
                events: 0,
                removed: BTreeSet::new(),
            }),
        })
    }

    pub fn clock(&self) -> VirtualClock {
        VirtualClock(self.started)
    }

    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// How long a message is leased: longer than an event may wait in Lambda's queue. Before an event source mapping, six
    /// times as long as an invoke may take, as AWS wants it.
    pub fn lease(&self) -> Duration {
        match self.scenario.drain {
            Drain::Schedule(_) => Duration::from_secs(70),
            Drain::EventSource => INVOKE_TIME * 6,
        }
    }

    /// How many environments the worker's function may have at once.
    pub fn places(&self) -> usize {
        if self.scenario.weather == Weather::Crowded { 3 } else { 120 }
    }

    /// How long the world has been there.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Looks at the state, or changes it. Nothing else happens meanwhile.
    pub fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The weather clears up: nothing goes wrong any more.
    pub fn clear_up(&self) {
        self.state(|state| {
            state.storm = false;
            state.queue.moods = QueueMoods::default();
        });
    }
}

impl State {
    /// A run ended, in success or failure; `None`: it was cut off.
    pub fn ended(&mut self, id: &str, success: Option<bool>, children: BTreeSet<String>) {
        let now = self.clock.now();
        self.ledger.ended(id, now, success, children);
    }

    /// A fault hit a message.
    pub fn fault(&mut self, id: &str) {
        let now = self.clock.now();
        self.ledger.fault(id, now);
    }

    /// The queue accepts a message.
    pub fn send(
        &mut self,
        body: String,
        attributes: BTreeMap<String, Attribute>,
        delay: Duration,
        now: Timestamp,
    ) {
        let message = Message::parse(&body).ok();
        let message_id = self.queue.send(body, attributes, now.plus(delay), now);
        let id = message.as_ref().and_then(|message| message.id.clone()).unwrap_or(message_id);
        let known = |task: &str| task == "work" || task == "late" && !self.storm;
        let runs = message.as_ref().filter(|message| known(message.task.as_str()));
        let script = runs.and_then(|message| serde_json::from_str(message.params.get()).ok());
        self.arrivals.notify_waiters();
        let early = message.as_ref().is_some_and(|message| message.task.as_str() == "late");
        let not_before = message.and_then(|message| message.not_before);
        self.ledger.accepted(&id, Accepted { script, at: Some(now), not_before, early });
    }

    /// A message is in the dead-letter queue; no kind: by the queue's own redrive policy.
    pub fn dead(&mut self, id: &str, kind: Option<FailureKind>) {
        self.ledger.dead(id, kind);
        *self.dead.entry(kind.map_or("redrive policy", FailureKind::as_str)).or_default() += 1;
    }
}

/// The own id of a message in a queue.
pub fn id_of(body: &str, message_id: &str) -> String {
    Message::parse(body).ok().and_then(|message| message.id).unwrap_or_else(|| message_id.to_owned())
}

impl Script {
    /// The body of a message that runs it.
    pub fn message(&self, task: &str, id: Option<String>, not_before: Option<Timestamp>) -> String {
        let mut message = Message::new(task.parse().expect("a name"), self.params());
        message.id = id;
        message.not_before = not_before;
        message.to_json()
    }
}
