//! The drain loop in virtual time, over a queue and a worker in memory.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasq_consumer::{
    ConsumerParts, ConsumerPorts, DrainSettings, InFlight, InvokeError, Invoker, Mode, Source, Summary, drain,
};
use wasq_protocol::{Clock, DeadLetter, Delivery, FailureKind, Timestamp, WorkerEvent};

/// Virtual time, which tokio advances when nothing else is left to do.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_ms(0).plus(self.0.elapsed())
    }
}

#[derive(Clone, Default)]
struct World(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    waiting: VecDeque<Delivery>,
    released: Vec<(String, Duration)>,
    dead: Vec<(String, FailureKind)>,
    /// When the last dead letter failed, by its own account.
    failed: Option<Timestamp>,
    /// Cancelled when messages were received.
    stop: CancellationToken,
    accepted: Vec<String>,
    in_flight: u64,
    /// Receives that fail before the first one works.
    receives_fail: u32,
    /// Invokes that are throttled before the first one is accepted.
    throttled: u32,
    /// The error that answers all further invokes, if there is one.
    answer: Option<fn(String) -> InvokeError>,
    /// The sizes of the accepted batches.
    batches: Vec<usize>,
    deleted: u64,
    /// Every send to the dead-letter queue fails.
    no_dead_letters: bool,
    /// Every worker is busy.
    full: bool,
    /// `in_flight` answers `Exactly`: no message in flight only waits.
    exactly: bool,
    /// Invokes that are under way, and the most there were at once.
    busy: (u32, u32),
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
        let started = Instant::now();
        let until = Timestamp::from_ms(seconds * 1000);
        let settings =
            DrainSettings { mode, until, receivers: 3, held_bytes_max: 32 << 20, in_flight_max: 100 };
        let ports = ConsumerParts { source: self.clone(), invoker: self.clone(), clock: Virtual(started) };
        let summary = drain::<Ports>(&ports, settings, CancellationToken::new()).await;
        (summary, started.elapsed())
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

    async fn release(&self, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        let results = entries.iter().map(|_| Ok(())).collect();
        self.state(|state| state.released.extend(entries));
        results
    }

    async fn send_dead_letter(&self, delivery: &Delivery, letter: &DeadLetter) -> Result<()> {
        self.state(|state| {
            if state.no_dead_letters {
                bail!("as told");
            }
            state.dead.push((delivery.message_id.clone(), letter.failure.kind));
            state.failed = Some(letter.failed);
            Ok(())
        })
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        self.state(|state| {
            assert!(state.dead.iter().any(|(id, _)| id == receipt), "deleted without a copy");
            state.deleted += 1;
        });
        Ok(())
    }
}

