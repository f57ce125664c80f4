//! Slots: the places among the concurrent runs of a worker. While all are taken, the next one that is free goes to the waiting task
//! with the fewest runs: one task cannot keep the others waiting for as long as it has messages.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use wasq_protocol::TaskName;

/// The slots of a worker.
pub(crate) struct Slots(Mutex<State>);

struct State {
    free: u32,
    /// Slots that each task has; a task without any is not listed.
    taken: HashMap<TaskName, u32>,
    /// The deliveries that wait, by their tasks, each with its number among all that ever waited.
    waiting: HashMap<TaskName, VecDeque<(u64, oneshot::Sender<Granted>)>>,
    numbers: u64,
}

/// A slot of a task. It is free again when this is dropped.
pub(crate) struct Slot<'a> {
    slots: &'a Slots,
    task: TaskName,
}

/// Says that a slot is counted for the receiver's task.
struct Granted;

/// A delivery that waits. If it is dropped after a slot was granted to it, the slot goes to the next one.
struct Wait<'a> {
    slots: &'a Slots,
    task: &'a TaskName,
    granted: oneshot::Receiver<Granted>,
    ended: bool,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self(Mutex::new(State { free: count, taken: HashMap::new(), waiting: HashMap::new(), numbers: 0 }))
    }

    /// Takes a slot for a task, and waits for it if none is free.
    pub(crate) async fn take(&self, task: &TaskName) -> Slot<'_> {
        let granted = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                state.count(task);
                None
            } else {
                let (sender, granted) = oneshot::channel();
                state.numbers += 1;
                let number = state.numbers;
                state.waiting.entry(task.clone()).or_default().push_back((number, sender));
                Some(granted)
            }
        };
        if let Some(granted) = granted {
            let mut wait = Wait { slots: self, task, granted, ended: false };
            let granted = (&mut wait.granted).await;
            wait.ended = true;
            granted.expect("the sender is dropped only after it has granted a slot");
        }
        Slot { slots: self, task: task.clone() }
    }

    /// Gives a task's slot to the next delivery that waits.
    fn free(&self, task: &TaskName) {
        let mut state = self.state();
        state.discount(task);
        while let Some((task, sender)) = state.next() {
            // A delivery that waits no more has dropped its end.
            if sender.send(Granted).is_ok() {
                state.count(&task);
                return;
            }
        }
        state.free += 1;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count(&mut self, task: &TaskName) {
        match self.taken.get_mut(task) {
            Some(taken) => *taken += 1,
            None => {
                self.taken.insert(task.clone(), 1);
            }
        }
    }

    fn discount(&mut self, task: &TaskName) {
        if let Some(taken) = self.taken.get_mut(task) {
            *taken -= 1;
            if *taken == 0 {
                self.taken.remove(task);
            }
        }
    }

    /// The delivery that has waited for the longest, among those of the tasks with the fewest slots.
    fn next(&mut self) -> Option<(TaskName, oneshot::Sender<Granted>)> {
        let first = |waiting: &VecDeque<(u64, _)>| waiting.front().map_or(u64::MAX, |(number, _)| *number);
        let rank = |(task, waiting): &(&TaskName, &VecDeque<_>)| {
            (self.taken.get(*task).copied().unwrap_or(0), first(waiting))
        };
        let task = self.waiting.iter().min_by_key(rank)?.0.clone();
        let waiting = self.waiting.get_mut(&task)?;
        let (_, sender) = waiting.pop_front()?;
        if waiting.is_empty() {
            self.waiting.remove(&task);
        }
        Some((task, sender))
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.slots.free(&self.task);
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        // Closed first: a slot that is granted from here on finds nobody, and goes to the next one.
        self.granted.close();
        if !self.ended && self.granted.try_recv().is_ok() {
            self.slots.free(self.task);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn task(name: &str) -> TaskName {
        name.parse().expect("a name")
    }

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ready) => Some(ready),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_free_slot_goes_to_the_task_with_the_fewest() {
        let (slots, noisy, quiet) = (Slots::new(2), task("noisy"), task("quiet"));
        let one = poll(pin!(slots.take(&noisy))).expect("a free slot");
        let two = poll(pin!(slots.take(&noisy))).expect("a free slot");
        let mut third = pin!(slots.take(&noisy));
        let mut other = pin!(slots.take(&quiet));
        assert!(poll(third.as_mut()).is_none() && poll(other.as_mut()).is_none());
        drop(one);
        let other = poll(other.as_mut()).expect("it waited for less time, and has no slot yet");
        assert!(poll(third.as_mut()).is_none());
        drop(two);
        let third = poll(third.as_mut()).expect("the only one that waits");
        drop((third, other));
        assert_eq!(slots.state().free, 2);
        assert!(slots.state().taken.is_empty() && slots.state().waiting.is_empty());
    }

    #[test]
    fn one_task_waits_in_order() {
        let (slots, noisy) = (Slots::new(1), task("noisy"));
        let slot = poll(pin!(slots.take(&noisy))).expect("a free slot");
        let mut first = pin!(slots.take(&noisy));
        let mut second = pin!(slots.take(&noisy));
        assert!(poll(first.as_mut()).is_none() && poll(second.as_mut()).is_none());
        drop(slot);
        assert!(poll(second.as_mut()).is_none());
        assert!(poll(first.as_mut()).is_some());
    }

    #[test]
    fn a_slot_of_a_delivery_that_waits_no_more_is_not_lost() {
        let (slots, name) = (Slots::new(1), task("a"));
        let slot = poll(pin!(slots.take(&name))).expect("a free slot");
        let mut before = Box::pin(slots.take(&name));
        let mut after = Box::pin(slots.take(&name));
        assert!(poll(before.as_mut()).is_none() && poll(after.as_mut()).is_none());
        drop(before);
        drop(slot);
        // The slot is granted by now, and nobody has seen it.
        drop(after);
        assert_eq!(slots.state().free, 1);
        assert!(poll(pin!(slots.take(&name))).is_some());
    }
}
