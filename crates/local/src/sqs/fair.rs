//! Fairness between tenants, as SQS has it between message groups: a tenant with many messages in flight does not keep the others
//! waiting. A message's tenant is its group, or else the task that it names.

use std::collections::HashMap;

use rusqlite::{Connection, params};

use super::error::SqsError;
use super::messages::oldest;
use super::received::Candidate;

/// The most tenants that one receive looks at, and the most messages of each. Those behind are seen by later receives.
const TENANTS_MAX: usize = 16;
const SEEN_MAX: i64 = 200;

/// The messages to receive next. If a tenant has `many` messages in flight or more, those with fewer come first, until they have as
/// many.
pub(super) fn candidates(
    db: &Connection,
    queue: &str,
    many: usize,
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    let in_flight = in_flight(db, queue)?;
    let mut found = Vec::new();
    let busiest = in_flight.iter().max_by_key(|(_, count)| *count);
    if let Some((busiest, most)) = busiest.filter(|(_, most)| **most >= many) {
        let mut others = others(db, queue, busiest)?;
        let has = |tenant: &String| in_flight.get(tenant).copied().unwrap_or(0);
        others.sort_by_key(has);
        for tenant in others {
            let share = most.saturating_sub(has(&tenant)).min(wanted - found.len());
            if share > 0 {
                found.extend(of_tenant(db, queue, &tenant, share, now)?);
            }
        }
    }
    if found.len() < wanted {
        let oldest = oldest(db, queue, wanted, now)?;
        let new = oldest.into_iter().filter(|old| !found.iter().any(|found| found.seq == old.seq));
        let new: Vec<_> = new.take(wanted - found.len()).collect();
        found.extend(new);
    }
    Ok(found)
}

/// How many messages of each tenant the stack's own consumer has; a tenant without any is not listed.
fn in_flight(db: &Connection, queue: &str) -> Result<HashMap<String, usize>, SqsError> {
    let mut statement = db.prepare_cached(
        "SELECT tenant, count(*) FROM messages WHERE queue = ? AND holder IS NOT NULL AND tenant IS NOT NULL GROUP BY tenant",
    )?;
    let rows = statement.query_map(params![queue], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Tenants other than the busiest one, by their names, beginning behind it.
fn others(db: &Connection, queue: &str, busiest: &str) -> Result<Vec<String>, SqsError> {
    // Each look finds the next name in the index, however many messages there are.
    let mut next = db.prepare_cached("SELECT min(tenant) FROM messages WHERE queue = ? AND tenant > ?")?;
    let mut others = Vec::new();
    let (mut at, mut from_the_start) = (busiest.to_owned(), false);
    while others.len() < TENANTS_MAX {
        match next.query_row(params![queue, at], |row| row.get::<_, Option<String>>(0))? {
            Some(tenant) if from_the_start && tenant.as_str() >= busiest => break,
            Some(tenant) => {
                others.push(tenant.clone());
                at = tenant;
            }
            None if from_the_start => break,
            None => (at, from_the_start) = (String::new(), true),
        }
    }
    Ok(others)
}

fn of_tenant(
    db: &Connection,
    queue: &str,
    tenant: &str,
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    let mut statement = db.prepare_cached(
        "SELECT seq, queue_receives FROM (
             SELECT seq, queue_receives, visible_ms FROM messages WHERE queue = ? AND tenant = ? ORDER BY seq LIMIT ?)
         WHERE visible_ms <= ? LIMIT ?",
    )?;
    let rows = statement.query_map(params![queue, tenant, SEEN_MAX, now, wanted as i64], |row| {
        Ok(Candidate { seq: row.get(0)?, queue_receives: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
