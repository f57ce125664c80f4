//! One world from its first message to its last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasq_protocol::{Clock, LiveRecord, Timestamp};

use crate::lambda::Lambda;
use crate::ledger::Totals;
use crate::process::Process;
use crate::publisher::{upload, upload_with};
use crate::queue::chance;
use crate::runs::{cancel_some, send_again};
use crate::scenario::{INVOKE_TIME, Kind, Load, Protocol, Remembering, Scenario, Weather};
use crate::script::{Says, Script};
use crate::world::{State, World, id_of};
use crate::{reference, system};

/// The result of a world.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The totals over all messages.
    pub totals: Totals,
    /// Messages that were still in the queue at the end of the world, without a success or a dead letter.
    pub looping: u64,
    /// The violations: events that must not happen.
    pub violations: Vec<String>,
    /// Processes that died.
    pub crashes: BTreeMap<Kind, u64>,
    /// Dead letters by kind.
    pub dead: BTreeMap<&'static str, u64>,
    /// API calls by name.
    pub calls: BTreeMap<&'static str, u64>,
    /// Time for which functions ran, in milliseconds.
    pub ran_ms: BTreeMap<Kind, u64>,
    /// The longest wait for a first run, over all messages without `not_before`.
    pub slowest_start: Duration,
    /// The most receives that one message took.
    pub most_receives: u64,
    /// How long the world lasted.
    pub lasted: Duration,
}

impl Report {
    /// Adds the report of another world.
    pub fn add(&mut self, other: Report) {
        let Report {
            totals,
            looping,
            violations,
            crashes,
            dead,
            calls,
            ran_ms,
            slowest_start,
            most_receives,
            lasted,
        } = other;
        self.most_receives = self.most_receives.max(most_receives);
        self.slowest_start = self.slowest_start.max(slowest_start);
        let Totals {
            accepted,
            children,
            succeeded,
            dead: dead_messages,
            cancelled,
            lost,
            runs,
            cut_off,
            beyond_limit,
            duplicates,
            redriven,
            fired,
            steps,
            steps_spared,
        } = totals;
        self.totals.accepted += accepted;
        self.totals.children += children;
        self.totals.succeeded += succeeded;
        self.totals.dead += dead_messages;
        self.totals.cancelled += cancelled;
        self.totals.lost += lost;
        self.totals.runs += runs;
        self.totals.cut_off += cut_off;
        self.totals.beyond_limit += beyond_limit;
        self.totals.duplicates += duplicates;
        self.totals.redriven += redriven;
        self.totals.fired += fired;
        self.totals.steps += steps;
        self.totals.steps_spared += steps_spared;
        self.looping += looping;
        self.violations.extend(violations);
        self.lasted += lasted;
        add(&mut self.crashes, crashes);
        add(&mut self.dead, dead);
        add(&mut self.calls, calls);
        add(&mut self.ran_ms, ran_ms);
    }

    /// All crashes.
    pub fn crashes(&self) -> u64 {
        self.crashes.values().sum()
    }
}

fn add<K: Ord>(sums: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (key, value) in more {
        *sums.entry(key).or_default() += value;
    }
}

/// The time for which the storm goes on after the last message was sent.
const STORM_AFTER: Duration = Duration::from_secs(120);
/// A message without an end this long after the storm, and after its `not_before`, waits for ever. The time
/// for the reference is shorter, because the reference sends a failing message again for ever.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
const PATIENCE_REFERENCE: Duration = Duration::from_secs(2 * 3600);

/// Runs a world.
pub fn run(scenario: Scenario) -> Report {
    // The jitter of the production code comes from here.
    fastrand::seed(scenario.seed);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O can always be built");
    runtime.block_on(live(scenario))
}

