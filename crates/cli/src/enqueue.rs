//! `wasq enqueue`: sends a message through SQS's API, as any client does.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tokio::time::Instant;
use wasq_aws::{Outbound, QueueEndpoint};
use wasq_local::LastStack;
use wasq_protocol::{
    AHEAD_MAX, Clock, Ended as MessageEnded, Message, RunItem, SystemClock, TaskName, Timestamp, Unfinished,
    check_id, parse_duration,
};
use wasq_schema::{Schema, Schemas};

use crate::output::{self, Ended, Progress, tell};
use crate::params::ParamsArgs;
use crate::registry::Registry;
use crate::runs::{Sent, Source, print_end, until_ended};
use crate::target::{QueueArgs, Target};

#[derive(Debug, clap::Args)]
pub(crate) struct Enqueue {
    /// The task's name
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    /// With -, each line of stdin is the params of a message of its own
    #[command(flatten)]
    pub(crate) params: ParamsArgs,
    /// Your own id for the message, by which the task can recognise a repetition
    #[arg(long, value_parser = message_id)]
    pub(crate) id: Option<String>,
    /// The message group, such as a customer: SQS then hands out messages fairly between groups. Child tasks inherit it
    #[arg(long, value_name = "GROUP")]
    pub(crate) group: Option<String>,
    /// Run no sooner than this time from now, such as 90m or 30d; at most 366 days
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, conflicts_with = "at")]
    pub(crate) delay: Option<Duration>,
    /// Run no sooner than this time, such as 2027-01-01T09:00:00+01:00; at most 366 days ahead
    #[arg(long, value_name = "TIME")]
    pub(crate) at: Option<Timestamp>,
    /// Send the message this many times, each with an id of its own
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) count: u32,
    /// Wait for the end of one message, and print the result; exit code 1 if the message was given up or cancelled
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
}

/// The most entries that one batch call takes.
const BATCH_MAX: usize = 10;
/// A name that is at least this similar is worth mentioning, from 0 to 1.
const SIMILAR: f64 = 0.75;
const SIMILAR_MAX: usize = 3;
/// Problems that are printed; with many messages, they are much the same.
const PROBLEMS_MAX: usize = 10;

fn message_id(text: &str) -> Result<String, String> {
    check_id(text).map(|()| text.to_owned())
}

pub(crate) async fn enqueue(args: Enqueue, json: bool) -> Result<Ended> {
    let bodies = bodies(&args)?;
    let count = bodies.len() * args.count as usize;
    ensure!(count == 1 || args.id.is_none(), "--id names one message, and these are {count}; leave it out");
    ensure!(count == 1 || !args.wait, "--wait waits for one message, and these are {count}");
    let unknown = unknown(&args).await;
    if let Some(schema) = params_schema(&args).await {
        for body in &bodies {
            let message = Message::parse(body)?;
            schema.check(message.params.get()).map_err(|mismatch| {
                anyhow!(
                    "the params do not fit: {mismatch} (`wasq tasks {} --schema` shows the schema)",
                    args.task
                )
            })?;
        }
    }
    let address = args.queue.clone().address().await?;
    // Before anything is sent: the deployment may remember no runs.
    let remembered = match (args.wait, &address.local) {
        (true, None) if args.queue.queue_url.is_some() => {
            bail!("--wait asks the deployment how the message ended: name it by --stack instead of its queue")
        }
        (true, None) => Some(Source::of(args.queue.target.clone()).await?),
        _ => None,
    };
    if let Some(unknown) = unknown {
        tell!("wasq: {unknown}");
    }
    let client = address.client().await;
    let sending = || format!("send to {}{}", address.url, address.hint());
    if let ([body], 1) = (&bodies[..], count) {
        let sent = client
            .send_message()
            .queue_url(&address.url)
            .message_body(body)
            .set_message_group_id(args.group)
            .send()
            .await;
        let sent = sent.map_err(wasq_aws::explain).with_context(sending)?;
        let message_id = sent.message_id.context("the queue answered without a message id")?;
        let sent = Sent { message_id: &message_id, params: RunItem::params_digest(&Message::parse(body)?) };
        if let Some(source) = remembered {
            let waiting = Progress::start(format!("waiting for {} {message_id}", args.task));
            let id = args.id.as_ref().unwrap_or(&message_id);
            let ended = until_ended(&source, id, Some(sent), args.timeout).await?;
            drop(waiting);
            return Ok(print_end(&ended, json));
        }
        let Some(endpoint) = address.local.filter(|_| args.wait) else {
            if json {
                output::value(&json!({ "message_id": message_id, "queue_url": address.url }));
            } else {
                output::text(&format!("{message_id}\n"));
            }
            return Ok(Ended::Well);
        };
        let waiting = Progress::start(format!("waiting for {} {message_id}", args.task));
        let result = result(&endpoint, args.id.as_deref(), sent, args.timeout).await?;
        drop(waiting);
        return Ok(print_end(&result, json));
    }
    let queue = QueueEndpoint::new(client, &address.url);
    let messages = bodies.iter().flat_map(|body| std::iter::repeat_n(body, args.count as usize));
    let _progress = Progress::start(format!("sending {count} messages"));
    Ok(send_many(&queue, messages, args.group.as_deref(), &address.url, json).await)
}

