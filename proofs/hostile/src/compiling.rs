//! Measures compilations as the publisher makes them: each in a process of its own, with its limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wasq_protocol::ByteCount;
use wasq_publisher::{CompileLimits, Compiled, Compiler, Wasm};

/// The end of one compilation, and its costs.
#[derive(Clone, Debug)]
pub struct Compilation {
    /// The size of the component, in bytes.
    pub bytes: usize,
    /// Why it was refused; `None` if it fits.
    pub refused: Option<String>,
    /// From the start of its process to the answer.
    pub time: Duration,
    /// The most memory that its process had, as far as looks every few milliseconds saw it.
    pub memory: ByteCount,
}

/// The limits of the publisher on AWS, with its default memory of 3,008 MiB.
pub const ON_AWS: CompileLimits = CompileLimits {
    memory: ByteCount::mib(3008 - 512),
    processor: Duration::from_secs(240),
    time: Duration::from_secs(240),
    at_once: 1,
};

/// The interval between two looks at the process.
const LOOK: Duration = Duration::from_millis(5);

/// Compiles a component, and measures that.
pub async fn compile(limits: CompileLimits, wasm: Vec<u8>) -> Result<Compilation> {
    let compiler = Wasm::new(limits)?;
    let bytes = wasm.len();
    let (most, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watching = {
        let (most, done) = (most.clone(), done.clone());
        std::thread::spawn(move || {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(memory_of_children(), Ordering::Relaxed);
                std::thread::sleep(LOOK);
            }
        })
    };
    let started = Instant::now();
    let compiled = compiler.compile(wasm).await;
    let time = started.elapsed();
    done.store(true, Ordering::Relaxed);
    watching.join().ok().context("watch the compiler")?;
    let refused = match compiled? {
        Compiled::Fits { .. } => None,
        Compiled::Refused(why) => Some(why),
    };
    Ok(Compilation { bytes, refused, time, memory: ByteCount(most.load(Ordering::Relaxed)) })
}

/// The most memory that any child of this process has had so far, in bytes.
fn memory_of_children() -> u64 {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<_> = children.collect();
    let statuses = children
        .iter()
        .flat_map(|children| children.split_whitespace())
        // Until it runs its own program, a child has its parent's memory.
        .filter(|child| {
            let line = std::fs::read_to_string(format!("/proc/{child}/cmdline"));
            line.is_ok_and(|line| line.contains("__compile"))
        })
        .filter_map(|child| std::fs::read_to_string(format!("/proc/{child}/status")).ok());
    let peaks = statuses.filter_map(|status| {
        let line =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches(" kB");
        line.parse::<u64>().ok()
    });
    peaks.max().unwrap_or_default() << 10
}
