//! The loop that the drain is measured against: receive and delete, nothing else, with the same client.
//!
//! `plain_loop QUEUE_URL LOOPS` runs LOOPS loops at once until the queue is empty. It prints the number of
//! deleted messages and the seconds up to the last delete, as JSON.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use wasq_aws::QueueEndpoint;
use wasq_protocol::{Clock, SystemClock};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args.next().context("which queue?")?;
    let loops: usize = args.next().context("how many loops?")?.parse()?;
    let queue = QueueEndpoint::new(aws_sdk_sqs::Client::new(&wasq_aws::sdk_config().load().await), url);
    let started = Instant::now();
    let loops = (0..loops).map(|_| empty(&queue, started));
    let done = futures_util::future::try_join_all(loops).await?;
    let messages: usize = done.iter().map(|(messages, _)| messages).sum();
    let seconds = done.iter().map(|(_, last)| last.as_secs_f64()).fold(0.0, f64::max);
    println!("{}", serde_json::json!({ "messages": messages, "seconds": seconds }));
    Ok(())
}

/// One loop. Returns the number of messages that it deleted, and the time from `started` to the last delete.
async fn empty(queue: &QueueEndpoint, started: Instant) -> Result<(usize, Duration)> {
    let (mut messages, mut last) = (0, Duration::ZERO);
    loop {
        let lease = Duration::from_secs(3600);
        let deliveries = queue.receive(Duration::ZERO, lease, || SystemClock.now()).await?;
        if deliveries.is_empty() {
            return Ok((messages, last));
        }
        let receipts: Vec<_> = deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        queue.delete(&receipts).await.into_iter().collect::<Result<()>>()?;
        messages += receipts.len();
        last = started.elapsed();
    }
}
