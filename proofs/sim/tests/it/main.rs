//! Tests of the protocol in simulated worlds, and tests that the simulator detects mistakes in it.

use std::time::Duration;

use wasq_consumer::Mode;
use wasq_sim::{
    Architecture, Campaign, Drain, Load, Mutation, Prices, Protocol, Remembering, Scenario, Way, Weather,
    campaign, count, run,
};

/// Enough for every fault to hit every step of the protocol.
const SOME: Campaign = Campaign { seed: 1, tasks: 20_000, crashes: 2_000, threads: 2 };

#[test]
fn nothing_is_lost_whatever_dies() {
    let done = campaign(SOME, Scenario::of_seed, |_| ());
    let failed: Vec<_> =
        done.failed.iter().map(|(scenario, violations)| (scenario.seed, &violations[0])).collect();
    assert!(failed.is_empty(), "replay with `cargo xtask sim --seed SEED`: {failed:#?}");
    let totals = done.report.totals;
    assert_eq!((totals.lost, totals.redriven), (0, 0));
    assert!(totals.accepted >= 20_000 && done.report.crashes() >= 2_000);
    // The storm had an effect. Without these numbers, nothing was tested.
    assert!(totals.duplicates > 100 && totals.cut_off > 500 && totals.children > 1000, "{totals:?}");
    assert!(totals.cancelled > 100, "{totals:?}");
    assert!(totals.fired > 500, "{totals:?}");
    assert!(totals.steps > 1000 && totals.steps_spared > 500, "{totals:?}");
}

#[test]
fn a_seed_is_a_world() {
    for seed in [1, 4, 7, 12] {
        let (first, second) = (run(Scenario::of_seed(seed)), run(Scenario::of_seed(seed)));
        assert_eq!(format!("{first:?}"), format!("{second:?}"), "seed {seed}");
    }
    assert_ne!(format!("{:?}", run(Scenario::of_seed(1))), format!("{:?}", run(Scenario::of_seed(6))));
}

/// The world in which a mistake must show.
fn world_for(mutation: Mutation, seed: u64) -> Scenario {
    match mutation {
        Mutation::Asynchronous => crowded(seed),
        Mutation::DeathsUnseen => killers(seed),
        _ => Scenario::of_seed(seed),
    }
}

fn busy(seed: u64) -> Scenario {
    let drain = if seed.is_multiple_of(2) { Mode::Window } else { Mode::UntilEmpty };
    // Few tasks, so that each of them is received again and again.
    Scenario { tasks: 20, weather: Weather::Busy, drain: Drain::Schedule(drain), ..Scenario::of_seed(seed) }
}

fn crowded(seed: u64) -> Scenario {
    let drain = Drain::Schedule(Mode::Window);
    Scenario { tasks: 500, weather: Weather::Crowded, drain, load: Load::Long, ..Scenario::of_seed(seed) }
}

fn killers(seed: u64) -> Scenario {
    let drain = if seed.is_multiple_of(2) { Mode::Window } else { Mode::UntilEmpty };
    let (weather, drain) = (Weather::Calm, Drain::Schedule(drain));
    Scenario { tasks: 400, weather, drain, load: Load::Killers, ..Scenario::of_seed(seed) }
}

/// Behind an event source mapping nobody sees the deaths: the table of runs counts them.
#[test]
fn behind_a_mapping_the_table_of_runs_finds_what_kills_its_workers() {
    for seed in 1..=4 {
        let drain = Drain::EventSource;
        let report = run(Scenario { drain, runs: Remembering::On, ..killers(seed) });
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        assert_eq!((report.totals.succeeded, report.totals.dead), (380, 20));
    }
}

#[test]
fn a_worker_that_is_busy_for_hours_costs_no_healthy_message() {
    for seed in [1, 2] {
        let report = run(busy(seed));
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        assert_eq!((report.totals.lost, report.totals.redriven), (0, 0));
        assert!(report.slowest_start > Duration::from_secs(8 * 3600), "{:?}", report.slowest_start);
    }
}

#[test]
fn what_waits_for_tomorrow_does_not_hold_up_the_rest() {
    let report = run(Scenario {
        tasks: 1000,
        weather: Weather::Calm,
        drain: Drain::Schedule(Mode::Window),
        load: Load::BesideWaiting,
        ..Scenario::of_seed(1)
    });
    assert_eq!((report.totals.succeeded, report.violations.len()), (1000, 0), "{:?}", report.violations);
    assert!(report.slowest_start < Duration::from_secs(10), "{:?}", report.slowest_start);
}

#[test]
fn a_worker_with_few_places_costs_no_message_an_attempt() {
    let report = run(crowded(1));
    let totals = report.totals;
    assert!(report.violations.is_empty(), "{:#?}", report.violations);
    assert_eq!((totals.succeeded, totals.dead), (450, 50));
    assert_eq!(totals.runs, 450 + 50 * 4, "each that fails has all its attempts");
    assert!(report.most_receives <= 5, "{}", report.most_receives);
}

