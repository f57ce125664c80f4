//! The drain loop in virtual time, over a queue and workers in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasq_consumer::{
    ConsumerParts, ConsumerPorts, DrainSettings, Drained, InvokeError, Invoker, Mode, Source, Summary, drain,
};
use wasq_protocol::{Clock, Delivery, Timestamp, WorkerEvent};

/// Virtual time, which tokio advances when nothing else is left to do.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(0).plus(self.0.elapsed())
    }
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

struct State {
    waiting: VecDeque<Delivery>,
    released: Vec<(String, Duration)>,
    extended: Vec<(String, Duration)>,
    /// Leases that are over cannot be extended.
    gone: Vec<String>,
    /// Cancelled when messages were received.
    stop: CancellationToken,
    settled: Vec<String>,
    /// Receives that fail before the first one works.
    receives_fail: u32,
    /// Invokes that are refused before the first one is accepted, because every worker is busy.
    busy: u32,
    /// The error that answers all further invokes, if there is one.
    answer: Option<fn(String) -> InvokeError>,
    /// Messages that kill their worker.
    killers: Vec<String>,
    /// The number of deaths that each delivery of a message named.
    deaths: BTreeMap<String, Vec<u32>>,
    /// How long a worker takes.
    takes: Duration,
    /// Workers.
    workers: u32,
    /// The sizes of the accepted batches.
    batches: Vec<usize>,
    /// Invokes that are under way, and the most there were at once.
    open: (u32, u32),
}

impl Default for State {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            released: Vec::new(),
            extended: Vec::new(),
            gone: Vec::new(),
            stop: CancellationToken::new(),
            settled: Vec::new(),
            receives_fail: 0,
            busy: 0,
            answer: None,
            killers: Vec::new(),
            deaths: BTreeMap::new(),
            takes: Duration::from_millis(20),
            workers: u32::MAX,
            batches: Vec::new(),
            open: (0, 0),
        }
    }
}

const LEASE: Duration = Duration::from_secs(120);

fn settings(mode: Mode, seconds: u64) -> DrainSettings {
    DrainSettings {
        mode,
        until: Timestamp::from_ms(seconds * 1000),
        lease: LEASE,
        receivers: 3,
        held_bytes_max: 32 << 20,
        in_flight_max: 1000,
        invokes_max: 1000,
    }
}

impl World {
    fn with(count: usize) -> Self {
        let world = Self::default();
        world.state(|state| state.waiting = (0..count).map(|i| delivery(&i.to_string(), "{}")).collect());
        world
    }

    fn state<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.0.lock().expect("no panic"))
    }

    async fn drain(&self, mode: Mode, seconds: u64) -> (Summary, Duration) {
        let (drained, took) = self.drain_with(settings(mode, seconds), Vec::new()).await;
        (drained.summary, took)
    }

    async fn drain_with(&self, settings: DrainSettings, kept: Vec<Delivery>) -> (Drained, Duration) {
        let started = Instant::now();
        let ports = ConsumerParts { source: self.clone(), invoker: self.clone(), clock: Virtual(started) };
        let drained = drain::<Ports>(&ports, settings, kept, CancellationToken::new()).await;
        (drained, started.elapsed())
    }
}

fn delivery(id: &str, body: &str) -> Delivery {
    Delivery {
        message_id: id.to_owned(),
        body: body.to_owned(),
        receipt: id.to_owned(),
        receive_count: 1,
        lease_until: Timestamp::from_ms(60_000),
        first_received: Timestamp::from_ms(0),
        sent: Timestamp::from_ms(0),
        attributes: Default::default(),
        group: None,
        trace_header: None,
        deaths: 0,
    }
}

struct Ports;

impl ConsumerPorts for Ports {
    type Source = World;
    type Invoker = World;
    type Clock = Virtual;
}

impl Source for World {
    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>> {
        let received: Vec<_> = self.state(|state| {
            if state.receives_fail > 0 {
                state.receives_fail -= 1;
                bail!("receive messages: as told");
            }
            let count = state.waiting.len().min(10);
            if count > 0 {
                state.stop.cancel();
            }
            Ok(state.waiting.drain(..count).collect())
        })?;
        if received.is_empty() {
            tokio::time::sleep(wait).await;
        }
        Ok(received)
    }

    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        self.state(|state| {
            let extend = |receipt: String| match state.gone.contains(&receipt) {
                true => Err(anyhow!("as told")),
                false => {
                    state.extended.push((receipt, lease));
                    Ok(())
                }
            };
            receipts.into_iter().map(extend).collect()
        })
    }

    async fn release(&self, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        let results = entries.iter().map(|_| Ok(())).collect();
        self.state(|state| state.released.extend(entries));
        results
    }
}

