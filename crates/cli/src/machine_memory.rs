//! The memory that this process may use, and how `wasq dev` divides it.

use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use wasq_local::CompileLimits;
use wasq_protocol::ByteCount;

/// If the system does not say how much memory there is.
const UNKNOWN: u64 = 4 << 30;
/// The longest time of one compilation, and its processor time.
const COMPILE_TIME: Duration = Duration::from_secs(600);
/// The largest of 70 honest components that were tried, 80 MB with all of its packages, took 580 MiB.
const COMPILE_MEMORY_MIN: u64 = 768 << 20;
const COMPILE_MEMORY_MAX: u64 = 3 << 30;

/// The part that running tasks may be allowed: half.
pub(crate) fn for_runs() -> ByteCount {
    ByteCount(bytes() / 2)
}

/// The limits of a compilation: a quarter of the memory each, for two at once.
pub(crate) fn for_compiling() -> CompileLimits {
    let quarter = bytes() / 4;
    let memory = quarter.clamp(COMPILE_MEMORY_MIN, COMPILE_MEMORY_MAX);
    let at_once = if quarter < COMPILE_MEMORY_MIN { 1 } else { 2 };
    CompileLimits { memory: ByteCount(memory), processor: COMPILE_TIME, time: COMPILE_TIME, at_once }
}

/// The machine's memory, or less if the process has a limit (`ulimit`), or is in a control group (cgroup) with one.
fn bytes() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
    });
    let group = std::fs::read_to_string("/proc/self/cgroup").ok().and_then(|text| {
        let own = text.lines().find_map(|line| line.strip_prefix("0::/"))?.to_owned();
        // The limit of a group holds for those in it.
        Path::new(&own)
            .ancestors()
            .filter_map(|group| group_limit(&Path::new("/sys/fs/cgroup").join(group)))
            .min()
    });
    // The limit of addresses (`ulimit -v`) is none of memory: the engine reserves far more addresses than it uses.
    let process = getrlimit(Resource::Data).current;
    [group, process].into_iter().flatten().fold(machine.unwrap_or(UNKNOWN), u64::min)
}

fn group_limit(group: &Path) -> Option<u64> {
    std::fs::read_to_string(group.join("memory.max")).ok()?.trim().parse().ok()
}