#[test]
fn the_hand_over_of_before_gives_messages_up_too_early() {
    let report =
        run(Scenario { mutation: Some(Mutation::Asynchronous), runs: Remembering::Off, ..crowded(1) });
    let early = report.violations.iter().filter(|what| what.contains("of 4 attempts")).count();
    assert!(early > 10, "{early} messages were given up before all their attempts were made");
}

#[test]
fn a_message_that_kills_its_workers_ends_and_harms_nobody() {
    for seed in [1, 2] {
        let report = run(killers(seed));
        assert!(report.violations.is_empty(), "{:#?}", report.violations);
        assert_eq!((report.totals.succeeded, report.totals.dead), (380, 20));
        assert_eq!(report.dead.get("killed-worker"), Some(&20));
        assert_eq!(report.crashes(), 20 * 3, "three workers for each of them");
        assert_eq!(report.most_receives, 1, "the consumer sees every death");
    }
}

/// Stormy worlds in which a mistake must show.
const WORLDS: std::ops::Range<u64> = 5..50;

#[test]
fn every_mistake_is_seen() {
    for mutation in Mutation::ALL {
        let mutated = |seed| Scenario { mutation: Some(mutation), ..world_for(mutation, seed) };
        let seen = WORLDS.into_iter().find_map(|seed| run(mutated(seed)).violations.into_iter().next());
        assert!(seen.is_some(), "{mutation:?} went unseen in {WORLDS:?}");
        eprintln!("{mutation:?}: {}", seen.unwrap_or_default());
    }
}

#[test]
fn in_window_mode_a_task_starts_within_a_second() {
    let counted = count(Way::Window, Remembering::Off, 120);
    let totals = counted.report.totals;
    assert_eq!((totals.succeeded, totals.runs), (7200, 7200), "{totals:?}");
    assert!(counted.report.slowest_start < Duration::from_secs(1), "{:?}", counted.report.slowest_start);
}

#[test]
fn the_table_of_runs_costs_two_writes_a_run() {
    for way in Way::OURS {
        let counted = count(way, Remembering::On, 60);
        let calls = counted.calls_per_million();
        assert_eq!(calls["dynamodb.put"], 2e6, "{way:?}: {calls:?}");
        assert_eq!(calls["dynamodb write units"], 2e6, "{way:?}: each item is smaller than 1 KiB");
        let dollars = counted.dollars(&Prices::ours(), Architecture::Arm64, 1024);
        assert_eq!(dollars.runs, 1.25, "{way:?}: {dollars:?}");
        let without = count(way, Remembering::Off, 60).dollars(&Prices::ours(), Architecture::Arm64, 1024);
        assert_eq!(without.runs, 0.0);
    }
}

#[test]
fn what_a_task_costs_is_what_it_calls() {
    for way in [Way::Window, Way::UntilEmpty, Way::EventSource] {
        let counted = count(way, Remembering::Off, 600);
        assert_eq!(counted.report.totals.succeeded, 36_000);
        let calls = counted.calls_per_million();
        // Each message is sent, received and deleted once: no more calls than that, and no fewer than in batches of ten.
        for call in ["sqs.receive", "sqs.delete"] {
            assert!((0.1e6..2.1e6).contains(&calls[call]), "{way:?}: {calls:?}");
        }
        let dollars = |architecture, bytes| counted.dollars(&Prices::ours(), architecture, bytes);
        let small = dollars(Architecture::Arm64, 1024);
        assert!(small.total() > 0.40 && small.sqs < 5.0 * 0.40, "{way:?}: {small:?}");
        assert!(dollars(Architecture::X86_64, 1024).worker > small.worker);
        // Sent in 16 chunks of 64 KiB, and received in at least as many.
        let large = dollars(Architecture::Arm64, 1 << 20);
        assert!(large.sqs > 32.0 * 0.40 && large.worker == small.worker, "{way:?}: {large:?}");
    }
}

#[test]
fn the_reference_loses_what_we_do_not() {
    let reference = |weather, load| {
        let drain = Drain::Schedule(Mode::Window);
        let protocol = Protocol::Reference;
        run(Scenario {
            seed: 1,
            tasks: 500,
            crashes: 150,
            weather,
            drain,
            load,
            protocol,
            runs: Remembering::Off,
            mutation: None,
        })
        .totals
    };
    let calm = reference(Weather::Calm, Load::Even { apart_us: 8_000_000 });
    assert_eq!((calm.lost, calm.succeeded), (0, 500), "the reference can take this load: {calm:?}");
    assert!(reference(Weather::Calm, Load::Mixed).lost > 100, "a backlog expires");
    assert!(
        reference(Weather::Stormy, Load::Even { apart_us: 8_000_000 }).lost > 0,
        "a process that dies loses its tasks"
    );
}
