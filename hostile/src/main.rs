//! `wasq-hostile VERBS.wasm [ROUNDS]`: the whole corpus, round after round, and what it left behind in the process.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use wasq_hostile::{Host, corpus};

/// After the first rounds, everything that is made once is there.
const WARM_UP: usize = 4;
/// More than the allocator and the pool keep back and forth.
const GROWTH_KB_MAX: i64 = 32 << 10;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let verbs = arguments.first().context("expected: wasq-hostile VERBS.wasm [ROUNDS]")?;
    let rounds = arguments.get(1).map_or(Ok(10), |rounds| rounds.parse()).context("ROUNDS is no number")?;
    let host = Host::start(Path::new(verbs)).await?;
    let guests = corpus();
    let mut failed = 0;
    let mut before = Process::now()?;
    for round in 0..rounds + WARM_UP {
        if round == WARM_UP {
            before = Process::now()?;
        }
        eprintln!("round {}: {} kB", round + 1, Process::now()?.memory_kb);
        for guest in &guests {
            let seen = host.run(guest).await?;
            failed += seen.problems.len();
            if round == 0 {
                let ms = |time: std::time::Duration| time.as_secs_f64() * 1000.0;
                let message = seen.message.replace('\n', " ");
                let message: String = message.chars().take(90).collect();
                println!(
                    "{:<52} {:<16} {:>7.1} ms  beside it {:>5.1} ms  {message}",
                    guest.name,
                    seen.end,
                    ms(seen.took),
                    ms(seen.neighbour)
                );
            }
            for problem in &seen.problems {
                println!("  PROBLEM in round {}: {}: {problem}", round + 1, guest.name);
            }
        }
    }
    // What was cut off has time to end.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let after = Process::now()?;
    println!(
        "\n{} guests, {rounds} rounds after {WARM_UP} to warm up, {failed} problems.\nThe process before and after: memory {} -> {} kB, threads {} -> {}, \
         file descriptors {} -> {}",
        guests.len(),
        before.memory_kb,
        after.memory_kb,
        before.threads,
        after.threads,
        before.descriptors,
        after.descriptors
    );
    let grew = after.memory_kb - before.memory_kb > GROWTH_KB_MAX
        || after.threads > before.threads
        || after.descriptors > before.descriptors;
    if grew {
        println!("PROBLEM: it has grown");
    }
    Ok(if failed == 0 && !grew { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the process holds; from Linux's /proc.
struct Process {
    memory_kb: i64,
    threads: usize,
    descriptors: usize,
}

impl Process {
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
