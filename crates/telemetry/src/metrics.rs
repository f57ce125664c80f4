//! From records to metrics. Each export has what happened since the one before.

use std::collections::BTreeMap;
use std::sync::Arc;

use wasq_protocol::RunRecord;

use crate::otlp::{Data, Histogram, HistogramPoint, KeyValue, Metric, NumberPoint, Sum, Temporality};
use crate::spans::{has_ended, then};

/// The bounds of the buckets, in seconds.
const BOUNDS: [f64; 14] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0];

/// The attributes of a point: the values of `wasq.task` and of one other key.
type Key<'a> = (&'a str, &'a str);

/// The metrics of records; none of no records. Times are in nanoseconds since 1970.
pub(crate) fn metrics(records: &[Arc<RunRecord>], start: u64, time: u64) -> Vec<Metric> {
    let mut runs: BTreeMap<Key<'_>, Buckets> = BTreeMap::new();
    let mut waits: BTreeMap<Key<'_>, Buckets> = BTreeMap::new();
    let mut ends: BTreeMap<Key<'_>, i64> = BTreeMap::new();
    for record in records {
        let task = record.task.as_ref().map_or("", |task| task.as_str());
        if record.digest.is_some() {
            let outcome = record.kind.map_or("success", |kind| kind.as_str());
            runs.entry((task, outcome)).or_default().add(record.run_ms / 1000.0);
            // The wait of a later attempt is the task's own backoff.
            if let Some(queued) = record.queued_ms.filter(|_| record.attempt == 1) {
                waits.entry((task, "")).or_default().add(queued / 1000.0);
            }
        }
        if has_ended(record) && record.message_id.is_some() {
            *ends.entry((task, then(record.then))).or_default() += 1;
        }
    }
    let histogram = |name: &str, description: &str, key: &str, all: BTreeMap<Key<'_>, Buckets>| Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: "s".to_owned(),
        data: Some(Data::Histogram(Histogram {
            points: all
                .into_iter()
                .map(|(of, buckets)| buckets.point(attributes(of, key), start, time))
                .collect(),
            temporality: Temporality::Delta.into(),
        })),
    };
    let points = ends.into_iter().map(|(of, number)| NumberPoint {
        attributes: attributes(of, "wasq.then"),
        start,
        time,
        value: Some(number),
    });
    let ended = Metric {
        name: "wasq.message.ended".to_owned(),
        description: "Messages that ended, by how they did.".to_owned(),
        unit: "{message}".to_owned(),
        data: Some(Data::Sum(Sum {
            points: points.collect(),
            temporality: Temporality::Delta.into(),
            is_monotonic: true,
        })),
    };
    let metrics = [
        histogram("wasq.run.duration", "How long runs took.", "wasq.outcome", runs),
        histogram("wasq.message.wait", "From the send of a message to its first run.", "", waits),
        ended,
    ];
    metrics.into_iter().filter(|metric| !is_empty(metric)).collect()
}

fn is_empty(metric: &Metric) -> bool {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.points.is_empty(),
        Some(Data::Histogram(histogram)) => histogram.points.is_empty(),
        None => true,
    }
}

fn attributes((task, value): Key<'_>, key: &str) -> Vec<KeyValue> {
    let pairs = [("wasq.task", task), (key, value)];
    pairs
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| KeyValue::text(key, value))
        .collect()
}

/// Durations in buckets.
#[derive(Default)]
struct Buckets {
    counts: [u64; BOUNDS.len() + 1],
    sum: f64,
}

impl Buckets {
    fn add(&mut self, seconds: f64) {
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.counts[bucket] += 1;
        self.sum += seconds;
    }

    fn point(self, attributes: Vec<KeyValue>, start: u64, time: u64) -> HistogramPoint {
        HistogramPoint {
            attributes,
            start,
            time,
            count: self.counts.iter().sum(),
            sum: Some(self.sum),
            bucket_counts: self.counts.to_vec(),
            bounds: BOUNDS.to_vec(),
        }
    }
}
