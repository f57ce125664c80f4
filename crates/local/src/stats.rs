//! How the runs of the last day went, in memory: a few counters for each minute and task.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasq_page::{Quantiles, Slice, Span};
use wasq_protocol::{Clock, FailureKind, RunOutcome, RunRecord, SystemClock, TaskName, Timestamp};

/// The counters. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stats(Arc<Mutex<Counted>>);

struct Counted {
    since: Timestamp,
    /// The minutes in which runs ended, oldest first.
    minutes: VecDeque<Minute>,
}

struct Minute {
    /// Minutes since 1970.
    number: u64,
    tasks: HashMap<TaskName, Tally>,
}

/// The runs of one task in one minute, or of more of both.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    kinds: Vec<(FailureKind, u64)>,
    wait: Histogram,
    run: Histogram,
}

/// What is known of a span of time.
pub(crate) struct Known {
    pub(crate) since: Timestamp,
    pub(crate) slices: Vec<Slice>,
    pub(crate) failures: Vec<(FailureKind, u64)>,
    /// For each task all of its runs, and their number in each slice.
    pub(crate) tasks: HashMap<TaskName, (Tally, Vec<u64>)>,
}

const MINUTE_MS: u64 = 60_000;
const MINUTES_KEPT: u64 = 24 * 60;
/// Tasks that are counted in one minute; further ones are not.
const TASKS_MAX: usize = 500;

impl Stats {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Counted { since: SystemClock.now(), minutes: VecDeque::new() })))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a run.
    pub(crate) fn count(&self, record: &RunRecord) {
        let (Some(task), Some(_ran)) = (&record.task, record.digest) else { return };
        let number = record.timestamp.ms() / MINUTE_MS;
        let mut counted = self.counted();
        let minutes = &mut counted.minutes;
        if minutes.back().is_none_or(|minute| minute.number < number) {
            minutes.push_back(Minute { number, tasks: HashMap::new() });
            while minutes.front().is_some_and(|minute| minute.number + MINUTES_KEPT < number) {
                minutes.pop_front();
            }
        }
        let Some(minute) = minutes.back_mut() else { return };
        if let Some(tally) = minute.tasks.get_mut(task) {
            tally.add(record);
        } else if minute.tasks.len() < TASKS_MAX {
            minute.tasks.entry(task.clone()).or_default().add(record);
        }
    }

    /// What is known of a span of time that ends now.
    pub(crate) fn of(&self, span: Span, now: Timestamp) -> Known {
        let per_slice = span.slice().as_secs() / 60;
        let last = now.ms() / MINUTE_MS;
        let first = last + 1 - per_slice * Span::SLICES as u64;
        let mut slices = vec![Tally::default(); Span::SLICES];
        let mut tasks: HashMap<TaskName, (Tally, Vec<u64>)> = HashMap::new();
        let counted = self.counted();
        for Minute { number, tasks: of_minute } in &counted.minutes {
            if *number < first || *number > last {
                continue;
            }
            let slice = ((number - first) / per_slice) as usize;
            for (task, tally) in of_minute {
                slices[slice].merge(tally);
                let (whole, by_slice) =
                    tasks.entry(task.clone()).or_insert_with(|| (Tally::default(), vec![0; Span::SLICES]));
                whole.merge(tally);
                by_slice[slice] += tally.succeeded + tally.failed;
            }
        }
        let mut whole = Tally::default();
        slices.iter().for_each(|slice| whole.merge(slice));
        whole.kinds.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
        let slices = slices.iter().map(|slice| Slice {
            succeeded: slice.succeeded,
            failed: slice.failed,
            wait: slice.wait.quantiles(),
            run: slice.run.quantiles(),
        });
        Known { since: counted.since, slices: slices.collect(), failures: whole.kinds, tasks }
    }
}

impl Tally {
    fn add(&mut self, record: &RunRecord) {
        match record.outcome {
            RunOutcome::Success => self.succeeded += 1,
            RunOutcome::Failure => self.failed += 1,
        }
        if let Some(kind) = record.kind {
            self.add_kind(kind, 1);
        }
        // The wait of a later attempt is the task's own backoff.
        if let Some(queued) = record.queued_ms.filter(|_| record.attempt == 1) {
            self.wait.add(queued, 1);
        }
        self.run.add(record.run_ms, 1);
    }

