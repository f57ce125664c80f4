//! Many worlds, on every core.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::run::{Report, run};
use crate::scenario::{Scenario, TASKS_A_WORLD};

/// How much is to be simulated.
#[derive(Clone, Copy, Debug)]
pub struct Campaign {
    /// The seed of the first world; the others follow it.
    pub seed: u64,
    /// The minimum number of messages sent from outside.
    pub tasks: u64,
    /// The minimum number of crashes.
    pub crashes: u64,
    /// Worlds that run at once.
    pub threads: usize,
}

/// The result of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Campaigned {
    /// Worlds that were run.
    pub worlds: u64,
    /// The sum of their reports, without the violations.
    pub report: Report,
    /// The scenarios of the worlds with violations, and the violations.
    pub failed: Vec<(Scenario, Vec<String>)>,
}

/// Runs worlds until the minimums of tasks and crashes are reached. `scenario` returns the scenario of a
/// seed; `done` is called after each world.
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
