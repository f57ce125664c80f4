//! SQS's API as a simulated process calls it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;
use wasq_engine::Child;
use wasq_protocol::{DeadLetter, Delivery, Timestamp};

use crate::process::{Manners, Process};
use crate::queue::{EntryResult, Handed, chance};
use crate::world::{State, id_of};

/// The longest visibility timeout that SQS allows.
pub const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 3600);
/// The time after which an answer counts as late, as in the AWS adapter.
pub const ANSWER_TIME: Duration = Duration::from_secs(1);
/// The most entries that one batch call of SQS takes.
const BATCH_MAX: usize = 10;

/// Receives, waiting for the first message for up to `wait`.
pub async fn receive(process: &Arc<Process>, wait: Duration) -> Result<Vec<Handed>> {
    let world = &process.world;
    process.call_as("sqs.receive", Manners::Slow, |_| ()).await?;
    let deadline = Instant::now() + wait;
    let handed = loop {
        let arrived = world.arrivals.notified();
        let now = world.now();
        let (handed, next) = world.state(|state| {
            let (handed, redriven) =
                state.queue.receive(wait.is_zero(), world.scenario.lease(), now, &mut state.rng);
            for (message_id, stored) in redriven {
                state.dead(&id_of(&stored.body, &message_id), None);
            }
            (handed, state.queue.next_visible(now))
        });
        if !handed.is_empty() || Instant::now() >= deadline {
            break handed;
        }
        let next = next.map_or(deadline, |next| deadline.min(Instant::now() + next.since(now)));
        tokio::select! {
            biased;
            () = arrived => {}
            () = tokio::time::sleep_until(next) => {}
        }
    };
    let ids: Vec<_> = handed.iter().map(|handed| id_of(&handed.stored.body, &handed.message_id)).collect();
    let now = world.now();
    world.state(|state| ids.iter().for_each(|id| state.ledger.received(id, now)));
    process.holds(ids, BTreeSet::new());
    let late = world.state(|state| {
        for handed in handed.iter().filter(|handed| handed.unkind) {
            state.fault(&id_of(&handed.stored.body, &handed.message_id));
        }
        let late = state.storm && chance(&mut state.rng, 0.005);
        Duration::from_millis(if late { state.rng.u64(500..4000) } else { 2 })
    });
    if late > ANSWER_TIME {
        process.fault();
    }
    tokio::time::sleep(late).await;
    process.step().await;
    Ok(handed)
}

/// Makes batch calls. Returns one result for each entry.
async fn batches<E: Clone + Send + 'static>(
    process: &Arc<Process>,
    call: &'static str,
    entries: Vec<E>,
    effect: impl Fn(&mut State, Timestamp, E) -> EntryResult + Clone + Send + 'static,
) -> Vec<Result<()>> {
    let mut results = Vec::with_capacity(entries.len());
    for batch in entries.chunks(BATCH_MAX) {
        let (world, effect, count) = (process.world.clone(), effect.clone(), batch.len());
        let batch = batch.to_vec();
        let answer = process
            .call(call, move |state| {
                let now = world.now();
                batch.into_iter().map(|entry| effect(state, now, entry)).collect::<Vec<_>>()
            })
            .await;
        match answer {
            Ok(entries) => {
                if entries.iter().any(|entry| entry.is_err()) {
                    process.fault();
                }
                results.extend(entries.into_iter().map(|entry| entry.map_err(|e| anyhow!(e))));
            }
            Err(e) => results.extend((0..count).map(|_| Err(anyhow!("{e}")))),
        }
    }
    results
}

/// Makes messages visible after the given times from now, by receipt handle.
pub async fn set_visibility(process: &Arc<Process>, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
    batches(process, "sqs.visibility", entries, |state, now, (receipt, after)| {
        // SQS counts whole seconds.
        let after = Duration::from_secs(after.as_millis().div_ceil(1000) as u64).min(VISIBILITY_MAX);
        state.arrivals.notify_waiters();
        state.queue.set_visibility(&receipt, after, now, &mut state.rng)
    })
    .await
}

/// Deletes by receipt handle.
pub async fn delete(process: &Arc<Process>, receipts: Vec<String>) -> Vec<Result<()>> {
    batches(process, "sqs.delete", receipts, |state, _, receipt| state.queue.delete(&receipt, &mut state.rng))
        .await
}

/// Sends children, and tells the ledger.
pub async fn send_children(process: &Arc<Process>, children: Vec<Child>) -> Vec<Result<()>> {
    batches(process, "sqs.send", children, |state, now, child: Child| {
        let fails = state.queue.moods.entry_fails;
        if chance(&mut state.rng, fails) {
            return Err("InternalError");
        }
        state.send_child(child.message.to_json(), now);
        Ok(())
    })
    .await
}

/// Sends copies to the dead-letter queue.
pub async fn send_dead_letters(
    process: &Arc<Process>,
    letters: Vec<(Delivery, DeadLetter)>,
) -> Vec<Result<()>> {
    batches(process, "sqs.send", letters, |state, _, (_, letter): (Delivery, DeadLetter)| {
        let fails = state.queue.moods.entry_fails;
        if chance(&mut state.rng, fails) {
            return Err("InternalError");
        }
        state.dead(&letter.id, Some(letter.failure.kind));
        Ok(())
    })
    .await
}
