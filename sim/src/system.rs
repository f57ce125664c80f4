//! wasq in a simulated world: the production code of consumer, worker and publisher, on simulated ports.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use wasq_consumer::{DrainSettings, Mode, drain};
use wasq_protocol::TaskName;
use wasq_publisher::Publisher;
use wasq_runtime::Answer;

use crate::adapters::{
    NoSecrets, ScriptCompiler, SimBucket, SimInvoker, SimSource, delete, fingerprint, receive,
};
use crate::lambda::Lambda;
use crate::process::{Kind, Process};
use crate::queue::Handed;
use crate::world::{Drain, MAX_ATTEMPTS, State, TIMEOUT, VirtualClock, World};

/// How long the queue keeps messages, and the last net under it.
pub const RETENTION: Duration = Duration::from_secs(4 * 24 * 3600);
pub const RECEIVES_MAX: u32 = 1000;

/// The schedule's rate.
const TICK: Duration = Duration::from_secs(60);
/// How long a consumer has: it goes on until the next one has certainly begun.
const CONSUMER_TIME: Duration = Duration::from_secs(64);
/// No more than Lambda may run at once, so that no event waits until it is dropped.
const IN_FLIGHT_MAX: u64 = 60;
/// Pollers of an event source mapping.
const POLLERS: usize = 5;

/// Starts what drains the queue.
pub fn start(world: &Arc<World>, lambda: &Arc<Lambda>) {
    match world.scenario.drain {
        Drain::Schedule(mode) => {
            tokio::spawn(schedule(world.clone(), lambda.clone(), mode));
        }
        Drain::EventSource => {
            for _ in 0..POLLERS {
                tokio::spawn(event_source(world.clone(), lambda.clone()));
            }
        }
    }
}

/// EventBridge Scheduler: a consumer every minute.
async fn schedule(world: Arc<World>, lambda: Arc<Lambda>, mode: Mode) {
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        let (world, lambda) = (world.clone(), lambda.clone());
        tokio::spawn(async move {
            let process = Process::start(&world, Kind::Consumer);
            let source = SimSource(process.clone());
            let invoker = SimInvoker { process: process.clone(), lambda };
            let settings = DrainSettings {
                mode,
                until: world.now().plus(CONSUMER_TIME),
                receivers: 4,
                held_bytes_max: 32 << 20,
                in_flight_max: IN_FLIGHT_MAX.min(world.places() as u64),
            };
            let started = world.now();
            process.live(drain(&source, &invoker, &world.clock(), settings)).await;
            world.state(|state| {
                let ran = world.now().since(started).as_millis() as u64;
                *state.ran_ms.entry(Kind::Consumer).or_default() += ran;
                *state.calls.entry("scheduler.invoke").or_default() += 1;
            });
        });
    }
}

/// Lambda's own poller: receives, invokes, waits for the answer, and deletes what the answer does not name.
async fn event_source(world: Arc<World>, lambda: Arc<Lambda>) {
    let poller = Process::immortal(&world, Kind::Consumer);
    loop {
        let Ok(handed) = receive(&poller, Duration::from_secs(20)).await else { continue };
        if handed.is_empty() {
            continue;
        }
        let event = event(&handed);
        let answer = lambda.invoke(&event).await;
        if let Some(Answer::EventSource(response)) = answer {
            let failed =
                |handed: &Handed| response.failures.iter().any(|f| f.message_id == handed.message_id);
            let done = handed.iter().filter(|handed| !failed(handed)).map(|handed| handed.receipt.clone());
            let done: Vec<String> = done.collect();
            if !done.is_empty() {
                delete(&poller, done).await;
            }
        }
        poller.holds_nothing();
    }
}

/// An event as Lambda makes it of received messages.
fn event(handed: &[Handed]) -> String {
    let record = |Handed { message_id, receipt, stored, unkind: _ }: &Handed| {
        json!({
            "messageId": message_id,
            "receiptHandle": receipt,
            "body": stored.body,
            "eventSource": "aws:sqs",
            "attributes": {
                "ApproximateReceiveCount": stored.receive_count.to_string(),
                "ApproximateFirstReceiveTimestamp":
                    stored.first_received.expect("it was received").ms().to_string(),
                "SentTimestamp": stored.sent.ms().to_string(),
            },
        })
    };
    json!({ "Records": handed.iter().map(record).collect::<Vec<_>>() }).to_string()
}

fn publisher(
    process: &Arc<Process>,
) -> Publisher<SimBucket, SimBucket, NoSecrets, ScriptCompiler, VirtualClock> {
    let bucket =
        |bucket: fn(&mut State) -> &mut crate::world::Bucket| SimBucket { process: process.clone(), bucket };
    Publisher {
        tasks: bucket(|state| &mut state.tasks),
        registry: bucket(|state| &mut state.registry),
        secrets: NoSecrets,
        compiler: ScriptCompiler { process: process.clone(), fingerprint: fingerprint() },
        clock: process.world.clock(),
    }
}

/// Uploads a task, and publishes it: again and again until it is live, as its author would.
pub async fn upload(world: &Arc<World>, task: &str, module: &str) {
    let task: TaskName = task.parse().expect("a name");
    let settings = format!(
        "timeout = \"{}s\"\nmax_attempts = {MAX_ATTEMPTS}\nbackoff = {{ base = \"2s\", cap = \"60s\" }}\n",
        TIMEOUT.as_secs()
    );
    world.state(|state| {
        state.tasks.put(&format!("{task}.toml"), settings.into_bytes());
        state.tasks.put(&format!("{task}.wasm"), module.as_bytes().to_vec());
    });
    loop {
        let process = Process::start(world, Kind::Publisher);
        if let Some(Ok(_)) = process.live(publisher(&process).publish(&task)).await {
            return;
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// Compiles what is live once more, as a worker asked.
pub async fn recompile(world: &Arc<World>, task: &TaskName) {
    let process = Process::start(world, Kind::Publisher);
    // If it dies or fails, the next worker asks again.
    let _ = process.live(publisher(&process).recompile(task)).await;
}
