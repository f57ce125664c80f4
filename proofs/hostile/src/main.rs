//! `wasq-hostile VERBS.wasm [ROUNDS]`: runs the whole corpus, round after round, and checks that the process
//! does not grow.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use wasq_hostile::{Host, Seen, corpus};

const SETTLE: Duration = Duration::from_millis(500);
/// Rounds to warm up. After them, everything that is made once exists.
const WARM_UP: usize = 4;
/// The limit of a neighbour's run. It computes for some milliseconds, and two guests may compute at the same
/// time.
const NEIGHBOUR_MAX: Duration = Duration::from_millis(500);
/// The allowed growth, from the most memory in the earlier rounds to the most memory in the later rounds:
/// less than a megabyte for each round.
const GROWTH_KB_MAX: i64 = 8 << 10;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let verbs = arguments.first().context("expected: wasq-hostile VERBS.wasm [ROUNDS]")?;
    let rounds = arguments.get(1).map_or(Ok(10), |rounds| rounds.parse()).context("ROUNDS is no number")?;
    let host = Host::start(Path::new(verbs)).await?;
    let guests = corpus();
    let mut failed = 0;
    let mut held = Vec::new();
    let (mut neighbours, mut slowest) = (Vec::new(), Duration::ZERO);
    for round in 0..rounds + WARM_UP {
        for guest in &guests {
            let seen = host.run(guest).await?;
            failed += seen.problems.len();
            neighbours.push(seen.neighbour);
            slowest = slowest.max(seen.neighbour);
            if round == 0 {
                print(guest.name, &seen);
            }
            for problem in &seen.problems {
                println!("  PROBLEM in round {}: {}: {problem}", round + 1, guest.name);
            }
        }
        // Runs that were cut off get time to end.
        tokio::time::sleep(SETTLE).await;
        let now = Process::now()?;
        let Process { memory_kb, threads, descriptors } = now;
        eprintln!(
            "round {:>2}: memory {memory_kb} kB, threads {threads}, file descriptors {descriptors}",
            round + 1
        );
        if round >= WARM_UP {
            held.push(now);
        }
    }
    println!("\n{} guests, {rounds} rounds after {WARM_UP} to warm up, {failed} problems.", guests.len());
    neighbours.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "Their neighbours ran for {:.1} ms (the median), and for {:.1} ms at most.",
        ms(neighbours[neighbours.len() / 2]),
        ms(slowest)
    );
    let late = slowest > NEIGHBOUR_MAX;
    if late {
        println!("PROBLEM: a neighbour was held up");
    }
    let (earlier, later) = held.split_at(held.len() / 2);
    let (earlier, later) = (Process::most(earlier), Process::most(later));
    println!(
        "The most that the process held, in earlier and in later rounds: memory {} and {} kB, threads {} and {}, file descriptors {} and {}",
        earlier.memory_kb,
        later.memory_kb,
        earlier.threads,
        later.threads,
        earlier.descriptors,
        later.descriptors
    );
    let grew = later.memory_kb - earlier.memory_kb > GROWTH_KB_MAX
        || later.threads > earlier.threads
        || later.descriptors > earlier.descriptors;
    if grew {
        println!("PROBLEM: it has grown");
    }
    Ok(if failed == 0 && !grew && !late { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(name: &str, seen: &Seen) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let message: String = seen.message.replace('\n', " ").chars().take(90).collect();
    let (took, neighbour) = (ms(seen.took), ms(seen.neighbour));
    println!("{name:<58} {:<16} {took:>7.1} ms  neighbour {neighbour:>5.1} ms  {message}", seen.end);
}

/// The resources that the process holds, from Linux's /proc.
#[derive(Default)]
struct Process {
    memory_kb: i64,
    threads: usize,
    descriptors: usize,
}

impl Process {
    /// The maximum of each resource.
    fn most(held: &[Self]) -> Self {
        held.iter().fold(Self::default(), |most, held| Self {
            memory_kb: most.memory_kb.max(held.memory_kb),
            threads: most.threads.max(held.threads),
            descriptors: most.descriptors.max(held.descriptors),
        })
    }

    fn now() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is missing")?;
        let memory = memory.trim().trim_end_matches(" kB");
        Ok(Self {
            memory_kb: memory.parse().context("VmRSS is no number")?,
            threads: std::fs::read_dir("/proc/self/task")?.count(),
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
        })
    }
}
