//! The drain loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use wasq_protocol::{
    Clock, DeadLetter, DeadLetterAttributes, Delivery, Failure, FailureKind, Message, Timestamp,
};

use crate::hand_over::{EVENT_BYTES_MAX, pack};
use crate::ports::{InFlight, InvokeError, Invoker, Source};

/// When a drain is over, apart from its time being up.
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

/// The numbers that a drain goes by.
#[derive(Clone, Copy, Debug)]
pub struct DrainSettings {
    /// When it is over.
    pub mode: Mode,
    /// When its time is up.
    pub until: Timestamp,
    /// Receives that run at once while there is a backlog; an idle queue is polled by one.
    pub receivers: usize,
    /// About how many bytes of messages it may hold at once; the first receiver works in any case. Messages take a few
    /// times their size while they are handed over.
    pub held_bytes_max: u64,
    /// Messages in flight, by anyone, at which it stops receiving: what the workers can hold. Where it is not known how many
    /// of them merely wait, the worker is asked then before every receive.
    pub in_flight_max: u64,
}

/// What a drain did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Receive calls.
    pub receives: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that the worker accepted.
    pub handed_over: u64,
    /// Messages given back, because the worker did not.
    pub given_back: u64,
    /// Messages of which it is not known whether the worker accepted them.
    pub unknown: u64,
    /// Messages moved to the dead-letter queue, because they fit into no invoke.
    pub dead_lettered: u64,
    /// Calls that failed.
    pub errors: u64,
}

/// The longest that SQS waits for a message.
const LONG_POLL: Duration = Duration::from_secs(20);
/// Long enough to ask every one of SQS's servers, short enough for a drain that only wants to see that there is nothing.
const EMPTY_POLL: Duration = Duration::from_secs(1);
/// What is kept of the time for handing over what the last receive brought.
const END_MARGIN: Duration = Duration::from_secs(2);
/// After a failed call, and while too much is in flight.
const PAUSE: Duration = Duration::from_millis(250);
/// While the worker is busy, the pauses between invokes grow up to this.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(4);
/// A batch that the worker has no room for is kept for so long, as long as its leases allow: every receive counts
/// towards the redrive policy, and may be taken for an attempt.
const HELD_MAX: Duration = Duration::from_secs(30);
/// What must be left of a lease when a batch is handed over: the worker has to take it up before that.
const LEASE_LEFT_MIN: Duration = Duration::from_secs(10);
/// A message that was given back comes again after a quarter of the time for which it has been known, within these
/// bounds: however long the worker is busy, it costs few receives.
const GIVE_BACK: Duration = Duration::from_secs(5);
const GIVE_BACK_MAX: Duration = Duration::from_secs(300);
/// As many as one receive brings.
const RECEIVED_MAX: u64 = 10;
/// How many messages are handed over between two looks at what is in flight, at least; if there is room for many, a
/// quarter of them.
const LOOK_EVERY: u64 = 100;

/// Receives messages and hands them to the worker, until the time is up or, by mode, the queue is empty. Never fails:
/// what it cannot hand over goes back into the queue, and the summary says so.
pub async fn drain<S: Source, I: Invoker, C: Clock>(
    source: &S,
    invoker: &I,
    clock: &C,
    settings: DrainSettings,
) -> Summary {
    let drain = Drain {
        source,
        invoker,
        clock,
        settings,
        room: AtomicU64::new(0),
        largest_receive: AtomicU64::new(0),
    };
    let mut summary = Summary::default();
    let mut receivers = FuturesUnordered::new();
    receivers.push(drain.turn(Patience::Waits));
    // Nothing is waited for in this loop but the receivers: one that stood still would hold leased messages.
    while let Some(Turn { did, full, patience }) = receivers.next().await {
        summary.add(did);
        if drain.left() == Duration::ZERO {
            continue;
        }
        let moved = did.received > 0;
        let over = drain.settings.mode == Mode::UntilEmpty && !moved && did.errors == 0;
        match patience {
            // The first receiver goes on; further ones only help while there is a backlog.
            Patience::Waits if !over => receivers.push(drain.turn(Patience::Waits)),
            Patience::Helps if moved && receivers.len() < drain.receivers_max() => {
                receivers.push(drain.turn(Patience::Helps));
            }
            _ => {}
        }
        if full && receivers.len() < drain.receivers_max() {
            receivers.push(drain.turn(Patience::Helps));
        }
    }
    summary
}

