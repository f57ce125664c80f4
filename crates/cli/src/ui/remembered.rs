//! The runs that a deployment remembers, for the page.
//!
//! The table has no order and no index, so all of it is read. That costs time and money: the answer is shown until it is old, and
//! reading takes at most a tenth of the time. Single runs are always read anew.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wasq_page::{EndedRun, NotAPlace, Page, Search, Stats};
use wasq_protocol::{Clock, RunItem, SystemClock};

use crate::cloud::DeployedRuns;
use crate::runs::{Place, Select};

/// The runs of a deployment.
pub(super) struct Remembered {
    runs: DeployedRuns,
    /// Locked while the table is read, so that nobody reads it beside.
    last: Mutex<Option<Arc<Snapshot>>>,
    /// Something was done to the runs since the table was read.
    is_stale: AtomicBool,
}

/// The table at one moment.
pub(super) struct Snapshot {
    begun: Instant,
    took: Duration,
    runs: BTreeMap<Place, RunItem>,
    /// The table has more items than are read.
    is_cut: bool,
    /// The runs that ended within a day.
    pub(super) stats: Stats,
}

/// Items that are read, at about a kilobyte each.
const ITEMS_MAX: usize = 100_000;
/// The longest time that reading takes: items can be large.
const READ_MAX: Duration = Duration::from_secs(20);
/// The shortest time between two reads, and the part of the time that reading may take.
const FRESH: Duration = Duration::from_secs(5);
const PART: u32 = 10;
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Remembered {
    pub(super) fn new(runs: DeployedRuns) -> Self {
        Self { runs, last: Mutex::new(None), is_stale: AtomicBool::new(false) }
    }

    /// The table itself.
    pub(super) fn table(&self) -> &DeployedRuns {
        &self.runs
    }

    /// The table as it is now, or was a short time ago.
    pub(super) async fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let mut last = self.last.lock().await;
        if let Some(last) = &*last
            && !self.is_stale.load(Ordering::Relaxed)
            && last.begun.elapsed() < FRESH.max(last.took * PART)
        {
            return Ok(last.clone());
        }
        self.is_stale.store(false, Ordering::Relaxed);
        let snapshot = Arc::new(Snapshot::read(&self.runs).await?);
        *last = Some(snapshot.clone());
        Ok(snapshot)
    }

    /// Something was done to the runs: the next look reads the table.
    pub(super) fn changed(&self) {
        self.is_stale.store(true, Ordering::Relaxed);
    }
}

impl Snapshot {
    async fn read(table: &DeployedRuns) -> Result<Self> {
        let (begun, since) = (Instant::now(), SystemClock.now().minus(DAY));
        let (mut runs, mut is_cut) = (BTreeMap::new(), false);
        let stats = Stats::since(since);
        table
            .scan(|mut item| {
                if runs.len() == ITEMS_MAX || begun.elapsed() > READ_MAX {
                    is_cut = true;
                    return ControlFlow::Break(());
                }
                EndedRun::all_of(&item)
                    .filter(|end| end.ended >= since)
                    .for_each(|end| stats.count_earlier(&end));
                // A list shows the last attempt, and nothing of the children.
                item.history.drain(..item.history.len().saturating_sub(1));
                item.children.clear();
                item.others.clear();
                runs.insert(Place::of(&item), item);
                ControlFlow::Continue(())
            })
            .await?;
        Ok(Self { begun, took: begun.elapsed(), runs, is_cut, stats })
    }

    /// The newest runs that match.
    pub(super) fn page(&self, search: &Search) -> Result<Page> {
        let Search { task, state, kind, parent, within, before } = search.clone();
        let since = within.map(|within| SystemClock.now().minus(within));
        let select = Select { task, state, kind, parent, since, until: None };
        let before = before.map(|before| Place::read(&before).ok_or(NotAPlace(before))).transpose()?;
        let older = match before {
            Some(before) => self.runs.range(..before),
            None => self.runs.range::<Place, _>(..),
        };
        let mut matching = older.rev().filter(|(_, run)| select.fits(run));
        let shown: Vec<_> = matching.by_ref().take(Search::PAGE).collect();
        let next = matching.next().and_then(|_| Some(shown.last()?.0.write()));
        Ok(Page { runs: shown.into_iter().map(|(_, run)| run.clone()).collect(), next, note: self.note() })
    }

    /// A sentence about runs that were not read.
    pub(super) fn note(&self) -> Option<String> {
        self.is_cut.then(|| {
            format!(
                "The table has more runs than this page reads ({ITEMS_MAX}, or as many as it gets within {} s): some are neither counted nor listed. `wasq runs ls` reads all of them, and a run is found by its id.",
                READ_MAX.as_secs()
            )
        })
    }
}
