//! Packs deliveries into worker events that fit into an invoke.

use wasq_protocol::{Batch, Delivery};

/// The largest payload of an asynchronous invoke that Lambda accepts, in bytes.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;

/// Worker events for some deliveries.
pub(crate) struct Packed {
    /// The events, each with the deliveries that it carries.
    pub(crate) events: Vec<(String, Vec<Delivery>)>,
    /// Deliveries that are too large for any invoke.
    pub(crate) too_large: Vec<Delivery>,
}

/// A message with more receives than this travels alone: it may kill its workers, and must not take the other
/// messages of its batch down every time.
const TOGETHER_MAX: u32 = 20;

/// Packs deliveries into as few events as fit.
pub(crate) fn pack(deliveries: Vec<Delivery>) -> Packed {
    let (alone, together): (Vec<_>, Vec<_>) =
        deliveries.into_iter().partition(|delivery| delivery.receive_count > TOGETHER_MAX);
    let mut packed = fit(together);
    for delivery in alone {
        packed.add(fit(vec![delivery]));
    }
    packed
}

fn fit(deliveries: Vec<Delivery>) -> Packed {
    let mut packed = Packed { events: Vec::new(), too_large: Vec::new() };
    if deliveries.is_empty() {
        return packed;
    }
    let event = event(&deliveries);
    if event.len() <= EVENT_BYTES_MAX {
        packed.events.push((event, deliveries));
    } else if deliveries.len() == 1 {
        packed.too_large = deliveries;
    } else {
        let mut first = deliveries;
        let second = first.split_off(first.len() / 2);
        packed.add(fit(first));
        packed.add(fit(second));
    }
    packed
}

impl Packed {
    fn add(&mut self, other: Packed) {
        self.events.extend(other.events);
        self.too_large.extend(other.too_large);
    }
}

fn event(deliveries: &[Delivery]) -> String {
    let batch = Batch { deliveries: deliveries.to_vec() };
    serde_json::to_string(&batch).expect("a batch has string keys only")
}
