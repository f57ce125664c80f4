//! Decides whether a message has ended as promised, by the records of its runs, the dead letters and the table of runs.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use wasq_protocol::{FailureKind, ItemState, RunItem, RunRecord, Then, Timestamp};

use crate::verify::probe::{Expected, Probe};

/// A dead letter of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    pub(super) kind: Option<FailureKind>,
    pub(super) reason: String,
}

/// The traces that this check's messages have left.
#[derive(Default)]
pub(super) struct Traces {
    /// The records of their runs, oldest first.
    pub(super) records: Vec<RunRecord>,
    /// Their dead letters, by their ids.
    pub(super) dead: HashMap<String, Dead>,
    /// Items of the table of runs, by their ids: of messages whose records are late, and of their children. A record is lost if its
    /// worker dies between the delete of the message and the record; the log of a stand-in for AWS loses lines under load.
    pub(super) items: HashMap<String, RunItem>,
}

/// The times of a run.
struct Ran {
    begun: Timestamp,
    ended: Timestamp,
}

impl Ran {
    fn new(ended: Timestamp, run_ms: f64) -> Self {
        Self { begun: ended.minus(Duration::from_secs_f64(run_ms / 1000.0)), ended }
    }
}

/// Judges a message. `None`: it has not ended yet, as far as can be seen.
pub(super) fn judge(probe: &Probe, traces: &Traces) -> Option<Result<String>> {
    let Traces { records, dead, items } = traces;
    let (dead, item) = (dead.get(&probe.id), items.get(&probe.id));
    let own: Vec<_> = records.iter().filter(|record| record.id == probe.id).collect();
    let done = own.iter().rfind(|record| record.then == Then::Done);
    let given_up = own.iter().rfind(|record| record.then == Then::DeadLetter);
    let recorded = own.iter().filter(|record| record.digest.is_some());
    let recorded: Vec<_> = recorded.map(|record| Ran::new(record.timestamp, record.run_ms)).collect();
    let history = item.iter().flat_map(|item| &item.history);
    let remembered: Vec<_> = history.map(|end| Ran::new(end.ended, end.run_ms)).collect();
    let is_missing = remembered.len() > recorded.len();
    let ran = if is_missing { remembered } else { recorded };
    let is_done = done.is_some() || item.is_some_and(|item| item.state == ItemState::Done);
    match (probe.expected, dead) {
        (Expected::Done { .. } | Expected::Parent { .. }, Some(Dead { kind, reason })) => {
            Some(Err(anyhow!("it became a dead letter: {}: {reason}", word(*kind))))
        }
        (Expected::Done { .. } | Expected::Parent { .. }, None) if given_up.is_some() => {
            let message = given_up.map_or("", |record| &record.message);
            Some(Err(anyhow!("it became a dead letter: {message}")))
        }
        (Expected::Dead { .. }, None) => {
            is_done.then(|| Err(anyhow!("it succeeded, and should have become a dead letter")))
        }
        (Expected::Dead { kind, runs }, Some(found)) => {
            if found.kind != Some(kind) {
                return Some(Err(anyhow!(
                    "it is a dead letter of the kind {}: {}",
                    word(found.kind),
                    found.reason
                )));
            }
            counted(ran.len(), runs)
        }
        (Expected::Parent { children }, None) if is_done => {
            let child = |id: &str| items.get(id).is_some_and(|child| child.state == ItemState::Done);
            let remembered = item.iter().flat_map(|item| &item.children).filter(|of| child(&of.id));
            let mut seen: Vec<_> = records
                .iter()
                .filter(|record| record.parent.as_ref() == Some(&probe.id) && record.then == Then::Done)
                .map(|record| &record.id)
                .chain(remembered.map(|child| &child.id))
                .collect();
            seen.sort();
            seen.dedup();
            (seen.len() >= children).then(|| match seen.len() {
                seen if seen == children => {
                    let parent = done.map_or_else(|| MISSING.to_owned(), |parent| times(parent));
                    Ok(format!("{parent}, and {seen} children"))
                }
                seen => Err(anyhow!("{seen} children ran, and the task sent {children}")),
            })
        }
        (Expected::Parent { .. }, None) => None,
        (Expected::Done { runs, apart }, None) if is_done => {
            // The table knows every run.
            if let Some(item) = item.filter(|item| item.state == ItemState::Done && item.history.len() < runs)
            {
                let ran = item.history.len();
                return Some(Err(anyhow!(
                    "it succeeded in run {ran}, and should have succeeded in run {runs}"
                )));
            }
            // Its end is remembered, as its last record says, and the record of that run is not there.
            let last_is_missing = done.is_some_and(|last| last.digest.is_none()) && ran.len() + 1 == runs;
            if ran.len() < runs && !last_is_missing {
                return None;
            }
            Some(in_time(probe, &ran, apart).and_then(|()| match (ran.len(), done) {
                (count, _) if count > runs => Err(ran_more(count, runs)),
                (_, Some(last)) if !is_missing && !last_is_missing => Ok(times(last)),
                _ => Ok(MISSING.to_owned()),
            }))
        }
        (Expected::Done { .. }, None) => None,
    }
}

