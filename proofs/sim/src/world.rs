//! One simulated world: a queue, Lambda, a registry, time, and chance; all from one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::{Attribute, Clock, FailureKind, ItemState, Message, Timestamp};

use crate::ledger::{Accepted, Ledger};
use crate::queue::{QueueMoods, SimQueue};
use crate::runs::{RunsTable, parent_of};
use crate::scenario::{Kind, Remembering, Scenario, Weather};
use crate::scheduler::Schedules;

/// A world.
pub struct World {
    pub scenario: Scenario,
    /// Notified when a message was sent, or its visibility changed.
    pub arrivals: Arc<Notify>,
    started: Instant,
    state: Mutex<State>,
}

/// The state of a world.
pub struct State {
    pub clock: VirtualClock,
    pub arrivals: Arc<Notify>,
    pub rng: Rng,
    pub storm: bool,
    pub queue: SimQueue,
    pub tasks: Bucket,
    pub registry: Bucket,
    pub runs: RunsTable,
    pub schedules: Schedules,
    remembering: Remembering,
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

/// Virtual time: it advances only when every future waits.
#[derive(Clone, Copy, Debug)]
pub struct VirtualClock {
    started: Instant,
    /// How much the clock is ahead of the world's time, in milliseconds.
    ahead_ms: i64,
}

/// The most by which the clock of a process differs from the world's time.
pub const SKEW_MAX: Duration = Duration::from_secs(1);

/// When every world begins, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_800_000_000_000;

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let epoch = Timestamp::from_ms(EPOCH_MS.saturating_add_signed(self.ahead_ms));
        epoch.plus(self.started.elapsed())
    }
}

impl World {
    /// Makes a world. The caller must be inside the tokio runtime that provides the virtual time.
    pub fn new(scenario: Scenario) -> Arc<Self> {
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
                clock: VirtualClock { started, ahead_ms: 0 },
                arrivals,
                rng: Rng::with_seed(scenario.seed),
                storm,
                queue: SimQueue::new(scenario.retention(), scenario.receives_max(), moods),
                tasks: Bucket::default(),
                registry: Bucket::default(),
                runs: RunsTable::default(),
                schedules: Schedules::default(),
                remembering: scenario.runs,
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
        VirtualClock { started: self.started, ahead_ms: 0 }
    }

    /// The clock of one process. In a storm, it differs from the world's time.
    pub fn clock_of_process(&self) -> VirtualClock {
        let most = i64::try_from(SKEW_MAX.as_millis()).expect("a second");
        let ahead_ms = self.state(|state| if state.storm { state.rng.i64(-most..=most) } else { 0 });
        VirtualClock { started: self.started, ahead_ms }
    }

    pub fn now(&self) -> Timestamp {
        self.clock().now()
    }

    /// The time since the world began.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Reads or changes the state. Nothing else happens during the call.
    pub fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Ends the storm: from now on, nothing goes wrong.
    pub fn clear_up(&self) {
        self.state(|state| {
            state.storm = false;
            state.queue.moods = QueueMoods::default();
        });
    }
}

impl State {
    /// Records the end of a run, in success or failure; `None` is a run that was cut off.
    pub fn ended(&mut self, id: &str, success: Option<bool>, children: BTreeSet<String>) {
        let now = self.clock.now();
        self.ledger.ended(id, now, success, children);
    }

    /// Records that a run begins. Returns the number of failed runs that its message has so far.
    pub fn started(&mut self, id: &str) -> u32 {
        let now = self.clock.now();
        if self.remembering == Remembering::Once {
            let state = self.runs.get(id, now).map(|item| item.state);
            if self.ledger.is_cancelled(id) {
                self.ledger.violation(format!("{id} runs although it was cancelled"));
            }
            if state != Some(ItemState::Running) {
                self.ledger.violation(format!("{id} runs, and the table says {state:?}"));
            }
        }
        self.ledger.started(id, now)
    }

    /// Records a fault that hit a message.
    pub fn fault(&mut self, id: &str) {
        let now = self.clock.now();
        self.ledger.fault(id, now);
    }

    /// Puts a message into the queue, and records it.
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

    /// Sends a child, and records it.
    pub fn send_child(&mut self, body: String, now: Timestamp) {
        if let Some((id, parent)) = parent_of(&body) {
            let ended = self.runs.get(&parent, now).is_some_and(|item| item.state == ItemState::Done);
            self.ledger.child_sent(&id, &parent, self.remembering != Remembering::Once || ended);
        }
        self.send(body, BTreeMap::default(), Duration::ZERO, now);
    }

    /// Records that a message was moved to the dead-letter queue. Without a kind, the queue's own redrive
    /// policy moved it.
    pub fn dead(&mut self, id: &str, kind: Option<FailureKind>) {
        self.ledger.dead(id, kind);
        *self.dead.entry(kind.map_or("redrive policy", FailureKind::as_str)).or_default() += 1;
    }
}

/// The own id that a message carries in its body; without one, its message id in the queue.
pub fn id_of(body: &str, message_id: &str) -> String {
    Message::parse(body).ok().and_then(|message| message.id).unwrap_or_else(|| message_id.to_owned())
}
