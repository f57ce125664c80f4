//! Lambda: admission to the worker's function, its environments, and its queue of asynchronous events.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use wasq_protocol::{Batch, ByteCount, Caps, Delivery, Invoke, Timestamp, WorkerEvent};
use wasq_runtime::{Answer, Worker, WorkerParts, WorkerSettings};

use crate::process::Process;
use crate::publisher::NoSecrets;
use crate::runner::{ScriptRunner, fingerprint};
use crate::runs::SimRuns;
use crate::scenario::{INVOKE_TIME, Kind, Mutation, Remembering, Scenario, Weather};
use crate::scheduler::SimTimer;
use crate::worker_ports::{Nobody, SimRegistry, SimWorkerPorts, WorkerQueue};
use crate::world::{State, World, id_of};

/// The worker's function.
pub struct Lambda {
    world: Arc<World>,
    slots: Arc<Semaphore>,
    warm: Mutex<Vec<Environment>>,
}

/// One execution environment: a process with a worker in it.
struct Environment {
    process: Arc<Process>,
    worker: Worker<SimWorkerPorts>,
}

/// The maximum event age of the asynchronous queue, the shortest that Lambda allows. Lambda drops older events.
const EVENT_AGE_MAX: Duration = Duration::from_secs(60);
/// The waits of Lambda's own queues after a throttled event, from the first to the longest.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// How long a busy function refuses everything.
const BUSY_FOR: Duration = Duration::from_secs(8 * 3600);

/// How a synchronous invoke ended: the worker's answer, or `None` if its environment died or it refused the event.
pub type Ended = oneshot::Receiver<Option<Answer>>;

impl Lambda {
    pub fn new(world: Arc<World>) -> Arc<Self> {
        let slots = Arc::new(Semaphore::new(world.scenario.slots()));
        Arc::new(Self { world, slots, warm: Mutex::default() })
    }

    /// Whether the function refuses every invoke at this moment: in a storm, some of the time.
    fn refuses(&self, storm: bool) -> bool {
        let Scenario { seed, weather, .. } = self.world.scenario;
        let quarters = self.world.age().as_secs() / 15;
        match weather {
            Weather::Calm | Weather::Crowded => false,
            Weather::Stormy => storm && (quarters + seed).is_multiple_of(9),
            Weather::Busy => self.world.age() < BUSY_FOR,
        }
    }

    /// The place of an invoke among those that run at once; `None` if the function is busy.
    pub fn admit(&self, storm: bool) -> Option<OwnedSemaphorePermit> {
        let free = self.slots.clone().try_acquire_owned().ok();
        free.filter(|_| !self.refuses(storm))
    }

    /// Waits for a place for up to `patience`, as Lambda's own pollers do.
    pub async fn place(&self, patience: Duration) -> Option<OwnedSemaphorePermit> {
        let gives_up = Instant::now() + patience;
        let mut wait = BACKOFF;
        loop {
            let storm = self.world.state(|state| state.storm);
            let place = self.admit(storm);
            if place.is_some() || Instant::now() + wait > gives_up {
                return place;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(BACKOFF_MAX);
        }
    }

    /// Starts a synchronous invoke. It goes on if its caller is gone.
    pub fn start_invoke(
        self: &Arc<Self>,
        state: &mut State,
        event: String,
        place: OwnedSemaphorePermit,
    ) -> Ended {
        let (sender, ended) = oneshot::channel();
        state.events += 1;
        let lambda = self.clone();
        tokio::spawn(async move {
            let answer = lambda.invoke(&event).await;
            drop(place);
            lambda.world.state(|state| state.events -= 1);
            // The caller may have disconnected.
            let _ = sender.send(answer);
        });
        ended
    }

    /// Accepts an event into the asynchronous queue. A busy function is tried again after longer and longer waits, until the
    /// event is too old, and is dropped. The sender hears nothing of that.
    pub fn accept(self: &Arc<Self>, state: &mut State, event: String) {
        state.events += 1;
        let lambda = self.clone();
        tokio::spawn(async move {
            if let Some(_place) = lambda.place(EVENT_AGE_MAX).await {
                lambda.invoke(&event).await;
            }
            lambda.world.state(|state| state.events -= 1);
        });
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
        // An event source mapping does not say when the lease of a repeated delivery ends. The queue knows it.
        let said = event.starts_with("{\"deliveries");
        let is_over = |delivery: &&Delivery| match said || delivery.receive_count == 1 {
            true => delivery.lease_until <= started,
            false => self.world.state(|state| state.queue.lease_is_over(&delivery.message_id, started)),
        };
        let stale: BTreeSet<String> = deliveries.iter().filter(is_over).map(DeliveryExt::id_here).collect();
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
            runs: (self.world.scenario.runs != Remembering::Off).then(|| SimRuns::new(process.clone())),
            timer: Some(SimTimer(process.clone())),
            runner: ScriptRunner { process: process.clone(), fingerprint: fingerprint() },
            observer: Nobody,
            clock: self.world.clock_of_process(),
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

/// The id of a simulated delivery.
pub trait DeliveryExt {
    /// The message's own id.
    fn id_here(&self) -> String;
}

impl DeliveryExt for Delivery {
    fn id_here(&self) -> String {
        id_of(&self.body, &self.message_id)
    }
}