/// The detail of a row whose message is known to be done although a record is missing.
pub(super) const MISSING: &str = "done; the record of a run is missing";

/// A dead letter after `count` runs; some of their records may be missing yet.
fn counted(count: usize, expected: usize) -> Option<Result<String>> {
    match count {
        count if count < expected => None,
        count if count == expected => Some(Ok(match count {
            0 => String::new(),
            1 => "1 run".to_owned(),
            count => format!("{count} runs"),
        })),
        count => Some(Err(ran_more(count, expected))),
    }
}

fn ran_more(count: usize, expected: usize) -> anyhow::Error {
    anyhow!(
        "it ran {count} times, and should have run {expected} times; SQS itself delivers a message twice at times: if this row stays, look at the leases"
    )
}

/// Whether no run began too early.
fn in_time(probe: &Probe, ran: &[Ran], apart: Duration) -> Result<()> {
    if let (Some(not_before), Some(first)) = (probe.not_before, ran.first())
        && first.begun < not_before
    {
        bail!("it ran at {}, and should not have run before {not_before}", first.begun);
    }
    for [one, two] in ran.array_windows() {
        let gap = two.begun.since(one.ended);
        if gap < apart {
            bail!(
                "the next attempt came after {} ms, and should have come {} s later",
                gap.as_millis(),
                apart.as_secs()
            );
        }
    }
    Ok(())
}

/// The times of a run, as the table shows them.
pub(super) fn times(record: &RunRecord) -> String {
    let RunRecord { queued_ms, load_ms, run_ms, .. } = record;
    let queued = queued_ms.unwrap_or_default();
    format!("{queued:.0} ms until a slot, {load_ms:.1} ms to load, {run_ms:.1} ms to run")
}

