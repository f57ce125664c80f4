//! `wasq runs`: what became of messages.

mod show;
mod source;
mod wait;

use anyhow::{Context, Result, bail, ensure};
use clap::Subcommand;
use serde::Serialize;
use serde_json::{Value, json};
use wasq_protocol::{Ended as MessageEnded, ItemState, Outcome, RunItem, Timestamp};

use crate::output::{self, Ended, tell};
use crate::target::TargetArgs;

#[cfg(feature = "aws")]
pub(crate) use source::Place;
pub(crate) use source::{Endpoint, Select, Source};
pub(crate) use wait::{Sent, Wait, until_ended, wait};

#[derive(Debug, clap::Args)]
pub(crate) struct Runs {
    #[command(subcommand)]
    pub(crate) what: What,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum What {
    /// List runs, newest first
    ///
    /// On AWS the whole table is read for each list.
    Ls {
        #[command(flatten)]
        select: Select,
        /// How many to list
        #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
        max: u16,
        /// Go on with the list that has printed this
        #[arg(long, value_name = "PLACE")]
        before: Option<String>,
    },
    /// Show everything about one run: its attempts, steps, children and result
    Show {
        /// The message's own id, or the one that the queue gave it if it has none
        #[arg(value_name = "ID")]
        id: String,
    },
    /// Cancel messages that have not ended
    ///
    /// A message that waits does not run any more, also one that no worker has had yet. A message that runs is ended, on AWS
    /// half a lease later at most. Exit code 1: some have ended before.
    Cancel {
        /// The messages' ids
        #[arg(value_name = "ID", required_unless_present_any = ["task", "state", "kind", "parent"])]
        ids: Vec<String>,
        #[command(flatten)]
        select: Select,
    },
    /// Print the result of a message that is done
    ///
    /// Exit code 1: the message ended without a result.
    Result {
        /// The message's id
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// A part of a list. Typed all the way: a result that is valid JSON need not fit into a `Value`.
#[derive(Serialize)]
struct Listed<'a> {
    runs: &'a [RunItem],
    next: Option<&'a str>,
}

/// One run, typed for the same reason.
#[derive(Serialize)]
struct Shown<'a> {
    run: &'a RunItem,
    children: Value,
}

/// Runs in one page of those that are to be cancelled.
const PAGE: usize = 1000;

pub(crate) async fn runs(args: Runs, json: bool) -> Result<Ended> {
    let target = args.target.clone();
    let source = Source::of(args.target).await?;
    match args.what {
        What::Ls { select, max, before } => {
            let page = source.list(&select, before, max.into()).await?;
            if json {
                output::value(&Listed { runs: &page.items, next: page.next.as_deref() });
                return Ok(Ended::Well);
            }
            if page.items.is_empty() {
                tell!(
                    "wasq: no run is remembered{}",
                    if select.is_everything() { "" } else { " that matches" }
                );
            }
            page.items.iter().for_each(|item| output::text(&line(item)));
            if let Some(next) = page.next {
                tell!("wasq: there are more: --before {next}");
            }
            Ok(Ended::Well)
        }
        What::Show { id } => {
            let item = find(&source, &id).await?;
            let family = show::children(&source, &item).await?;
            if json {
                output::value(&Shown { run: &item, children: family.value() });
            } else {
                output::text(&show::whole(&item, &family, &target));
                if let Some(result) = &item.result {
                    output::json_text(result.get());
                }
            }
            Ok(Ended::Well)
        }
        What::Cancel { ids, select } => cancel(&source, ids, &select, json).await,
        What::Result { id } => {
            let item = find(&source, &id).await?;
            let Some(ended) = MessageEnded::of(&item) else {
                bail!("{id} is {}: `wasq wait {id}` waits for its end", item.state);
            };
            Ok(print_end(&ended, json))
        }
    }
}

async fn find(source: &Source, id: &str) -> Result<RunItem> {
    source.get(id).await?.with_context(|| {
        format!(
            "no run of {id} is remembered: no worker had the message yet, or its end was forgotten (the setting keep)"
        )
    })
}

/// Cancels messages by their ids, or those that match.
async fn cancel(source: &Source, mut ids: Vec<String>, select: &Select, json: bool) -> Result<Ended> {
    ensure!(
        ids.is_empty() || select.is_everything(),
        "name messages by their ids, or by --task, --state, --kind and --parent, and not by both"
    );
    if ids.is_empty() {
        let mut next = None;
        loop {
            let page = source.list(select, next, PAGE).await?;
            ids.extend(page.items.into_iter().filter(|item| !item.state.is_end()).map(|item| item.id));
            next = page.next;
            if next.is_none() {
                break;
            }
        }
    }
    let (mut cancelled, mut ended) = (Vec::new(), Vec::new());
    for id in ids {
        match source.cancel(&id).await? {
            Ok(item) => {
                if !json {
                    let how = match item.state {
                        ItemState::Running => "its worker ends it soon",
                        _ => "cancelled",
                    };
                    output::text(&format!("{id}: {how}\n"));
                }
                cancelled.push(id);
            }
            // To cancel twice is no error.
            Err(ItemState::Cancelled) => cancelled.push(id),
            Err(state) => {
                if !json {
                    tell!("wasq: {id} has ended before: it is {state}");
                }
                ended.push(json!({ "id": id, "state": state }));
            }
        }
    }
    if json {
        output::value(&json!({ "cancelled": cancelled, "ended": ended }));
    } else if cancelled.is_empty() && ended.is_empty() {
        tell!("wasq: no run matches that has not ended");
    }
    Ok(if ended.is_empty() { Ended::Well } else { Ended::InPart })
}

/// Prints how a message ended.
pub(crate) fn print_end(ended: &MessageEnded, json: bool) -> Ended {
    use wasq_protocol::End;
    if json {
        output::value(ended);
    } else {
        match &ended.result {
            Outcome::Success { output } => output::json_text(output.get()),
            Outcome::Failure(failure) if ended.end == End::Cancelled => tell!("{failure}"),
            Outcome::Failure(failure) => tell!("moved to the dead-letter queue: {failure}"),
        }
        tell!("attempt {}, {:.1} ms", ended.attempt, ended.duration_ms);
    }
    match ended.end {
        End::Done => Ended::Well,
        End::DeadLetter | End::Cancelled => Ended::TaskFailed,
    }
}

/// One line for a run.
fn line(item: &RunItem) -> String {
    let RunItem { id, state, task, attempts, started, updated, .. } = item;
    let task = task.as_ref().map_or("-", |task| task.as_str());
    let why = item.kind.map(|kind| format!("  {kind}")).unwrap_or_default();
    let started = seconds(started.unwrap_or(*updated));
    format!("{started}  {:<9}  {task:<24}  {attempts:>3}  {id}{why}\n", state.as_str())
}

/// A time to the second.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_ms(at.ms() / 1000 * 1000)
}
