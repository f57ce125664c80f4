//! The table of runs in a simulated world. The table's part of a mutated protocol is here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use wasq_protocol::{Cancelling, Clock, ItemState, ItemWrite, Message, RunItem, Timestamp, Written};
use wasq_runtime::Runs;

use crate::process::Process;
use crate::scenario::{Kind, Mutation};
use crate::world::{State, World};

/// The name under which write units are counted. DynamoDB bills one for each KiB of an item, also of a refused one.
pub const WRITE_UNITS: &str = "dynamodb write units";

/// The items of a world, by their ids.
#[derive(Debug, Default)]
pub struct RunsTable(BTreeMap<String, RunItem>);

impl RunsTable {
    /// The item of a message, unless it is forgotten.
    pub fn get(&self, id: &str, now: Timestamp) -> Option<&RunItem> {
        self.0.get(id).filter(|item| !item.is_expired(now))
    }

    /// The item of a message, also if it is forgotten.
    pub fn even_forgotten(&self, id: &str) -> Option<&RunItem> {
        self.0.get(id)
    }

    /// Writes an item as DynamoDB does: over the revision that it replaces, or over none.
    fn put(&mut self, write: ItemWrite, now: Timestamp, mutation: Option<Mutation>) -> Written {
        let ItemWrite { mut item, replaces } = write;
        if mutation == Some(Mutation::StepsForgotten) && item.state == ItemState::Retrying {
            item.steps.clear();
        }
        let stored = self.0.get(&item.id);
        let is_end = item.state != ItemState::Running;
        let fits = match (stored, &replaces) {
            _ if mutation == Some(Mutation::CommitWithoutOwner) && is_end => true,
            (Some(stored), None) if mutation == Some(Mutation::TtlIgnored) => {
                let ended = RunItem { expires: u64::MAX, ..stored.clone() };
                return Written::Refused(Some(Box::new(ended)));
            }
            (Some(stored), _)
                if mutation == Some(Mutation::CancelIgnored) && stored.state == ItemState::Cancelled =>
            {
                true
            }
            (stored, Some(revision)) => stored.is_some_and(|stored| stored.revision == *revision),
            (stored, None) => stored.is_none_or(|stored| stored.is_expired(now)),
        };
        if !fits {
            return Written::Refused(stored.cloned().map(Box::new));
        }
        self.0.insert(item.id.clone(), item);
        Written::Yes
    }
}

/// The table, as a worker sees it.
pub struct SimRuns {
    process: Arc<Process>,
}

impl SimRuns {
    pub fn new(process: Arc<Process>) -> Self {
        Self { process }
    }

    async fn put_one(&self, write: ItemWrite) -> Result<Written> {
        let mutation = self.process.world.scenario.mutation;
        let is_done = write.item.state == ItemState::Done;
        if mutation == Some(Mutation::DeleteBeforeCommit) && is_done {
            let message_id = write.item.message_id.clone().unwrap_or_default();
            let _ = self.process.call("sqs.delete", move |state| state.queue.drop_message(&message_id)).await;
        }
        if mutation == Some(Mutation::ChildrenBeforeCommit) && is_done {
            let (children, clock) = (write.item.unsent.clone(), self.process.world.clock());
            let sent = self.process.call("sqs.send", move |state| {
                for child in children {
                    state.send_child(child.body, clock.now());
                }
            });
            let _ = sent.await;
        }
        put(&self.process, write).await
    }
}

impl Runs for SimRuns {
    const PARAMS_MAX: usize = 256;

    async fn put(&self, writes: &[ItemWrite]) -> Vec<Result<Written>> {
        let asked = Asked(&self.process);
        let mut written = Vec::with_capacity(writes.len());
        for write in writes {
            written.push(self.put_one(write.clone()).await);
        }
        std::mem::forget(asked);
        written
    }

    async fn cancelled(&self, id: &str, owner: &str) {
        let world = &self.process.world;
        loop {
            tokio::time::sleep(world.scenario.lease() / 2).await;
            let (wanted, clock) = (id.to_owned(), world.clock());
            let item =
                self.process.call("dynamodb.get", move |state| state.runs.get(&wanted, clock.now()).cloned());
            if item.await.is_ok_and(|item| item.is_some_and(|item| item.is_to_be_cancelled(owner))) {
                return;
            }
        }
    }
}

/// A call that is not answered yet. If the worker waits no longer, that is a fault. Its death was one already.
struct Asked<'a>(&'a Process);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if !self.0.is_dead() {
            self.0.fault();
        }
    }
}

