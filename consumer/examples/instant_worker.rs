//! The fastest possible worker: it accepts every invoke at once, and deletes the messages. So a measurement
//! shows the speed of the drain, not of the worker.
//!
//! `instant_worker QUEUE_URL` prints its port. GET returns the number of messages that it has deleted, and
//! the time of the last delete, in seconds since 1970.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wasq_aws::QueueEndpoint;
use wasq_protocol::{Clock, SystemClock, Timestamp, WorkerEvent};

struct Worker {
    queue: QueueEndpoint,
    deleted: AtomicU64,
    last_ms: AtomicU64,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let url = std::env::args().nth(1).context("which queue?")?;
    let queue = QueueEndpoint::new(aws_sdk_sqs::Client::new(&wasq_aws::sdk_config().load().await), url);
    let worker = Arc::new(Worker { queue, deleted: AtomicU64::new(0), last_ms: AtomicU64::new(0) });
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let worker = worker.clone();
        let answer = service_fn(move |request| answer(worker.clone(), request));
        let serve = hyper::server::conn::http1::Builder::new();
        tokio::spawn(serve.serve_connection(TokioIo::new(stream), answer));
    }
}

async fn answer(
    worker: Arc<Worker>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    if request.method() == Method::GET {
        let last = worker.last_ms.load(Ordering::Relaxed) as f64 / 1e3;
        let deleted = worker.deleted.load(Ordering::Relaxed);
        *response.body_mut() =
            Full::new(serde_json::json!({ "deleted": deleted, "last": last }).to_string().into());
    } else if let Ok(event) = request.into_body().collect().await {
        // As in Lambda, the payload arrives before the answer, and the run starts after it.
        tokio::spawn(async move { worker.delete(&event.to_bytes()).await });
        *response.status_mut() = StatusCode::ACCEPTED;
    }
    Ok(response)
}

impl Worker {
    async fn delete(&self, event: &[u8]) {
        let event = std::str::from_utf8(event).expect("the consumer writes UTF-8");
        let event = WorkerEvent::parse(event, Timestamp::from_ms(0), Duration::ZERO);
        let Ok(WorkerEvent::Batch(batch)) = event else { panic!("not from the consumer: {event:?}") };
        let receipts: Vec<_> = batch.deliveries.into_iter().map(|delivery| delivery.receipt).collect();
        let deleted = self.queue.delete(&receipts).await.into_iter().filter(Result::is_ok).count();
        self.deleted.fetch_add(deleted as u64, Ordering::Relaxed);
        self.last_ms.store(SystemClock.now().ms(), Ordering::Relaxed);
    }
}