/// Sends messages in batches, and prints how many were sent.
async fn send_many(
    queue: &QueueEndpoint,
    mut bodies: impl Iterator<Item = &String>,
    group: Option<&str>,
    url: &str,
    json: bool,
) -> Ended {
    let (mut sent, mut problems) = (0, Vec::new());
    loop {
        let batch = bodies.by_ref().take(BATCH_MAX);
        let message = |body: &String| Outbound {
            body: body.clone(),
            group: group.map(str::to_owned),
            ..Outbound::default()
        };
        let batch: Vec<_> = batch.map(message).collect();
        if batch.is_empty() {
            break;
        }
        for result in queue.send(batch).await {
            match result {
                Ok(()) => sent += 1,
                Err(e) => problems.push(format!("{e:#}")),
            }
        }
    }
    if json {
        output::value(&json!({ "sent": sent, "problems": problems, "queue_url": url }));
    } else {
        output::text(&format!("{sent} messages sent\n"));
        problems.iter().take(PROBLEMS_MAX).for_each(|problem| tell!("wasq: not sent: {problem}"));
    }
    if problems.is_empty() { Ended::Well } else { Ended::InPart }
}

/// The bodies of the messages; each is sent `--count` times. If the worker would refuse one, it is refused here,
/// before any is in the queue.
fn bodies(args: &Enqueue) -> Result<Vec<String>> {
    let not_before = args.at.or_else(|| args.delay.map(|delay| SystemClock.now().plus(delay)));
    if let Some(not_before) = not_before {
        let ahead = not_before.since(SystemClock.now());
        ensure!(
            ahead <= AHEAD_MAX,
            "a message can wait for a year at most (366 days), and this one would wait longer"
        );
    }
    let mut bodies = Vec::new();
    for params in args.params.read_lines()? {
        let mut message = Message::new(args.task.clone(), params);
        message.id = args.id.clone();
        message.not_before = not_before;
        let body = message.to_json();
        Message::parse(&body)?;
        bodies.push(body);
    }
    Ok(bodies)
}

/// The schema of the task's params; `None` if it has none, or if that cannot be known.
async fn params_schema(args: &Enqueue) -> Option<Schema> {
    if args.queue.queue_url.is_some() {
        return None;
    }
    let target = args.queue.target.clone().target().await.ok()?;
    let record = Registry::of(&target).ok()?.task(&args.task).await.ok()?.live?;
    Schemas::of(record.version.schema.as_ref()?).ok()?.params
}

