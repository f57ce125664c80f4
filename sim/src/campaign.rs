//! Many worlds, on every core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use wasq_consumer::Mode;

use crate::run::{Report, run};
use crate::world::{Drain, Load, Protocol, Scenario, Weather};

/// Messages that are sent in one world.
pub const TASKS_A_WORLD: u32 = 500;
/// The most crashes of one world.
const CRASHES_A_WORLD: u32 = 150;

/// How much is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The seed of the first world; the others follow it.
    pub seed: u64,
    /// Messages that are sent from outside, at least.
    pub tasks: u64,
    /// Crashes, at least.
    pub crashes: u64,
    /// Worlds that run at once.
    pub threads: usize,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Campaigned {
    /// Worlds that were run.
    pub worlds: u64,
    /// What all of them come to, but for violations.
    pub report: Report,
    /// The worlds in which something happened that must not, by their scenarios.
    pub failed: Vec<(Scenario, Vec<String>)>,
}

impl Scenario {
    /// The world of a seed: the drains in turn, and every tenth in calm weather, where every run can be accounted for.
    pub fn of_seed(seed: u64) -> Self {
        let drain = match seed % 5 {
            0 | 1 => Drain::Schedule(Mode::Window),
            2 | 3 => Drain::Schedule(Mode::UntilEmpty),
            _ => Drain::EventSource,
        };
        let calm = (seed / 5).is_multiple_of(10);
        Self {
            seed,
            tasks: TASKS_A_WORLD,
            crashes: CRASHES_A_WORLD,
            weather: if calm { Weather::Calm } else { Weather::Stormy },
            drain,
            load: Load::Mixed,
            protocol: Protocol::Wasq,
            mutation: None,
        }
    }
}

/// Runs worlds until there were enough tasks and crashes. `scenario` makes the world of a seed; `done` hears of every
/// world that has ended.
pub fn campaign(
    campaign: Campaign,
    scenario: impl Fn(u64) -> Scenario + Sync,
    done: impl Fn(&Campaigned) + Sync,
) -> Campaigned {
    let Campaign { seed, tasks, crashes, threads } = campaign;
    let next = AtomicU64::new(seed);
    let all = Mutex::new(Campaigned::default());
    let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let (sent, crashed) = {
                        let all = lock();
                        (all.worlds * u64::from(TASKS_A_WORLD), all.report.crashes())
                    };
                    if sent >= tasks && crashed >= crashes {
                        return;
                    }
                    let scenario = scenario(next.fetch_add(1, Ordering::Relaxed));
                    let mut report = run(scenario);
                    let violations = std::mem::take(&mut report.violations);
                    let mut all = lock();
                    all.worlds += 1;
                    all.report.add(report);
                    if !violations.is_empty() {
                        all.failed.push((scenario, violations));
                    }
                    done(&all);
                }
            });
        }
    });
    let mut all = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    all.failed.sort_by_key(|(scenario, _)| scenario.seed);
    all
}
