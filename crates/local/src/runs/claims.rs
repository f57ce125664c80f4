//! The claims that are not in the database yet.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use wasq_protocol::RunItem;

/// Claims in memory, by the ids of their messages. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    claims: Arc<Mutex<HashMap<String, Claim>>>,
    added: Arc<Notify>,
}

struct Claim {
    item: RunItem,
    since: Instant,
}

impl Claims {
    /// Adds a claim. Returns the one that is there already, if there is one.
    pub(crate) fn add(&self, item: &RunItem) -> Option<RunItem> {
        let mut claims = self.claims();
        match claims.entry(item.id.clone()) {
            Entry::Occupied(there) => return Some(there.get().item.clone()),
            Entry::Vacant(free) => free.insert(Claim { item: item.clone(), since: Instant::now() }),
        };
        let first = claims.len() == 1;
        drop(claims);
        if first {
            self.added.notify_one();
        }
        None
    }

    /// Whether the claim of a message is there.
    pub(crate) fn has_any(&self, id: &str) -> bool {
        self.claims().contains_key(id)
    }

    /// Whether the claim of a message is there, with this revision.
    pub(crate) fn has(&self, id: &str, revision: &str) -> bool {
        self.claims().get(id).is_some_and(|claim| claim.item.revision == revision)
    }

    /// The claim of a message, by its own id.
    pub(crate) fn get(&self, id: &str) -> Option<RunItem> {
        self.claims().get(id).map(|claim| claim.item.clone())
    }

    /// The claim of a message, by its own id or the queue's.
    pub(crate) fn find(&self, id: &str) -> Option<RunItem> {
        let claims = self.claims();
        let by_message_id = || claims.values().find(|claim| claim.item.message_id.as_deref() == Some(id));
        claims.get(id).or_else(by_message_id).map(|claim| claim.item.clone())
    }

    /// Removes the claim of a message, if it has this revision.
    pub(crate) fn remove(&self, id: &str, revision: &str) {
        let mut claims = self.claims();
        if claims.get(id).is_some_and(|claim| claim.item.revision == revision) {
            claims.remove(id);
        }
    }

    /// The claims that have been here for longer than `age`.
    pub(crate) fn older_than(&self, age: Duration) -> Vec<RunItem> {
        let claims = self.claims();
        claims.values().filter(|claim| claim.since.elapsed() > age).map(|claim| claim.item.clone()).collect()
    }

    /// Waits until there is a claim.
    pub(crate) async fn wait(&self) {
        while self.claims().is_empty() {
            self.added.notified().await;
        }
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<String, Claim>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