fn word(kind: Option<FailureKind>) -> &'static str {
    kind.map_or("redrive-policy", FailureKind::as_str)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::{Value, json};
    use wasq_protocol::{FailureKind, RunItem, RunRecord};

    use super::{Dead, Traces, judge};
    use crate::verify::probe::{Expected, Probe};

    fn record(id: &str, at: &str, then: &str, more: Value) -> RunRecord {
        let mut record = json!({
            "timestamp": format!("2026-11-26T10:00:{at}Z"), "level": "INFO", "message": "", "id": id, "attempt": 1,
            "outcome": "success", "then": then, "place_ms": 0.0, "load_ms": 1.0, "run_ms": 0.0,
            "acknowledge_ms": 0.0, "peak_memory_bytes": 0,
            "digest": "0".repeat(64),
        });
        record.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(record).unwrap()
    }

    fn probe(expected: Expected) -> Probe {
        Probe::new("a promise", "p", "x", "n", expected)
    }

    /// The item of a message whose runs ended at these seconds.
    fn item(id: &str, state: &str, ends: &[&str], more: Value) -> RunItem {
        let end = |at: &&str| json!({ "attempt": 1, "ended": format!("2026-11-26T10:00:{at}Z"), "run_ms": 0.0, "peak_memory_bytes": 0 });
        let mut item = json!({
            "id": id, "revision": "1", "state": state, "attempts": 1, "updated": "2026-11-26T10:00:00Z", "expires": 0,
            "history": ends.iter().map(end).collect::<Vec<_>>(),
        });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(item).unwrap()
    }

    #[track_caller]
    fn check(
        expected: Expected,
        records: &[RunRecord],
        dead: Option<FailureKind>,
        judged: Option<Result<&str, &str>>,
    ) {
        check_with(expected, records, dead, &[], judged);
    }

    #[track_caller]
    fn check_with(
        expected: Expected,
        records: &[RunRecord],
        dead: Option<FailureKind>,
        items: &[RunItem],
        judged: Option<Result<&str, &str>>,
    ) {
        let dead = dead.map(|kind| Dead { kind: Some(kind), reason: "why".to_owned() });
        let traces = Traces {
            records: records.to_vec(),
            dead: dead.map(|dead| ("p-x".to_owned(), dead)).into_iter().collect(),
            items: items.iter().map(|item| (item.id.clone(), item.clone())).collect(),
        };
        let found = judge(&probe(expected), &traces);
        match (found, judged) {
            (None, None) => {}
            (Some(Ok(found)), Some(Ok(words))) => assert!(found.contains(words), "{found}"),
            (Some(Err(found)), Some(Err(words))) => assert!(found.to_string().contains(words), "{found}"),
            (found, judged) => panic!("{found:?}, and not {judged:?}"),
        }
    }

    const ONCE: Expected = Expected::Done { runs: 1, apart: Duration::ZERO };
    const LATER: Expected = Expected::Done { runs: 2, apart: Duration::from_secs(8) };
    const REJECTED: Expected = Expected::Dead { kind: FailureKind::Reject, runs: 1 };

    #[test]
    fn a_message_that_must_succeed() {
        let done = record("p-x", "05", "done", json!({}));
        check(ONCE, &[], None, None);
        check(ONCE, &[record("other", "05", "done", json!({}))], None, None);
        check(ONCE, std::slice::from_ref(&done), None, Some(Ok("1.0 ms to load")));
        check(ONCE, &[done.clone(), done.clone()], None, Some(Err("it ran 2 times")));
        check(ONCE, &[done], Some(FailureKind::Trap), Some(Err("dead letter: trap: why")));
        let given_up = record("p-x", "05", "dead-letter", json!({ "message": "it trapped" }));
        check(ONCE, &[given_up], None, Some(Err("it became a dead letter: it trapped")));
        // Its worker died when it had deleted nothing yet and logged nothing: the message came again.
        let before =
            record("p-x", "15", "done", json!({ "digest": null, "message": "done before: not run again" }));
        check(ONCE, &[before], None, Some(Ok("the record of a run is missing")));
    }

    #[test]
    fn a_message_whose_record_is_lost() {
        let item = |state: &str, ends: &[&str]| [item("p-x", state, ends, json!({}))];
        let missing = Some(Ok("the record of a run is missing"));
        check_with(ONCE, &[], None, &item("done", &["05"]), missing);
        check_with(ONCE, &[], None, &item("done", &["05", "06"]), Some(Err("it ran 2 times")));
        check_with(ONCE, &[], None, &item("running", &[]), None);
        let again = record("p-x", "15", "done", json!({ "digest": null }));
        check_with(LATER, &[again], None, &item("done", &["05"]), Some(Err("it succeeded in run 1")));
        let first = record("p-x", "05", "retry", json!({}));
        check_with(LATER, std::slice::from_ref(&first), None, &item("done", &["05", "14"]), missing);
        check_with(LATER, &[first], None, &item("done", &["05", "10"]), Some(Err("came after 5000 ms")));

        let dead = Some(FailureKind::Reject);
        check_with(REJECTED, &[], dead, &item("dead", &["05"]), Some(Ok("1 run")));
        check_with(REJECTED, &[], dead, &item("dead", &["05", "06"]), Some(Err("it ran 2 times")));
        check_with(REJECTED, &[], None, &item("dead", &["05"]), None);
        check_with(REJECTED, &[], None, &item("done", &["05"]), Some(Err("it succeeded")));
        // Its runs were cut off: none of them ended.
        let killed = Expected::Dead { kind: FailureKind::KilledWorker, runs: 0 };
        check_with(killed, &[], Some(FailureKind::KilledWorker), &item("dead", &[]), Some(Ok("")));
    }

    #[test]
    fn a_parent_and_children_whose_records_are_lost() {
        let children = json!({ "children": [{ "id": "a", "task": "t" }, { "id": "b", "task": "t" }] });
        let parent = item("p-x", "done", &["05"], children);
        let child = |id: &str, state: &str| item(id, state, &["06"], json!({}));
        let expected = Expected::Parent { children: 2 };
        let record_of_a = record("a", "06", "done", json!({ "parent": "p-x" }));
        let running = [parent.clone(), child("b", "running")];
        check_with(expected, std::slice::from_ref(&record_of_a), None, &running, None);
        check_with(expected, &[record_of_a], None, &[parent, child("b", "done")], Some(Ok("2 children")));
    }

    #[test]
    fn a_second_attempt_must_not_come_too_early() {
        let first = record("p-x", "05", "retry", json!({}));
        let second = |at| record("p-x", at, "done", json!({}));
        check(LATER, std::slice::from_ref(&first), None, None);
        check(LATER, &[first.clone(), second("10")], None, Some(Err("came after 5000 ms")));
        check(LATER, &[first, second("14")], None, Some(Ok("ms to run")));
    }

    #[test]
    fn a_message_that_must_become_a_dead_letter() {
        let ran = record("p-x", "05", "dead-letter", json!({}));
        check(REJECTED, std::slice::from_ref(&ran), None, None);
        check(REJECTED, &[], Some(FailureKind::Reject), None);
        check(REJECTED, std::slice::from_ref(&ran), Some(FailureKind::Reject), Some(Ok("1 run")));
        check(REJECTED, &[ran], Some(FailureKind::Retry), Some(Err("of the kind retry")));
        check(REJECTED, &[record("p-x", "05", "done", json!({}))], None, Some(Err("it succeeded")));
    }

    #[test]
    fn a_parent_and_its_children() {
        let parent = record("p-x", "05", "done", json!({}));
        let child = |id: &str| record(id, "06", "done", json!({ "parent": "p-x" }));
        let expected = Expected::Parent { children: 2 };
        check(expected, &[parent.clone(), child("a"), child("a")], None, None);
        check(expected, &[parent.clone(), child("a"), child("b")], None, Some(Ok("2 children")));
        check(expected, &[parent, child("a"), child("b"), child("c")], None, Some(Err("3 children ran")));
    }
}
