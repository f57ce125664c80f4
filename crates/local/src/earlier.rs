//! The runs of earlier processes of the stack, counted for the page.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rusqlite::params;
use wasq_page::{EndedRun, Stats};
use wasq_protocol::{RunItem, Timestamp};

use crate::db;

/// The page shows a day.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// The newest items that are read: about two seconds of one core.
const ITEMS_MAX: u32 = 200_000;
/// The longest time that reading takes: items can be large.
const READ_MAX: Duration = Duration::from_secs(10);

/// Counts the remembered runs that ended within a day before this process began, beside the queue.
pub(crate) fn count(database: &Path, stats: &Stats, began: Timestamp) -> Result<()> {
    let reading = || {
        let connection = db::reader(database)?;
        let mut statement =
            connection.prepare(
                "SELECT CASE WHEN json_valid(item)
                     THEN json_remove(item, '$.params_json', '$.result', '$.steps', '$.unsent', '$.children') ELSE item END FROM runs
                 WHERE +id >= '!' ORDER BY number DESC LIMIT ?",
            )?;
        let mut rows = statement.query(params![ITEMS_MAX])?;
        let (since, reading_since) = (began.minus(DAY), Instant::now());
        let (mut read, mut counted_until) = (0, began);
        while let Some(row) = rows.next()? {
            read += 1;
            // An item of a later version of wasq may not be readable. It is not counted.
            let Ok(item) = serde_json::from_str::<RunItem>(row.get_ref(0)?.as_str()?) else { continue };
            EndedRun::all_of(&item)
                .filter(|end| (since..began).contains(&end.ended))
                .for_each(|end| stats.count_earlier(&end));
            counted_until = item.updated;
            if reading_since.elapsed() > READ_MAX {
                read = ITEMS_MAX;
                break;
            }
        }
        // There may be others before.
        let is_cut = read == ITEMS_MAX;
        stats.set_since(if is_cut { since.max(counted_until) } else { since });
        Ok::<_, rusqlite::Error>(())
    };
    reading().with_context(|| format!("read the runs of {}", database.display()))
}
