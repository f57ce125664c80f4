//! Lambda: the queue of asynchronous events in front of the worker, and the worker's environments.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use wasq_protocol::{Batch, ByteCount, Caps, Delivery, Invoke, Timestamp, WorkerEvent};
use wasq_runtime::{Answer, Worker, WorkerParts, WorkerSettings};

use crate::process::Process;
use crate::publisher::NoSecrets;
use crate::runner::{ScriptRunner, fingerprint};
use crate::scenario::{INVOKE_TIME, Kind, Mutation, Scenario, Weather};
use crate::worker_ports::{Nobody, SimRegistry, SimWorkerPorts, WorkerQueue};
use crate::world::{State, World, id_of};

/// The worker's function.
pub struct Lambda {
    world: Arc<World>,
    slots: Semaphore,
    warm: Mutex<Vec<Environment>>,
}

/// One execution environment: a process with a worker in it.
struct Environment {
    process: Arc<Process>,
    worker: Worker<SimWorkerPorts>,
}

/// The function's maximum event age, the shortest that Lambda allows. Lambda drops older events.
const EVENT_AGE_MAX: Duration = Duration::from_secs(60);
/// How long a busy function refuses everything.
const BUSY_FOR: Duration = Duration::from_secs(8 * 3600);

impl Lambda {
    pub fn new(world: Arc<World>) -> Arc<Self> {
        let slots = Semaphore::new(world.scenario.slots());
        Arc::new(Self { world, slots, warm: Mutex::default() })
    }

    /// Whether the function refuses asynchronous invokes at this moment: in a storm, some of the time.
    pub fn refuses(&self) -> bool {
        let Scenario { seed, weather, .. } = self.world.scenario;
        let quarters = self.world.age().as_secs() / 15;
        match weather {
            Weather::Calm | Weather::Crowded => false,
            Weather::Stormy => self.world.state(|state| state.storm) && (quarters + seed).is_multiple_of(9),
            Weather::Busy => self.world.age() < BUSY_FOR,
        }
    }

    /// Whether an environment is free, so that an event could start at once.
    pub fn has_slot(&self) -> bool {
        self.slots.available_permits() > 0
    }

    /// Accepts an event for later. In a storm the event may be dropped, delivered late, or delivered twice.
    pub fn accept(self: &Arc<Self>, state: &mut State, event: String) {
        let mut fault = false;
        let mut times = 1;
        let mut delay = Duration::from_millis(state.rng.u64(5..50));
        if state.storm {
            match state.rng.u32(..1000) {
                0..6 => (times, fault) = (0, true),
                6..12 => (times, fault) = (2, true),
                12..24 => {
                    delay = Duration::from_millis(state.rng.u64(5_000..90_000));
                    fault = true;
                }
                _ => {}
            }
        }
        if fault {
            ids(&event).iter().for_each(|id| state.fault(id));
        }
        for _ in 0..times {
            state.events += 1;
            let (lambda, event) = (self.clone(), event.clone());
            tokio::spawn(async move {
                tokio::time::sleep(delay).await;
                let slot = tokio::time::timeout(EVENT_AGE_MAX, lambda.slots.acquire()).await;
                match slot {
                    Ok(slot) => {
                        let _slot = slot.expect("the semaphore is never closed");
                        lambda.invoke(&event).await;
                    }
                    Err(_) => lambda.world.state(|state| {
                        ids(&event).iter().for_each(|id| state.fault(id));
                    }),
                }
                lambda.world.state(|state| state.events -= 1);
            });
        }
    }

    /// Runs one invoke to its end. Returns `None` if the environment died or the worker refused the event.
    pub async fn invoke(self: &Arc<Self>, event: &str) -> Option<Answer> {
        let warm = self.warm().pop();
        let environment = match warm {
            Some(environment) => environment,
            None => {
                tokio::time::sleep(Duration::from_millis(150)).await;
                self.start()
            }
        };
        let Environment { process, worker } = &environment;
        let started = self.world.now();
        let deliveries = deliveries(event, started, self.world.scenario.lease());
        let stale: BTreeSet<String> =
            deliveries.iter().filter(|d| d.lease_until <= started).map(DeliveryExt::id_here).collect();
        process.holds(deliveries.iter().map(DeliveryExt::id_here), stale);
        let event = match self.world.scenario.mutation {
            Some(Mutation::StaleLeasesTaken) if event.starts_with("{\"deliveries") => {
                renewed(deliveries, started.plus(self.world.scenario.lease()))
            }
            _ => event.to_owned(),
        };
        let work = tokio::time::timeout(
            INVOKE_TIME,
            worker.handle(&event, Invoke::until(started.plus(INVOKE_TIME))),
        );
        let lived = process.live(work).await;
        self.world.state(|state| {
            *state.ran_ms.entry(Kind::Worker).or_default() +=
                self.world.now().since(started).as_millis() as u64;
            *state.calls.entry("lambda.run").or_default() += 1;
        });
        let answer = match lived {
            None => return None,
            // Lambda ends the environment.
            Some(Err(_)) => {
                process.die();
                return None;
            }
            Some(Ok(Ok(answer))) => answer,
            Some(Ok(Err(e))) => {
                self.world.state(|state| state.ledger.violation(format!("the worker refused an event: {e}")));
                return None;
            }
        };
        process.holds_nothing();
        self.warm().push(environment);
        Some(answer)
    }

    fn start(&self) -> Environment {
        let process = Process::start(&self.world, Kind::Worker);
        let parts = WorkerParts {
            queue: WorkerQueue::new(process.clone()),
            registry: SimRegistry { process: process.clone() },
            secrets: NoSecrets,
            runner: ScriptRunner { process: process.clone(), fingerprint: fingerprint() },
            observer: Nobody,
            clock: self.world.clock(),
        };
        let settings = WorkerSettings {
            concurrency: 10,
            memory: ByteCount::mib(4096),
            modules_max: 4,
            modules_bytes_max: ByteCount::mib(200),
            live_ttl: Duration::from_secs(1),
            secret_ttl: Duration::from_secs(300),
            lease: self.world.scenario.lease(),
            retention: self.world.scenario.retention(),
            caps: Caps::default(),
        };
        Environment { process, worker: Worker::new(parts, settings) }
    }

    /// Ends all environments that wait for work.
    pub fn close(&self) {
        self.warm().clear();
    }

    fn warm(&self) -> MutexGuard<'_, Vec<Environment>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The deliveries of an event that comes at `now`.
pub fn deliveries(event: &str, now: Timestamp, lease: Duration) -> Vec<Delivery> {
    match WorkerEvent::parse(event, now, lease) {
        Ok(WorkerEvent::Batch(batch) | WorkerEvent::EventSource(batch)) => batch.deliveries,
        _ => Vec::new(),
    }
}

/// The same event, with leases that last until `until` at least.
fn renewed(mut deliveries: Vec<Delivery>, until: Timestamp) -> String {
    for delivery in &mut deliveries {
        delivery.lease_until = delivery.lease_until.max(until);
    }
    serde_json::to_string(&Batch { deliveries }).expect("string keys")
}

/// The ids of an event's messages: each is the message's own id, or its message id in the queue.
pub fn ids(event: &str) -> Vec<String> {
    let deliveries = deliveries(event, Timestamp::from_ms(0), Duration::ZERO);
    deliveries.iter().map(DeliveryExt::id_here).collect()
}

trait DeliveryExt {
    /// The message's own id.
    fn id_here(&self) -> String;
}

impl DeliveryExt for Delivery {
    fn id_here(&self) -> String {
        id_of(&self.body, &self.message_id)
    }
}
