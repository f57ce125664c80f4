//! The history of every message, and the rules that it must obey.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use wasq_protocol::{DEATHS_MAX, FailureKind, Timestamp};

use crate::scenario::{MAX_ATTEMPTS, Remembering};
use crate::script::{Expected, Says, Script};
use crate::world::SKEW_MAX;

/// The end of the id of a copy, in worlds where each message of a firing has another id. The ledger takes both for one message.
pub const COPY: &str = "#copy";

/// The records of all messages, by the message's own id.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<String, Entry>,
    violations: Vec<String>,
    /// The longest wait for a first run, over all messages without `not_before`.
    pub slowest_start: Duration,
    /// The latest `not_before` of any message.
    pub latest: Option<Timestamp>,
    /// Firings of schedules.
    fired: u64,
    /// Steps that runs have executed.
    steps: u64,
    /// Steps that a run did not execute, because an earlier one had saved them.
    steps_spared: u64,
}

/// The history of one message.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// The script of its task; `None` if no task can run it.
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
    /// The kind of failure of each move to the dead-letter queue; `None` is the queue's own redrive policy.
    pub dead: Vec<Option<FailureKind>>,
    /// Faults of the surroundings that hit it. Each may cost one run.
    pub faults: u32,
    /// Workers that it killed. Each is a fault as well.
    pub kills: u32,
    /// Workers that died while they had it, for whatever reason. Each is a fault as well.
    pub deaths: u32,
    /// Ends in success that the table of runs has accepted, since it forgot the message last.
    pub commits: u32,
    /// It was written as cancelled.
    pub cancelled: bool,
    /// It was written as cancelled, and is not forgotten.
    is_cancelled: bool,
    /// The steps that the table of runs has, since it forgot the message last.
    steps: BTreeSet<String>,
    /// It was sent again after it was done and forgotten.
    again: bool,
    /// It may have been sent before its task was published.
    early: bool,
    /// The children that its last successful run enqueued.
    children: BTreeSet<String>,
    not_before: Option<Timestamp>,
    accepted: Option<Timestamp>,
    /// The events of its history, with their times.
    story: Vec<(Timestamp, &'static str)>,
}

impl fmt::Display for Entry {
    /// Writes the script, the counts and the last events of the story.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { script, copies, starts, failures, successes, overlaps, dead, faults, story, .. } = self;
        write!(
            f,
            "{script:?}: {copies} copies, {faults} faults, {starts} runs ({failures} failed, {successes} succeeded, \
             {overlaps} overlapped), dead letters: {dead:?}"
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

/// The totals over all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Messages that the queue accepted; a message that was sent twice counts once.
    pub accepted: u64,
    /// Accepted messages that were sent by tasks.
    pub children: u64,
    /// Messages that ended in success.
    pub succeeded: u64,
    /// Messages that ended in the dead-letter queue, without a success.
    pub dead: u64,
    /// Messages that were cancelled, without a success.
    pub cancelled: u64,
    /// Messages with neither a success nor a dead letter.
    pub lost: u64,
    /// Runs that were begun.
    pub runs: u64,
    /// Runs that were cut off by the end of their worker.
    pub cut_off: u64,
    /// Failed runs beyond the number that the script leads to.
    pub beyond_limit: u64,
    /// Runs of a message that had succeeded already, or that another worker was running.
    pub duplicates: u64,
    /// Messages that the queue's own redrive policy moved to the dead-letter queue.
    pub redriven: u64,
    /// Firings of schedules.
    pub fired: u64,
    /// Steps that runs executed.
    pub steps: u64,
    /// Steps that a run did not execute, because an earlier one had saved them.
    pub steps_spared: u64,
}

/// A message that the queue accepted.
#[derive(Clone, Debug, Default)]
pub struct Accepted {
    /// The script of its task; `None` if there is no such task, or may not be one yet.
    pub script: Option<Script>,
    /// When it was accepted.
    pub at: Option<Timestamp>,
    /// When it may run.
    pub not_before: Option<Timestamp>,
    /// It may have been sent before its task was published.
    pub early: bool,
}

/// The extra runs allowed to a message that had to wait for its task to be published. The worker can only
/// estimate how many of its receives were spent on that wait.
const GRACE_SLACK: u32 = 2;

impl Ledger {
    /// Records that the queue accepted a message.
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

    /// Records that a child is being sent, and checks that its parent succeeded.
    /// `ended`: the table of runs has the end of the parent, as far as it must.
    pub fn child_sent(&mut self, id: &str, parent: &str, ended: bool) {
        let succeeded = self.entries.get(parent).is_some_and(|parent| parent.children.contains(id));
        if succeeded && !ended {
            self.violation(format!("{id} was sent before the end of its parent {parent} was remembered"));
        }
        if !succeeded {
            self.violation(format!(
                "{id} was sent, although its parent {parent} had no successful run that enqueued it"
            ));
        }
    }

