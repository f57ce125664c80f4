//! The memory that the host holds for the `wasi:http` resources of one run: requests, responses, headers and bodies.
//!
//! wasmtime-wasi-http keeps them in the run's table, outside of the guest's memory. Its own bounds hold for each resource
//! alone, and a guest may have many. So they are added up at calls of the interface. If a run holds too much, its table is
//! emptied: that frees the memory at once, and the run ends in a trap at its next use of a resource.

use std::any::Any;
use std::time::{Duration, Instant};

use hyper::HeaderMap;
use wasmtime::component::ResourceTable;
use wasmtime_wasi_http::FieldMap;
use wasmtime_wasi_http::p2::bindings::http::types::Method;
use wasmtime_wasi_http::p2::body::{HostIncomingBody, HostOutgoingBody};
use wasmtime_wasi_http::p2::types::{HostIncomingResponse, HostOutgoingRequest};

/// The most bytes of one write to a request's body. The request holds one such piece, and its stream another one.
pub(crate) const BODY_CHUNK_BYTES: usize = 64 << 10;
/// A guess for the parts of a resource that are not counted by themselves.
const RESOURCE_BYTES: usize = 512;
/// A look at so many resources costs about as much as a call.
const RESOURCES_FOR_A_CALL: usize = 16;
/// The most calls between two looks. A call that carries much takes long, so that a look follows it in any case.
const SKIPPED_MAX: usize = 64;
const SKIPPED_TIME_MAX: Duration = Duration::from_millis(4);

/// When to look next.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    skip: usize,
    last: Option<Instant>,
}

impl Holdings {
    /// Called before each call of the interface. If the run holds more than `bytes_max`, frees everything that it holds, and
    /// returns how much that was.
    pub(crate) fn bound(&mut self, table: &mut ResourceTable, bytes_max: usize) -> Option<usize> {
        if self.skip > 0 && self.last.is_some_and(|last| last.elapsed() < SKIPPED_TIME_MAX) {
            self.skip -= 1;
            return None;
        }
        let (mut count, mut bytes) = (0, 0);
        for resource in table.iter_mut() {
            count += 1;
            bytes += RESOURCE_BYTES + bytes_of(resource);
        }
        self.skip = (count / RESOURCES_FOR_A_CALL).min(SKIPPED_MAX);
        self.last = (self.skip > 0).then(Instant::now);
        if bytes <= bytes_max {
            return None;
        }
        *table = ResourceTable::new();
        table.set_max_capacity(0);
        Some(bytes)
    }
}

fn bytes_of(resource: &(dyn Any + Send)) -> usize {
    if let Some(fields) = resource.downcast_ref::<FieldMap>() {
        return of_headers(fields);
    }
    if let Some(request) = resource.downcast_ref::<HostOutgoingRequest>() {
        // A scheme is short: wasmtime-wasi-http refuses others.
        let HostOutgoingRequest { method, scheme: _, authority, path_with_query, headers, body } = request;
        let of_text = |text: &Option<String>| text.as_ref().map_or(0, String::capacity);
        return of_method(method)
            + of_text(authority)
            + of_text(path_with_query)
            + of_headers(headers)
            + body.as_ref().map_or(0, |_| BODY_CHUNK_BYTES);
    }
    if let Some(response) = resource.downcast_ref::<HostIncomingResponse>() {
        return of_headers(&response.headers);
    }
    if resource.is::<HostOutgoingBody>() || resource.is::<HostIncomingBody>() {
        return BODY_CHUNK_BYTES;
    }
    0
}

fn of_headers(headers: &HeaderMap) -> usize {
    // The name, the value, and hyper's own entry.
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 128).sum()
}

fn of_method(method: &Method) -> usize {
    match method {
        Method::Other(text) => text.capacity(),
        _ => 0,
    }
}
