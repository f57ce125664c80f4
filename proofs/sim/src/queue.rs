//! A standard SQS queue as its documentation allows it to behave, not as it behaves on a good day.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use fastrand::Rng;
use wasq_protocol::{Attribute, Timestamp};

/// The chances of the faults of a queue, each from 0 to 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueMoods {
    /// A short poll does not see a message that is there.
    pub overlooked: f64,
    /// A receive hands out a message that somebody else holds.
    pub duplicate: f64,
    /// A receive hands out a message that was deleted.
    pub resurrected: f64,
    /// An old receipt handle works as if it were the newest.
    pub stale_works: f64,
    /// One entry of a batch call fails.
    pub entry_fails: f64,
}

/// A queue.
#[derive(Debug)]
pub struct SimQueue {
    messages: BTreeMap<u64, Stored>,
    /// The number of the message that each receipt handle is for.
    receipts: Vec<u64>,
    /// The last messages that were deleted, which may come again.
    deleted: VecDeque<(u64, Stored)>,
    next: u64,
    pub retention: Duration,
    pub receives_max: u32,
    pub moods: QueueMoods,
}

/// A message in a queue.
#[derive(Clone, Debug)]
pub struct Stored {
    pub body: String,
    pub attributes: BTreeMap<String, Attribute>,
    pub sent: Timestamp,
    pub first_received: Option<Timestamp>,
    pub receive_count: u32,
    pub visible_at: Timestamp,
    receipt: Option<u64>,
    /// It was deleted, and is here again.
    resurrected: bool,
}

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Handed {
    pub message_id: String,
    pub receipt: String,
    pub stored: Stored,
    /// The queue handed it out although it should not have.
    pub unkind: bool,
}

/// The result of one entry of a batch call; the error says why the entry failed.
pub type EntryResult = Result<(), &'static str>;

const DELETED_KEPT: usize = 8;

impl SimQueue {
    pub fn new(retention: Duration, receives_max: u32, moods: QueueMoods) -> Self {
        Self {
            messages: BTreeMap::new(),
            receipts: Vec::new(),
            deleted: VecDeque::new(),
            next: 0,
            retention,
            receives_max,
            moods,
        }
    }

    /// Puts a message in; returns its id.
    pub fn send(
        &mut self,
        body: String,
        attributes: BTreeMap<String, Attribute>,
        visible_at: Timestamp,
        now: Timestamp,
    ) -> String {
        let number = self.next;
        self.next += 1;
        let stored = Stored {
            body,
            attributes,
            sent: now,
            first_received: None,
            receive_count: 0,
            visible_at,
            receipt: None,
            resurrected: false,
        };
        self.messages.insert(number, stored);
        id(number)
    }

    /// Removes and returns the messages that are older than the retention.
    pub fn expire(&mut self, now: Timestamp) -> Vec<(String, Stored)> {
        let expired = |stored: &Stored| now.since(stored.sent) >= self.retention;
        let numbers: Vec<u64> =
            self.messages.iter().filter(|(_, stored)| expired(stored)).map(|(n, _)| *n).collect();
        numbers.into_iter().filter_map(|n| Some((id(n), self.messages.remove(&n)?))).collect()
    }

    /// Hands out up to ten messages, leased for `lease`. The second list contains the messages that the
    /// redrive policy takes out.
    pub fn receive(
        &mut self,
        short_poll: bool,
        lease: Duration,
        now: Timestamp,
        rng: &mut Rng,
    ) -> (Vec<Handed>, Vec<(String, Stored)>) {
        let moods = self.moods;
        if chance(rng, moods.resurrected)
            && let Some((number, stored)) = self.deleted.pop_front()
        {
            self.messages.insert(number, Stored { visible_at: now, resurrected: true, ..stored });
        }
        let mut chosen = Vec::new();
        for (number, stored) in &self.messages {
            let visible = stored.visible_at <= now;
            if visible && !(short_poll && chance(rng, moods.overlooked)) {
                chosen.push((*number, false));
            } else if !visible && stored.receipt.is_some() && chance(rng, moods.duplicate) {
                chosen.push((*number, true));
            }
        }
        let mut handed = Vec::new();
        let mut redriven = Vec::new();
        while handed.len() < 10 && !chosen.is_empty() {
            let (number, unkind) = chosen.swap_remove(rng.usize(..chosen.len()));
            let stored = self.messages.get_mut(&number).expect("it was just listed");
            if stored.receive_count >= self.receives_max {
                let stored = self.messages.remove(&number).expect("it was just listed");
                redriven.push((id(number), stored));
                continue;
            }
            let receipt = self.receipts.len() as u64;
            self.receipts.push(number);
            stored.receive_count += 1;
            stored.first_received.get_or_insert(now);
            stored.visible_at = now.plus(lease);
            stored.receipt = Some(receipt);
            let resurrected = std::mem::take(&mut stored.resurrected);
            handed.push(Handed {
                message_id: id(number),
                receipt: format!("r{receipt}"),
                stored: stored.clone(),
                unkind: unkind || resurrected,
            });
        }
        (handed, redriven)
    }