struct Drain<'a, S, I, C> {
    source: &'a S,
    invoker: &'a I,
    clock: &'a C,
    settings: DrainSettings,
    /// How many more messages may be received before looking again at what is in flight.
    room: AtomicU64,
    /// The most bytes of messages that one receive has brought.
    largest_receive: AtomicU64,
}

/// Whether a receiver waits for messages or only helps with a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Waits,
    Helps,
}

/// One receive and its hand-over.
struct Turn {
    did: Summary,
    full: bool,
    patience: Patience,
}

impl<S: Source, I: Invoker, C: Clock> Drain<'_, S, I, C> {
    /// What is left of the time for receiving, in whole seconds, as SQS counts: less than one is not worth a call.
    fn left(&self) -> Duration {
        let end = self.settings.until.minus(END_MARGIN);
        Duration::from_secs(end.since(self.clock.now()).as_secs())
    }

    /// How many receivers there may be: as many as were asked for, if each of them may bring as much as the largest
    /// receive so far.
    fn receivers_max(&self) -> usize {
        let largest = self.largest_receive.load(Ordering::Relaxed).max(1);
        let fit = usize::try_from(self.settings.held_bytes_max / largest).unwrap_or(usize::MAX);
        self.settings.receivers.min(fit)
    }

    /// Waits until there is room for more messages in flight, or the time is up. False: there is none, and whoever only
    /// helps is not needed.
    async fn wait_for_room(&self, patience: Patience, did: &mut Summary) -> bool {
        let mut pause = PAUSE;
        while self.room.load(Ordering::Relaxed) == 0 && self.left() > Duration::ZERO {
            let in_flight = match self.invoker.in_flight().await {
                Ok(in_flight) => in_flight,
                Err(e) => {
                    did.errors += 1;
                    tracing::warn!("cannot see what is in flight, going on: {e:#}");
                    InFlight::AtMost(0)
                }
            };
            let (InFlight::Exactly(messages) | InFlight::AtMost(messages)) = in_flight;
            let room = self.settings.in_flight_max.saturating_sub(messages);
            if room > 0 {
                // Somebody else may be handing over as well.
                self.room.store(room.min((room / 4).max(LOOK_EVERY)), Ordering::Relaxed);
                break;
            }
            if patience == Patience::Helps {
                return false;
            }
            // Perhaps most of that merely waits for its time, and the workers are idle.
            if matches!(in_flight, InFlight::AtMost(_)) && self.has_room(did).await {
                self.room.store(RECEIVED_MAX, Ordering::Relaxed);
                break;
            }
            tracing::debug!(messages, "enough in flight, waiting");
            tokio::time::sleep(pause.min(self.left())).await;
            // Looking is a call of SQS and one of Lambda there.
            if matches!(in_flight, InFlight::AtMost(_)) {
                pause = (pause * 2).min(BUSY_PAUSE_MAX);
            }
        }
        self.left() > Duration::ZERO
    }

    async fn turn(&self, patience: Patience) -> Turn {
        let wait = match (patience, self.settings.mode) {
            (Patience::Helps, _) => Duration::ZERO,
            (Patience::Waits, Mode::UntilEmpty) => EMPTY_POLL,
            (Patience::Waits, Mode::Window) => LONG_POLL,
        };
        let mut did = Summary::default();
        if !self.wait_for_room(patience, &mut did).await {
            return Turn { did, full: false, patience };
        }
        did.receives = 1;
        let deliveries = match self.source.receive(wait.min(self.left())).await {
            Ok(deliveries) => deliveries,
            Err(e) => {
                tracing::error!("{e:#}");
                did.errors += 1;
                Vec::new()
            }
        };
        did.received = deliveries.len() as u64;
        let bytes: usize = deliveries.iter().map(|delivery| delivery.body.len()).sum();
        self.largest_receive.fetch_max(bytes as u64, Ordering::Relaxed);
        let full = did.received == RECEIVED_MAX;
        // Two receivers may take a little more than there was room for; it is a cap on load, not a promise.
        let taken = |room: u64| Some(room.saturating_sub(did.received));
        let _ = self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, taken);
        self.hand_over(deliveries, &mut did).await;
        if did.errors > 0 || did.given_back > 0 {
            tokio::time::sleep(PAUSE.min(self.left())).await;
        }
        Turn { did, full, patience }
    }

    async fn hand_over(&self, deliveries: Vec<Delivery>, did: &mut Summary) {
        let packed = pack(deliveries);
        for delivery in packed.too_large {
            self.dead_letter(delivery, did).await;
        }
        let invokes = packed
            .events
            .into_iter()
            .map(|(event, deliveries)| async move { (self.invoke(event, &deliveries).await, deliveries) });
        for (answer, deliveries) in join_all(invokes).await {
            let count = deliveries.len() as u64;
            match answer {
                Ok(()) => {
                    tracing::debug!(messages = count, "handed to the worker");
                    did.handed_over += count;
                }
                Err(InvokeError::Throttled(e)) => {
                    tracing::info!("the worker is busy: {e}");
                    self.give_back(deliveries, did).await;
                }
                Err(InvokeError::Refused(e)) => {
                    did.errors += 1;
                    tracing::error!("the worker could not be invoked: {e}");
                    self.give_back(deliveries, did).await;
                }
                // Perhaps it has them: given back, they would run twice.
                Err(InvokeError::Unknown(e)) => {
                    did.errors += 1;
                    did.unknown += count;
                    tracing::error!(
                        "{e}; unless the worker has them, {count} messages come again when their leases end"
                    );
                }
            }
        }
    }

    /// Asks the worker itself.
    async fn has_room(&self, did: &mut Summary) -> bool {
        self.invoker.has_room().await.unwrap_or_else(|e| {
            did.errors += 1;
            tracing::warn!("cannot ask the worker for room: {e:#}");
            false
        })
    }

    /// Invokes the worker; while it is busy, again and again, for as long as the time and the leases allow.
    async fn invoke(&self, event: String, deliveries: &[Delivery]) -> Result<(), InvokeError> {
        let lease_until = deliveries.iter().map(|delivery| delivery.lease_until).min();
        let give_up = lease_until.unwrap_or(self.settings.until).minus(LEASE_LEFT_MIN);
        let give_up = give_up.min(self.clock.now().plus(HELD_MAX));
        let mut pause = PAUSE;
        loop {
            let answer = self.invoker.invoke(event.clone()).await;
            let left = give_up.since(self.clock.now()).min(self.left());
            if !matches!(answer, Err(InvokeError::Throttled(_))) || left < pause {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BUSY_PAUSE_MAX);
        }
    }

    async fn give_back(&self, deliveries: Vec<Delivery>, did: &mut Summary) {
        did.given_back += deliveries.len() as u64;
        let now = self.clock.now();
        let wait =
            |delivery: &Delivery| (now.since(delivery.first_received) / 4).clamp(GIVE_BACK, GIVE_BACK_MAX);
        let entries = deliveries.iter().map(|delivery| (delivery.receipt.clone(), wait(delivery))).collect();
        for error in self.source.give_back(entries).await.into_iter().filter_map(Result::err) {
            did.errors += 1;
            tracing::warn!("{error:#}; the message comes again when its lease ends");
        }
    }

    async fn dead_letter(&self, delivery: Delivery, did: &mut Summary) {
        let message = Message::parse(&delivery.body).ok();
        let reason = format!(
            "the message ({} bytes of body) is too large to be handed to a worker: with its receipt it must fit into {EVENT_BYTES_MAX} bytes",
            delivery.body.len()
        );
        let letter = DeadLetter {
            failure: Failure::new(FailureKind::TooLarge, reason),
            id: delivery.id(message.as_ref()),
            task: message.map(|message| message.task),
            attempts: 0,
            first_received: delivery.first_received,
            failed: self.clock.now(),
            digest: None,
            history: DeadLetterAttributes::read(&delivery.attributes).history,
        };
        // The copy first: what dies in between leaves the message in both queues, not in none.
        let sent = self.source.send_dead_letter(&delivery, &letter).await.context("send a dead letter");
        let moved = match sent {
            Ok(()) => self.source.delete(&delivery.receipt).await.context("delete what is a dead letter now"),
            Err(e) => Err(e),
        };
        match moved {
            Ok(()) => did.dead_lettered += 1,
            Err(e) => {
                did.errors += 1;
                tracing::error!("{e:#}; the message comes again when its lease ends");
            }
        }
    }
}

impl Summary {
    fn add(&mut self, other: Summary) {
        let Summary { receives, received, handed_over, given_back, unknown, dead_lettered, errors } = other;
        self.receives += receives;
        self.received += received;
        self.handed_over += handed_over;
        self.given_back += given_back;
        self.unknown += unknown;
        self.dead_lettered += dead_lettered;
        self.errors += errors;
    }
}
