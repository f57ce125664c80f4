//! The design that wasq replaces, in the same world. The consumer wakes every minute and receives ten
//! messages at most. It invokes a worker for each message asynchronously, and deletes the message at once. A
//! worker with a failed task sends the message again. The queue keeps messages for five minutes.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasq_engine::Steps;
use wasq_protocol::{Message, Outcome};

use crate::process::Process;
use crate::queue::Handed;
use crate::runner::{Part, play};
use crate::scenario::Kind;
use crate::script::Script;
use crate::sqs::{delete, receive};
use crate::world::{State, World};

const TICK: Duration = Duration::from_secs(60);
/// Lambda's default: an asynchronous invoke that fails is tried again after one minute, and after two more.
const LAMBDA_RETRIES: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];

/// Starts a consumer every minute.
pub fn start(world: &Arc<World>) {
    let world = world.clone();
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(TICK);
        loop {
            tick.tick().await;
            world.state(|state| state.queue.expire(world.now()));
            let process = Process::start(&world, Kind::Consumer);
            let started = world.now();
            process.live(consume(&process)).await;
            world.state(|state| {
                let ran = world.now().since(started).as_millis() as u64;
                *state.ran_ms.entry(Kind::Consumer).or_default() += ran;
                *state.calls.entry("scheduler.invoke").or_default() += 1;
            });
        }
    });
}

async fn consume(process: &Arc<Process>) {
    let Ok(handed) = receive(process, Duration::ZERO).await else { return };
    for Handed { message_id: _, receipt, stored, unkind: _ } in handed {
        let (world, body) = (process.world.clone(), stored.body);
        let invoked = process.call("lambda.invoke", move |state| accept(state, world, body)).await;
        // A failed invoke ends the consumer. The queue delivers the remaining messages again.
        if invoked.is_err() {
            return;
        }
        delete(process, vec![receipt]).await;
    }
}

/// Lambda's asynchronous queue. It drops and duplicates events as often as it does for wasq.
fn accept(state: &mut State, world: Arc<World>, body: String) {
    let times = match state.rng.u32(..1000) {
        0..6 if state.storm => 0,
        6..12 if state.storm => 2,
        _ => 1,
    };
    for _ in 0..times {
        state.events += 1;
        let (world, body) = (world.clone(), body.clone());
        tokio::spawn(async move {
            for retry in std::iter::once(Duration::from_millis(20)).chain(LAMBDA_RETRIES) {
                tokio::time::sleep(retry).await;
                let process = Process::start(&world, Kind::Worker);
                let started = world.now();
                let lived = process.live(work(&process, &body)).await;
                world.state(|state| {
                    let ran = world.now().since(started).as_millis() as u64;
                    *state.ran_ms.entry(Kind::Worker).or_default() += ran;
                    *state.calls.entry("lambda.run").or_default() += 1;
                });
                if let Some(Ok(())) = lived {
                    break;
                }
            }
            world.state(|state| state.events -= 1);
        });
    }
}

/// Runs a task. If it fails in any way, sends its message again. Returns `Err` if that send fails too.
async fn work(process: &Arc<Process>, body: &str) -> anyhow::Result<()> {
    let message = Message::parse(body).ok();
    let script: Option<Script> = message
        .as_ref()
        .filter(|message| message.task.as_str() == "work")
        .and_then(|message| serde_json::from_str(message.params.get()).ok());
    let succeeded = match (&message, &script) {
        (Some(message), Some(script)) => {
            let id = message.id.clone().unwrap_or_default();
            let deadline = Instant::now() + Duration::from_secs(300);
            let part = Part { id: &id, script, ids: BTreeSet::new(), steps: Steps::default(), deadline };
            matches!(play(process, part).await, Outcome::Success { .. })
        }
        // Not JSON, or no such task: an exception like any other.
        _ => false,
    };
    if !succeeded {
        let (body, world) = (body.to_owned(), process.world.clone());
        process
            .call("sqs.send", move |state| state.send(body, Default::default(), Duration::ZERO, world.now()))
            .await?;
    }
    Ok(())
}
