//! Notes about messages that no delivery has claimed: those that are given up before a run, and those that wait for their time.

use wasq_protocol::{
    Clock, Failure, FailureKind, ItemState, ItemWrite, Message, RunItem, Settings, Timestamp, Written,
};

use crate::delivery::Facts;
use crate::ports::{Runs, WorkerPorts};
use crate::runs::{end, put, revision};
use crate::state::WorkerState;

/// Writes the ends of messages that are given up without a claim, such as those that are no messages. Items of other messages with
/// the same ids stay.
pub(crate) async fn note_dead<P: WorkerPorts>(
    worker: &WorkerState<P>,
    runs: &P::Runs,
    dead: Vec<(&Facts, &Failure)>,
) {
    if dead.is_empty() {
        return;
    }
    let now = worker.ports.clock.now();
    let keep = Settings::default().keep.min(worker.settings.caps.keep);
    let write = |(facts, failure): (&Facts, &Failure)| {
        let mut item = RunItem::new(facts.id.clone(), ItemState::Dead, now);
        item.revision = revision();
        item.task = facts.task.clone();
        item.parent = facts.parent.clone();
        item.message_id = facts.delivery.as_ref().map(|delivery| delivery.message_id.clone());
        item.sent = facts.delivery.as_ref().map(|delivery| delivery.sent);
        item.set_failure(failure.kind, &failure.message);
        end(&mut item, ItemState::Dead, now);
        item.keep_for(keep, now);
        ItemWrite { item, replaces: None }
    };
    let writes: Vec<_> = dead.into_iter().map(write).collect();
    let answers = put(runs, &writes).await;
    let again = writes.into_iter().zip(answers).filter_map(|(ItemWrite { item, .. }, answer)| match answer {
        Ok(Written::Refused(Some(stored)))
            if stored.message_id == item.message_id && !is_over(stored.state) =>
        {
            let item = RunItem {
                params: stored.params,
                params_json: stored.params_json.clone(),
                attempts: stored.attempts,
                cut_off: stored.cut_off,
                history: stored.history.clone(),
                steps: stored.steps.clone(),
                started: stored.started,
                ..item
            };
            Some(ItemWrite { item, replaces: Some(stored.revision) })
        }
        Ok(_) => None,
        Err(e) => {
            tracing::warn!(id = item.id, "the end of the message is not remembered: {e:#}");
            None
        }
    });
    let again: Vec<_> = again.collect();
    if !again.is_empty() {
        put(runs, &again).await;
    }
}

/// Notes that messages wait outside of the queue until their times. Returns the ids of those that somebody has cancelled. Items that
/// are there stay as they are.
pub(crate) async fn note_delayed<P: WorkerPorts>(
    worker: &WorkerState<P>,
    runs: &P::Runs,
    delayed: Vec<(&Facts, &Message, Timestamp)>,
) -> Vec<String> {
    let now = worker.ports.clock.now();
    let write = |(facts, message, at): (&Facts, &Message, Timestamp)| {
        let mut item = RunItem::new(facts.id.clone(), ItemState::Waiting, now);
        item.revision = revision();
        item.set_message(message, P::Runs::PARAMS_MAX);
        item.message_id = facts.delivery.as_ref().map(|delivery| delivery.message_id.clone());
        item.parent = message.parent.clone();
        item.root = message.root.clone();
        item.sent = facts.delivery.as_ref().map(|delivery| delivery.sent);
        item.next = Some(at);
        item.set_failure(FailureKind::Delayed, &format!("it waits until {at}, its not_before"));
        item.keep_for(at.since(now) + RunItem::LONGEST_IN_QUEUES, now);
        ItemWrite { item, replaces: None }
    };
    let writes: Vec<_> = delayed.into_iter().map(write).collect();
    let answers = put(runs, &writes).await;
    // The same message was sent before, with an earlier time.
    let later = writes.iter().zip(&answers).filter_map(|(ItemWrite { item, .. }, answer)| match answer {
        Ok(Written::Refused(Some(stored)))
            if stored.state == ItemState::Waiting
                && stored.params == item.params
                && stored.kind == Some(FailureKind::Delayed)
                && stored.next < item.next =>
        {
            Some(ItemWrite { item: item.clone(), replaces: Some(stored.revision.clone()) })
        }
        _ => None,
    });
    let later: Vec<_> = later.collect();
    if !later.is_empty() {
        put(runs, &later).await;
    }
    let cancelled =
        writes.into_iter().zip(answers).filter_map(|(ItemWrite { item, .. }, answer)| match answer {
            Ok(Written::Refused(Some(stored)))
                if stored.state == ItemState::Cancelled
                    && !stored.is_expired(now)
                    && (stored.params.is_none() || stored.params == item.params) =>
            {
                Some(item.id)
            }
            Ok(_) => None,
            Err(e) => {
                tracing::warn!(id = item.id, "nobody can see that the message waits, or cancel it: {e:#}");
                None
            }
        });
    cancelled.collect()
}

fn is_over(state: ItemState) -> bool {
    matches!(state, ItemState::Done | ItemState::Cancelled)
}
