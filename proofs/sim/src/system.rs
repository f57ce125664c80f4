//! wasq in a simulated world: the production code of consumer, worker and publisher, on simulated ports.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio_util::sync::CancellationToken;
use wasq_consumer::{ConsumerParts, DrainSettings, Drained, Mode, drain};
use wasq_protocol::Delivery;
use wasq_runtime::Answer;

use crate::consumer_ports::{SimConsumerPorts, SimInvoker, SimSource};
use crate::lambda::{DeliveryExt, Lambda};
use crate::process::Process;
use crate::queue::Handed;
use crate::scenario::{Drain, Kind};
use crate::scheduler;
use crate::sqs::{delete, receive};
use crate::world::World;

/// The schedule's rate.
const TICK: Duration = Duration::from_secs(60);
/// The time limit of a consumer: it runs until the next one has certainly begun.
const CONSUMER_TIME: Duration = Duration::from_secs(64);
/// The most messages that a drain has handed over, and the most invokes.
const IN_FLIGHT_MAX: u64 = 1000;
/// Pollers of an event source mapping.
const POLLERS: usize = 5;

/// Starts the schedule of consumers, or the pollers of an event source mapping.
pub fn start(world: &Arc<World>, lambda: &Arc<Lambda>) {
    tokio::spawn(scheduler::fire(world.clone()));
    match world.scenario.drain {
        Drain::Schedule(mode) => {
            tokio::spawn(schedule(world.clone(), lambda.clone(), mode));
        }
        Drain::EventSource => {
            for _ in 0..POLLERS {
                tokio::spawn(event_source(world.clone(), lambda.clone()));
            }
        }
    }
}

/// One execution environment of the consumer, with the messages that its last drain has kept.
struct Consumer {
    process: Arc<Process>,
    kept: Vec<Delivery>,
}

/// EventBridge Scheduler: a consumer every minute. A drain lasts longer, so two environments take turns.
async fn schedule(world: Arc<World>, lambda: Arc<Lambda>, mode: Mode) {
    let warm: Arc<Mutex<Vec<Consumer>>> = Arc::default();
    let lock = |warm: &Mutex<Vec<Consumer>>| warm.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        let (world, lambda, warm) = (world.clone(), lambda.clone(), warm.clone());
        let Consumer { process, kept } = lock(&warm).unwrap_or_else(|| Consumer {
            process: Process::start(&world, Kind::Consumer),
            kept: Vec::new(),
        });
        tokio::spawn(async move {
            let ports = ConsumerParts::<SimConsumerPorts> {
                source: SimSource(process.clone()),
                invoker: SimInvoker { process: process.clone(), lambda },
                clock: world.clock(),
            };
            let settings = DrainSettings {
                mode,
                until: world.now().plus(CONSUMER_TIME),
                lease: world.scenario.lease(),
                receivers: 4,
                held_bytes_max: 32 << 20,
                in_flight_max: IN_FLIGHT_MAX,
                invokes_max: IN_FLIGHT_MAX,
            };
            let started = world.now();
            let drained = process.live(drain(&ports, settings, kept, CancellationToken::new())).await;
            world.state(|state| {
                let ran = world.now().since(started).as_millis() as u64;
                *state.ran_ms.entry(Kind::Consumer).or_default() += ran;
                *state.calls.entry("scheduler.invoke").or_default() += 1;
            });
            if let Some(Drained { kept, summary: _ }) = drained {
                process.holds_nothing();
                process.holds(kept.iter().map(DeliveryExt::id_here), BTreeSet::new());
                warm.lock().unwrap_or_else(PoisonError::into_inner).push(Consumer { process, kept });
            }
        });
    }
}

/// Lambda's own poller: receives, invokes, waits for the answer, and deletes the messages that the answer
/// does not name.
async fn event_source(world: Arc<World>, lambda: Arc<Lambda>) {
    let poller = Process::immortal(&world, Kind::Consumer);
    loop {
        let Ok(handed) = receive(&poller, Duration::from_secs(20)).await else { continue };
        if handed.is_empty() {
            continue;
        }
        let event = event(&handed);
        // A busy function is tried again while the leases last.
        let Some(_place) = lambda.place(world.scenario.lease()).await else {
            poller.holds_nothing();
            continue;
        };
        let answer = lambda.invoke(&event).await;
        if let Some(Answer::EventSource(response)) = answer {
            let failed =
                |handed: &Handed| response.failures.iter().any(|f| f.message_id == handed.message_id);
            let done = handed.iter().filter(|handed| !failed(handed)).map(|handed| handed.receipt.clone());
            let done: Vec<String> = done.collect();
            if !done.is_empty() {
                delete(&poller, done).await;
            }
        }
        poller.holds_nothing();
    }
}

/// The event that Lambda makes from received messages.
fn event(handed: &[Handed]) -> String {
    let record = |Handed { message_id, receipt, stored, unkind: _ }: &Handed| {
        json!({
            "messageId": message_id,
            "receiptHandle": receipt,
            "body": stored.body,
            "eventSource": "aws:sqs",
            "attributes": {
                "ApproximateReceiveCount": stored.receive_count.to_string(),
                "ApproximateFirstReceiveTimestamp":
                    stored.first_received.expect("it was received").ms().to_string(),
                "SentTimestamp": stored.sent.ms().to_string(),
            },
        })
    };
    json!({ "Records": handed.iter().map(record).collect::<Vec<_>>() }).to_string()
}