async fn live(scenario: Scenario) -> Report {
    let world = World::new(scenario);
    let lambda = Lambda::new(world.clone());
    let began = world.now();
    let mut disturbing = None;
    match scenario.protocol {
        Protocol::Wasq => {
            upload(&world, "work", "module 1").await;
            system::start(&world, &lambda);
            disturbing = Some(tokio::spawn(disturb(world.clone())));
            if scenario.runs != Remembering::Off && scenario.load == Load::Mixed {
                tokio::spawn(cancel_some(world.clone()));
                send_some_again(&world);
            }
        }
        Protocol::Reference => reference::start(&world),
    }
    send_all(&world).await;
    if scenario.weather == Weather::Stormy {
        tokio::time::sleep(STORM_AFTER).await;
    }
    if let Some(disturbing) = disturbing
        && scenario.load == Load::Mixed
    {
        disturbing.await.expect("it does not panic");
        // The last version of the task has no schedule any more.
        upload(&world, BEATS, "module 3").await;
    }
    world.clear_up();
    let patience = match scenario.protocol {
        Protocol::Wasq => PATIENCE,
        Protocol::Reference => PATIENCE_REFERENCE,
    };
    let latest = world.state(|state| state.ledger.latest).unwrap_or(began);
    let gives_up = world.now().max(latest).plus(patience);
    let forgets = scenario.protocol == Protocol::Wasq;
    let is_over =
        |state: &mut State| state.queue.is_empty() && state.schedules.is_empty() && state.events == 0;
    while !world.state(is_over) && world.now() < gives_up {
        if forgets {
            world.state(|state| state.queue.expire(world.now()));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let (calls, ran_ms) = world.state(|state| (state.calls.clone(), state.ran_ms.clone()));
    // Wait for the messages that Lambda's own poller still holds.
    tokio::time::sleep(INVOKE_TIME).await;
    lambda.close();
    Report { calls, ran_ms, ..report(&world, began) }
}

fn report(world: &Arc<World>, began: Timestamp) -> Report {
    let now = world.now();
    let calm = world.scenario.weather == Weather::Calm;
    world.state(|state| {
        let waiting: BTreeSet<String> =
            state.queue.messages().map(|(message_id, stored)| id_of(&stored.body, &message_id)).collect();
        let mut totals = state.ledger.totals();
        let looping = state.ledger.unended().filter(|(id, _)| waiting.contains(*id)).count() as u64;
        let mut violations = Vec::new();
        if world.scenario.protocol == Protocol::Wasq {
            violations = state.ledger.judge(world.scenario.runs);
            violations.extend(
                waiting.iter().map(|id| format!("{id} still waits after {} s", now.since(began).as_secs())),
            );
            violations.extend(registry_faults(state));
            violations
                .extend(state.schedules.recurring().map(|name| format!("the schedule {name} still fires")));
            if state.events > 0 {
                violations.push(format!("{} events never ended", state.events));
            }
            if calm && state.ledger.faults() > 0 {
                violations.push(format!("{} faults in calm weather", state.ledger.faults()));
            }
        }
        totals.lost -= looping;
        Report {
            totals,
            looping,
            violations,
            crashes: state.crashed.clone(),
            dead: state.dead.clone(),
            calls: BTreeMap::new(),
            ran_ms: BTreeMap::new(),
            slowest_start: state.ledger.slowest_start,
            most_receives: state.ledger.most_receives(),
            lasted: now.since(began),
        }
    })
}

/// Checks that every live record names a module and machine code that exist, unless somebody removed them.
/// Returns the violations.
fn registry_faults(state: &State) -> Vec<String> {
    let mut faults = Vec::new();
    for key in state.registry.keys().filter(|key| key.starts_with("live/")) {
        let (bytes, _) = state.registry.get(key).expect("it was just listed");
        let Ok(record) = serde_json::from_slice::<LiveRecord>(&bytes) else {
            faults.push(format!("{key} cannot be read"));
            continue;
        };
        let digest = record.version.digest;
        let artifacts =
            record.version.artifacts.keys().map(|fingerprint| LiveRecord::artifact_key(fingerprint, &digest));
        for named in artifacts.chain([LiveRecord::module_key(&digest)]) {
            if state.registry.get(&named).is_none() && !state.removed.contains(&named) {
                faults.push(format!("{key} names {named}, which is not there"));
            }
        }
    }
    faults
}

/// The task with schedules, and their number.
const BEATS: &str = "beats";
const SCHEDULES: u32 = 8;

/// Uploads a version of the task with schedules.
async fn beat(world: &Arc<World>, version: u32, when: &str) {
    let schedule = |number| {
        format!("[[schedule]]\nname = \"{number}\"\n{when}\nparams = {{ ms = 50, says = \"ok\" }}\n")
    };
    let schedules: String = (0..SCHEDULES).map(schedule).collect();
    upload_with(world, BEATS, &format!("module {version}"), &schedules).await;
}

/// Messages that are sent again with the same id, after they are done and forgotten.
const AGAIN: u32 = 5;

fn send_some_again(world: &Arc<World>) {
    for number in 0..AGAIN {
        let id = format!("again{number}");
        let body = world.state(|state| {
            state.events += 1;
            Script::quick(&mut state.rng).message("work", Some(id.clone()), None)
        });
        tokio::spawn(send_again(world.clone(), id, body));
    }
}

/// Sends every message, and repeats each send until the queue has acknowledged it.
async fn send_all(world: &Arc<World>) {
    let sender = Process::immortal(world, Kind::Consumer);
    let mut due = Instant::now();
    for number in 0..world.scenario.tasks {
        let (pause, body) = world.state(|state| {
            let rng = &mut state.rng;
            let id = || Some(format!("m{number}"));
            match (world.scenario.load, world.scenario.protocol) {
                (Load::Even { apart_us }, _) => {
                    (Duration::from_micros(apart_us), Script::quick(rng).message("work", id(), None))
                }
                (Load::BesideWaiting, _) => {
                    let half = world.scenario.tasks / 2;
                    let tomorrow = (number < half).then(|| world.now().plus(Duration::from_secs(24 * 3600)));
                    (Duration::from_millis(20), Script::quick(rng).message("work", id(), tomorrow))
                }
                (Load::Long, _) => {
                    let says = if number % 10 == 9 { Says::Never } else { Says::Ok };
                    let script = Script { ms: 60_000, says, children: 0, steps: 0 };
                    (Duration::from_millis(5), script.message("work", id(), None))
                }
                (Load::Killers, _) => {
                    let says = if number % 20 == 7 { Says::Kills } else { Says::Ok };
                    let script = Script { ms: rng.u64(1..2000), says, children: 0, steps: 0 };
                    (Duration::from_millis(50), script.message("work", id(), None))
                }
                (Load::Mixed, Protocol::Wasq) => (pause(rng), any_message(rng, number, world)),
                (Load::Mixed, Protocol::Reference) => {
                    let mut script = Script::any(rng, Remembering::Off);
                    script.children = 0;
                    // Only scripts that succeed sooner or later. The fate of other scripts in the reference
                    // is another matter.
                    if !script.expected().success {
                        script.says = Says::Ok;
                    }
                    (pause(rng), script.message("work", id(), None))
                }
            }
        });
        due += pause;
        tokio::time::sleep_until(due).await;
        loop {
            let (message, clock) = (body.clone(), world.clock());
            let sent = sender
                .call("sqs.send (sender)", move |state| {
                    state.send(message, Default::default(), Duration::ZERO, clock.now());
                })
                .await;
            if sent.is_ok() {
                break;
            }
        }
    }
}

/// Bursts with pauses between them.
fn pause(rng: &mut fastrand::Rng) -> Duration {
    let ms = if rng.u32(..40) == 0 { rng.u64(1_000..30_000) } else { rng.u64(0..200) };
    Duration::from_millis(ms)
}

/// A message of any sort.
fn any_message(rng: &mut fastrand::Rng, number: u32, world: &World) -> String {
    let now = world.now();
    let script = Script::any(rng, world.scenario.runs);
    let id = chance(rng, 0.9).then(|| format!("m{number}"));
    match rng.u32(..100) {
        0 => "no message".to_owned(),
        1 => r#"{"task": "work", "params": {}, "id": 7}"#.to_owned(),
        2 => script.message("missing", id, None),
        3..7 => script.message("late", id, None),
        7..10 => {
            // Rarely days ahead, because each virtual day takes real time to simulate. From 15 minutes on, a message leaves the
            // queue.
            let ahead = match rng.u32(..200) {
                0 => rng.u64(1_000..250_000),
                1..50 => rng.u64(900..3_000),
                _ => rng.u64(1..900),
            };
            script.message("work", id, Some(now.plus(Duration::from_secs(ahead))))
        }
        _ => script.message("work", id, None),
    }
}

/// The actions of people during a run. They publish a task after messages for it have arrived, and publish
/// new versions. In a storm, somebody removes machine code.
async fn disturb(world: Arc<World>) {
    if world.scenario.load == Load::Mixed {
        beat(&world, 1, "every = \"1m\"").await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    upload(&world, "late", "module 1").await;
    for version in 2..5 {
        let pause = world.state(|state| state.rng.u64(5..60));
        tokio::time::sleep(Duration::from_secs(pause)).await;
        upload(&world, "work", &format!("module {version}")).await;
        if version == 3 && world.scenario.load == Load::Mixed {
            beat(&world, 2, "cron = \"*/2 * * * *\"").await;
        }
        world.state(|state| {
            if state.storm && chance(&mut state.rng, 0.5) {
                let compiled: Vec<String> =
                    state.registry.keys().filter(|key| key.starts_with("compiled/")).cloned().collect();
                compiled.iter().for_each(|key| state.registry.remove(key));
                state.removed.extend(compiled);
            }
        });
    }
}
