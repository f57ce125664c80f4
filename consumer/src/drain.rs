//! The drain loop.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
use wasq_protocol::{Clock, Delivery};

use crate::hand_over::Batch;
use crate::ports::{ConsumerParts, ConsumerPorts, Invoker, Source};
use crate::state::{Drain, DrainSettings, Drained, Mode, PAUSE};

/// The longest that SQS waits for a message.
const LONG_POLL: Duration = Duration::from_secs(20);
/// The wait of a receive in the mode `until-empty`. It is long enough for SQS to ask all its servers, and
/// short enough for a drain that finds an empty queue.
const EMPTY_POLL: Duration = Duration::from_secs(1);
/// The part of that time in which the drain does nothing any more, so that its function can answer.
const ANSWER_MARGIN: Duration = Duration::from_millis(300);
/// For this long after the last hand-over, a drain that finds its queue empty stays, to see whether the workers die of it.
const SEES_DEATHS: Duration = Duration::from_secs(5);
/// Messages that an earlier drain has kept are handed over if their leases last for this time at least.
const LEASE_LEFT_MIN: Duration = Duration::from_secs(10);
/// The most messages that one receive returns.
const RECEIVED_MAX: u64 = 10;

/// Receives messages and hands them to the worker, until the time is up or, by mode, the queue is empty. It then lets go of
/// the invokes that are open: the workers go on. `kept` are the messages that an earlier drain has kept. Never fails: messages
/// that could not be handed over go back into the queue, and the summary counts them.
pub async fn drain<P: ConsumerPorts>(
    ports: &ConsumerParts<P>,
    settings: DrainSettings,
    kept: Vec<Delivery>,
    stop: CancellationToken,
) -> Drained {
    let drain = Drain::new(ports, settings, stop);
    let mut receivers = FuturesUnordered::new();
    let mut open = FuturesUnordered::new();
    let now = ports.clock.now();
    let leased =
        kept.into_iter().filter(|delivery| delivery.lease_until.since(now) > LEASE_LEFT_MIN).collect();
    open.extend(drain.offers(drain.batches(leased)));
    receivers.push(drain.turn(Patience::Waits));
    // This loop must await these futures only. During any other await they would stand still, and hold leased messages.
    loop {
        tokio::select! {
            // The messages that are there come before more of them.
            biased;
            Some(again) = open.next(), if !open.is_empty() => {
                open.extend(drain.offers(again));
            }
            Some(turn) = receivers.next(), if !receivers.is_empty() => {
                let Turn { batches, received, failed, patience } = turn;
                open.extend(drain.offers(batches));
                if drain.left().is_zero() {
                    continue;
                }
                let over = settings.mode == Mode::UntilEmpty && received == 0 && !failed;
                match patience {
                    // The first receiver goes on; further ones only help while there is a backlog.
                    Patience::Waits if !over => receivers.push(drain.turn(Patience::Waits)),
                    Patience::Helps if received > 0 => receivers.push(drain.turn(Patience::Helps)),
                    _ => {}
                }
                if received == RECEIVED_MAX && receivers.len() < settings.receivers {
                    receivers.push(drain.turn(Patience::Helps));
                }
            }
            () = tokio::time::sleep(drain.stays()), if receivers.is_empty() && !open.is_empty() && drain.load.held() == 0 => {
                break;
            }
            else => break,
        }
    }
    let messages = drain.load.messages();
    if messages > 0 {
        tracing::debug!(messages, "the workers go on with these");
        drain.did(|did| did.handed_over += messages);
    }
    drop(open);
    drop(receivers);
    drain.drained.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Whether a receiver waits for messages or only helps with a backlog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Patience {
    Waits,
    Helps,
}

/// The result of one receive.
struct Turn<'a> {
    batches: Vec<Batch<'a>>,
    received: u64,
    failed: bool,
    patience: Patience,
}

