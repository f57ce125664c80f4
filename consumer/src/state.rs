//! The settings of a drain, its counts, and the state that its parts share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wasq_protocol::{Clock, Delivery, Timestamp};

use crate::ports::{ConsumerParts, ConsumerPorts};

/// The rule that ends a drain, apart from its time being up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Wait for messages until the time is up, so that a task starts as soon as its message is there.
    Window,
    /// Stop when the queue has nothing more.
    UntilEmpty,
}

impl std::str::FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "window" => Ok(Self::Window),
            "until-empty" => Ok(Self::UntilEmpty),
            _ => Err("expected \"window\" or \"until-empty\"".to_owned()),
        }
    }
}

/// The numbers that control a drain.
#[derive(Clone, Copy, Debug)]
pub struct DrainSettings {
    /// The condition that ends the drain.
    pub mode: Mode,
    /// When the drain's time is up.
    pub until: Timestamp,
    /// The queue's visibility timeout: how long each lease lasts.
    pub lease: Duration,
    /// Receives that run at once while there is a backlog; an idle queue is polled by one.
    pub receivers: usize,
    /// About how many bytes of messages it may hold at once; the first receiver works in any case. Messages take a few
    /// times their size while they are handed over.
    pub held_bytes_max: u64,
    /// The most messages that this drain has handed over and that are not settled yet. It receives no more meanwhile.
    pub in_flight_max: u64,
    /// The most invokes of the worker that are open at once: each takes a connection.
    pub invokes_max: u64,
}

/// The counts of one drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Receive calls.
    pub receives: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that a worker settled, or has not settled yet.
    pub handed_over: u64,
    /// Messages released, because they could not be handed over.
    pub released: u64,
    /// Messages that a worker may have or not: the answer is not known.
    pub unknown: u64,
    /// Calls that failed, and workers that died.
    pub errors: u64,
}

/// The longest drain in the mode `until-empty`: it ends before the schedule begins the next one, so that the same process goes on
/// with the messages that it has kept. In the mode `window`, two processes take turns.
const UNTIL_EMPTY_MAX: Duration = Duration::from_secs(55);
/// Time reserved at the end, to hand over the messages of the last receive.
const END_MARGIN: Duration = Duration::from_secs(2);
/// The pause after a failed call, and the first one while all workers are busy.
pub(crate) const PAUSE: Duration = Duration::from_millis(250);
/// The most messages that are blamed for the deaths of their workers while no worker settles anything else.
const BLAMED_MAX: u64 = 3;
/// A drain that has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Its counts.
    pub summary: Summary,
    /// Messages that no worker had room for. The next drain of this process hands them over; a release would cost each of them
    /// a receive, which counts as an attempt. If there is no next drain, they come again when their leases end.
    pub kept: Vec<Delivery>,
}

/// The batches in the consumer's hands, counted.
#[derive(Debug, Default)]
pub(crate) struct Load {
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) batches: AtomicU64,
    /// Batches that no worker had room for when they were last offered.
    pub(crate) held: AtomicU64,
    /// Messages that were blamed for the deaths of their workers, since a worker settled anything else.
    blamed: AtomicU64,
    /// Notified when a batch has ended, or was taken after all.
    pub(crate) changed: Notify,
}

impl Load {
    pub(crate) fn messages(&self) -> u64 {
        self.messages.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }

    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Notes that a worker has settled a batch.
    pub(crate) fn works(&self) {
        self.blamed.store(0, Ordering::Relaxed);
    }

    /// Whether one more message may be blamed for the deaths of its workers.
    pub(crate) fn blames(&self) -> bool {
        self.blamed.fetch_add(1, Ordering::Relaxed) < BLAMED_MAX
    }
}

/// A drain that is under way.
pub(crate) struct Drain<'a, P: ConsumerPorts> {
    pub(crate) ports: &'a ConsumerParts<P>,
    pub(crate) settings: DrainSettings,
    /// When it is cancelled, the drain ends as if its time were up.
    pub(crate) stop: CancellationToken,
    pub(crate) load: Load,
    /// The largest receive so far, in bytes of messages.
    pub(crate) largest_receive: AtomicU64,
    /// Turns that were begun: each has its number in the log.
    pub(crate) turns: AtomicU64,
    /// Set when the worker does not work at all: the drain then ends as if its time were up.
    given_up: AtomicBool,
    /// Whether enough messages were in flight when the drain looked last.
    pub(crate) was_full: AtomicBool,
    /// When a batch was last offered to a worker.
    pub(crate) last_offer: Mutex<Instant>,
    pub(crate) drained: Mutex<Drained>,
}

impl<'a, P: ConsumerPorts> Drain<'a, P> {
    pub(crate) fn new(
        ports: &'a ConsumerParts<P>,
        mut settings: DrainSettings,
        stop: CancellationToken,
    ) -> Self {
        if settings.mode == Mode::UntilEmpty {
            settings.until = settings.until.min(ports.clock.now().plus(UNTIL_EMPTY_MAX));
        }
        Self {
            ports,
            settings,
            stop,
            load: Load::default(),
            largest_receive: AtomicU64::new(0),
            turns: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            was_full: AtomicBool::new(false),
            last_offer: Mutex::new(Instant::now()),
            drained: Mutex::default(),
        }
    }

    /// The time left for receiving, in whole seconds, as SQS counts: less than one is not worth a call.
    pub(crate) fn left(&self) -> Duration {
        if self.stop.is_cancelled() || self.given_up.load(Ordering::Relaxed) {
            return Duration::ZERO;
        }
        let end = self.settings.until.minus(END_MARGIN);
        Duration::from_secs(end.since(self.ports.clock.now()).as_secs())
    }

    /// Notes that a batch is offered to a worker.
    pub(crate) fn offered(&self) {
        *self.last_offer.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends the drain early, because the worker does not work.
    pub(crate) fn gives_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn did(&self, count: impl FnOnce(&mut Summary)) {
        count(&mut self.drained.lock().unwrap_or_else(PoisonError::into_inner).summary);
    }

    /// Keeps messages for the next drain.
    pub(crate) fn keep(&self, deliveries: Vec<Delivery>) {
        self.drained.lock().unwrap_or_else(PoisonError::into_inner).kept.extend(deliveries);
    }
}
