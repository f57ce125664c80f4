//! The log of a run: `log` calls and lines on stdout and stderr, captured within limits and passed on as they
//! arrive.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::bindings::LogLevel;
use crate::limits::Limits;
use crate::run::{LogLine, RunContext};
use crate::secrets::RunSecrets;

/// The log of one run, without the values of its secrets; clones share it.
#[derive(Clone)]
pub(crate) struct RunLog(Arc<Shared>);

struct Shared {
    context: Arc<RunContext>,
    secrets: RunSecrets,
    captured: Mutex<Captured>,
    /// The bytes written to stdout since the last line break. All streams that the guest opens on stdout
    /// share them.
    stdout: Mutex<Vec<u8>>,
    /// The same for stderr.
    stderr: Mutex<Vec<u8>>,
}

struct Captured {
    lines: Vec<LogLine>,
    lines_max: usize,
    bytes_left: usize,
    dropped: u64,
    stderr_tail: String,
}

/// The bytes of stderr's end that are kept for a failure's reason: enough for a Python or JavaScript
/// traceback.
const STDERR_TAIL_BYTES: usize = 2048;
/// A line without a line break is cut into pieces of this size.
const LINE_BYTES_MAX: usize = 8 << 10;

impl RunLog {
    pub(crate) fn new(context: Arc<RunContext>, limits: &Limits, secrets: RunSecrets) -> Self {
        let captured = Captured {
            lines: Vec::new(),
            lines_max: limits.log_lines_max,
            bytes_left: limits.log_bytes_max,
            dropped: 0,
            stderr_tail: String::new(),
        };
        let captured = Mutex::new(captured);
        Self(Arc::new(Shared {
            context,
            secrets,
            captured,
            stdout: Mutex::default(),
            stderr: Mutex::default(),
        }))
    }

    pub(crate) fn line(&self, level: LogLevel, text: &str) {
        let mut captured = self.lock();
        if let Some(bytes_left) = captured.room() {
            let text = self.0.secrets.enough(text, bytes_left);
            captured.line(&self.0.context, level, &self.0.secrets.redact_line(text));
        }
    }

    /// Adds a line of stderr. The end of stderr may become part of a failure's reason.
    fn stderr(&self, text: &str) {
        let text = self.0.secrets.redact_line(text);
        let mut captured = self.lock();
        captured.stderr(&text);
        if captured.room().is_some() {
            captured.line(&self.0.context, LogLevel::Warn, &text);
        }
    }

    /// Emits the last line of each stream if it has no line break. Called when the run is over.
    pub(crate) fn finish(&self) {
        Lines::stdout(self).finish();
        Lines::stderr(self).finish();
    }

    /// Takes the captured lines, and returns the number of dropped lines with them.
    pub(crate) fn take(&self) -> (Vec<LogLine>, u64) {
        let mut captured = self.lock();
        (std::mem::take(&mut captured.lines), captured.dropped)
    }

    /// The end of the text that the run wrote to stderr.
    pub(crate) fn stderr_tail(&self) -> String {
        self.lock().stderr_tail.trim().to_owned()
    }

    fn lock(&self) -> MutexGuard<'_, Captured> {
        // A panic while the lock is held cannot leave a line half-written.
        self.0.captured.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Captured {
    fn has_room(&self) -> bool {
        self.lines.len() < self.lines_max && self.bytes_left > 0
    }

    /// Returns the bytes that are left for another line. If there is no room, counts the line as dropped.
    fn room(&mut self) -> Option<usize> {
        if !self.has_room() {
            self.dropped += 1;
            return None;
        }
        Some(self.bytes_left)
    }

    fn line(&mut self, context: &RunContext, level: LogLevel, text: &str) {
        let end = text.floor_char_boundary(self.bytes_left.min(text.len()));
        let text = &text[..end];
        self.bytes_left -= end;
        let (task, id, attempt) = (context.task.as_str(), &context.id, context.attempt);
        match level {
            LogLevel::Trace => tracing::trace!(target: "task", task, id, attempt, "{text}"),
            LogLevel::Debug => tracing::debug!(target: "task", task, id, attempt, "{text}"),
            LogLevel::Info => tracing::info!(target: "task", task, id, attempt, "{text}"),
            LogLevel::Warn => tracing::warn!(target: "task", task, id, attempt, "{text}"),
            LogLevel::Error => tracing::error!(target: "task", task, id, attempt, "{text}"),
        }
        self.lines.push(LogLine { level, text: text.to_owned() });
    }

    fn stderr(&mut self, text: &str) {
        self.stderr_tail.push_str(text);
        self.stderr_tail.push('\n');
        let excess = self.stderr_tail.len().saturating_sub(STDERR_TAIL_BYTES);
        self.stderr_tail.drain(..self.stderr_tail.ceil_char_boundary(excess));
    }
}

/// A standard stream of the guest; cuts the written bytes into log lines.
#[derive(Clone)]
pub(crate) struct Lines {
    log: RunLog,
    stderr: bool,
}

impl Lines {
    pub(crate) fn stdout(log: &RunLog) -> Self {
        Self { log: log.clone(), stderr: false }
    }

    pub(crate) fn stderr(log: &RunLog) -> Self {
        Self { log: log.clone(), stderr: true }
    }

    /// The bytes written since the last line break.
    fn partial(&self) -> MutexGuard<'_, Vec<u8>> {
        let Shared { stdout, stderr, .. } = &*self.log.0;
        let partial = if self.stderr { stderr } else { stdout };
        partial.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: &[u8]) {
        let mut partial = self.partial();
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            for chunk in piece.chunks(LINE_BYTES_MAX) {
                partial.extend_from_slice(chunk);
                if partial.ends_with(b"\n") {
                    self.emit(&mut partial);
                } else if partial.len() >= LINE_BYTES_MAX {
                    // Half a secret would not be recognised, so it goes to the beginning of the next piece.
                    let begun = if self.is_heard() { self.log.0.secrets.begun_at_end(&partial) } else { 0 };
                    let kept = partial.len() - begun;
                    let rest = partial.split_off(kept);
                    if !partial.is_empty() {
                        self.emit(&mut partial);
                    }
                    *partial = rest;
                }
            }
        }
    }

    /// Whether another line would be kept, at least in part.
    fn is_heard(&self) -> bool {
        self.stderr || self.log.lock().has_room()
    }

    /// Emits a last line that has no line break.
    fn finish(&self) {
        let mut partial = self.partial();
        if !partial.is_empty() {
            self.emit(&mut partial);
        }
    }

    fn emit(&self, partial: &mut Vec<u8>) {
        let line = String::from_utf8_lossy(partial);
        let line = line.trim_end_matches(['\n', '\r']);
        if self.stderr {
            self.log.stderr(line)
        } else {
            self.log.line(LogLevel::Info, line)
        }
        partial.clear();
    }
}

impl IsTerminal for Lines {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Lines {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

impl OutputStream for Lines {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.push(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 << 10)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Lines {
    async fn ready(&mut self) {}
}

impl AsyncWrite for Lines {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.push(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