impl<P: ConsumerPorts> Drain<'_, P> {
    /// Hands batches over, each in a future of its own.
    fn offers<'a>(
        &'a self,
        batches: Vec<Batch<'a>>,
    ) -> impl Iterator<Item = impl Future<Output = Vec<Batch<'a>>>> {
        // From here on, and not from when these futures are polled first: the drain stays for them.
        if !batches.is_empty() {
            self.offered();
        }
        batches.into_iter().map(|batch| self.hand_over(batch))
    }

    /// How long the drain stays with the open invokes when it receives no more.
    fn stays(&self) -> Duration {
        if self.stop.is_cancelled() {
            return Duration::ZERO;
        }
        let until_end = self.settings.until.minus(ANSWER_MARGIN).since(self.ports.clock.now());
        let last_offer = *self.last_offer.lock().unwrap_or_else(PoisonError::into_inner);
        until_end.min(SEES_DEATHS.saturating_sub(last_offer.elapsed()))
    }

    /// Whether there is room for another receive.
    fn has_room(&self) -> bool {
        let load = &self.load;
        let largest = self.largest_receive.load(Ordering::Relaxed);
        // While one batch waits for a worker, others would only wait with it.
        load.held() == 0
            && !self.has_enough()
            && load.batches() < self.settings.invokes_max
            && (load.bytes() == 0 || load.bytes() + largest <= self.settings.held_bytes_max)
    }

    /// Whether enough messages are in flight. At the limit, the drain waits until a quarter of them has ended: several receivers
    /// then work at once, and not one for every message that ends.
    fn has_enough(&self) -> bool {
        let most = self.settings.in_flight_max;
        let in_flight = self.ports.invoker.in_flight().unwrap_or(self.load.messages());
        let enough = match self.was_full.load(Ordering::Relaxed) {
            true => in_flight > most - most / 4,
            false => in_flight >= most,
        };
        self.was_full.store(enough, Ordering::Relaxed);
        enough
    }

    /// Waits until there is room for more messages, or the time is up. Returns false if the receiver must not receive: the
    /// time is up, or the receiver only helps and there is no room.
    async fn wait_for_room(&self, patience: Patience) -> bool {
        loop {
            let changed = self.load.changed.notified();
            let left = self.left();
            if left.is_zero() || self.has_room() {
                return !left.is_zero();
            }
            if patience == Patience::Helps {
                return false;
            }
            // A stop, and a message that is settled before the others of its batch, are seen after this at most.
            let _ = tokio::time::timeout(left.min(PAUSE), changed).await;
        }
    }

    async fn turn(&self, patience: Patience) -> Turn<'_> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.receive(patience).instrument(tracing::error_span!("turn", turn)).await
    }

    async fn receive(&self, patience: Patience) -> Turn<'_> {
        let wait = match (patience, self.settings.mode) {
            (Patience::Helps, _) => Duration::ZERO,
            (Patience::Waits, Mode::UntilEmpty) => EMPTY_POLL,
            (Patience::Waits, Mode::Window) => LONG_POLL,
        };
        if !self.wait_for_room(patience).await {
            return Turn { batches: Vec::new(), received: 0, failed: false, patience };
        }
        self.did(|did| did.receives += 1);
        match self.ports.source.receive(wait.min(self.left())).await {
            Ok(deliveries) => {
                let received = deliveries.len() as u64;
                self.did(|did| did.received += received);
                let bytes: usize = deliveries.iter().map(|delivery| delivery.body.len()).sum();
                self.largest_receive.fetch_max(bytes as u64, Ordering::Relaxed);
                Turn { batches: self.batches(deliveries), received, failed: false, patience }
            }
            Err(e) => {
                tracing::error!("{e:#}");
                self.did(|did| did.errors += 1);
                tokio::time::sleep(PAUSE.min(self.left())).await;
                Turn { batches: Vec::new(), received: 0, failed: true, patience }
            }
        }
    }
}
