//! The limits of one run. Every limit that a task's settings do not name is here.

use std::time::Duration;

use wasmtime::{ResourceLimiter, Result};
use wasq_protocol::AHEAD_MAX;

use crate::addresses::Addresses;

/// Limits that hold for every run of this process, whatever the task's settings say.
#[derive(Clone, Debug)]
pub struct Limits {
    /// The size of a result, in bytes.
    pub output_bytes_max: usize,
    /// Lines in the captured log; further lines are counted, not kept.
    pub log_lines_max: usize,
    /// Bytes in the captured log; longer lines are cut.
    pub log_bytes_max: usize,
    /// Child tasks that one run may enqueue.
    pub children_max: u32,
    /// The longest delay of a child task. In a deployment without a schedule group it is 3 days.
    pub delay_max: Duration,
    /// The params of all child tasks of one run together, in bytes.
    pub children_bytes_max: usize,
    /// The messages that one root may cause: children, their children, and so on, together.
    pub descendants_max: u32,
    /// How deep a chain of parents may become.
    pub depth_max: u32,
    /// Steps that one message may save.
    pub steps_max: u32,
    /// The value of one step, in bytes.
    pub step_bytes_max: usize,
    /// All steps of one message together, in bytes. They are part of the message's item in the table of runs.
    pub steps_bytes_max: usize,
    /// The size of an HTTP request's body through `wasq:task/http`, in bytes.
    pub http_request_bytes_max: usize,
    /// The size of an HTTP response's body through `wasq:task/http`, in bytes.
    pub http_response_bytes_max: usize,
    /// HTTP requests that one run may make.
    pub http_requests_max: u32,
    /// HTTP requests of one run that may be under way at once. A request is under way until its response is
    /// read or dropped.
    pub http_open_max: u32,
    /// The number of headers of a request, or of a response.
    pub http_headers_max: usize,
    /// The headers of a request together, in bytes; those of a response may be twice that.
    pub http_header_bytes_max: usize,
    /// How long a server may take until its response begins.
    pub http_first_byte_max: Duration,
    /// All HTTP responses of one run together, in bytes.
    pub http_received_bytes_max: u64,
    /// The memory that the host may hold for the `wasi:http` resources of one run, in bytes, beside the run's own memory.
    pub http_held_bytes_max: usize,
    /// The addresses that tasks may reach, whatever their `allow_hosts` say.
    pub addresses: Addresses,
    /// Core instances that one component may make.
    pub instances_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            output_bytes_max: 1 << 20,
            log_lines_max: 1000,
            log_bytes_max: 256 << 10,
            children_max: 100,
            delay_max: AHEAD_MAX,
            children_bytes_max: 4 << 20,
            descendants_max: 100_000,
            depth_max: 16,
            steps_max: 100,
            step_bytes_max: 64 << 10,
            steps_bytes_max: 128 << 10,
            http_request_bytes_max: 8 << 20,
            http_response_bytes_max: 8 << 20,
            http_requests_max: 1000,
            http_open_max: 32,
            http_headers_max: 100,
            http_header_bytes_max: 64 << 10,
            http_first_byte_max: Duration::from_secs(60),
            http_received_bytes_max: 256 << 20,
            http_held_bytes_max: 32 << 20,
            addresses: Addresses::default(),
            instances_max: 200,
        }
    }
}

/// Counts the memory of one run over all its memories and tables together.
#[derive(Debug)]
pub(crate) struct MemoryMeter {
    pub(crate) bytes_max: u64,
    pub(crate) bytes: u64,
    pub(crate) peak: u64,
    /// The total that the task wanted when it first hit the limit. It tells a failed allocation from any
    /// other trap.
    pub(crate) refused: Option<u64>,
    /// The bytes that the host held for the task's HTTP, if they were too many.
    pub(crate) held: Option<u64>,
    instances_max: usize,
}

/// The size of a table element in wasmtime: a pointer.
const TABLE_ELEMENT_BYTES: u64 = 8;

impl MemoryMeter {
    pub(crate) fn new(bytes_max: u64, limits: &Limits) -> Self {
        Self { bytes_max, bytes: 0, peak: 0, refused: None, held: None, instances_max: limits.instances_max }
    }

    fn grow(&mut self, by: u64) -> bool {
        let wanted = self.bytes.saturating_add(by);
        if wanted > self.bytes_max {
            self.refused.get_or_insert(wanted);
            return false;
        }
        self.bytes = wanted;
        self.peak = self.peak.max(wanted);
        true
    }
}

impl ResourceLimiter for MemoryMeter {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        // Growth beyond the memory's own maximum fails in any case. It is not counted, and it is not our
        // refusal.
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired - current) as u64))
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        Ok(self.grow((desired - current) as u64 * TABLE_ELEMENT_BYTES))
    }

    fn instances(&self) -> usize {
        self.instances_max
    }

    // Memories and tables are limited by their bytes.
    fn tables(&self) -> usize {
        self.instances_max
    }

    fn memories(&self) -> usize {
        self.instances_max
    }
}
