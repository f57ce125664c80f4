//! Fairness between tenants, as SQS has it between message groups: a tenant with many messages in flight does not keep the others
//! waiting. A message's tenant is its group, or else the task that it names. Only the stack's own queue has tenants.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rusqlite::{Connection, params};
use wasq_protocol::Message;

use super::error::SqsError;
use super::messages::{Send, oldest};
use super::received::{Candidate, Received};

/// The most tenants that one receive looks at. It begins anywhere, so that later receives see others.
const TENANTS_MAX: usize = 16;

/// A tenant, by the hash of its name: an index of numbers is smaller and faster. Two with the same hash count as one.
pub(crate) type Tenant = i64;

/// The tenant of a message.
pub(super) fn tenant(send: &Send) -> Option<Tenant> {
    let mut hasher = DefaultHasher::new();
    match &send.group {
        Some(group) => group.hash(&mut hasher),
        None => Message::task_in(&send.body)?.as_str().hash(&mut hasher),
    }
    Some(hasher.finish().cast_signed())
}

/// The messages that the stack's own consumer has, by their tenants. It is counted in memory, because an index of the database would
/// cost time for every message.
#[derive(Debug, Default)]
pub(crate) struct InFlight(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By receipt handle: the tenant, and when the lease ends.
    messages: HashMap<String, (Tenant, i64)>,
    /// Tenants without any message are not listed.
    tenants: HashMap<Tenant, usize>,
    /// When leases that are over were last looked for.
    looked_ms: i64,
}

/// How often leases that are over are looked for: their messages were left alone, and nobody says so.
const LOOK_EVERY_MS: i64 = 10_000;

impl InFlight {
    /// Counts the messages of a receive.
    pub(crate) fn received(&self, received: &[Received], now: i64) {
        let mut counts = self.counts();
        if now >= counts.looked_ms + LOOK_EVERY_MS {
            counts.looked_ms = now;
            let over = counts.messages.iter().filter(|(_, (_, until))| *until <= now);
            let over: Vec<String> = over.map(|(receipt, _)| receipt.clone()).collect();
            over.iter().for_each(|receipt| counts.remove(receipt));
        }
        for Received { receipt_handle, tenant, visible_ms, .. } in received {
            if let Some(tenant) = tenant {
                counts.messages.insert(receipt_handle.clone(), (*tenant, *visible_ms));
                *counts.tenants.entry(*tenant).or_default() += 1;
            }
        }
    }

    /// The leases of these messages end then.
    pub(crate) fn extended(&self, receipts: &[String], until: i64) {
        let mut counts = self.counts();
        for receipt in receipts {
            if let Some((_, ends)) = counts.messages.get_mut(receipt) {
                *ends = until;
            }
        }
    }

    /// The consumer no longer has these messages.
    pub(crate) fn ended<'a>(&self, receipts: impl Iterator<Item = &'a String>) {
        let mut counts = self.counts();
        receipts.for_each(|receipt| counts.remove(receipt));
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn remove(&mut self, receipt: &str) {
        let Some((tenant, _)) = self.messages.remove(receipt) else { return };
        if let Some(count) = self.tenants.get_mut(&tenant) {
            *count -= 1;
            if *count == 0 {
                self.tenants.remove(&tenant);
            }
        }
    }
}

/// How a receive is fair between tenants.
#[derive(Clone, Debug)]
pub(crate) struct Fair {
    /// If a tenant has this many messages in flight, those with fewer come first.
    pub(crate) many: usize,
    /// The messages in flight.
    pub(crate) in_flight: Arc<InFlight>,
}

/// The messages to receive next. If a tenant has `many` messages in flight or more, those with fewer come first, until they have as
/// many.
pub(super) fn candidates(
    db: &Connection,
    queue: &str,
    fair: &Fair,
    wanted: usize,
    now: i64,
) -> Result<Vec<Candidate>, SqsError> {
    let Fair { many, in_flight } = fair;
    // A copy: calls that settle messages do not wait for the database.
    let in_flight = in_flight.counts().tenants.clone();
    let mut found = Vec::new();
    let busiest = in_flight.iter().max_by_key(|(_, count)| *count);
    if let Some((busiest, most)) = busiest.filter(|(_, most)| *most >= many) {
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
