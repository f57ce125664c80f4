//! Two workers race for each of many ids, on a table in DynamoDB: one of them claims it and commits its end.
//!
//! `cargo run -p wasq-aws --features runs --example races -- TABLE COUNT`, with the SDK's usual variables. Prints the number of commits.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures_util::StreamExt;
use futures_util::stream;
use wasq_aws::{RunsTable, sdk_config};
use wasq_protocol::{Clock, ItemState, ItemWrite, RunItem, SystemClock, Written};

/// Races at once.
const AT_ONCE: usize = 32;

fn item(id: &str, state: ItemState, owner: &str) -> RunItem {
    let mut item = RunItem::new(id.to_owned(), state, SystemClock.now());
    item.owner = Some(owner.to_owned());
    item.revision = format!("{owner} {state}");
    item.keep_for(Duration::from_secs(3600), SystemClock.now());
    item
}

/// Claims an item and commits its end, as a worker does. Returns whether both were written.
async fn run(table: &RunsTable, id: &str, owner: &str) -> Result<bool> {
    let claim = item(id, ItemState::Running, owner);
    let replaces = Some(claim.revision.clone());
    if !matches!(table.put(&[ItemWrite { item: claim, replaces: None }]).await.remove(0)?, Written::Yes) {
        return Ok(false);
    }
    let end = ItemWrite { item: item(id, ItemState::Done, owner), replaces };
    Ok(matches!(table.put(&[end]).await.remove(0)?, Written::Yes))
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let name = args.next().context("the table's name is missing")?;
    let count: u32 = args.next().context("the number of races is missing")?.parse()?;
    let table = RunsTable::new(&sdk_config().load().await, name, "no-bucket");
    let races = stream::iter(0..count).map(|number| {
        let table = &table;
        async move {
            let id = format!("race-{number}");
            let (one, other) = tokio::join!(run(table, &id, "one"), run(table, &id, "other"));
            Ok::<_, anyhow::Error>((id, u32::from(one?) + u32::from(other?)))
        }
    });
    let mut races = races.buffer_unordered(AT_ONCE);
    let mut commits = 0;
    while let Some(race) = races.next().await {
        let (id, committed) = race?;
        ensure!(committed == 1, "{id} has {committed} commits");
        commits += committed;
    }
    println!("{commits}");
    Ok(())
}
