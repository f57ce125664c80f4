//! The ports of consumer, worker and publisher on a simulated world. What is wrong with a mutated protocol is wrong here.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;
use wasq_consumer::{InFlight, InvokeError, Invoker, Source};
use wasq_engine::Child;
use wasq_protocol::{
    Artifact, DeadLetter, Delivery, Digest, Fingerprint, LiveRecord, SecretError, SecretSource, SecretValue,
    TaskName, Timestamp,
};
use wasq_publisher::{Bucket as BucketPort, Compiled, Compiler, Condition, Object, Put};
use wasq_runtime::{ArtifactError, CheckedArtifact, Finished, Observer, Ports, Queue, Registry, Visibility};

use crate::lambda::{Lambda, deliveries, ids};
use crate::process::{Manners, Process};
use crate::queue::{EntryResult, Handed, chance};
use crate::script::ScriptRunner;
use crate::world::{Bucket, CODE, Mutation, State, VirtualClock, id_of};

/// What our scripts are compiled for.
pub fn fingerprint() -> Fingerprint {
    Fingerprint("script".to_owned())
}

/// The longest visibility that SQS knows.
const VISIBILITY_MAX: Duration = Duration::from_secs(12 * 3600);
/// As in the AWS adapter: the answer took at most this long, or it counts as late.
const ANSWER_TIME: Duration = Duration::from_secs(1);
/// As many as one batch call of SQS takes.
const BATCH_MAX: usize = 10;

/// The task queue, as the consumer sees it.
pub struct SimSource(pub Arc<Process>);

