//! EventBridge Scheduler, as AWS documents it: a firing is up to a minute late, its target may fail for hours, and a message may be
//! sent twice. A one-time schedule that is there already stays as it is. A recurring one is made, changed and deleted by a call each.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wasq_protocol::{Clock, Message, Schedule, TaskName, Timestamp};
use wasq_publisher::Scheduler;
use wasq_runtime::{Delayed, Timer};
use wasq_schedule::Firings;

use crate::ledger::{Accepted, COPY};
use crate::process::Process;
use crate::queue::chance;
use crate::scenario::{Mutation, Remembering};
use crate::world::{State, World, id_of};

/// The schedules.
#[derive(Debug, Default)]
pub struct Schedules {
    /// Messages that are to be sent once, by the names of their schedules.
    once: BTreeMap<String, Kept>,
    /// Recurring schedules, by their names.
    recurring: BTreeMap<String, Recurring>,
}

/// A message that is to be sent.
#[derive(Debug)]
struct Kept {
    body: String,
    /// When it is sent.
    fires: Timestamp,
    twice: bool,
}

/// A recurring schedule.
#[derive(Debug)]
struct Recurring {
    task: TaskName,
    schedule: Schedule,
    /// When it fires next.
    next: Option<Timestamp>,
}

/// Scheduler's precision.
const PRECISION: Duration = Duration::from_secs(60);
/// How long a target may fail. Scheduler tries for a day.
const FAILS_FOR: Duration = Duration::from_secs(8 * 3600);
/// How often the world looks for schedules that fire.
const LOOK: Duration = Duration::from_secs(5);

impl Schedules {
    fn create(&mut self, name: String, kept: Kept) {
        self.once.entry(name).or_insert(kept);
    }

    /// Whether nothing is left to be sent.
    pub fn is_empty(&self) -> bool {
        self.once.is_empty()
    }

    /// The names of the recurring schedules.
    pub fn recurring(&self) -> impl Iterator<Item = &String> {
        self.recurring.keys()
    }

    fn take_due(&mut self, now: Timestamp) -> Vec<Kept> {
        self.once.extract_if(.., |_, kept| kept.fires <= now).map(|(_, kept)| kept).collect()
    }

    /// The firings whose times have come: the times, and the bodies of their messages.
    fn take_firings(&mut self, now: Timestamp) -> Vec<(Timestamp, String)> {
        let mut firings = Vec::new();
        for Recurring { task, schedule, next } in self.recurring.values_mut() {
            while let Some(at) = next.filter(|at| *at <= now) {
                firings.push((at, schedule.body(task, &at.to_string())));
                *next = after(schedule, at);
            }
        }
        firings
    }
}

fn after(schedule: &Schedule, time: Timestamp) -> Option<Timestamp> {
    Firings::of(schedule).expect("the publisher has checked it").after(time)
}

/// The worker's timer.
pub struct SimTimer(pub Arc<Process>);

impl Timer for SimTimer {
    async fn keep(&self, messages: Vec<Delayed>) -> Vec<Result<()>> {
        let mut results = Vec::new();
        for message in messages {
            if self.0.world.scenario.mutation == Some(Mutation::DelayedForgotten) {
                results.push(Ok(()));
                continue;
            }
            let kept = self.0.call("scheduler.create", move |state| {
                let kept = state.kept(message.body, message.at);
                state.schedules.create(message.name.to_string(), kept);
            });
            results.push(kept.await);
        }
        results
    }
}

/// The publisher's scheduler.
pub struct SimScheduler(pub Arc<Process>);

impl Scheduler for SimScheduler {
    fn refusal(&self, _: &Schedule) -> Option<String> {
        None
    }

    async fn set(&self, task: &TaskName, schedules: &[Schedule]) -> Result<()> {
        let Self(process) = self;
        let clock = process.world.clock();
        let wanted: BTreeMap<String, Schedule> =
            schedules.iter().map(|schedule| (schedule.full_name(task), schedule.clone())).collect();
        let of_task = task.clone();
        let there = process.call("scheduler.list", move |state| {
            let of_task = |kept: &&Recurring| kept.task == of_task;
            let kept = state.schedules.recurring.iter().filter(|(_, kept)| of_task(kept));
            kept.map(|(name, kept)| (name.clone(), kept.schedule.clone())).collect::<BTreeMap<_, _>>()
        });
        let there = there.await?;
        for (name, schedule) in &wanted {
            if there.get(name) == Some(schedule) {
                continue;
            }
            let (name, task, schedule) = (name.clone(), task.clone(), schedule.clone());
            let put = process.call("scheduler.put", move |state| {
                let next = after(&schedule, clock.now());
                state.schedules.recurring.insert(name, Recurring { task, schedule, next });
            });
            put.await?;
        }
        let wanted: BTreeSet<String> = wanted.into_keys().collect();
        for name in there.into_keys().filter(|name| !wanted.contains(name)) {
            if process.world.scenario.mutation == Some(Mutation::SchedulesStay) {
                break;
            }
            process.call("scheduler.delete", move |state| state.schedules.recurring.remove(&name)).await?;
        }
        Ok(())
    }
}

/// Sends the messages whose time has come, for ever.
pub async fn fire(world: Arc<World>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = world.now();
        let two_ids = world.scenario.mutation == Some(Mutation::FiringsWithoutIds);
        world.state(|state| {
            for (at, body) in state.schedules.take_firings(now) {
                state.accept_firing(&body);
                let name = id_of(&body, "");
                let kept = state.kept(body, at);
                state.schedules.create(name, kept);
            }
            for Kept { body, twice, .. } in state.schedules.take_due(now) {
                if twice {
                    // With the table of runs, both are one.
                    if world.scenario.runs == Remembering::Off {
                        let id = id_of(&body, "");
                        state.fault(&id);
                        state.ledger.sent_twice(&id);
                    }
                    let copy = if two_ids { with_id_of_its_own(&body) } else { body.clone() };
                    state.send_again(copy, now);
                }
                state.send_again(body, now);
            }
        });
    }
}

/// Another id of the same message, for the ledger as well.
fn with_id_of_its_own(body: &str) -> String {
    let message = Message::parse(body).expect("it was made here");
    let id = message.id.as_ref().map(|id| format!("{id}{COPY}"));
    Message { id, ..message }.to_json()
}

impl State {
    /// A message that is to be sent at a time, with the luck that it has.
    fn kept(&mut self, body: String, at: Timestamp) -> Kept {
        let late = self.rng.u64(0..PRECISION.as_millis() as u64);
        let fails = self.storm && chance(&mut self.rng, 0.05);
        let fails = if fails { self.rng.u64(0..FAILS_FOR.as_millis() as u64) } else { 0 };
        let twice = self.storm && chance(&mut self.rng, 0.1);
        Kept { body, fires: at.plus(Duration::from_millis(late + fails)), twice }
    }

    /// Records that a firing must end, from its time on.
    fn accept_firing(&mut self, body: &str) {
        let message = Message::parse(body).expect("it was made here");
        let script = serde_json::from_str(message.params.get()).ok();
        self.ledger.fired();
        // Its first run may be as late as its target fails.
        let accepted = Accepted { script, at: None, not_before: None, early: false };
        self.ledger.accepted(&id_of(body, ""), accepted);
    }

    /// Sends a message that was accepted before.
    fn send_again(&mut self, body: String, now: Timestamp) {
        self.queue.send(body, BTreeMap::default(), now, now);
        self.arrivals.notify_waiters();
    }
}
