//! The drain loop.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wasq_protocol::{
    Clock, DeadLetter, DeadLetterAttributes, Delivery, Failure, FailureKind, Message, Timestamp,
};

use crate::hand_over::{EVENT_BYTES_MAX, pack};
use crate::ports::{ConsumerParts, ConsumerPorts, InFlight, InvokeError, Invoker, Source};

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
    /// Receives that run at once while there is a backlog; an idle queue is polled by one.
    pub receivers: usize,
    /// About how many bytes of messages it may hold at once; the first receiver works in any case. Messages take a few
    /// times their size while they are handed over.
    pub held_bytes_max: u64,
    /// The number of messages in flight, handed over by any consumer, at which the drain stops receiving: the
    /// capacity of the workers. If some of these messages may only wait (`InFlight::AtMost`), the drain then
    /// asks the worker before every receive.
    pub in_flight_max: u64,
}

/// The counts of one drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Receive calls.
    pub receives: u64,
    /// Messages received.
    pub received: u64,
    /// Messages that the worker accepted.
    pub handed_over: u64,
    /// Messages released, because the worker did not accept them.
    pub released: u64,
    /// Messages that the worker may have accepted or not: the answer is not known.
    pub unknown: u64,
    /// Messages moved to the dead-letter queue, because they fit into no invoke.
    pub dead_lettered: u64,
    /// Calls that failed.
    pub errors: u64,
}

/// The longest that SQS waits for a message.
const LONG_POLL: Duration = Duration::from_secs(20);
/// The wait of a receive in the mode `until-empty`. It is long enough for SQS to ask all its servers, and
/// short enough for a drain that finds an empty queue.
const EMPTY_POLL: Duration = Duration::from_secs(1);
/// Time reserved at the end, to hand over the messages of the last receive.
const END_MARGIN: Duration = Duration::from_secs(2);
/// The pause after a failed call, and while too many messages are in flight.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause between invokes: the pauses grow up to it while the worker is busy.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(4);
/// The longest time to hold a batch that the worker has no room for, if its leases allow it. A release costs
/// another receive: every receive counts towards the redrive policy, and may be taken for an attempt.
const HELD_MAX: Duration = Duration::from_secs(30);
/// The least time that a lease must have left at the hand-over: the worker must take the batch up before the
/// lease ends.
const LEASE_LEFT_MIN: Duration = Duration::from_secs(10);
/// The shortest time that a released message stays hidden. The older the message, the longer it stays hidden:
/// a quarter of the time since its first receive, up to `RELEASE_MAX`. A worker that is busy for long then
/// costs few receives.
const RELEASE: Duration = Duration::from_secs(5);
const RELEASE_MAX: Duration = Duration::from_secs(300);
/// The most messages that one receive returns.
const RECEIVED_MAX: u64 = 10;
/// The most messages that the drain hands over between two checks of the messages in flight. With room for
/// more than 400 messages, the most is a quarter of the room.
const LOOK_EVERY: u64 = 100;

