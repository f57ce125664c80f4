//! The header `idempotency-key`: the other side recognises by it that a later attempt sends a request again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Request};
use wasq_protocol::Digest;

use crate::outgoing::RequestBody;

/// The keys of one run.
pub(crate) struct IdempotencyKeys {
    message_id: String,
    made: Mutex<Made>,
}

/// The requests of a run so far.
#[derive(Default)]
struct Made {
    /// The step that is open.
    step: Option<Step>,
    /// How many requests there were that were the same. A key depends on no other request: a later attempt may make them in another
    /// order, or leave one out.
    counts: HashMap<Digest, u32>,
}

/// The requests of a step so far. A step that begins again makes the same ones.
struct Step {
    name: String,
    counts: HashMap<Digest, u32>,
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

impl IdempotencyKeys {
    pub(crate) fn new(message_id: &str) -> Self {
        Self { message_id: message_id.to_owned(), made: Mutex::default() }
    }

    /// Sets the step that is open: it begins, goes on, or ends.
    pub(crate) fn set_step(&self, step: Option<&str>) {
        let open = &mut self.made().step;
        if open.as_ref().map(|open| open.name.as_str()) != step {
            *open = step.map(|name| Step { name: name.to_owned(), counts: HashMap::new() });
        }
    }

    /// Puts a key into a request that could have an effect, unless the task has set one.
    ///
    /// Within a step, the key does not contain the body: a step is one effect, also if a later attempt words it in another way.
    /// Outside of a step it does, because another request could get the same key. The body of a stream is not known, so such a
    /// request gets a key in a step only.
    pub(crate) fn put_into(&self, request: &mut Request<RequestBody>) {
        if ![Method::POST, Method::PUT, Method::PATCH, Method::DELETE].contains(request.method()) {
            return;
        }
        let (method, uri, id) = (request.method(), request.uri(), &self.message_id);
        let mut made = self.made();
        let Made { step, counts } = &mut *made;
        let (part, counts) = match (step, request.body()) {
            (Some(Step { name, counts }), _) => (format!("step\0{name}"), counts),
            (None, RequestBody::Whole(body)) => (Digest::of(body).to_string(), counts),
            (None, RequestBody::Stream(_)) => return,
        };
        let request_digest = Digest::of(format!("{id}\0{method}\0{uri}\0{part}").as_bytes());
        let ordinal = counts.entry(request_digest).or_default();
        *ordinal += 1;
        let key = Digest::of(format!("{request_digest}\0{ordinal}").as_bytes()).to_string();
        let key = HeaderValue::from_str(&key[..32]).expect("hexadecimal digits");
        request.headers_mut().entry(IDEMPOTENCY_KEY).or_insert(key);
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn key(keys: &IdempotencyKeys, method: &str, uri: &str, own: Option<&str>) -> Option<String> {
        key_of(keys, method, uri, "", own)
    }

    fn key_of(
        keys: &IdempotencyKeys,
        method: &str,
        uri: &str,
        body: &str,
        own: Option<&str>,
    ) -> Option<String> {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(own) = own {
            request = request.header("Idempotency-Key", own);
        }
        let body = RequestBody::Whole(Bytes::from(body.to_owned()));
        let mut request = request.body(body).expect("a request");
        keys.put_into(&mut request);
        let mut values = request.headers().get_all(IDEMPOTENCY_KEY).iter();
        let value = values.next().map(|value| value.to_str().expect("ASCII").to_owned());
        assert!(values.next().is_none(), "one key");
        value
    }

    #[test]
    fn a_later_attempt_has_the_same_keys_in_any_order() {
        let (first, later) = (IdempotencyKeys::new("order-7"), IdempotencyKeys::new("order-7"));
        let charge = key(&first, "POST", "https://pay.example/charges", None);
        let again = key(&first, "POST", "https://pay.example/charges", None);
        let mail = key(&first, "POST", "https://mail.example/", None);
        assert!(charge != again && again != mail && charge != mail);
        assert_eq!(key(&later, "POST", "https://mail.example/", None), mail);
        assert_eq!(key(&later, "POST", "https://pay.example/charges", None), charge);
        // It sends another charge first.
        let later = IdempotencyKeys::new("order-7");
        let another = key_of(&later, "POST", "https://pay.example/charges", "5 EUR", None);
        assert!(another != charge && another != again);
        let other = IdempotencyKeys::new("order-8");
        assert_ne!(key(&other, "POST", "https://pay.example/charges", None), charge);
    }

    #[test]
    fn a_step_has_the_same_key_whatever_it_sends() {
        let url = "https://pay.example/charges";
        let in_step = |step: &str, body: &str| {
            let keys = IdempotencyKeys::new("order-7");
            // Another request, before the step.
            key_of(&keys, "POST", url, body, None);
            keys.set_step(Some(step));
            let key_in_step = key_of(&keys, "POST", url, body, None);
            keys.set_step(None);
            assert_ne!(key_of(&keys, "POST", url, body, None), key_in_step);
            key_in_step
        };
        let charge = in_step("charge", "at 12:00");
        assert!(charge.is_some());
        assert_eq!(in_step("charge", "at 12:05"), charge);
        assert_ne!(in_step("refund", "at 12:00"), charge);
        // It failed, and is executed again in the same run.
        let keys = IdempotencyKeys::new("order-7");
        for body in ["at 12:00", "at 12:01"] {
            keys.set_step(Some("charge"));
            assert_eq!(key_of(&keys, "POST", url, body, None), charge);
            // Each call of the interface tells which step is open.
            keys.set_step(Some("charge"));
            assert_ne!(key_of(&keys, "POST", url, body, None), charge, "its second request");
            keys.set_step(None);
        }
    }

    #[test]
    fn only_requests_that_may_have_an_effect_have_keys() {
        let keys = IdempotencyKeys::new("a");
        for method in ["GET", "HEAD", "OPTIONS"] {
            assert_eq!(key(&keys, method, "https://a.example/", None), None);
        }
        for method in ["POST", "PUT", "PATCH", "DELETE"] {
            assert!(key(&keys, method, "https://a.example/", None).is_some_and(|key| key.len() == 32));
        }
        assert_eq!(key(&keys, "POST", "https://a.example/", Some("mine")).as_deref(), Some("mine"));
    }
}
