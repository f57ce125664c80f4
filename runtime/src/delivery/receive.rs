//! The first stage: a message is read from its delivery.

use std::time::Duration;

use tokio::time::Instant;
use wasq_protocol::{
    AHEAD_IN_QUEUE, AHEAD_MAX, DEATHS_MAX, DELAYED_BYTES_MAX, Delivery, Failure, FailureKind, Message,
    Timestamp, can_leave_the_queue, traceparent_of,
};

use crate::delivery::facts::{Facts, Usage, Watch};
use crate::runs::Memory;

/// The clocks of a sender and of the queue may differ by this: a delay of exactly the longest is no fault.
const CLOCKS_APART: Duration = Duration::from_secs(60);
/// A delivery with less than this left of its lease is not touched: another worker may have it soon.
const LEASE_MARGIN: Duration = Duration::from_secs(1);

/// A message whose `not_before` is no further ahead than this waits in the worker. Clocks differ by some time: if the message was
/// released for as long as another clock said, it should not be released again, because that costs a receive.
const SHORT_WAIT: Duration = Duration::from_secs(2);

/// A message that is to be run.
pub(crate) struct Received {
    pub(crate) message: Message,
    /// How long it still has to wait.
    pub(crate) early: Duration,
}

/// The moment of a receive, and what its worker can do.
#[derive(Clone, Copy)]
pub(crate) struct Receiving {
    pub(crate) now: Timestamp,
    /// The same moment, to measure from.
    pub(crate) instant: Instant,
    /// Whether messages can wait for their time outside of the queue.
    pub(crate) has_timer: bool,
}

/// Reads the message of a delivery. `None`: its lease is over or nearly so.
pub(crate) fn receive(
    delivery: Delivery,
    Receiving { now, instant, has_timer }: Receiving,
) -> Option<(Box<Facts>, Result<Received, Failure>)> {
    if delivery.lease_until.since(now) < LEASE_MARGIN {
        return None;
    }
    let (message, problem) = match Message::parse(&delivery.body) {
        Ok(message) => (Some(message), None),
        Err(e) => (None, Some(e.to_string())),
    };
    let deaths = delivery.deaths;
    let facts = Facts::of_delivery(delivery, message.as_ref(), now, instant);
    if deaths > 0 {
        let workers = if deaths == 1 { "a worker" } else { "two workers" };
        facts.span.in_scope(|| tracing::warn!("{workers} died while it ran: it runs alone now"));
    }
    let received = match message {
        _ if deaths >= DEATHS_MAX => Err(killed_worker(deaths)),
        Some(message) => facts.check_time(now, has_timer).map(|()| facts.received(message)),
        None => Err(Failure::new(FailureKind::Malformed, problem.unwrap_or_default())),
    };
    Some((facts, received))
}

fn killed_worker(deaths: u32) -> Failure {
    let reason = format!(
        "{deaths} workers died while they ran this message, the last {} alone with it; the log of the worker says how they ended",
        deaths - 1
    );
    Failure::new(FailureKind::KilledWorker, reason)
}

