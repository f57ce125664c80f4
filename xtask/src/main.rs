//! Developer commands: `cargo xtask` prints the list.
//!
//! Each command installs the tools that it needs (except rustup and Python 3) and runs on a fresh clone.

mod audit;
mod bench;
mod ci;
mod demo;
mod dist;
mod github;
mod guests;
mod packages;
mod proof;
mod setup;
mod sim;
mod test;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask COMMAND

Every day
  demo      build wasq and two example tasks, and run them from the message to the result
  test      set everything up and run every test; words after it select Python tests (pytest -k)
  ci        all that CI runs: format, lints, docs, rules, packages, tests
  pictures  make the pictures of the page in the README anew
  guests    build the example in every language, and compare sizes, times and memory; --build builds only those in Rust

Proofs
  sim       run the delivery code in simulated worlds: --tasks N --crashes N, or --seed N for one world again
  chaos     kill real processes: --messages N --kills N --only one-process|own-queue|ministack
  hostile   run harmful tasks, each in one batch with an honest task, round after round: --rounds N;
            --compile measures costly components, and draws docs/performance/costly.svg
  fuzz      test all input from outside under libFuzzer (needs rustup's nightly): [TARGET] --seconds N
  bench     compare wasq with wasmtime, Extism, Celery and others; --write updates docs/performance.md
  drain     compare one consumer with a plain receive-delete loop: --messages N --rounds N
  page      measure each view of the page: --runs N in the store, --rounds N
  cost      print the cost of a million tasks, from API calls counted in the simulator: --prices FILE --message-kib N

Release
  deny      check licences, sources and known vulnerabilities of dependencies
  packages  build the packages that others use, and install them somewhere new; nothing is published
  dist      make the files of a release, for arm64 and x86_64; --arch for one
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
        "pictures" => test::pictures(),
        "guests" => guests::guests(&rest),
        "hostile" => proof::hostile(&rest),
        "fuzz" => audit::fuzz(&rest),
        "deny" => audit::deny(),
        "sim" => sim::sim(&rest),
        "cost" => sim::cost(&rest),
        "dist" => dist::dist(&rest),
        "packages" => packages::packages(),
        "chaos" => proof::chaos(&rest),
        "drain" => proof::drain(&rest),
        "page" => proof::page(&rest),
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
