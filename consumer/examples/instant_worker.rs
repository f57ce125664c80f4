//! Workers with tasks of a fixed length: an invoke takes that time, deletes its messages, and is answered. With a length of 0, a
//! measurement shows the speed of the drain, not of the workers. An invoke is refused if all workers are busy.
//!
//! `instant_worker QUEUE_URL [MILLISECONDS] [WORKERS]` prints its port. GET returns the number of messages that it has deleted, and
//! the time of the last delete, in seconds since 1970.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::HeaderValue;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use wasq_aws::QueueEndpoint;
use wasq_protocol::{Clock, SystemClock, Timestamp, WorkerEvent};

struct Worker {
    queue: QueueEndpoint,
    deleted: AtomicU64,
    last_ms: AtomicU64,
    takes: Duration,
    free: Semaphore,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut args = std::env::args().skip(1);
    let url = args.next().context("which queue?")?;
    let takes = Duration::from_millis(args.next().map_or(Ok(0), |ms| ms.parse())?);
    let free = Semaphore::new(args.next().map_or(Ok(1000), |workers| workers.parse())?);
    let queue = QueueEndpoint::new(aws_sdk_sqs::Client::new(&wasq_aws::sdk_config().load().await), url);
    let (deleted, last_ms) = (AtomicU64::new(0), AtomicU64::new(0));
    let worker = Arc::new(Worker { queue, deleted, last_ms, takes, free });
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
        match worker.free.try_acquire() {
            Ok(_place) => {
                tokio::time::sleep(worker.takes).await;
                worker.delete(&event.to_bytes()).await;
            }
            Err(_) => {
                *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                let kind = HeaderValue::from_static("TooManyRequestsException");
                response.headers_mut().insert("x-amzn-ErrorType", kind);
            }
        }
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
