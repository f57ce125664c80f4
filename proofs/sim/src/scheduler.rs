//! EventBridge Scheduler's one-time schedules, as AWS documents them: a firing is up to a minute late, its target may fail for hours,
//! and a message may be sent twice. A schedule that is there already stays as it is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use wasq_protocol::Timestamp;
use wasq_runtime::{Delayed, Timer};

use crate::process::Process;
use crate::queue::chance;
use crate::scenario::Mutation;
use crate::world::{State, World, id_of};

/// The schedules that have not fired, by their names.
#[derive(Debug, Default)]
pub struct Schedules(BTreeMap<String, Kept>);

/// A message that is to be sent.
#[derive(Debug)]
struct Kept {
    body: String,
    /// When it is sent.
    fires: Timestamp,
    twice: bool,
}

/// Scheduler's precision.
const PRECISION: Duration = Duration::from_secs(60);
/// How long a target may fail. Scheduler tries for a day.
const FAILS_FOR: Duration = Duration::from_secs(8 * 3600);
/// How often the world looks for schedules that fire.
const LOOK: Duration = Duration::from_secs(5);

impl Schedules {
    fn create(&mut self, name: String, kept: Kept) {
        self.0.entry(name).or_insert(kept);
    }

    /// Whether all have fired.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take_due(&mut self, now: Timestamp) -> Vec<Kept> {
        self.0.extract_if(.., |_, kept| kept.fires <= now).map(|(_, kept)| kept).collect()
    }
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
                let late = state.rng.u64(0..PRECISION.as_millis() as u64);
                let fails = state.storm && chance(&mut state.rng, 0.05);
                let fails = if fails { state.rng.u64(0..FAILS_FOR.as_millis() as u64) } else { 0 };
                let twice = state.storm && chance(&mut state.rng, 0.1);
                let fires = message.at.plus(Duration::from_millis(late + fails));
                state.schedules.create(message.name.to_string(), Kept { body: message.body, fires, twice });
            });
            results.push(kept.await);
        }
        results
    }
}

/// Sends the messages whose time has come, for ever.
pub async fn fire(world: Arc<World>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let now = world.now();
        world.state(|state| {
            for Kept { body, twice, .. } in state.schedules.take_due(now) {
                if twice {
                    let id = id_of(&body, "");
                    state.fault(&id);
                    state.ledger.sent_twice(&id);
                    state.send_delayed(body.clone(), now);
                }
                state.send_delayed(body, now);
            }
        });
    }
}

impl State {
    /// Sends a message that was accepted before.
    fn send_delayed(&mut self, body: String, now: Timestamp) {
        self.queue.send(body, BTreeMap::default(), now, now);
        self.arrivals.notify_waiters();
    }
}