    /// Records what the table of runs accepted: an end in success, or a cancel. `forgotten`: over an item that it had forgotten.
    pub fn remembered(&mut self, id: &str, forgotten: bool, done: bool, cancelled: bool) {
        let entry = self.entry(id);
        if forgotten {
            entry.commits = 0;
            entry.is_cancelled = false;
            entry.steps.clear();
        }
        entry.is_cancelled |= cancelled;
        entry.commits += u32::from(done);
        entry.cancelled |= cancelled;
        if entry.commits > 1 {
            let commits = entry.commits;
            self.violation(format!("{id} has {commits} ends in the table of runs"));
        }
    }

    /// Records that a schedule has fired.
    pub fn fired(&mut self) {
        self.fired += 1;
    }

    /// Records the steps that an item of the table of runs has.
    pub fn saved<'a>(&mut self, id: &str, steps: impl Iterator<Item = &'a str>) {
        self.entry(id).steps.extend(steps.map(str::to_owned));
    }

    /// Records that a run executes a step.
    pub fn executed(&mut self, id: &str, step: &str) {
        self.steps += 1;
        if self.entry(id).steps.contains(step) {
            self.violation(format!("{id} executed its step {step} again after it was saved"));
        }
    }

    /// Records that a run does not execute a step, because an earlier one has saved it.
    pub fn spared(&mut self) {
        self.steps_spared += 1;
    }

