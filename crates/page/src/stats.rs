//! How the runs of the last day went: a few counters for each task and slice of time, in memory.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wasq_protocol::{
    FailureKind, MessageCounts, Overview, OverviewSlice, Quantiles, RunItem, TaskLoad, TaskName, Timestamp,
};

use crate::data::{Span, Task};

/// The counters. Cheap to clone; clones count together.
#[derive(Clone)]
pub struct Stats(Arc<Mutex<Counted>>);

struct Counted {
    since: Timestamp,
    /// The slices of the last hour, and those of the last day.
    hour: Ring,
    day: Ring,
}

/// The slices of a span in which runs ended, oldest first.
struct Ring {
    span: Span,
    buckets: VecDeque<Bucket>,
}

struct Bucket {
    /// Slices since 1970.
    number: u64,
    tasks: HashMap<TaskName, Tally>,
}

/// The runs of one task in one slice, or of more of both.
#[derive(Clone, Debug, Default)]
struct Tally {
    succeeded: u64,
    failed: u64,
    kinds: Vec<(FailureKind, u64)>,
    wait: Histogram,
    run: Histogram,
}

/// A run that ended.
#[derive(Clone, Debug)]
pub struct EndedRun<'a> {
    /// Its task.
    pub task: &'a TaskName,
    /// When it ended.
    pub ended: Timestamp,
    /// The kind of failure; none if it succeeded.
    pub kind: Option<FailureKind>,
    /// From the send of its message to its begin, in milliseconds, if it was the first attempt.
    pub wait_ms: Option<f64>,
    /// How long it took, in milliseconds.
    pub run_ms: f64,
}

impl<'a> EndedRun<'a> {
    /// The attempts that ended, as far as the item of their message knows them.
    pub fn all_of(item: &'a RunItem) -> impl Iterator<Item = Self> {
        // The wait of a later attempt is the task's own backoff.
        let wait_ms =
            item.started.zip(item.sent).map(|(started, sent)| started.since(sent).as_secs_f64() * 1000.0);
        let of = move |task: &'a TaskName| {
            item.history.iter().map(move |end| Self {
                task,
                ended: end.ended,
                kind: end.kind,
                wait_ms: wait_ms.filter(|_| end.attempt == 1),
                run_ms: end.run_ms,
            })
        };
        item.task.iter().flat_map(of)
    }
}

/// The runs of a span of time.
struct Known {
    slices: Vec<OverviewSlice>,
    failures: Vec<(FailureKind, u64)>,
    /// For each task all of its runs, and their number in each slice.
    tasks: HashMap<TaskName, (Tally, Vec<u64>)>,
}

/// Tasks that are counted in one slice; further ones are not.
const TASKS_MAX: usize = 500;

impl Stats {
    /// Counters of the runs that end after `since`.
    pub fn since(since: Timestamp) -> Self {
        let ring = |span| Ring { span, buckets: VecDeque::new() };
        let counted = Counted { since, hour: ring(Span::Hour), day: ring(Span::Day) };
        Self(Arc::new(Mutex::new(counted)))
    }

    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a run that ends now.
    pub fn count(&self, run: &EndedRun<'_>) {
        let mut counted = self.counted();
        counted.hour.count(run);
        counted.day.count(run);
    }

    /// Counts a run that has ended before. The order does not matter.
    pub fn count_earlier(&self, run: &EndedRun<'_>) {
        let mut counted = self.counted();
        counted.hour.count_earlier(run);
        counted.day.count_earlier(run);
    }

    /// From now on, the runs since this time are counted.
    pub fn set_since(&self, since: Timestamp) {
        self.counted().since = since;
    }

    /// The state of the whole over a span of time that ends now.
    pub fn overview(&self, span: Span, now: Timestamp, counts: MessageCounts, tasks: Vec<Task>) -> Overview {
        let (since, Known { slices, failures, tasks: mut known }) = {
            let counted = self.counted();
            let ring = match span {
                Span::Hour => &counted.hour,
                Span::Day => &counted.day,
            };
            (counted.since, ring.known(now))
        };
        let load = |Task { name, record, rejected }: Task| {
            let (tally, by_slice) =
                known.remove(&name).unwrap_or_else(|| (Tally::default(), vec![0; Span::SLICES]));
            TaskLoad {
                live: record.is_some_and(|record| record.removed.is_none()),
                refused: rejected.is_some_and(|rejected| !rejected.fault),
                succeeded: tally.succeeded,
                failed: tally.failed,
                run: tally.run.quantiles(),
                by_slice,
                task: name,
            }
        };
        let tasks = tasks.into_iter().map(load).collect();
        Overview { counts, since, slices, failures, tasks, paused: None, note: None }
    }
}

impl Ring {
    fn number(&self, at: Timestamp) -> u64 {
        at.ms() / 1000 / self.span.slice().as_secs()
    }

    fn count(&mut self, run: &EndedRun<'_>) {
        let number = self.number(run.ended);
        // If the clock was set back, the slices that lie in the future now are wrong.
        while self.buckets.back().is_some_and(|bucket| bucket.number > number + 1) {
            self.buckets.pop_back();
        }
        if self.buckets.back().is_none_or(|bucket| bucket.number < number) {
            self.buckets.push_back(Bucket { number, tasks: HashMap::new() });
            while self.buckets.len() > Span::SLICES {
                self.buckets.pop_front();
            }
        }
        if let Some(bucket) = self.buckets.back_mut() {
            bucket.add(run);
        }
    }

