//! `wasq-sim`: runs thousands of simulated worlds, replays one world by its seed, and computes the cost of a
//! million tasks. `cargo xtask sim` and `cargo xtask cost` run it.

mod print;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, Subcommand};
use wasq_sim::{
    Campaign, Load, Prices, Protocol, Remembering, Scenario, TASKS_A_WORLD, Way, Weather, campaign, count,
    run,
};

/// The delivery code of wasq in simulated worlds.
#[derive(Debug, Parser)]
#[command(name = "wasq-sim")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run simulated worlds until both minimums are reached, and the reference design for comparison
    Worlds {
        /// The minimum number of messages sent from outside
        #[arg(long, default_value_t = 100_000)]
        tasks: u64,
        /// The minimum number of crashes
        #[arg(long, default_value_t = 10_000)]
        crashes: u64,
        /// Run only the world of this seed, and print its scenario and its full report
        #[arg(long)]
        seed: Option<u64>,
        /// The seed of the first world
        #[arg(long, default_value_t = 0)]
        first_seed: u64,
    },
    /// Count API calls, and print the cost of a million tasks
    Cost {
        /// A file like proofs/sim/prices.toml
        #[arg(long, value_name = "FILE")]
        prices: Option<PathBuf>,
        /// The size of each message, in KiB
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
        message_kib: u64,
    },
}

fn main() -> ExitCode {
    let result = match Args::parse().command {
        Command::Worlds { seed: Some(seed), .. } => one(seed),
        Command::Worlds { tasks, crashes, seed: None, first_seed } => worlds(tasks, crashes, first_seed),
        Command::Cost { prices, message_kib } => cost(prices, message_kib << 10),
    };
    result.unwrap_or_else(|e| {
        eprintln!("wasq-sim: {e:#}");
        ExitCode::from(2)
    })
}

/// Replays one world.
fn one(seed: u64) -> Result<ExitCode> {
    let scenario = Scenario::of_seed(seed);
    let report = run(scenario);
    println!("{scenario:#?}\n{report:#?}");
    Ok(verdict(report.violations.is_empty()))
}

fn worlds(tasks: u64, crashes: u64, seed: u64) -> Result<ExitCode> {
    let threads = std::thread::available_parallelism()?.get();
    let all = Campaign { seed, tasks, crashes, threads };
    let started = Instant::now();
    let ours = campaign(all, Scenario::of_seed, |done| print::progress("wasq", done, tasks));
    let took = started.elapsed();
    let reference = |seed| Scenario {
        protocol: Protocol::Reference,
        weather: Weather::Stormy,
        ..Scenario::of_seed(seed)
    };
    // The most that the reference design can take: nine messages a minute.
    let at_its_pace = |seed| Scenario { load: Load::Even { apart_us: 6_700_000 }, ..reference(seed) };
    let all = Campaign { crashes: 0, ..all };
    let paced = campaign(all, at_its_pace, |done| print::progress("reference, at its own pace", done, tasks));
    let loaded = campaign(all, reference, |done| print::progress("reference, same load", done, tasks));
    println!(
        "{} worlds of {TASKS_A_WORLD} messages, seeds from {seed}, {threads} threads; wasq's took {:.1} s, all {:.1} s\n",
        ours.worlds,
        took.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    print::worlds(&[("wasq", &ours), ("reference, 9 a minute", &paced), ("reference, same load", &loaded)]);
    for (scenario, violations) in ours.failed.iter().take(10) {
        println!(
            "\nworld {}: {} violations; `cargo xtask sim --seed {}` replays it",
            scenario.seed,
            violations.len(),
            scenario.seed
        );
        violations.iter().take(3).for_each(|what| println!("  {what}"));
    }
    Ok(verdict(ours.failed.is_empty()))
}

fn cost(prices: Option<PathBuf>, message_bytes: u64) -> Result<ExitCode> {
    let prices = prices.map_or_else(|| Ok(Prices::ours()), |path| Prices::read(&path))?;
    println!(
        "Prices of {} ({}), worker {:.3} GB, consumer {} GB. Tasks of 100 ms on average, in messages of {} KiB, sent evenly for an hour.\n\
         Counted in the simulator, for one million tasks.\n",
        prices.date,
        prices.sources.join(", "),
        prices.lambda.worker_gb,
        prices.lambda.consumer_gb,
        message_bytes >> 10
    );
    // Tasks a minute: the most that the reference design can take, then one a second, then ten a second.
    for a_minute in [9, 60, 600] {
        let without = |way| (way, count(way, Remembering::Off, a_minute));
        let counted: Vec<_> = Way::ALL.into_iter().map(without).collect();
        print::cost(&format!("{a_minute} tasks a minute"), &counted, &prices, message_bytes);
        let with = |way| (way, count(way, Remembering::On, a_minute));
        let counted: Vec<_> = Way::OURS.into_iter().map(with).collect();
        print::cost(
            &format!("{a_minute} tasks a minute, with the table of runs"),
            &counted,
            &prices,
            message_bytes,
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn verdict(well: bool) -> ExitCode {
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