    fn add_kind(&mut self, kind: FailureKind, number: u64) {
        match self.kinds.iter_mut().find(|(found, _)| *found == kind) {
            Some((_, count)) => *count += number,
            None => self.kinds.push((kind, number)),
        }
    }

    fn merge(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        other.kinds.iter().for_each(|(kind, number)| self.add_kind(*kind, *number));
        self.wait.merge(&other.wait);
        self.run.merge(&other.run);
    }

    /// How long the runs took.
    pub(crate) fn run(&self) -> Option<Quantiles> {
        self.run.quantiles()
    }
}

/// Durations in buckets, each 19 % wider than the one before.
#[derive(Clone, Debug, Default)]
struct Histogram(Vec<(u8, u64)>);

/// The shortest duration that is told from shorter ones, in milliseconds.
const SHORTEST_MS: f64 = 0.01;
/// Buckets for each doubling.
const BUCKETS: f64 = 4.0;

impl Histogram {
    fn add(&mut self, ms: f64, number: u64) {
        let bucket = ((ms.max(SHORTEST_MS) / SHORTEST_MS).log2() * BUCKETS) as u8;
        self.add_bucket(bucket, number);
    }

    fn add_bucket(&mut self, bucket: u8, number: u64) {
        match self.0.binary_search_by_key(&bucket, |(found, _)| *found) {
            Ok(at) => self.0[at].1 += number,
            Err(at) => self.0.insert(at, (bucket, number)),
        }
    }

    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(bucket, number)| self.add_bucket(*bucket, *number));
    }

    fn quantiles(&self) -> Option<Quantiles> {
        let all: u64 = self.0.iter().map(|(_, number)| number).sum();
        let at = |part: f64| {
            let wanted = (all as f64 * part).ceil() as u64;
            let mut seen = 0;
            let bucket = self.0.iter().find(|(_, number)| {
                seen += number;
                seen >= wanted
            });
            bucket.map(|(bucket, _)| SHORTEST_MS * 2_f64.powf((f64::from(*bucket) + 0.5) / BUCKETS))
        };
        Some(Quantiles { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)? })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn quantiles_are_exact_to_a_tenth() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), None);
        (1..=1000).for_each(|ms| histogram.add(f64::from(ms), 1));
        let Quantiles { p50, p95, p99 } = histogram.quantiles().expect("there are some");
        for (found, expected) in [(p50, 500.0), (p95, 950.0), (p99, 990.0)] {
            assert!((found / expected - 1.0).abs() < 0.1, "{found} is not {expected}");
        }
        let mut long = Histogram::default();
        long.add(14.0 * 60_000.0, 1);
        long.add(0.0, 1);
        assert!(long.quantiles().expect("two").p99 > 700_000.0);
    }

    #[test]
    fn a_run_is_counted_in_its_slice() {
        let stats = Stats::new();
        let record = |ago: u64, outcome: &str| -> RunRecord {
            let at = SystemClock.now().minus(Duration::from_secs(ago * 60));
            let mut record = serde_json::json!({
                "timestamp": at, "level": "INFO", "message": "done", "task": "hello", "id": "a", "attempt": 1,
                "outcome": outcome, "then": "done", "queued_ms": 5.0, "place_ms": 0.0, "load_ms": 0.0, "run_ms": 10.0,
                "acknowledge_ms": 0.0, "peak_memory_bytes": 1, "digest": "0".repeat(64),
            });
            if outcome == "failure" {
                record["kind"] = "trap".into();
            }
            serde_json::from_value(record).expect("a record")
        };
        for (ago, outcome) in [(90, "success"), (30, "success"), (0, "failure"), (0, "success")] {
            stats.count(&record(ago, outcome));
        }
        let hour = stats.of(Span::Hour, SystemClock.now());
        assert_eq!(hour.slices.len(), Span::SLICES);
        let last = hour.slices.last().expect("the current minute");
        assert_eq!((last.succeeded, last.failed), (1, 1));
        assert_eq!(hour.slices.iter().map(|slice| slice.succeeded).sum::<u64>(), 2);
        assert_eq!(hour.failures, [(FailureKind::Trap, 1)]);
        let (tally, by_slice) = &hour.tasks[&"hello".parse::<TaskName>().expect("a name")];
        assert_eq!((tally.succeeded, tally.failed, by_slice.iter().sum::<u64>()), (2, 1, 3));
        let day = stats.of(Span::Day, SystemClock.now());
        assert_eq!(day.slices.iter().map(|slice| slice.succeeded).sum::<u64>(), 3);
    }
}
