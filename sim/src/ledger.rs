//! What happened to every message, and whether it may have happened.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use wasq_protocol::{FailureKind, Timestamp};

use crate::script::Script;
use crate::world::MAX_ATTEMPTS;

/// Everything that is known of every message, by the message's own id.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    violations: Vec<String>,
    /// The longest that a message waited for its first run, of those that were to run at once.
    pub slowest_start: Duration,
    /// The latest time for which a message was meant.
    pub latest: Option<Timestamp>,
}

/// What happened to one message.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// What its task was told to do; `None` if no task can run it.
    pub script: Option<Script>,
    /// How often the queue accepted it.
    pub copies: u32,
    /// Runs that were begun.
    pub starts: u32,
    /// Runs that are under way.
    running: u32,
    /// Runs that ended in a failure.
    pub failures: u32,
    /// Runs that ended in success.
    pub successes: u32,
    /// Runs that began while another one was under way.
    pub overlaps: u32,
    /// How often it was moved to the dead-letter queue, and why: `None` is the queue's own redrive policy.
    pub dead: Vec<Option<FailureKind>>,
    /// Faults of the surroundings that hit it. Each may cost one run.
    pub faults: u32,
    /// It may have been sent before its task was published.
    early: bool,
    /// The children that its last success wanted sent.
    children: BTreeSet<String>,
    not_before: Option<Timestamp>,
    accepted: Option<Timestamp>,
    /// What happened to it, and when.
    story: Vec<(Timestamp, &'static str)>,
}

impl fmt::Display for Entry {
    /// In short: what it was to do, what came of it, and how it went on in the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { script, copies, starts, failures, successes, overlaps, dead, faults, story, .. } = self;
        write!(
            f,
            "{script:?}: {copies} copies, {faults} faults, {starts} runs ({failures} failed, {successes} succeeded, \
             {overlaps} overlapped), {} times dead-lettered",
            dead.len()
        )?;
        let begin = story.first().map(|(at, _)| *at);
        let last = &story[story.len().saturating_sub(STORY_SHOWN)..];
        for (at, what) in last {
            write!(f, "; {what} at {:.3} s", at.since(begin.unwrap_or(*at)).as_secs_f64())?;
        }
        Ok(())
    }
}

/// Events of a message's story that are shown with a violation.
const STORY_SHOWN: usize = 16;

/// What all messages come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that the queue accepted; a message that was sent twice counts once.
    pub accepted: u64,
    /// Of these, sent by tasks.
    pub children: u64,
    /// Messages that ended in success.
    pub succeeded: u64,
    /// Messages that ended in the dead-letter queue only.
    pub dead: u64,
    /// Messages that ended nowhere.
    pub lost: u64,
    /// Runs that were begun.
    pub runs: u64,
    /// Runs that were cut off by the end of their worker.
    pub cut_off: u64,
    /// Failed runs beyond the limit that the task has.
    pub beyond_limit: u64,
    /// Runs of a message that had succeeded already, or that another worker was running.
    pub duplicates: u64,
    /// Messages that a healthy task never got to finish, by the queue's own redrive policy.
    pub redriven: u64,
}

/// A message that the queue accepted.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// What its task is told to do; `None` if there is no such task, or may be none.
    pub script: Option<Script>,
    /// When it was accepted.
    pub at: Option<Timestamp>,
    /// When it may run.
    pub not_before: Option<Timestamp>,
    /// It may have been sent before its task was published.
    pub early: bool,
}

/// How many more runs a message may have that had to wait for its task to be published: the worker can only estimate
/// how many of its receives were spent on that.
const GRACE_SLACK: u32 = 2;

impl Ledger {
    /// The queue accepted a message.
    pub fn accepted(&mut self, id: &str, message: Accepted) {
        let Accepted { script, at, not_before, early } = message;
        self.latest = self.latest.max(not_before);
        let entry = self.entry(id);
        entry.copies += 1;
        entry.script = entry.script.take().or(script);
        entry.not_before = not_before;
        entry.accepted = entry.accepted.or(at);
        entry.early = early;
    }

    /// A task's child is being sent.
    pub fn child_sent(&mut self, id: &str, parent: &str) {
        let succeeded = self.entries.get(parent).is_some_and(|parent| parent.children.contains(id));
        if !succeeded {
            self.violation(format!(
                "{id} was sent, although no run of its parent {parent} that wanted it succeeded"
            ));
        }
    }

    /// A fault hit a message.
    pub fn fault(&mut self, id: &str, now: Timestamp) {
        let entry = self.entry(id);
        entry.faults += 1;
        entry.story.push((now, "fault"));
    }

    /// A delivery of it was handed out.
    pub fn received(&mut self, id: &str, now: Timestamp) {
        self.entry(id).story.push((now, "received"));
    }

    /// A run begins. Returns how many of its runs have failed so far.
    pub fn started(&mut self, id: &str, now: Timestamp) -> u32 {
        let entry = self.entry(id);
        entry.starts += 1;
        entry.story.push((now, "run begins"));
        entry.overlaps += u32::from(entry.running > 0);
        entry.running += 1;
        let (failures, not_before) = (entry.failures, entry.not_before);
        if let Some(accepted) = entry.accepted.filter(|_| entry.starts == 1 && not_before.is_none()) {
            self.slowest_start = self.slowest_start.max(now.since(accepted));
        }
        if not_before.is_some_and(|at| at > now) {
            self.violation(format!("{id} ran before its time"));
        }
        failures
    }

