//! From deliveries to worker events that fit into an invoke.

use wasq_protocol::{Batch, Delivery};

/// What Lambda accepts as the payload of an asynchronous invoke, in bytes.
pub(crate) const EVENT_BYTES_MAX: usize = 1 << 20;

/// Worker events for some deliveries.
pub(crate) struct Packed {
    /// Each with the deliveries that it carries.
    pub(crate) events: Vec<(String, Vec<Delivery>)>,
    /// Deliveries that are too large for any invoke.
    pub(crate) too_large: Vec<Delivery>,
}

/// Packs deliveries into as few events as fit.
pub(crate) fn pack(deliveries: Vec<Delivery>) -> Packed {
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
        for half in [pack(first), pack(second)] {
            packed.events.extend(half.events);
            packed.too_large.extend(half.too_large);
        }
    }
    packed
}

fn event(deliveries: &[Delivery]) -> String {
    let batch = Batch { deliveries: deliveries.to_vec() };
    serde_json::to_string(&batch).expect("a batch has string keys only")
}
