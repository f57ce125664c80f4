//! Developer commands: `cargo xtask` prints the list.
//!
//! Each command installs the tools that it needs (except rustup and Python 3) and runs on a fresh clone.

mod audit;
mod bench;
mod ci;
mod demo;
mod dist;
mod guests;
mod proof;
mod setup;
mod sim;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND

  demo      set everything up and run the main job, end to end
  test      set everything up and run every test; words after it select Python tests (pytest -k)
  ci        what CI runs: format, lints, docs, rules, then the tests
  guests    build the example task in every language, and measure: sizes, times, memory; --build only builds those in Rust
  hostile   run harmful tasks, each in one batch with an honest task, round after round; --rounds N
  fuzz      test all input from outside, under libFuzzer (needs rustup's nightly): [TARGET] --seconds N
  deny      licences, sources and known vulnerabilities of dependencies
  sim       the delivery code in simulated worlds: --tasks N --crashes N, or --seed N for one world again
  dist      make the files of a release: Lambda zips and archives, for arm64 and x86_64; --arch for one
  chaos     kill -9 everything, again and again: --messages N --kills N --only one-process|own-queue|ministack
  drain     how fast one consumer drains, beside a plain receive-delete loop: --messages N --rounds N
  bench     wasq beside wasmtime, Extism, Celery and others, all measured now; --write updates docs/performance.md
  cost      print the cost of a million tasks, from API calls counted in the simulator; --prices FILE
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let rest: Vec<String> = args.collect();
    let result = match command.as_str() {
        "bench" => bench::bench(&rest),
        "demo" => demo::demo(),
        "test" => test::test(&rest),
        "ci" => ci::ci(),
        "guests" => guests::guests(&rest),
        "hostile" => proof::hostile(&rest),
        "fuzz" => audit::fuzz(&rest),
        "deny" => audit::deny(),
        "sim" => sim::sim(&rest),
        "cost" => sim::cost(&rest),
        "dist" => dist::dist(&rest),
        "chaos" => proof::chaos(&rest),
        "drain" => proof::drain(&rest),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        other => {
            eprint!("no command {other:?}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("\ncargo xtask {command}: {e:#}");
            ExitCode::FAILURE
        }
    }
}