/// Receives, waiting for the first message for up to `wait`.
pub async fn receive(process: &Arc<Process>, wait: Duration) -> Result<Vec<Handed>> {
    let world = &process.world;
    process.call_as("sqs.receive", Manners::Slow, |_| ()).await?;
    let deadline = Instant::now() + wait;
    let handed = loop {
        let arrived = world.arrivals.notified();
        let now = world.now();
        let (handed, next) = world.state(|state| {
            let (handed, redriven) = state.queue.receive(wait.is_zero(), world.lease(), now, &mut state.rng);
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

impl Source for SimSource {
    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>> {
        let handed = receive(&self.0, wait).await?;
        let world = &self.0.world;
        let lease_until = world.now().plus(world.lease()).minus(ANSWER_TIME);
        let forgotten = world.scenario.mutation == Some(Mutation::AttemptsForgotten);
        let delivery = |Handed { message_id, receipt, stored, unkind: _ }: Handed| Delivery {
            message_id,
            receipt,
            receive_count: if forgotten { 1 } else { stored.receive_count },
            lease_until,
            first_received: stored.first_received.expect("it was received"),
            sent: stored.sent,
            attributes: stored.attributes,
            body: stored.body,
            group: None,
            trace_header: None,
        };
        Ok(handed.into_iter().map(delivery).collect())
    }

    async fn give_back(&self, mut entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        if self.0.world.scenario.mutation == Some(Mutation::GivenBackAtOnce) {
            entries.iter_mut().for_each(|(_, after)| *after = Duration::ZERO);
        }
        set_visibility(&self.0, entries).await
    }

    async fn send_dead_letter(&self, delivery: &Delivery, letter: &DeadLetter) -> Result<()> {
        let letters = vec![(delivery.clone(), letter.clone())];
        send_dead_letters(&self.0, letters).await.into_iter().collect()
    }

    async fn delete(&self, receipt: &str) -> Result<()> {
        delete(&self.0, vec![receipt.to_owned()]).await.into_iter().collect()
    }
}

/// Lambda's asynchronous invoke, as the consumer sees it.
pub struct SimInvoker {
    pub process: Arc<Process>,
    pub lambda: Arc<Lambda>,
}

impl Invoker for SimInvoker {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        let (lambda, accepted) = (self.lambda.clone(), event.clone());
        let ids = ids(&event);
        let busy = self.lambda.refuses();
        let answer = self
            .process
            .call("lambda.invoke", move |state| {
                if !busy {
                    lambda.accept(state, accepted);
                }
            })
            .await;
        match answer {
            Ok(()) if busy => {
                // It may cost the messages a receive.
                self.process.world.state(|state| ids.iter().for_each(|id| state.fault(id)));
                Err(InvokeError::Throttled("TooManyRequestsException".to_owned()))
            }
            Ok(()) => {
                if self.process.world.scenario.mutation == Some(Mutation::DeleteOnHandOver) {
                    let deliveries = deliveries(&event, Timestamp::from_ms(0), Duration::ZERO);
                    delete(&self.process, deliveries.into_iter().map(|d| d.receipt).collect()).await;
                }
                // Whatever happens to the consumer now does not touch them.
                self.process.lets_go(&ids);
                Ok(())
            }
            // A function that is not there, or may not be invoked, for a moment.
            Err(e) if e.to_string().contains("Throttling") && ids.len().is_multiple_of(2) => {
                Err(InvokeError::Refused(e.to_string()))
            }
            Err(e) if e.to_string().contains("Throttling") => Err(InvokeError::Throttled(e.to_string())),
            Err(e) => Err(InvokeError::Unknown(e.to_string())),
        }
    }

    async fn in_flight(&self) -> Result<InFlight> {
        let now = self.process.world.now();
        let answer = self.process.call("sqs.attributes", move |state| state.queue.in_flight(now)).await;
        answer.map(InFlight::AtMost)
    }

    async fn has_room(&self) -> Result<bool> {
        let busy = self.lambda.refuses() || !self.lambda.has_place();
        self.process.call("lambda.invoke", move |_| !busy).await
    }
}

/// The ports of a simulated worker.
pub struct SimPorts;

impl Ports for SimPorts {
    type Queue = WorkerQueue;
    type Registry = SimRegistry;
    type SecretStore = NoSecrets;
    type Runner = ScriptRunner;
    type Observer = Nobody;
    type Clock = VirtualClock;
}

/// Simulated tasks have no secrets.
pub struct NoSecrets;

impl wasq_runtime::SecretStore for NoSecrets {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        Err(SecretError::Missing(format!("there is no {from} in this world")))
    }
}

impl wasq_publisher::SecretStore for NoSecrets {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        Err(SecretError::Missing(format!("there is no {from} in this world")))
    }
}

pub struct Nobody;

impl Observer for Nobody {
    fn finished(&self, _: &Finished<'_>) {}
}

/// The queues, as the worker sees them.
pub struct WorkerQueue {
    process: Arc<Process>,
    /// What a mutated protocol does after the delete that it should have done before.
    postponed: Mutex<Vec<Postponed>>,
}

enum Postponed {
    Children(Vec<Child>),
    DeadLetters(Vec<(Delivery, DeadLetter)>),
}

impl WorkerQueue {
    pub fn new(process: Arc<Process>) -> Self {
        Self { process, postponed: Mutex::default() }
    }

    fn mutation(&self) -> Option<Mutation> {
        self.process.world.scenario.mutation
    }

    fn postpone(&self, what: Postponed) {
        self.postponed.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    fn answered(&self, results: Vec<Result<()>>) -> Vec<Result<()>> {
        match self.mutation() {
            Some(Mutation::EntryFailuresIgnored) => results.into_iter().map(|_| Ok(())).collect(),
            _ => results,
        }
    }
}

fn all_well(count: usize) -> Vec<Result<()>> {
    (0..count).map(|_| Ok(())).collect()
}

impl Queue for WorkerQueue {
    async fn set_visibility(&self, entries: Vec<Visibility>) -> Vec<Result<()>> {
        match self.mutation() {
            Some(Mutation::NoHeartbeat) if entries.iter().all(|entry| entry.held) => {
                return all_well(entries.len());
            }
            Some(Mutation::NeverGivenBack) if entries.iter().all(|entry| !entry.held) => {
                let entries = entries.into_iter().map(|entry| (entry.receipt, VISIBILITY_MAX));
                return set_visibility(&self.process, entries.collect()).await;
            }
            _ => {}
        }
        let entries = entries.into_iter().map(|entry| (entry.receipt, entry.after)).collect();
        self.answered(set_visibility(&self.process, entries).await)
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        let results = delete(&self.process, receipts).await;
        let postponed = std::mem::take(&mut *self.postponed.lock().unwrap_or_else(PoisonError::into_inner));
        for what in postponed {
            match what {
                Postponed::Children(children) => send_children(&self.process, children).await,
                Postponed::DeadLetters(letters) => send_dead_letters(&self.process, letters).await,
            };
        }
        self.answered(results)
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        if self.mutation() == Some(Mutation::DeleteBeforeChildren) {
            let count = children.len();
            self.postpone(Postponed::Children(children));
            return all_well(count);
        }
        self.answered(send_children(&self.process, children).await)
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        match self.mutation() {
            Some(Mutation::NoDeadLetters) => all_well(letters.len()),
            Some(Mutation::DeleteBeforeDeadLetter) => {
                let count = letters.len();
                self.postpone(Postponed::DeadLetters(letters));
                all_well(count)
            }
            _ => self.answered(send_dead_letters(&self.process, letters).await),
        }
    }
}

/// Spreads the answers of batch calls over their entries.
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

async fn set_visibility(process: &Arc<Process>, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
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
        if let (Some(id), Some(parent)) = (&child.message.id, &child.message.parent) {
            state.ledger.child_sent(id, parent);
        }
        state.send(child.message.to_json(), Default::default(), child.delay, now);
        Ok(())
    })
    .await
}

async fn send_dead_letters(process: &Arc<Process>, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
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

/// The registry, as the worker sees it.
pub struct SimRegistry {
    pub process: Arc<Process>,
}

impl Registry for SimRegistry {
    async fn live(&self, task: &TaskName) -> Result<Option<LiveRecord>> {
        let key = LiveRecord::key(task);
        let object = self.process.call("s3.get", move |state| state.registry.get(&key)).await?;
        Ok(object.map(|(bytes, _)| serde_json::from_slice(&bytes)).transpose()?)
    }

    async fn artifact(
        &self,
        fingerprint: &Fingerprint,
        module: &Digest,
        artifact: &Artifact,
    ) -> Result<CheckedArtifact, ArtifactError> {
        let key = LiveRecord::artifact_key(fingerprint, module);
        let (wanted, expected) = (key.clone(), artifact.sha256);
        let found = self.process.call("s3.get", move |state| {
            let found = state.registry.get(&wanted);
            if found.is_none() && !state.removed.contains(&wanted) {
                state.ledger.violation(format!("the live record names {wanted}, which is not there"));
            }
            found.is_some_and(|(code, _)| Digest::of(&code) == expected)
        });
        match found.await {
            Ok(true) => Ok(CheckedArtifact::unchecked(PathBuf::from(key))),
            Ok(false) => {
                self.process.fault();
                Err(ArtifactError::Missing(format!("no {key}")))
            }
            Err(e) => Err(ArtifactError::Unavailable(e)),
        }
    }

    async fn request_artifact(&self, task: &TaskName) -> Result<()> {
        let (world, task) = (self.process.world.clone(), task.clone());
        self.process
            .call("lambda.invoke", move |_| {
                tokio::spawn(async move { crate::system::recompile(&world, &task).await });
            })
            .await
    }
}

/// A bucket, as the publisher sees it.
pub struct SimBucket {
    pub process: Arc<Process>,
    pub bucket: fn(&mut State) -> &mut Bucket,
}

impl BucketPort for SimBucket {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        let (bucket, key) = (self.bucket, key.to_owned());
        let object = self.process.call("s3.get", move |state| bucket(state).get(&key)).await?;
        Ok(object.map(|(bytes, tag)| Object { bytes, tag: tag.to_string() }))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Put> {
        let (bucket, key) = (self.bucket, key.to_owned());
        self.process
            .call("s3.put", move |state| {
                let bucket = bucket(state);
                let tag = bucket.get(&key).map(|(_, tag)| tag.to_string());
                let holds = match condition {
                    Condition::Always => true,
                    Condition::Absent => tag.is_none(),
                    Condition::Unchanged(wanted) => tag == Some(wanted),
                };
                if !holds {
                    return Put::Conflict;
                }
                bucket.put(&key, bytes);
                Put::Done
            })
            .await
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let (bucket, key) = (self.bucket, key.to_owned());
        self.process.call("s3.delete", move |state| bucket(state).remove(&key)).await
    }
}

/// Compiles scripts: a second of work.
pub struct ScriptCompiler {
    pub process: Arc<Process>,
    pub fingerprint: Fingerprint,
}

impl Compiler for ScriptCompiler {
    fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    async fn compile(&self, module: Vec<u8>) -> Result<Compiled> {
        self.process.step().await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.process.step().await;
        let machine_code = [CODE, &module].concat();
        Ok(Compiled::Fits { module, machine_code })
    }
}