    fn count_earlier(&mut self, run: &EndedRun<'_>) {
        let number = self.number(run.ended);
        let at = self.buckets.partition_point(|bucket| bucket.number < number);
        if let Some(bucket) = self.buckets.get_mut(at).filter(|bucket| bucket.number == number) {
            bucket.add(run);
            return;
        }
        if at == 0 && self.buckets.len() >= Span::SLICES {
            return;
        }
        let mut bucket = Bucket { number, tasks: HashMap::new() };
        bucket.add(run);
        self.buckets.insert(at, bucket);
        while self.buckets.len() > Span::SLICES {
            self.buckets.pop_front();
        }
    }

    fn known(&self, now: Timestamp) -> Known {
        let last = self.number(now);
        let first = (last + 1).saturating_sub(Span::SLICES as u64);
        let mut slices = vec![Tally::default(); Span::SLICES];
        let mut tasks: HashMap<TaskName, (Tally, Vec<u64>)> = HashMap::new();
        for Bucket { number, tasks: of_slice } in &self.buckets {
            if *number < first || *number > last {
                continue;
            }
            let slice = (number - first) as usize;
            for (task, tally) in of_slice {
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
        let slices = slices.iter().map(|slice| OverviewSlice {
            succeeded: slice.succeeded,
            failed: slice.failed,
            wait: slice.wait.quantiles(),
            run: slice.run.quantiles(),
        });
        Known { slices: slices.collect(), failures: whole.kinds, tasks }
    }
}

impl Bucket {
    fn add(&mut self, run: &EndedRun<'_>) {
        if let Some(tally) = self.tasks.get_mut(run.task) {
            tally.add(run);
        } else if self.tasks.len() < TASKS_MAX {
            self.tasks.entry(run.task.clone()).or_default().add(run);
        }
    }
}

impl Tally {
    fn add(&mut self, run: &EndedRun<'_>) {
        match run.kind {
            None => self.succeeded += 1,
            Some(kind) => {
                self.failed += 1;
                self.add_kind(kind, 1);
            }
        }
        if let Some(wait) = run.wait_ms {
            self.wait.add(wait, 1);
        }
        self.run.add(run.run_ms, 1);
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

    fn count(stats: &Stats, ended: Timestamp, kind: Option<FailureKind>) {
        let task = "hello".parse().expect("a name");
        stats.count(&EndedRun { task: &task, ended, kind, wait_ms: Some(5.0), run_ms: 10.0 });
    }

    fn over(stats: &Stats, span: Span) -> Overview {
        let name = "hello".parse().expect("a name");
        stats.overview(
            span,
            noon(),
            MessageCounts::default(),
            vec![Task { name, record: None, rejected: None }],
        )
    }

    fn noon() -> Timestamp {
        "2026-11-26T12:34:56Z".parse().expect("a time")
    }

    #[test]
    fn a_run_is_counted_in_its_slice() {
        let (stats, now) = (Stats::since(noon()), noon());
        for (ago, kind) in [(90, None), (30, None), (0, Some(FailureKind::Trap)), (0, None)] {
            count(&stats, now.minus(Duration::from_secs(ago * 60)), kind);
        }
        let hour = over(&stats, Span::Hour);
        assert_eq!(hour.slices.len(), Span::SLICES);
        let last = hour.slices.last().expect("the current minute");
        assert_eq!((last.succeeded, last.failed), (1, 1));
        assert_eq!(hour.slices.iter().map(|slice| slice.succeeded).sum::<u64>(), 2);
        assert_eq!(hour.failures, [(FailureKind::Trap, 1)]);
        let task = &hour.tasks[0];
        assert_eq!((task.succeeded, task.failed, task.by_slice.iter().sum::<u64>()), (2, 1, 3));
        let day = over(&stats, Span::Day);
        assert_eq!(day.slices.iter().map(|slice| slice.succeeded).sum::<u64>(), 3);
    }

    #[test]
    fn earlier_runs_are_counted_in_any_order() {
        let (stats, now) = (Stats::since(noon()), noon());
        count(&stats, now, None);
        let task = "hello".parse().expect("a name");
        for minutes in [59, 3, 0, 30, 3, 90, 1500] {
            let ended = now.minus(Duration::from_secs(minutes * 60));
            let run = EndedRun { task: &task, ended, kind: None, wait_ms: None, run_ms: 10.0 };
            stats.count_earlier(&run);
        }
        let all = |span| over(&stats, span).slices.iter().map(|slice| slice.succeeded).sum::<u64>();
        assert_eq!((all(Span::Hour), all(Span::Day)), (6, 7));
        assert_eq!(over(&stats, Span::Hour).slices[56].succeeded, 2);
        // A run that ends afterwards is counted as ever.
        count(&stats, now, None);
        assert_eq!(over(&stats, Span::Hour).slices.last().map(|slice| slice.succeeded), Some(3));
    }

    #[test]
    fn a_clock_that_was_wrong_is_forgotten() {
        let (stats, now) = (Stats::since(noon()), noon());
        count(&stats, now.plus(Duration::from_secs(3600 * 24 * 365)), None);
        count(&stats, now, None);
        assert_eq!(over(&stats, Span::Hour).slices.last().map(|slice| slice.succeeded), Some(1));
    }
}
