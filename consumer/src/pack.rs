//! Packs deliveries into worker events that fit into an invoke.

use wasq_protocol::{Batch, Delivery};

/// The largest payload of a synchronous invoke that Lambda accepts, in bytes. A single message always fits: it has 1 MiB at
/// most, which JSON at most doubles.
const EVENT_BYTES_MAX: usize = 6 << 20;
/// The most messages of an event: those of one receive.
const BATCH_MAX: usize = 10;
/// A message with more receives than this travels alone: it may kill its workers when no consumer sees it, and must not take
/// the other messages of its batch down every time.
const TOGETHER_MAX: u32 = 20;

/// Packs deliveries into as few events as fit. A message that may be what kills its worker travels alone.
pub(crate) fn pack(deliveries: Vec<Delivery>) -> Vec<(String, Vec<Delivery>)> {
    let suspect = |delivery: &Delivery| delivery.deaths > 0 || delivery.receive_count > TOGETHER_MAX;
    let (alone, mut together): (Vec<_>, Vec<_>) = deliveries.into_iter().partition(suspect);
    let mut events = Vec::new();
    // An earlier drain may have kept more than one receive.
    while !together.is_empty() {
        let rest = together.split_off(together.len().min(BATCH_MAX));
        fit(std::mem::replace(&mut together, rest), &mut events);
    }
    for delivery in alone {
        fit(vec![delivery], &mut events);
    }
    events
}

fn fit(mut deliveries: Vec<Delivery>, events: &mut Vec<(String, Vec<Delivery>)>) {
    let event = event_of(&deliveries);
    if event.len() <= EVENT_BYTES_MAX || deliveries.len() == 1 {
        events.push((event, deliveries));
    } else {
        let second = deliveries.split_off(deliveries.len() / 2);
        fit(deliveries, events);
        fit(second, events);
    }
}

/// The worker event for some deliveries.
pub(crate) fn event_of(deliveries: &[Delivery]) -> String {
    let batch = Batch { deliveries: deliveries.to_vec() };
    serde_json::to_string(&batch).expect("a batch has string keys only")
}