/// Writes an item over the network. In a storm, the table is down some of the time.
async fn put(process: &Arc<Process>, write: ItemWrite) -> Result<Written> {
    let world = process.world.clone();
    let twentieths = world.age().as_secs() / 20;
    if world.state(|state| state.storm) && (twentieths + world.scenario.seed).is_multiple_of(11) {
        process.step().await;
        process.fault();
        bail!("dynamodb.put: InternalServerError");
    }
    let (now, mutation) = (world.now(), world.scenario.mutation);
    process.call("dynamodb.put", move |state| apply(state, write, now, mutation)).await
}

fn apply(state: &mut State, write: ItemWrite, now: Timestamp, mutation: Option<Mutation>) -> Written {
    let before = state.runs.0.get(&write.item.id).cloned();
    let item = write.item.clone();
    let bytes = serde_json::to_string(&item).expect("string keys").len() as u64;
    *state.calls.entry(WRITE_UNITS).or_default() += bytes.div_ceil(1024);
    let written = state.runs.put(write, now, mutation);
    if matches!(written, Written::Yes) {
        let forgotten = before.as_ref().is_some_and(|before| before.is_expired(now));
        // A run that is under way may succeed. Otherwise the message comes to its end.
        let marked = before.as_ref().is_some_and(|before| before.cancel && !forgotten);
        let comes_again = match item.state {
            ItemState::Waiting | ItemState::Retrying => true,
            ItemState::Running => before.as_ref().is_some_and(|before| before.owner != item.owner),
            ItemState::Done | ItemState::Dead | ItemState::Cancelled => false,
        };
        if marked && comes_again {
            state
                .ledger
                .violation(format!("{} is {} after somebody has asked to cancel it", item.id, item.state));
        }
        let ended_now = |end: ItemState| {
            // The note that children are sent is no second end.
            item.state == end
                && before.as_ref().is_none_or(|before| before.state != end || before.owner != item.owner)
        };
        state.ledger.remembered(
            &item.id,
            forgotten,
            ended_now(ItemState::Done),
            ended_now(ItemState::Cancelled),
        );
        state.ledger.saved(&item.id, item.steps.iter().map(|step| step.name.as_str()));
    }
    written
}

/// Cancels a message now and then, as people do.
pub async fn cancel_some(world: Arc<World>) {
    let person = Process::immortal(&world, Kind::Consumer);
    loop {
        let (pause, id) = world.state(|state| {
            let number = state.rng.u32(..world.scenario.tasks);
            (state.rng.u64(2_000..15_000), format!("m{number}"))
        });
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let (stored, revision) = world.state(|state| {
            (state.runs.get(&id, world.now()).cloned(), format!("cancel {}", state.rng.u64(..)))
        });
        if let Cancelling::Write(write) = RunItem::cancel(stored.as_ref(), &id, revision, world.now()) {
            // If somebody else was faster, the person gives up.
            let _ = put(&person, *write).await;
        }
    }
}

/// A message that is not done and forgotten after this is not sent again.
const AGAIN_WITHIN: Duration = Duration::from_secs(3 * 3600);

/// Sends messages again with the ids of messages that are done and forgotten. They must run again.
pub async fn send_again(world: Arc<World>, id: String, body: String) {
    let send = |again: bool| {
        let now = world.now();
        world.state(|state| {
            if again {
                state.ledger.sent_again(&id);
            }
            state.send(body.clone(), BTreeMap::new(), Duration::ZERO, now);
        });
    };
    send(false);
    let gives_up = world.now().plus(AGAIN_WITHIN);
    loop {
        tokio::time::sleep(Duration::from_secs(30)).await;
        let now = world.now();
        if now > gives_up {
            // It is dead, or ran while the table was down.
            world.state(|state| state.events -= 1);
            return;
        }
        let done_and_forgotten = world.state(|state| {
            let item = state.runs.even_forgotten(&id);
            item.is_some_and(|item| {
                item.state == ItemState::Done && item.is_expired(now.minus(crate::world::SKEW_MAX))
            })
        });
        if done_and_forgotten {
            send(true);
            world.state(|state| state.events -= 1);
            return;
        }
    }
}

/// The own id of the parent that a child's body names.
pub fn parent_of(body: &str) -> Option<(String, String)> {
    let message = Message::parse(body).ok()?;
    Some((message.id?, message.parent?))
}