impl Invoker for World {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        self.state(|state| {
            state.busy.0 += 1;
            state.busy.1 = state.busy.1.max(state.busy.0);
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.state(|state| state.busy.0 -= 1);
        assert!(event.len() <= 1 << 20, "Lambda takes 1 MiB, not {} bytes", event.len());
        let WorkerEvent::Batch(batch) =
            WorkerEvent::parse(&event, Timestamp::from_ms(0), Duration::ZERO).expect("a worker event")
        else {
            panic!("not a batch")
        };
        self.state(|state| {
            if state.throttled > 0 {
                state.throttled -= 1;
                return Err(InvokeError::Throttled("as told".to_owned()));
            }
            if let Some(error) = state.answer {
                return Err(error("as told".to_owned()));
            }
            state.batches.push(batch.deliveries.len());
            state.accepted.extend(batch.deliveries.into_iter().map(|delivery| delivery.message_id));
            Ok(())
        })
    }

    async fn in_flight(&self) -> Result<InFlight> {
        // The workers finish ten messages between two checks.
        Ok(self.state(|state| {
            state.in_flight = state.in_flight.saturating_sub(10);
            if state.exactly { InFlight::Exactly(state.in_flight) } else { InFlight::AtMost(state.in_flight) }
        }))
    }

    async fn has_room(&self) -> Result<bool> {
        Ok(self.state(|state| !state.full))
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
async fn a_worker_that_is_busy_for_a_while_costs_no_receive() {
    let world = World::with(20);
    world.state(|state| state.throttled = 5);
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.handed_over, summary.released), (20, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_busy_worker_does_not_take_is_released() {
    let world = World::with(20);
    world.state(|state| state.answer = Some(InvokeError::Throttled));
    let (summary, took) = world.drain(Mode::UntilEmpty, 300).await;
    assert_eq!((summary.handed_over, summary.released, summary.errors), (0, 20, 0));
    assert!(took < Duration::from_secs(70), "{took:?}");
    // The drain releases the messages while they are leased. The older a message, the longer it stays hidden.
    let released = world.state(|state| state.released.clone());
    assert!(released.iter().all(|(_, wait)| *wait >= Duration::from_secs(5)), "{released:?}");
}

#[tokio::test(start_paused = true)]
async fn what_the_worker_refuses_is_released_and_what_it_may_have_is_not() {
    let world = World::with(5);
    world.state(|state| state.answer = Some(InvokeError::Refused));
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.released, summary.unknown, summary.errors), (5, 0, 1));

    let world = World::with(5);
    world.state(|state| state.answer = Some(InvokeError::Unknown));
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.released, summary.unknown, summary.errors), (0, 5, 1));
    assert!(world.state(|state| state.released.is_empty()));
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
async fn it_waits_while_too_much_is_in_flight() {
    let world = World::with(10);
    world.state(|state| (state.in_flight, state.exactly) = (500, true));
    let (summary, took) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!(summary.handed_over, 10);
    assert!(took > Duration::from_secs(5), "it did not wait: {took:?}");
}

#[tokio::test(start_paused = true)]
async fn what_merely_waits_does_not_stop_the_queue() {
    let world = World::with(100);
    // These 10,000 messages may all wait for tomorrow.
    world.state(|state| state.in_flight = 10_000);
    let (summary, took) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!(summary.handed_over, 100);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn workers_that_are_full_get_nothing() {
    let world = World::with(100);
    world.state(|state| (state.in_flight, state.full) = (10_000, true));
    let (summary, _) = world.drain(Mode::Window, 60).await;
    assert_eq!((summary.received, summary.handed_over), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn it_holds_no_more_than_its_memory_takes() {
    // Each receive brings 900 kB.
    for (held_bytes_max, at_once) in [(32 << 20, 3), (2 << 20, 2), (1000, 1)] {
        let world = World::default();
        let body = format!("{{\"task\": \"a\", \"params\": \"{}\"}}", "x".repeat(90_000));
        world.state(|state| state.waiting = (0..90).map(|i| delivery(&i.to_string(), &body)).collect());
        let until = Timestamp::from_ms(60_000);
        let settings = DrainSettings {
            mode: Mode::UntilEmpty,
            until,
            receivers: 3,
            held_bytes_max,
            in_flight_max: 1000,
        };
        let clock = Virtual(Instant::now());
        let ports = ConsumerParts { source: world.clone(), invoker: world.clone(), clock };
        let summary = drain::<Ports>(&ports, settings, CancellationToken::new()).await;
        assert_eq!((summary.handed_over, world.state(|state| state.busy.1)), (90, at_once));
    }
}

#[tokio::test(start_paused = true)]
async fn large_messages_are_split_over_invokes() {
    let world = World::default();
    let body = format!("{{\"task\": \"a\", \"params\": \"{}\"}}", "x".repeat(400_000));
    world.state(|state| state.waiting = (0..5).map(|i| delivery(&i.to_string(), &body)).collect());
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.handed_over, summary.dead_lettered), (5, 0));
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_the_drain_and_leaves_the_time_as_it_is() {
    let world = World::default();
    let stop = CancellationToken::new();
    let body = "\"".repeat(700_000);
    world.state(|state| {
        state.waiting = [delivery("large", &body)].into();
        state.stop = stop.clone();
    });
    let started = Instant::now();
    let ports = ConsumerParts { source: world.clone(), invoker: world.clone(), clock: Virtual(started) };
    let settings = DrainSettings {
        mode: Mode::Window,
        until: Timestamp::from_ms(60_000),
        receivers: 3,
        held_bytes_max: 32 << 20,
        in_flight_max: 100,
    };
    let summary = drain::<Ports>(&ports, settings, stop).await;
    assert_eq!((summary.receives, summary.dead_lettered), (1, 1), "what was received is dealt with");
    assert!(started.elapsed() < Duration::from_secs(1), "it took {:?}", started.elapsed());
    assert_eq!(world.state(|state| state.failed), Some(Timestamp::from_ms(0)));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_fits_into_no_invoke_goes_to_the_dead_letter_queue() {
    let world = World::default();
    // As a JSON string each quote takes two bytes.
    let body = "\"".repeat(700_000);
    world.state(|state| state.waiting = [delivery("large", &body), delivery("small", "{}")].into());
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.handed_over, summary.dead_lettered), (1, 1));
    assert_eq!(world.state(|state| state.deleted), 1);
    assert_eq!(world.state(|state| state.dead.clone()), [("large".to_owned(), FailureKind::TooLarge)]);
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_copied_is_not_deleted() {
    let world = World::default();
    world.state(|state| state.no_dead_letters = true);
    world.state(|state| state.waiting = [delivery("large", &"\"".repeat(700_000))].into());
    let (summary, _) = world.drain(Mode::UntilEmpty, 60).await;
    assert_eq!((summary.dead_lettered, summary.errors, world.state(|state| state.deleted)), (0, 1, 0));
}