impl Invoker for World {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        assert!(event.len() <= 6 << 20, "Lambda takes 6 MiB, not {} bytes", event.len());
        let WorkerEvent::Batch(batch) =
            WorkerEvent::parse(&event, Timestamp::from_ms(0), Duration::ZERO).expect("a worker event")
        else {
            panic!("not a batch")
        };
        let busy = self.state(|state| {
            let busy = state.busy > 0 || state.open.0 >= state.workers;
            state.busy = state.busy.saturating_sub(1);
            if !busy {
                state.open.0 += 1;
                state.open.1 = state.open.1.max(state.open.0);
            }
            busy
        });
        if busy {
            return Err(InvokeError::Busy("as told".to_owned()));
        }
        let takes = self.state(|state| state.takes);
        let open = Open(self.clone());
        tokio::time::sleep(takes).await;
        drop(open);
        self.state(|state| {
            if let Some(error) = state.answer {
                return Err(error("as told".to_owned()));
            }
            for delivery in &batch.deliveries {
                state.deaths.entry(delivery.message_id.clone()).or_default().push(delivery.deaths);
            }
            // A worker settles a message that has killed too many, and does not run it.
            let kills =
                |delivery: &Delivery| state.killers.contains(&delivery.message_id) && delivery.deaths < 3;
            if batch.deliveries.iter().any(kills) {
                return Err(InvokeError::Died("as told".to_owned()));
            }
            state.batches.push(batch.deliveries.len());
            state.settled.extend(batch.deliveries.into_iter().map(|delivery| delivery.message_id));
            Ok(())
        })
    }
}

/// An invoke that is under way.
struct Open(World);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.state(|state| state.open.0 -= 1);
    }
}

#[tokio::test(start_paused = true)]
async fn until_empty_takes_all_and_ends() {
    let world = World::with(95);
    let (summary, took) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.received, summary.handed_over, summary.errors), (95, 95, 0));
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_waits_until_its_time_is_up() {
    let world = World::with(3);
    let late = world.clone();
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        late.state(|state| state.waiting.push_back(delivery("late", "{}")));
    });
    let (summary, took) = world.drain(Mode::Window, 60).await;
    assert_eq!(summary.handed_over, 4);
    assert!(took <= Duration::from_secs(60) && took > Duration::from_secs(50), "{took:?}");
    assert!(summary.receives < 10, "an idle queue is polled seldom: {summary:?}");
}

#[tokio::test(start_paused = true)]
async fn it_lets_go_of_runs_that_last_longer_than_it() {
    let world = World::with(30);
    world.state(|state| state.takes = Duration::from_secs(600));
    let (summary, took) = world.drain(Mode::Window, 60).await;
    assert_eq!((summary.handed_over, summary.released, summary.unknown), (30, 0, 0));
    assert!(took <= Duration::from_secs(60), "{took:?}");
    let world = World::with(30);
    world.state(|state| state.takes = Duration::from_secs(600));
    let (summary, took) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!(summary.handed_over, 30);
    assert!(took < Duration::from_secs(10), "it waits no longer than it takes to see a death: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_busy_for_a_while_costs_no_receive() {
    let world = World::with(20);
    world.state(|state| state.busy = 5);
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.handed_over, summary.released), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn while_workers_are_busy_it_receives_nothing() {
    let world = World::with(1000);
    world.state(|state| (state.workers, state.takes) = (2, Duration::from_secs(600)));
    let (drained, _) = world.drain_with(settings(Mode::Window, 60), Vec::new()).await;
    let Drained { summary, kept } = drained;
    assert_eq!((summary.handed_over, summary.released, summary.errors), (20, 0, 0));
    assert!(summary.received <= 20 + 3 * 10, "one batch for each receiver at most: {summary:?}");
    assert_eq!(kept.len() as u64, summary.received - 20);
}

#[tokio::test(start_paused = true)]
async fn the_next_drain_hands_over_what_no_worker_took() {
    let world = World::with(10);
    world.state(|state| state.workers = 0);
    let (drained, _) = world.drain_with(settings(Mode::Window, 60), Vec::new()).await;
    assert_eq!((drained.summary.released, drained.kept.len()), (0, 10));
    // Two consumers take turns every minute: the leases last until this one's next turn.
    let shortest = world.state(|state| state.extended.iter().rev().take(10).map(|(_, lease)| *lease).min());
    assert_eq!(shortest, Some(Duration::from_secs(180)));
    world.state(|state| state.workers = 1);
    let (next, _) = world.drain_with(settings(Mode::UntilEmpty, 60), drained.kept.clone()).await;
    assert_eq!((next.summary.received, next.summary.handed_over, next.kept.len()), (0, 10, 0));
    // Their leases are over when this drain begins.
    let mut late = drained.kept;
    late.iter_mut().for_each(|delivery| delivery.lease_until = Timestamp::from_ms(0));
    let (next, _) = world.drain_with(settings(Mode::UntilEmpty, 60), late).await;
    assert_eq!(next.summary.handed_over, 0, "somebody else may have them");
}

#[tokio::test(start_paused = true)]
async fn what_the_worker_refuses_is_released_and_what_it_may_have_is_not() {
    let world = World::with(5);
    world.state(|state| state.answer = Some(InvokeError::Refused));
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.released, summary.unknown, summary.errors), (5, 0, 1));
    // The older a message, the longer it stays hidden.
    let released = world.state(|state| state.released.clone());
    assert!(released.iter().all(|(_, wait)| *wait >= Duration::from_secs(5)), "{released:?}");

    let world = World::with(5);
    world.state(|state| state.answer = Some(InvokeError::Unknown));
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.released, summary.unknown, summary.errors), (0, 5, 1));
    assert!(world.state(|state| state.released.is_empty()));
}