    /// Deletes by receipt handle. With an old handle, success does not mean that the message is deleted.
    pub fn delete(&mut self, receipt: &str, rng: &mut Rng) -> EntryResult {
        if chance(rng, self.moods.entry_fails) {
            return Err("InternalError");
        }
        let (receipt, number) = self.receipt(receipt)?;
        let newest = self.messages.get(&number).is_some_and(|stored| stored.receipt == Some(receipt));
        if newest || chance(rng, self.moods.stale_works) {
            self.remove(number);
        }
        Ok(())
    }

    /// Deletes a message by its id, as only a mutated protocol does.
    pub fn drop_message(&mut self, message_id: &str) {
        self.messages.retain(|number, _| id(*number) != message_id);
    }

    /// Changes when a message becomes visible again.
    pub fn set_visibility(
        &mut self,
        receipt: &str,
        after: Duration,
        now: Timestamp,
        rng: &mut Rng,
    ) -> EntryResult {
        if chance(rng, self.moods.entry_fails) {
            return Err("InternalError");
        }
        let (receipt, number) = self.receipt(receipt)?;
        let stale_works = chance(rng, self.moods.stale_works);
        let Some(stored) = self.messages.get_mut(&number) else {
            return Err("InvalidParameterValue: the message is gone");
        };
        if stored.receipt != Some(receipt) && !stale_works {
            return Err("InvalidParameterValue: the receipt handle has expired");
        }
        if stored.visible_at <= now {
            return Err("MessageNotInflight");
        }
        stored.visible_at = now.plus(after);
        Ok(())
    }

    /// The time at which the next invisible message becomes visible.
    pub fn next_visible(&self, now: Timestamp) -> Option<Timestamp> {
        self.messages.values().map(|stored| stored.visible_at).filter(|at| *at > now).min()
    }

    /// Whether nobody has a lease of a message: it is visible, or not there.
    pub fn lease_is_over(&self, message_id: &str, now: Timestamp) -> bool {
        self.messages().find(|(id, _)| id == message_id).is_none_or(|(_, stored)| stored.visible_at <= now)
    }

    /// The messages, in any state.
    pub fn messages(&self) -> impl Iterator<Item = (String, &Stored)> {
        self.messages.iter().map(|(number, stored)| (id(*number), stored))
    }

    /// Whether there is none, in any state.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    fn receipt(&self, receipt: &str) -> Result<(u64, u64), &'static str> {
        let number = receipt.strip_prefix('r').and_then(|text| text.parse::<u64>().ok());
        let number = number.ok_or("ReceiptHandleIsInvalid")?;
        let message = usize::try_from(number).ok().and_then(|i| self.receipts.get(i));
        Ok((number, *message.ok_or("ReceiptHandleIsInvalid")?))
    }

    fn remove(&mut self, number: u64) {
        if let Some(stored) = self.messages.remove(&number) {
            self.deleted.push_back((number, stored));
            if self.deleted.len() > DELETED_KEPT {
                self.deleted.pop_front();
            }
        }
    }
}

fn id(number: u64) -> String {
    format!("q{number}")
}

/// True with a chance from 0 to 1.
pub fn chance(rng: &mut Rng, chance: f64) -> bool {
    chance > 0.0 && rng.f64() < chance
}