    /// A run ended, in success or failure; `None`: it was cut off.
    pub fn ended(&mut self, id: &str, now: Timestamp, success: Option<bool>, children: BTreeSet<String>) {
        let entry = self.entry(id);
        entry.running -= 1;
        let what = match success {
            Some(true) => "run succeeds",
            Some(false) => "run fails",
            None => "run is cut off",
        };
        entry.story.push((now, what));
        match success {
            Some(true) => {
                entry.successes += 1;
                entry.children = children;
            }
            Some(false) => entry.failures += 1,
            None => {}
        }
    }

    /// A message is in the dead-letter queue.
    pub fn dead(&mut self, id: &str, kind: Option<FailureKind>) {
        self.entry(id).dead.push(kind);
    }

    /// The most receives that one message took.
    pub fn most_receives(&self) -> u64 {
        let receives = |entry: &Entry| entry.story.iter().filter(|(_, what)| *what == "received").count();
        self.entries.values().map(receives).max().unwrap_or(0) as u64
    }

    /// All faults.
    pub fn faults(&self) -> u32 {
        self.entries.values().map(|entry| entry.faults).sum()
    }

    /// Something happened that must not.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Messages without an end so far.
    pub fn unended(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries
            .iter()
            .filter(|(_, entry)| entry.copies > 0 && entry.successes == 0 && entry.dead.is_empty())
    }

    /// What all messages come to.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (id, entry) in self.entries.iter().filter(|(_, entry)| entry.copies > 0) {
            totals.accepted += 1;
            totals.children += u64::from(id.contains('.'));
            totals.succeeded += u64::from(entry.successes > 0);
            totals.dead += u64::from(entry.successes == 0 && !entry.dead.is_empty());
            totals.lost += u64::from(entry.successes == 0 && entry.dead.is_empty());
            totals.runs += u64::from(entry.starts);
            let limit = entry.script.as_ref().map_or(0, |script| script.expected().failures);
            totals.beyond_limit += u64::from(entry.failures.saturating_sub(limit * entry.copies));
            totals.cut_off += u64::from(entry.starts - entry.failures - entry.successes);
            totals.duplicates += u64::from(entry.successes.saturating_sub(1) + entry.overlaps);
            totals.redriven += u64::from(entry.dead.contains(&None));
        }
        totals
    }

    /// Looks at every message once all is over. Returns what must not have happened.
    pub fn judge(&self) -> Vec<String> {
        let mut violations = self.violations.clone();
        for (id, entry) in &self.entries {
            if entry.copies == 0 {
                continue;
            }
            let said = self.judge_one(entry);
            violations.extend(said.into_iter().map(|what| format!("{id}: {what}; {entry}")));
        }
        violations
    }

    fn judge_one(&self, entry: &Entry) -> Vec<String> {
        let mut said = Vec::new();
        if entry.successes == 0 && entry.dead.is_empty() {
            said.push("lost: no success, and not in the dead-letter queue".to_owned());
        }
        if entry.successes > 0 {
            for child in &entry.children {
                if self.entries.get(child).is_none_or(|child| child.copies == 0) {
                    said.push(format!("it succeeded, and its child {child} was never sent"));
                }
            }
        }
        if entry.dead.contains(&None) {
            said.push("the queue's redrive policy took it".to_owned());
        }
        let Some(script) = &entry.script else {
            return said;
        };
        let Expected { failures, success } = script.expected();
        // One run for each copy and what a fault may have cost; without faults, exactly what the script says.
        let slack = entry.faults;
        let failures_max = failures * entry.copies + slack + if entry.early { GRACE_SLACK } else { 0 };
        if entry.failures > failures_max {
            said.push(format!("{} failed runs, at most {failures_max} may be", entry.failures));
        }
        let successes_max = entry.copies + slack;
        if entry.successes > successes_max {
            said.push(format!("{} successes, at most {successes_max} may be", entry.successes));
        }
        // Two copies may run at the same time; and once a message was handed out twice, so may every later attempt.
        if entry.copies == 1 && slack == 0 && entry.overlaps > 0 {
            said.push(format!("{} overlapping runs", entry.overlaps));
        }
        if entry.faults == 0 && entry.copies == 1 {
            let as_many = entry.failures == failures || entry.early && entry.failures > failures;
            if success != (entry.successes == 1) || success != entry.dead.is_empty() || !as_many {
                said.push(format!(
                    "nothing disturbed it; it should have had {failures} failures, success: {success}"
                ));
            }
        }
        if script.healthy() && !entry.dead.is_empty() {
            said.push("its task is healthy, and it is in the dead-letter queue".to_owned());
        }
        // Each fault may have cost an attempt, and nothing else may.
        let spent = entry.failures + entry.faults;
        let by_attempts = [FailureKind::Retry, FailureKind::Trap, FailureKind::OutOfTime];
        if entry.dead.iter().flatten().any(|kind| by_attempts.contains(kind)) && spent < MAX_ATTEMPTS {
            said.push(format!("given up after {spent} of {MAX_ATTEMPTS} attempts"));
        }
        said
    }

    fn entry(&mut self, id: &str) -> &mut Entry {
        self.entries.entry(id.to_owned()).or_default()
    }
}

/// What a script comes to where nothing disturbs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Failed runs.
    pub failures: u32,
    /// Whether it succeeds in the end.
    pub success: bool,
}
