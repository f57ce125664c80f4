//! `wasq enqueue`: sends a message through SQS's API, as any client does.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::rt::TokioExecutor;
use serde_json::json;
use tokio::time::Instant;
use wasq_protocol::{End, Ended as MessageEnded, Message, Outcome, TaskName, check_id, parse_duration};

use crate::output::{self, Ended, Progress};
use crate::target::QueueArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct Enqueue {
    /// The task's name
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    /// The task's params
    #[arg(long, default_value = "{}", value_name = "JSON")]
    pub(crate) params: String,
    /// Your own id for the message, by which the task can recognise a repetition
    #[arg(long, value_parser = message_id)]
    pub(crate) id: Option<String>,
    /// Wait for the end, and print the result; exit code 1 if the message went to the dead-letter queue
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "15m", value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) queue: QueueArgs,
}

fn message_id(text: &str) -> Result<String, String> {
    check_id(text).map(|()| text.to_owned())
}

pub(crate) async fn enqueue(args: Enqueue, json: bool) -> Result<Ended> {
    let params = serde_json::from_str(&args.params)
        .with_context(|| format!("--params {:?} is not JSON", args.params))?;
    let mut message = Message::new(args.task.clone(), params);
    message.id = args.id;
    let body = message.to_json();
    // If the worker would refuse the message, refuse it here, before it is in the queue.
    Message::parse(&body)?;

    let address = args.queue.address().await?;
    ensure!(
        !args.wait || address.local.is_some(),
        "--wait works with `wasq dev` only: a queue on AWS does not tell how a message ended"
    );
    let client = address.client().await;
    let sent = client.send_message().queue_url(&address.url).message_body(body).send().await;
    let sent = sent
        .map_err(wasq_aws::explain)
        .with_context(|| format!("send to {}{}", address.url, address.hint()))?;
    let message_id = sent.message_id.context("the queue answered without a message id")?;
    let Some(endpoint) = address.local.filter(|_| args.wait) else {
        if json {
            output::value(&json!({ "message_id": message_id, "queue_url": address.url }));
        } else {
            output::text(&format!("{message_id}\n"));
        }
        return Ok(Ended::Well);
    };

    let waiting = Progress::start(format!("waiting for {} {message_id}", args.task));
    let result = result(&endpoint, &message_id, args.timeout).await?;
    drop(waiting);
    Ok(print(&result, json))
}

/// Asks the endpoint how a message ended, again and again until it has ended.
async fn result(endpoint: &str, message_id: &str, timeout: Duration) -> Result<MessageEnded> {
    let deadline = Instant::now() + timeout;
    let http = HttpClient::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let uri: Uri = format!("{endpoint}/wasq/results/{message_id}?wait=20").parse()?;
    loop {
        let asked = tokio::time::timeout_at(deadline, http.get(uri.clone())).await;
        let answer = asked
            .with_context(|| {
                format!(
                    "message {message_id} has not ended after {} s; it stays in the queue",
                    timeout.as_secs()
                )
            })?
            .with_context(|| format!("ask how message {message_id} ended (has `wasq dev` ended?)"))?;
        match answer.status() {
            StatusCode::OK => {
                let body = answer.into_body().collect().await?.to_bytes();
                return serde_json::from_slice(&body).context("read the result");
            }
            // Not yet.
            StatusCode::NO_CONTENT => {}
            status => bail!("ask how message {message_id} ended: status {status}; is this `wasq dev`?"),
        }
    }
}

fn print(ended: &MessageEnded, json: bool) -> Ended {
    if json {
        output::value(ended);
    } else {
        match &ended.result {
            Outcome::Success { output } => output::text(&format!("{}\n", output.get())),
            Outcome::Failure(failure) => eprintln!("moved to the dead-letter queue: {failure}"),
        }
        eprintln!("attempt {}, {:.1} ms", ended.attempt, ended.duration_ms);
    }
    match ended.end {
        End::Done => Ended::Well,
        End::DeadLetter => Ended::TaskFailed,
    }
}
