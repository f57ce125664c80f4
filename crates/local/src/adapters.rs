//! The ports of consumer and worker on the local queue, in this process.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wasq_consumer::{ConsumerPorts, InvokeError, Invoker, Source};
use wasq_engine::Child;
use wasq_protocol::{Attribute, Clock, DeadLetter, Delivery, Invoke, SystemClock, TaskName, Timestamp};
use wasq_runtime::{Queue, Release, Wasm, Worker, WorkerPorts};

use crate::db::Durability;
use crate::folder::FolderRegistry;
use crate::results::Results;
use crate::runs::LocalRuns;
use crate::secrets::LocalSecrets;
use crate::sqs::error::SqsError;
use crate::sqs::fair::{Fair, InFlight};
use crate::sqs::messages::{Receive, Send, Visibility};
use crate::sqs::queues::Queues;
use crate::sqs::received::Received;
use crate::timer::LocalTimer;

/// The task queue and its dead-letter queue, as consumer and worker see them.
#[derive(Clone)]
pub(crate) struct TaskQueue {
    pub(crate) queues: Queues,
    pub(crate) name: String,
    pub(crate) dead_letters: String,
    pub(crate) lease: Duration,
    /// Names this process. When another process starts, it releases the messages that this one holds.
    pub(crate) holder: String,
    /// Tasks that run at once. A task with this many messages in flight lets the others go first.
    pub(crate) slots: usize,
    /// The messages that were received, and neither deleted nor released.
    pub(crate) in_flight: Arc<InFlight>,
    /// Set while the stack takes no more messages.
    pub(crate) paused: Arc<AtomicBool>,
    /// Set when the stack is to stop.
    pub(crate) stop: CancellationToken,
}

impl Source for TaskQueue {
    async fn receive(&self, wait: Duration) -> Result<Vec<Delivery>> {
        let receive = Receive {
            max: 10,
            visibility: Some(self.lease),
            holder: Some(self.holder.clone()),
            attempt_id: None,
            paused: Some(self.paused.clone()),
            fair: Some(Fair { many: self.slots, in_flight: self.in_flight.clone() }),
        };
        let received = tokio::select! {
            received = self.queues.receive(self.name.clone(), receive, Some(wait)) => received?,
            () = self.stop.cancelled() => return Ok(Vec::new()),
        };
        self.in_flight.received(&received, now_ms());
        Ok(received.into_iter().map(delivery).collect())
    }

    async fn release(&self, entries: Vec<(String, Duration)>) -> Vec<Result<()>> {
        let released = entries.into_iter().map(|(receipt, after)| Release { receipt, after, ran: false });
        Queue::release(self, released.collect()).await
    }

    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        Queue::extend(self, receipts, lease).await
    }
}

impl Queue for TaskQueue {
    async fn extend(&self, receipts: Vec<String>, lease: Duration) -> Vec<Result<()>> {
        self.in_flight.extended(&receipts, now_ms() + whole_seconds(lease) * 1000);
        let entry = |handle| Visibility { handle, seconds: whole_seconds(lease), held: true, ended: false };
        self.set_visibility(receipts.into_iter().map(entry).collect()).await
    }

    async fn release(&self, entries: Vec<Release>) -> Vec<Result<()>> {
        self.in_flight.ended(entries.iter().map(|entry| &entry.receipt));
        let entry = |Release { receipt, after, ran }| Visibility {
            handle: receipt,
            seconds: whole_seconds(after),
            held: false,
            ended: ran,
        };
        self.set_visibility(entries.into_iter().map(entry).collect()).await
    }

    async fn delete(&self, receipts: Vec<String>) -> Vec<Result<()>> {
        self.in_flight.ended(receipts.iter());
        // The ends of these messages are in the same file, and synced. After a power cut, a message may come again: its end is found, and
        // it is deleted without a run.
        let (count, sync) = (receipts.len(), Durability::Unsynced);
        spread(count, self.queues.delete_messages(self.name.clone(), receipts, sync).await)
    }

    async fn send(&self, children: Vec<Child>) -> Vec<Result<()>> {
        let messages: Vec<_> = children.into_iter().map(child).collect();
        spread(messages.len(), self.queues.send(self.name.clone(), messages).await)
    }

    async fn send_dead_letters(&self, letters: Vec<(Delivery, DeadLetter)>) -> Vec<Result<()>> {
        let messages: Vec<_> =
            letters.iter().map(|(delivery, letter)| dead_letter(delivery, letter)).collect();
        spread(messages.len(), self.queues.send(self.dead_letters.clone(), messages).await)
    }
}

impl TaskQueue {
    /// Makes the messages visible that were released because a task was not live.
    pub(crate) async fn wake_waiting(&self, task: &TaskName) -> Result<(), SqsError> {
        self.queues.wake_waiting(self.name.clone(), task.to_string()).await
    }

    async fn set_visibility(&self, entries: Vec<Visibility>) -> Vec<Result<()>> {
        let count = entries.len();
        spread(count, self.queues.set_visibility(self.name.clone(), entries).await)
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemClock.now().ms()).expect("the clock ends in the year 9999")
}