/// Receives messages and hands them to the worker, until the time is up or, by mode, the queue is empty.
/// Never fails: messages that it cannot hand over go back into the queue, and the summary counts them.
pub async fn drain<P: ConsumerPorts>(
    ports: &ConsumerParts<P>,
    settings: DrainSettings,
    stop: CancellationToken,
) -> Summary {
    let drain = Drain {
        ports,
        settings,
        stop,
        room: AtomicU64::new(0),
        largest_receive: AtomicU64::new(0),
        turns: AtomicU64::new(0),
    };
    let mut summary = Summary::default();
    let mut receivers = FuturesUnordered::new();
    receivers.push(drain.turn(Patience::Waits));
    // This loop must await the receivers only. During any other await they would stand still, and hold leased
    // messages.
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

struct Drain<'a, P: ConsumerPorts> {
    ports: &'a ConsumerParts<P>,
    settings: DrainSettings,
    /// When it is cancelled, the drain ends as if its time were up.
    stop: CancellationToken,
    /// The number of messages that may be received before the next check of the messages in flight.
    room: AtomicU64,
    /// The largest receive so far, in bytes of messages.
    largest_receive: AtomicU64,
    /// Turns that were begun: each has its number in the log.
    turns: AtomicU64,
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

impl<P: ConsumerPorts> Drain<'_, P> {
    /// The time left for receiving, in whole seconds, as SQS counts: less than one is not worth a call.
    fn left(&self) -> Duration {
        if self.stop.is_cancelled() {
            return Duration::ZERO;
        }
        let end = self.settings.until.minus(END_MARGIN);
        Duration::from_secs(end.since(self.ports.clock.now()).as_secs())
    }

    /// The most receivers that may run now: the configured number, if memory allows it when each of them
    /// receives as much as the largest receive so far.
    fn receivers_max(&self) -> usize {
        let largest = self.largest_receive.load(Ordering::Relaxed).max(1);
        let fit = usize::try_from(self.settings.held_bytes_max / largest).unwrap_or(usize::MAX);
        self.settings.receivers.min(fit)
    }

    /// Waits until there is room for more messages in flight, or the time is up. Returns false if the
    /// receiver must not receive: the time is up, or the receiver only helps and there is no room.
    async fn wait_for_room(&self, patience: Patience, did: &mut Summary) -> bool {
        let mut pause = PAUSE;
        while self.room.load(Ordering::Relaxed) == 0 && self.left() > Duration::ZERO {
            let in_flight = match self.ports.invoker.in_flight().await {
                Ok(in_flight) => in_flight,
                Err(e) => {
                    did.errors += 1;
                    tracing::warn!("cannot count the messages in flight, going on: {e:#}");
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
            // Most of these messages may only wait for their time, while the workers are idle.
            if matches!(in_flight, InFlight::AtMost(_)) && self.has_room(did).await {
                self.room.store(RECEIVED_MAX, Ordering::Relaxed);
                break;
            }
            tracing::debug!(messages, "enough in flight, waiting");
            tokio::time::sleep(pause.min(self.left())).await;
            // With `AtMost`, each check costs one call of SQS and one of Lambda.
            if matches!(in_flight, InFlight::AtMost(_)) {
                pause = (pause * 2).min(BUSY_PAUSE_MAX);
            }
        }
        self.left() > Duration::ZERO
    }

    async fn turn(&self, patience: Patience) -> Turn {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.receive_and_hand_over(patience).instrument(tracing::error_span!("turn", turn)).await
    }

    async fn receive_and_hand_over(&self, patience: Patience) -> Turn {
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
        let deliveries = match self.ports.source.receive(wait.min(self.left())).await {
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
        if did.errors > 0 || did.released > 0 {
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
            let message_ids = || message_ids(&deliveries);
            match answer {
                Ok(()) => {
                    tracing::debug!(messages = count, message_ids = message_ids(), "handed to the worker");
                    did.handed_over += count;
                }
                Err(InvokeError::Throttled(e)) => {
                    tracing::info!(message_ids = message_ids(), "the worker is busy: {e}");
                    self.release(deliveries, did).await;
                }
                Err(InvokeError::Refused(e)) => {
                    did.errors += 1;
                    tracing::error!(message_ids = message_ids(), "the worker could not be invoked: {e}");
                    self.release(deliveries, did).await;
                }
                // The worker may have the messages: if the consumer released them, they would run twice.
                Err(InvokeError::Unknown(e)) => {
                    did.errors += 1;
                    did.unknown += count;
                    tracing::error!(
                        message_ids = message_ids(),
                        "{e}; unless the worker has them, {count} messages come again when their leases end"
                    );
                }
            }
        }
    }

    /// Asks the worker itself.
    async fn has_room(&self, did: &mut Summary) -> bool {
        self.ports.invoker.has_room().await.unwrap_or_else(|e| {
            did.errors += 1;
            tracing::warn!("cannot ask the worker for room: {e:#}");
            false
        })
    }

    /// Invokes the worker. While the worker is busy, it repeats the invoke, as long as the time and the
    /// leases allow.
    async fn invoke(&self, event: String, deliveries: &[Delivery]) -> Result<(), InvokeError> {
        let lease_until = deliveries.iter().map(|delivery| delivery.lease_until).min();
        let give_up = lease_until.unwrap_or(self.settings.until).minus(LEASE_LEFT_MIN);
        let give_up = give_up.min(self.ports.clock.now().plus(HELD_MAX));
        let mut pause = PAUSE;
        loop {
            let answer = self.ports.invoker.invoke(event.clone()).await;
            let left = give_up.since(self.ports.clock.now()).min(self.left());
            if !matches!(answer, Err(InvokeError::Throttled(_))) || left < pause {
                return answer;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(BUSY_PAUSE_MAX);
        }
    }

    async fn release(&self, deliveries: Vec<Delivery>, did: &mut Summary) {
        did.released += deliveries.len() as u64;
        let now = self.ports.clock.now();
        let wait = |delivery: &Delivery| (now.since(delivery.first_received) / 4).clamp(RELEASE, RELEASE_MAX);
        let entries = deliveries.iter().map(|delivery| (delivery.receipt.clone(), wait(delivery))).collect();
        for (delivery, released) in deliveries.iter().zip(self.ports.source.release(entries).await) {
            if let Err(e) = released {
                did.errors += 1;
                let message_id = &delivery.message_id;
                tracing::warn!(message_id, "{e:#}; the message comes again when its lease ends");
            }
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
            failed: self.ports.clock.now(),
            digest: None,
            history: DeadLetterAttributes::read(&delivery.attributes).history,
        };
        // Send the copy first: a crash before the delete leaves the message in both queues, not in none.
        let sent = self.ports.source.send_dead_letter(&delivery, &letter).await.context("send a dead letter");
        let moved = match sent {
            Ok(()) => {
                self.ports.source.delete(&delivery.receipt).await.context("delete the dead-lettered message")
            }
            Err(e) => Err(e),
        };
        match moved {
            Ok(()) => did.dead_lettered += 1,
            Err(e) => {
                did.errors += 1;
                let DeadLetter { id, task, .. } = &letter;
                let (task, message_id) = (task.as_ref().map(|task| task.as_str()), &delivery.message_id);
                tracing::error!(task, id, message_id, "{e:#}; the message comes again when its lease ends");
            }
        }
    }
}

/// The SQS ids of messages, as a line of the log names them.
fn message_ids(deliveries: &[Delivery]) -> String {
    deliveries.iter().map(|delivery| delivery.message_id.as_str()).collect::<Vec<_>>().join(" ")
}

impl Summary {
    fn add(&mut self, other: Summary) {
        let Summary { receives, received, handed_over, released, unknown, dead_lettered, errors } = other;
        self.receives += receives;
        self.received += received;
        self.handed_over += handed_over;
        self.released += released;
        self.unknown += unknown;
        self.dead_lettered += dead_lettered;
        self.errors += errors;
    }
}