#[tokio::test(start_paused = true)]
async fn the_messages_of_a_worker_that_died_travel_alone() {
    let world = World::with(10);
    world.state(|state| state.killers = vec!["3".to_owned()]);
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    let deaths = world.state(|state| state.deaths.clone());
    assert_eq!(deaths["3"], [0, 1, 2, 3], "the worker gives it up when it has killed three");
    for id in ["0", "1", "2", "4", "9"] {
        assert_eq!(deaths[id], [0, 1], "{id} is blamed for the death that it saw, and ends alone");
    }
    assert_eq!(world.state(|state| state.batches.clone()), [1; 10]);
    assert_eq!((summary.handed_over, summary.released, summary.errors), (10, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn what_a_worker_settled_before_it_died_is_left_alone() {
    let world = World::with(4);
    world.state(|state| (state.killers, state.gone) = (vec!["3".to_owned()], vec!["0".to_owned()]));
    world.drain(Mode::UntilEmpty, 60).await;
    let mut settled = world.state(|state| state.settled.clone());
    settled.sort();
    assert_eq!(settled, ["1", "2", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_always_dies_ends_the_drain() {
    let world = World::with(1000);
    world.state(|state| state.answer = Some(InvokeError::Died));
    let settings = DrainSettings { in_flight_max: 50, ..settings(Mode::Window, 60) };
    let (Drained { summary, .. }, took) = world.drain_with(settings, Vec::new()).await;
    assert!(summary.received <= 100 && took < Duration::from_secs(10), "{summary:?} {took:?}");
    assert_eq!((summary.released, summary.handed_over), (summary.received, 0), "nothing is given up");
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_again_and_again_travels_alone() {
    let world = World::with(10);
    world.state(|state| state.waiting[3].receive_count = 21);
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.handed_over, world.state(|state| state.batches.clone())), (10, vec![9, 1]));
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_fails_is_tried_again() {
    let world = World::with(5);
    world.state(|state| state.receives_fail = 3);
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.errors, summary.handed_over), (3, 5));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_never_answers_does_not_keep_it_beyond_its_time() {
    let world = World::with(5);
    world.state(|state| state.receives_fail = u32::MAX);
    let (summary, took) = world.drain(Mode::Window, 10).await;
    assert!(summary.errors > 0 && took <= Duration::from_secs(10), "{summary:?} {took:?}");
}

#[tokio::test(start_paused = true)]
async fn it_holds_no_more_than_it_may() {
    // Ten messages of 90 kB in each receive, and workers that take a second.
    let body = format!("{{\"task\": \"a\", \"params\": \"{}\"}}", "x".repeat(90_000));
    let most = |change: fn(&mut DrainSettings)| {
        let (world, mut settings) = (World::default(), settings(Mode::UntilEmpty, 300));
        change(&mut settings);
        world.state(|state| {
            state.waiting = (0..90).map(|i| delivery(&i.to_string(), &body)).collect();
            state.takes = Duration::from_secs(1);
        });
        async move {
            let (drained, _) = world.drain_with(settings, Vec::new()).await;
            assert_eq!(drained.summary.handed_over, 90);
            world.state(|state| state.open.1)
        }
    };
    assert_eq!(most(|_| ()).await, 9);
    assert_eq!(most(|settings| settings.held_bytes_max = 2 << 20).await, 2);
    assert_eq!(
        most(|settings| settings.held_bytes_max = 1000).await,
        1,
        "the first receiver works in any case"
    );
    // Receivers that begin at once may each take a batch more.
    assert!(most(|settings| settings.in_flight_max = 30).await <= 5);
    assert!(most(|settings| settings.invokes_max = 2).await <= 4);
}

#[tokio::test(start_paused = true)]
async fn large_messages_are_split_over_invokes() {
    let world = World::default();
    // As a JSON string each quote takes two bytes.
    let body = "\"".repeat(1_000_000);
    world.state(|state| state.waiting = (0..10).map(|i| delivery(&i.to_string(), &body)).collect());
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.handed_over, world.state(|state| state.batches.clone())), (10, vec![2, 3, 2, 3]));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_drain() {
    let world = World::with(10);
    let stop = CancellationToken::new();
    world.state(|state| {
        state.stop = stop.clone();
        state.takes = Duration::from_secs(600);
    });
    let started = Instant::now();
    let ports = ConsumerParts { source: world.clone(), invoker: world.clone(), clock: Virtual(started) };
    let drained = drain::<Ports>(&ports, settings(Mode::Window, 60), Vec::new(), stop).await;
    assert_eq!(
        (drained.summary.receives, drained.summary.handed_over),
        (1, 10),
        "what was received is handed over"
    );
    assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
}