/// Whole seconds, as SQS counts; a part of one is one.
fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(i64::MAX)
}

/// One result per entry, even if the whole call failed.
fn spread<T>(count: usize, results: Result<Vec<Result<T, SqsError>>, SqsError>) -> Vec<Result<()>> {
    match results {
        Ok(results) => results.into_iter().map(|result| result.map(|_| ()).map_err(Into::into)).collect(),
        Err(e) => (0..count).map(|_| Err(anyhow!("{e}"))).collect(),
    }
}

fn child(child: Child) -> Send {
    Send {
        body: child.message.to_json(),
        delay: Some(i64::try_from(child.delay.as_secs()).unwrap_or(i64::MAX)),
        group: Some(child.group.unwrap_or_else(|| child.message.task.to_string())),
        trace_header: child.trace_header,
        ..Send::default()
    }
}

fn dead_letter(delivery: &Delivery, letter: &DeadLetter) -> Send {
    let (attributes, dropped) = letter.copy_attributes(delivery);
    if !dropped.is_empty() {
        tracing::warn!(
            id = letter.id,
            ?dropped,
            "some attributes of the sender do not fit into the dead letter together with ours"
        );
    }
    let attributes = attributes.iter().map(|(name, attribute)| (name.clone(), sqs_attribute(attribute)));
    Send {
        body: delivery.body.clone(),
        group: delivery.group.clone(),
        trace_header: delivery.trace_header.clone(),
        attributes: attributes.collect(),
        ..Send::default()
    }
}

pub(crate) fn sqs_attribute(attribute: &Attribute) -> Value {
    match &attribute.binary_value {
        Some(value) => json!({ "DataType": attribute.data_type, "BinaryValue": value }),
        None => json!({ "DataType": attribute.data_type, "StringValue": attribute.string_value }),
    }
}

pub(crate) fn our_attribute(value: &Value) -> Attribute {
    let text = |key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    Attribute {
        data_type: text("DataType").unwrap_or_default(),
        string_value: text("StringValue"),
        binary_value: text("BinaryValue"),
    }
}

fn delivery(message: Received) -> Delivery {
    let ms = |ms: i64| Timestamp::from_ms(u64::try_from(ms).unwrap_or(0));
    let attributes = message.attributes.iter().map(|(name, value)| (name.clone(), our_attribute(value)));
    Delivery {
        attributes: attributes.collect(),
        message_id: message.message_id,
        body: message.body,
        receipt: message.receipt_handle,
        receive_count: message.receive_count,
        lease_until: ms(message.visible_ms),
        first_received: ms(message.first_received_ms),
        sent: ms(message.sent_ms),
        group: message.group,
        trace_header: message.trace_header,
        deaths: message.deaths,
    }
}

/// The worker of the single-machine stack.
pub(crate) type LocalWorker = Worker<Local>;

/// The worker's ports on this machine.
pub(crate) struct Local;

impl ConsumerPorts for Local {
    type Source = TaskQueue;
    type Invoker = LocalInvoker;
    type Clock = SystemClock;
}

impl WorkerPorts for Local {
    type Queue = TaskQueue;
    type Registry = FolderRegistry;
    type SecretStore = LocalSecrets;
    type Runs = LocalRuns;
    type Timer = LocalTimer;
    type Runner = Wasm;
    type Observer = Results;
    type Clock = SystemClock;
}

/// Invokes the worker in this process, as Lambda does on AWS: with the same JSON, and it goes on if nobody waits for it.
#[derive(Clone)]
pub(crate) struct LocalInvoker {
    pub(crate) worker: LocalWorker,
    running: Arc<Mutex<JoinSet<()>>>,
}

/// The longest time of an invoke: the same as Lambda's.
const INVOKE_TIME: Duration = Duration::from_secs(15 * 60);

impl LocalInvoker {
    pub(crate) fn new(worker: LocalWorker) -> Self {
        Self { worker, running: Arc::default() }
    }

    /// Waits until every invoke has ended.
    pub(crate) async fn ended(&self) {
        let mut running = std::mem::take(&mut *self.running());
        while running.join_next().await.is_some() {}
    }

    fn running(&self) -> std::sync::MutexGuard<'_, JoinSet<()>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Invoker for LocalInvoker {
    async fn invoke(&self, event: String) -> Result<(), InvokeError> {
        let worker = self.worker.clone();
        let (sender, ended) = oneshot::channel();
        {
            let mut running = self.running();
            while running.try_join_next().is_some() {}
            running.spawn(async move {
                let ends = SystemClock.now().plus(INVOKE_TIME);
                let answer = worker.handle(&event, Invoke::until(ends)).await;
                // Nobody may wait for it any more.
                let _ = sender.send(answer.map(|_| ()));
            });
        }
        match ended.await {
            Ok(answer) => answer.map_err(|e| InvokeError::Refused(e.to_string())),
            Err(_) => Err(InvokeError::Died("the worker panicked".to_owned())),
        }
    }

    fn in_flight(&self) -> Option<u64> {
        Some(self.worker.in_flight())
    }
}