    /// Whether the table of runs has said that the message is cancelled.
    pub fn is_cancelled(&self, id: &str) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.is_cancelled)
    }

    /// Records that a message is sent a second time. Without the table of runs, each has its own runs.
    pub fn sent_twice(&mut self, id: &str) {
        self.entry(id).copies += 1;
    }

    /// Records that a message was sent again after it was done and forgotten.
    pub fn sent_again(&mut self, id: &str) {
        self.entry(id).again = true;
    }

    /// Records a fault that hit a message.
    pub fn fault(&mut self, id: &str, now: Timestamp) {
        let entry = self.entry(id);
        entry.faults += 1;
        entry.story.push((now, "fault"));
    }

    /// Records that a message kills its worker.
    pub fn killed(&mut self, id: &str) {
        self.entry(id).kills += 1;
    }

    /// Records that a worker died while it had a message.
    pub fn worker_died(&mut self, id: &str) {
        self.entry(id).deaths += 1;
    }

    /// Records that the queue handed out a delivery of a message.
    pub fn received(&mut self, id: &str, now: Timestamp) {
        self.entry(id).story.push((now, "received"));
    }

    /// Records that a run begins. Returns the number of failed runs that its message has so far.
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
        if not_before.is_some_and(|at| at.minus(SKEW_MAX) > now) {
            self.violation(format!("{id} ran before its time"));
        }
        failures
    }

    /// Records the end of a run: `Some(true)` is a success, `Some(false)` a failure, `None` a run that was
    /// cut off.
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

    /// Records that a message was moved to the dead-letter queue.
    pub fn dead(&mut self, id: &str, kind: Option<FailureKind>) {
        self.entry(id).dead.push(kind);
    }

    /// The most receives that one message took.
    pub fn most_receives(&self) -> u64 {
        let receives = |entry: &Entry| entry.story.iter().filter(|(_, what)| *what == "received").count();
        self.entries.values().map(receives).max().unwrap_or(0) as u64
    }

    /// All faults, except that messages killed their workers.
    pub fn faults(&self) -> u32 {
        let kills = self.entries.values().any(|entry| entry.kills > 0);
        let counted = |entry: &Entry| entry.faults - if kills { entry.deaths } else { 0 };
        self.entries.values().map(counted).sum()
    }

    /// Records a violation: an event that must not happen.
    pub fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// Accepted messages that have neither succeeded nor been dead-lettered so far.
    pub fn unended(&self) -> impl Iterator<Item = (&String, &Entry)> {
        self.entries.iter().filter(|(_, entry)| {
            entry.copies > 0 && entry.successes == 0 && entry.dead.is_empty() && !entry.cancelled
        })
    }

    /// Returns the totals over all messages.
    pub fn totals(&self) -> Totals {
        let Self { fired, steps, steps_spared, .. } = *self;
        let mut totals = Totals { fired, steps, steps_spared, ..Totals::default() };
        for (id, entry) in self.entries.iter().filter(|(_, entry)| entry.copies > 0) {
            totals.accepted += 1;
            totals.children += u64::from(id.contains('.'));
            totals.succeeded += u64::from(entry.successes > 0);
            totals.dead += u64::from(entry.successes == 0 && !entry.dead.is_empty());
            totals.lost += u64::from(entry.successes == 0 && entry.dead.is_empty() && !entry.cancelled);
            totals.cancelled += u64::from(entry.successes == 0 && entry.cancelled);
            totals.runs += u64::from(entry.starts);
            let limit = entry.script.as_ref().map_or(0, |script| script.expected().failures);
            totals.beyond_limit += u64::from(entry.failures.saturating_sub(limit * entry.copies));
            totals.cut_off += u64::from(entry.starts - entry.failures - entry.successes);
            totals.duplicates += u64::from(entry.successes.saturating_sub(1) + entry.overlaps);
            totals.redriven += u64::from(entry.dead.contains(&None));
        }
        totals
    }

    /// Checks every message after the end of the world. Returns the violations.
    pub fn judge(&self, remembering: Remembering) -> Vec<String> {
        let mut violations = self.violations.clone();
        for (id, entry) in &self.entries {
            if entry.copies == 0 {
                continue;
            }
            let said = self.judge_one(entry, remembering);
            violations.extend(said.into_iter().map(|what| format!("{id}: {what}; {entry}")));
        }
        violations
    }

    fn judge_one(&self, entry: &Entry, remembering: Remembering) -> Vec<String> {
        let mut said = Vec::new();
        if entry.cancelled {
            return said;
        }
        if entry.again && entry.successes < 2 && entry.dead.is_empty() {
            said.push("it was sent again after it was forgotten, and did not run".to_owned());
        }
        if entry.successes == 0 && entry.dead.is_empty() {
            said.push("lost: no success, and not in the dead-letter queue".to_owned());
        }
        let blamed = entry.dead.contains(&Some(FailureKind::KilledWorker));
        if blamed && entry.deaths < DEATHS_MAX {
            said.push(format!("blamed for the deaths of workers, of which {} died with it", entry.deaths));
        }
        // A worker that dies between the dead letter and the delete is followed by one more run. If that one succeeds, and its worker
        // dies as well, while the delete of the first still arrives, then the message has ended as a dead letter.
        if entry.successes > 0 && entry.dead.is_empty() {
            for child in &entry.children {
                if self.entries.get(child).is_none_or(|child| child.copies == 0) {
                    said.push(format!("it succeeded, and its child {child} was never sent"));
                }
            }
        }
        if remembering == Remembering::Once
            && entry.successes > 0
            && entry.dead.is_empty()
            && entry.commits == 0
        {
            said.push("it succeeded, and the table of runs does not have it".to_owned());
        }
        if entry.dead.contains(&None) {
            said.push("the queue's redrive policy took it".to_owned());
        }
        let Some(script) = &entry.script else {
            return said;
        };
        let Expected { failures, success } = script.expected();
        if script.says == Says::Kills {
            let kills_max = DEATHS_MAX + entry.faults.saturating_sub(entry.kills);
            if entry.kills > kills_max {
                said.push(format!("it killed {} workers, at most {kills_max} are allowed", entry.kills));
            }
            if !blamed {
                said.push("it kills its workers, and is no dead letter for it".to_owned());
            }
            return said;
        }
        // Each copy may have the runs of its script, and each fault may have cost one more run. Without
        // faults, the runs are exactly those of the script.
        let slack = entry.faults;
        let failures_max = failures * entry.copies + slack + if entry.early { GRACE_SLACK } else { 0 };
        if entry.failures > failures_max {
            said.push(format!("{} failed runs, at most {failures_max} are allowed", entry.failures));
        }
        let successes_max = entry.copies + slack;
        if entry.successes > successes_max {
            said.push(format!("{} successes, at most {successes_max} are allowed", entry.successes));
        }
        // Two copies may run at the same time. After a duplicate delivery, later attempts may overlap too.
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
        if script.healthy() && !entry.dead.is_empty() && !blamed {
            said.push("its task is healthy, and it is in the dead-letter queue".to_owned());
        }
        // Only failed runs and faults may cost an attempt, and each of them one at most.
        // With the table of runs only failed runs do.
        let spent = match remembering {
            Remembering::Once => entry.failures,
            Remembering::Off | Remembering::On => entry.failures + entry.faults,
        };
        let by_attempts = [FailureKind::Retry, FailureKind::Trap, FailureKind::OutOfTime];
        if entry.dead.iter().flatten().any(|kind| by_attempts.contains(kind)) && spent < MAX_ATTEMPTS {
            said.push(format!("given up after {spent} of {MAX_ATTEMPTS} attempts"));
        }
        said
    }

    fn entry(&mut self, id: &str) -> &mut Entry {
        let id = id.strip_suffix(COPY).unwrap_or(id);
        self.entries.entry(id.to_owned()).or_default()
    }
}
