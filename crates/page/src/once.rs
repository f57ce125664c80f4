//! Forms that somebody sends twice, by a second press of the button or by loading the page anew.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex as Guarded, PoisonError};

use futures_util::lock::Mutex;
use maud::{Markup, html};
use uuid::Uuid;
use wasq_protocol::Digest;

/// Where the browser was sent when a form was sent first; `None` while the act is under way, and if it failed.
pub(crate) type Sent = Arc<Mutex<Option<String>>>;

/// The forms that were sent last, by the digests of their fields.
#[derive(Default)]
pub(crate) struct Once(Guarded<VecDeque<(Digest, Sent)>>);

/// The forms that are remembered.
const REMEMBERED_MAX: usize = 1000;

/// The name of the field that tells two showings of a form apart.
pub(crate) const FIELD: &str = "once";

/// The field.
pub(crate) fn field() -> Markup {
    html! { input type="hidden" name=(FIELD) value=(Uuid::new_v4().simple()); }
}

impl Once {
    /// The entry of a form with these fields that was sent to this path; a new one if it was not sent before.
    pub(crate) fn of(&self, path: &str, fields: &[u8]) -> Sent {
        let digest = Digest::of(&[path.as_bytes(), b"\0", fields].concat());
        let mut forms = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, sent)) = forms.iter().find(|(earlier, _)| *earlier == digest) {
            return sent.clone();
        }
        if forms.len() >= REMEMBERED_MAX {
            forms.pop_front();
        }
        let sent = Sent::default();
        forms.push_back((digest, sent.clone()));
        sent
    }
}
