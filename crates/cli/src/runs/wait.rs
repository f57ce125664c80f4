//! `wasq wait`: waits for the end of a message, and tells what happens meanwhile.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::Instant;
use wasq_protocol::{Clock, Digest, Ended as MessageEnded, ItemState, RunItem, SystemClock, parse_duration};

use crate::output::{Ended, Progress, tell};
use crate::runs::{Source, print_end};
use crate::target::TargetArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Wait {
    /// The message's own id, or the one that the queue gave it if it has none
    #[arg(value_name = "ID")]
    pub(crate) id: String,
    /// How long to wait at most
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

/// The pauses between two looks: short at first, because most runs are.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(crate) async fn wait(args: Wait, json: bool) -> Result<Ended> {
    let source = Source::of(args.target).await?;
    let waiting = Progress::start(format!("waiting for {}", args.id));
    let ended = until_ended(&source, &args.id, None, args.timeout).await?;
    drop(waiting);
    Ok(print_end(&ended, json))
}

/// A message that was just sent.
#[derive(Clone, Copy)]
pub(crate) struct Sent<'a> {
    /// The queue's id of it.
    pub(crate) message_id: &'a str,
    /// The digest of its task and params.
    pub(crate) params: Digest,
}

/// Waits until the message with this id has ended. If it was just sent, an earlier message with this id that failed does not count.
pub(crate) async fn until_ended(
    source: &Source,
    id: &str,
    sent: Option<Sent<'_>>,
    timeout: Duration,
) -> Result<MessageEnded> {
    let (deadline, began) = (Instant::now() + timeout, SystemClock.now());
    let (mut pause, mut told, mut delayed) = (FIRST_PAUSE, None, false);
    loop {
        let item = source.get(id).await?;
        if let (Some(item), Some(sent)) = (&item, sent)
            && item.params.is_some_and(|params| params != sent.params)
        {
            bail!(
                "a message with the id {id} had another task or other params, so this one becomes a dead letter of the kind id-reused; send it with another id"
            );
        }
        let this = |item: &RunItem| {
            // A message that was delayed comes with another id of the queue.
            let is_last =
                delayed || sent.is_none_or(|sent| item.message_id.as_deref() == Some(sent.message_id));
            // One that is done or cancelled is not run again, nor is a copy of one that was given up after the send.
            let given_up = item.state == ItemState::Dead && item.ended.is_some_and(|ended| ended > began);
            is_last || given_up || matches!(item.state, ItemState::Done | ItemState::Cancelled)
        };
        let item = item.filter(this);
        delayed |= item.as_ref().is_some_and(|item| item.kept_as().is_some());
        if let Some(ended) = item.as_ref().and_then(MessageEnded::of) {
            return Ok(ended);
        }
        if let Some(news) = item.as_ref().and_then(news)
            && Some(&news) != told.as_ref()
        {
            tell!("wasq: {news}");
            told = Some(news);
        }
        if Instant::now() + pause > deadline {
            bail!("message {id} has not ended after {} s", timeout.as_secs());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// The news of a message that has not ended.
fn news(item: &RunItem) -> Option<String> {
    let why = || {
        let kind = item.kind?;
        Some(format!("{kind}: {}", item.reason.as_deref().unwrap_or_default()))
    };
    let next = || {
        let wait = item.next.map(|next| next.since(SystemClock.now()).as_millis().div_ceil(1000));
        let what = if item.attempts == 0 { "it runs" } else { "next try" };
        wait.map(|seconds| format!("; {what} in {seconds} s")).unwrap_or_default()
    };
    match item.state {
        ItemState::Running => Some(format!("attempt {} is running", item.attempts)),
        ItemState::Retrying => Some(format!("attempt {} failed: {}{}", item.attempts, why()?, next())),
        ItemState::Waiting => Some(format!("waiting: {}{}", why()?, next())),
        ItemState::Done | ItemState::Dead | ItemState::Cancelled => None,
    }
}