/// A message that came in a direct invoke. There is no delivery to settle.
pub(crate) fn direct(
    message: Message,
    trace_header: Option<String>,
    now: Timestamp,
    instant: Instant,
) -> (Box<Facts>, Received) {
    let id = message.id.clone();
    let id = id.unwrap_or_else(|| format!("direct-{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
    let mut facts = Facts::new(id, Some(&message), trace_header, now, instant);
    facts.span = tracing::error_span!("invoke", task = %message.task, id = facts.id, attempt = facts.attempt);
    let received = facts.received(message);
    (facts, received)
}

/// Unknown keys of a message that are named in the log, and the characters of each.
const KEYS_NAMED: usize = 3;
const KEY_CHARS: usize = 40;

/// One line for all unknown keys: a sender may write as many as fit into a message.
fn ignored(message: &Message) -> String {
    let keys = message.unknown.keys();
    let named =
        keys.take(KEYS_NAMED).map(|key| format!("{:?}", key.chars().take(KEY_CHARS).collect::<String>()));
    let named = named.collect::<Vec<_>>().join(", ");
    match message.unknown.len() {
        count if count > KEYS_NAMED => {
            format!("the message has {count} unknown keys, which are ignored, among them {named}")
        }
        _ => format!("the message has unknown keys, which are ignored: {named}"),
    }
}

impl Facts {
    fn of_delivery(
        delivery: Delivery,
        message: Option<&Message>,
        now: Timestamp,
        instant: Instant,
    ) -> Box<Self> {
        let id = delivery.id(message);
        let mut facts = Self::new(id, message, delivery.trace_header.clone(), now, instant);
        facts.attempt = delivery.receive_count;
        // At the highest level, because the span must exist for every line that the log level lets through.
        facts.span = tracing::error_span!(
            "delivery",
            task = facts.task.as_ref().map(|task| task.as_str()),
            id = facts.id,
            attempt = facts.attempt,
            message_id = (facts.id != delivery.message_id).then_some(delivery.message_id.as_str()),
        );
        facts.delivery = Some(delivery);
        facts
    }

    fn new(
        id: String,
        message: Option<&Message>,
        trace_header: Option<String>,
        now: Timestamp,
        instant: Instant,
    ) -> Box<Self> {
        let own = message.and_then(|message| message.traceparent.clone());
        let of_xray = trace_header.as_deref().filter(|_| own.is_none()).and_then(traceparent_of);
        // Boxed, because it passes through many hands.
        Box::new(Self {
            delivery: None,
            id,
            task: message.map(|message| message.task.clone()),
            parent: message.and_then(|message| message.parent.clone()),
            root: message.and_then(|message| message.root.clone()),
            not_before: message.and_then(|message| message.not_before),
            from_xray: of_xray.is_some(),
            traceparent: own.or(of_xray),
            trace_header,
            received: now,
            instant,
            watch: Watch::Watched,
            attempt: 1,
            retries: None,
            digest: None,
            memory: Memory::Nothing,
            usage: Usage::default(),
            span: tracing::Span::none(),
        })
    }

    /// A `not_before` must not lie too far ahead, and a message whose time has not come is not run.
    fn check_time(&self, now: Timestamp, has_timer: bool) -> Result<(), Failure> {
        let (Some(not_before), Some(delivery)) = (self.not_before, &self.delivery) else {
            return Ok(());
        };
        let (most, why) = match has_timer {
            true if can_leave_the_queue(delivery.body.len()) => (AHEAD_MAX, String::new()),
            true => (AHEAD_IN_QUEUE, format!(" for a message of more than {DELAYED_BYTES_MAX} bytes")),
            false => (AHEAD_IN_QUEUE, " for a deployment without a schedule group".to_owned()),
        };
        if not_before.since(delivery.sent) > most + CLOCKS_APART {
            let days = most.as_secs() / 86_400;
            let problem = format!("not_before lies more than {days} days ahead, which is the most{why}");
            return Err(Failure::new(FailureKind::Malformed, problem));
        }
        if not_before.since(now) > SHORT_WAIT {
            return Err(Failure::new(
                FailureKind::Delayed,
                format!("it waits until {not_before}, its not_before"),
            ));
        }
        Ok(())
    }

    /// The message of a delivery that was read before.
    pub(crate) fn parse_again(&self) -> Result<Received, Failure> {
        let body = self.delivery.as_ref().map(|delivery| delivery.body.as_str()).unwrap_or_default();
        let message =
            Message::parse(body).map_err(|e| Failure::new(FailureKind::Malformed, e.to_string()))?;
        Ok(Received { message, early: Duration::ZERO })
    }

    fn received(&self, message: Message) -> Received {
        if !message.unknown.is_empty() {
            self.span.in_scope(|| tracing::warn!("{}", ignored(&message)));
        }
        let early = message.not_before.map(|at| at.since(self.received)).unwrap_or_default();
        Received { message, early: if self.delivery.is_some() { early } else { Duration::ZERO } }
    }
}
