//! Fairness between tenants, as SQS has it between message groups: a tenant with many messages in flight does not keep the others
//! waiting. A message's tenant is its group, or else the task that it names. Only the stack's own queue has tenants.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use rusqlite::{Connection, params};
use wasq_protocol::Message;

use super::error::SqsError;
use super::messages::{Send, oldest};
use super::received::Candidate;

/// The most tenants that one receive looks at. It begins anywhere, so that later receives see others.
const TENANTS_MAX: usize = 16;

/// A tenant, by the hash of its name: an index of numbers is smaller and faster. Two with the same hash count as one.
type Tenant = i64;

/// The tenant of a message.
pub(super) fn tenant(send: &Send) -> Option<Tenant> {
    let mut hasher = DefaultHasher::new();
    match &send.group {
        Some(group) => group.hash(&mut hasher),
        None => Message::task_in(&send.body)?.as_str().hash(&mut hasher),
    }
    Some(hasher.finish().cast_signed())
}

/// The messages to receive next. If a tenant has `many` messages in flight or more, those with fewer come first, until they have as
/// many.
pub(super) fn candidates(
    db: &Connection,
    queue: &str,
    many: usize,
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    let in_flight = in_flight(db)?;
    let mut found = Vec::new();
    let busiest = in_flight.iter().max_by_key(|(_, count)| *count);
    if let Some((busiest, most)) = busiest.filter(|(_, most)| **most >= many) {
        // One place is for the oldest message, so that those without a tenant come as well.
        let places = wanted.saturating_sub(1).max(1);
        let mut others = others(db, *busiest)?;
        let has = |tenant: &Tenant| in_flight.get(tenant).copied().unwrap_or(0);
        others.sort_by_key(has);
        for tenant in others {
            let share = most.saturating_sub(has(&tenant)).min(places - found.len());
            if share > 0 {
                found.extend(of_tenant(db, queue, tenant, share, now)?);
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
fn in_flight(db: &Connection) -> Result<HashMap<Tenant, usize>, SqsError> {
    let mut statement = db.prepare_cached(
        "SELECT tenant, count(*) FROM messages WHERE holder IS NOT NULL AND tenant IS NOT NULL GROUP BY tenant",
    )?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)? as usize)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Tenants other than the busiest one, in the order of the index, from a random place on.
fn others(db: &Connection, busiest: Tenant) -> Result<Vec<Tenant>, SqsError> {
    // Each look finds the next one in the index, however many messages there are.
    let mut next = db.prepare_cached("SELECT min(tenant) FROM messages WHERE tenant > ?")?;
    let mut others = Vec::new();
    let first = fastrand::i64(..);
    let (mut at, mut from_the_start) = (first, false);
    while others.len() < TENANTS_MAX {
        match next.query_row(params![at], |row| row.get::<_, Option<Tenant>>(0))? {
            Some(tenant) if from_the_start && tenant > first => break,
            Some(tenant) => {
                if tenant != busiest {
                    others.push(tenant);
                }
                at = tenant;
            }
            None if from_the_start => break,
            None => (at, from_the_start) = (Tenant::MIN, true),
        }
    }
    Ok(others)
}

fn of_tenant(
    db: &Connection,
    queue: &str,
    tenant: Tenant,
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    let mut statement = db.prepare_cached(
        "SELECT seq, queue_receives FROM messages WHERE tenant = ? AND queue = ? AND visible_ms <= ?
         ORDER BY visible_ms, seq LIMIT ?",
    )?;
    let rows = statement.query_map(params![tenant, queue, now, wanted as i64], |row| {
        Ok(Candidate { seq: row.get(0)?, queue_receives: row.get(1)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