/// Says that no task of this name is live, with the names that are similar. `None` if it is live, or if that
/// cannot be known.
async fn unknown(args: &Enqueue) -> Option<String> {
    if args.queue.queue_url.is_some() {
        return None;
    }
    let target = args.queue.target.clone().target().await.ok()?;
    let registry = Registry::of(&target).ok()?;
    if registry.task(&args.task).await.ok()?.live.is_some() {
        return None;
    }
    let tasks = registry.tasks().await.ok()?;
    let live: Vec<_> = tasks.iter().filter_map(|task| Some(task.live.as_ref()?.task.as_str())).collect();
    let name = args.task.as_str();
    if let Target::Local(data) = &target
        && LastStack::of(data).is_some_and(|last| last.projects.contains(&args.task))
    {
        return Some(format!(
            "{name} is not live yet: `wasq dev` builds its project; the message waits for it"
        ));
    }
    let mut similar: Vec<_> = live
        .iter()
        .map(|other| (strsim::jaro_winkler(name, other), *other))
        .filter(|(how, _)| *how >= SIMILAR)
        .collect();
    similar.sort_by(|one, other| other.0.total_cmp(&one.0));
    let similar: Vec<_> = similar.iter().take(SIMILAR_MAX).map(|(_, other)| *other).collect();
    let hint = if similar.is_empty() { String::new() } else { format!("; similar: {}", similar.join(", ")) };
    let refused =
        tasks.iter().filter_map(|task| task.rejected.as_ref()).find(|refused| refused.task == args.task);
    Some(match refused {
        Some(refused) => {
            let what = if refused.fault { "is not published yet, and tried again" } else { "was refused" };
            format!("no task named {name} is live: its upload {what}: {}", refused.reason)
        }
        None => format!("no task named {name} is live{hint}; the message waits for it, up to a minute"),
    })
}

/// Asks the endpoint how a message ended, again and again until it has ended. Tells what happens meanwhile.
async fn result(endpoint: &str, id: Option<&str>, sent: Sent<'_>, timeout: Duration) -> Result<MessageEnded> {
    let Sent { message_id, params } = sent;
    let deadline = Instant::now() + timeout;
    let http = HttpClient::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let (mut seen, mut told) = (0, None);
    let own_id =
        id.map(|id| format!("&id={}", utf8_percent_encode(id, NON_ALPHANUMERIC))).unwrap_or_default();
    loop {
        let uri: Uri = format!(
            "{endpoint}/wasq/results?message_id={message_id}&params={params}&wait=20&seen={seen}{own_id}"
        )
        .parse()?;
        let asked = tokio::time::timeout_at(deadline, http.get(uri)).await;
        let answer = asked
            .map_err(|_| {
                let seconds = timeout.as_secs();
                anyhow!("message {message_id} has not ended after {seconds} s; it stays in the queue")
            })?
            .with_context(|| format!("ask how message {message_id} ended (has `wasq dev` ended?)"))?;
        let status = answer.status();
        match status {
            StatusCode::OK | StatusCode::ACCEPTED => {
                let body = answer.into_body().collect().await?.to_bytes();
                if status == StatusCode::OK {
                    return serde_json::from_slice(&body).context("read the result");
                }
                let unfinished: Unfinished = serde_json::from_slice(&body).context("read the news")?;
                seen = unfinished.number;
                // While a message waits for the same reason, that is told once.
                let news = unfinished.failure.kind.is_attempt().then_some(unfinished.attempt);
                let news = Some((news, unfinished.failure.message.clone()));
                if news != told {
                    tell(&unfinished);
                    told = news;
                }
            }
            // Nothing new.
            StatusCode::NO_CONTENT => {}
            status => bail!("ask how message {message_id} ended: status {status}; is this `wasq dev`?"),
        }
    }
}

/// Tells what happened to a message that has not ended.
fn tell(unfinished: &Unfinished) {
    let Unfinished { attempt, failure, next_ms, number: _ } = unfinished;
    let next = match next_ms {
        Some(ms) if *ms > 0 => format!("; next try in {} s", ms.div_ceil(1000)),
        Some(_) => "; next try at once".to_owned(),
        None => String::new(),
    };
    if failure.kind.is_attempt() {
        tell!("wasq: attempt {attempt} failed: {failure}{next}");
    } else {
        tell!("wasq: waiting: {failure}{next}");
    }
}
