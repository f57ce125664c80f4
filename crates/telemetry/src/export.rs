//! Sending spans and metrics to a collector.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use tokio::time::{Instant, timeout_at};
use url::Url;
use wasq_protocol::{Clock, RunRecord, SystemClock, with_causes};

use crate::config::{Headers, OtlpConfig, headers};
use crate::metrics::metrics;
use crate::otlp::{
    ExportResponse, KeyValue, MetricsRequest, Partial, Resource, ResourceMetrics, ResourceSpans, Scope,
    ScopeMetrics, ScopeSpans, TraceRequest,
};
#[cfg(feature = "aws")]
use crate::sign::Signer;
use crate::spans::spans;

/// Collects records, and sends them as spans and metrics. Cheap to clone; clones collect together.
#[derive(Clone)]
pub struct Exporter(Arc<Inner>);

struct Inner {
    config: OtlpConfig,
    resource: Resource,
    /// Headers that were not known at the start.
    more_headers: OnceLock<Headers>,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    #[cfg(feature = "aws")]
    signer: Option<Signer>,
    traces: Feed,
    metrics: Feed,
    /// One export at a time.
    exporting: tokio::sync::Mutex<()>,
}

/// One of the two kinds of data: a collector may take the one and not the other.
struct Feed {
    /// `traces` or `metrics`.
    name: &'static str,
    pending: Mutex<Pending>,
}

struct Pending {
    records: VecDeque<Arc<RunRecord>>,
    /// Records that found no room, or that were refused, since the last warning.
    dropped: u64,
    /// When the records of the last batch were taken, in nanoseconds since 1970.
    since: u64,
    /// After a fault, nothing is sent before this.
    pause: Option<(Instant, Duration)>,
    /// When a fault was told last.
    told: Option<Instant>,
}

/// Records that wait for an export, a few kilobytes each. If a collector does not answer, further ones are dropped.
const PENDING_MAX: usize = 2000;
/// Records in one request: about a megabyte at most.
const BATCH: usize = 100;
/// The pause after a fault: it doubles with each further fault.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// With less time than this, nothing is sent.
const LEAST: Duration = Duration::from_millis(500);
/// The most that is read of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// A fault is told once in this time.
const TELL_EVERY: Duration = Duration::from_secs(60);
const IDLE_MAX: Duration = Duration::from_secs(5);

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("endpoint", &self.0.config.endpoint.as_str()).finish_non_exhaustive()
    }
}

impl Exporter {
    /// An exporter for a service of this name, with further attributes of it.
    pub fn new(config: OtlpConfig, service: &str, attributes: &[(&str, String)]) -> Self {
        let connector = hyper_rustls::HttpsConnectorBuilder::new().with_webpki_roots().https_or_http();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_MAX)
            .build(connector.enable_http1().build());
        let mut all = vec![KeyValue::text("service.name", service)];
        all.push(KeyValue::text("service.version", env!("CARGO_PKG_VERSION")));
        all.extend(attributes.iter().map(|(key, value)| KeyValue::text(key, value)));
        Self(Arc::new(Inner {
            config,
            resource: Resource { attributes: all },
            more_headers: OnceLock::new(),
            client,
            #[cfg(feature = "aws")]
            signer: None,
            traces: Feed::new("traces"),
            metrics: Feed::new("metrics"),
            exporting: tokio::sync::Mutex::default(),
        }))
    }

    /// Signs its requests.
    #[cfg(feature = "aws")]
    #[must_use]
    pub fn signed(mut self, signer: Option<Signer>) -> Self {
        Arc::get_mut(&mut self.0).expect("it has no clones yet").signer = signer;
        self
    }

    /// Adds headers to each request, once: a text as in `WASQ_OTLP_HEADERS`. The error does not contain their values.
    pub fn add_headers(&self, text: &str) -> Result<(), String> {
        let headers = headers(text)?;
        self.0.more_headers.set(headers).map_err(|_| "headers were added before".to_owned())
    }

    /// Where it sends to.
    pub fn endpoint(&self) -> &str {
        self.0.config.endpoint.as_str()
    }

    /// Keeps a record for the next export.
    pub fn observe(&self, record: &RunRecord) {
        let record = Arc::new(record.clone());
        self.0.traces.add(record.clone());
        if !is_xray(&self.0.config.endpoint) {
            self.0.metrics.add(record);
        }
    }

    /// Sends what was collected, for at most this long. What a collector does not take now is sent later, as far as there is room for
    /// it, and after a pause.
    pub async fn export(&self, longest: Duration) {
        if longest < LEAST {
            return;
        }
        let deadline = Instant::now() + longest;
        let Ok(_exporting) = timeout_at(deadline, self.0.exporting.lock()).await else { return };
        let spans_of = |records: &[Arc<RunRecord>], _: u64, _: u64| {
            let spans: Vec<_> = records.iter().flat_map(|record| spans(record)).collect();
            (!spans.is_empty()).then(|| {
                let scope_spans = vec![ScopeSpans { scope: Some(Scope::wasq()), spans }];
                let resource = Some(self.0.resource.clone());
                TraceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] }.encode_to_vec()
            })
        };
        let metrics_of = |records: &[Arc<RunRecord>], since: u64, until: u64| {
            let metrics = metrics(records, since, until);
            (!metrics.is_empty()).then(|| {
                let scope_metrics = vec![ScopeMetrics { scope: Some(Scope::wasq()), metrics }];
                let resource = Some(self.0.resource.clone());
                MetricsRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] }
                    .encode_to_vec()
            })
        };
        tokio::join!(
            self.send(&self.0.traces, deadline, spans_of),
            self.send(&self.0.metrics, deadline, metrics_of)
        );
    }

    /// Sends the records of one feed, batch by batch.
    async fn send(
        &self,
        feed: &Feed,
        deadline: Instant,
        encode: impl Fn(&[Arc<RunRecord>], u64, u64) -> Option<Vec<u8>>,
    ) {
        while let Some((records, since, until)) = feed.take() {
            let Some(body) = encode(&records, since, until) else { continue };
            let sent = timeout_at(deadline, self.post(feed.name, body)).await;
            match sent.unwrap_or(Err(Failed::NoAnswer)) {
                Ok(()) => feed.well(),
                // Spans that come twice are the same spans. Metrics would be counted twice.
                Err(Failed::NoAnswer) if feed.name == "metrics" => {
                    feed.refused(&records, &self.0.config.endpoint, "no answer in time");
                }
                Err(Failed::NoAnswer) => {
                    feed.later(records, since, &self.0.config.endpoint, "no answer in time");
                }
                Err(Failed::Later(why)) => feed.later(records, since, &self.0.config.endpoint, &why),
                Err(Failed::Never(why)) => feed.refused(&records, &self.0.config.endpoint, &why),
                Err(Failed::InPart(why)) => feed.tell(&self.0.config.endpoint, &why),
            }
        }
    }

    async fn post(&self, kind: &str, body: Vec<u8>) -> Result<(), Failed> {
        let request = self.request(kind, body).await.map_err(|e| Failed::Later(format!("{e:#}")))?;
        let answer = self.0.client.request(request).await.map_err(|e| Failed::Later(with_causes(&e)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        let busy = [
            StatusCode::TOO_MANY_REQUESTS,
            StatusCode::BAD_GATEWAY,
            StatusCode::SERVICE_UNAVAILABLE,
            StatusCode::GATEWAY_TIMEOUT,
        ];
        match status {
            status if status.is_success() => {
                let partial = ExportResponse::decode(body).ok().and_then(|answer| answer.partial);
                match partial.filter(|partial| partial.rejected > 0) {
                    Some(Partial { rejected, message }) => Err(Failed::InPart(format!(
                        "{rejected} of them were refused: {}",
                        printable(&message)
                    ))),
                    None => Ok(()),
                }
            }
            status if busy.contains(&status) => Err(Failed::Later(format!("status {status}"))),
            status => {
                Err(Failed::Never(format!("status {status} {}", printable(&String::from_utf8_lossy(&body)))))
            }
        }
    }

    async fn request(&self, kind: &str, body: Vec<u8>) -> Result<Request<Full<Bytes>>> {
        let address = self.0.config.address(kind);
        let mut request = Request::builder().method(Method::POST).uri(&address);
        let headers = request.headers_mut().context("an address")?;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        headers.insert(USER_AGENT, HeaderValue::from_static(concat!("wasq/", env!("CARGO_PKG_VERSION"))));
        headers.extend(self.0.config.headers.iter().cloned());
        headers.extend(self.0.more_headers.get().into_iter().flatten().cloned());
        #[cfg(feature = "aws")]
        if let Some(signer) = &self.0.signer {
            headers.extend(signer.sign(&address, &body).await?);
        }
        match request.body(Full::from(body)) {
            Ok(request) => Ok(request),
            Err(e) => bail!("make a request for {address}: {e}"),
        }
    }
}

impl Feed {
    fn new(name: &'static str) -> Self {
        let records = VecDeque::new();
        let pending = Pending { records, dropped: 0, since: now(), pause: None, told: None };
        Self { name, pending: Mutex::new(pending) }
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, record: Arc<RunRecord>) {
        let mut pending = self.pending();
        if pending.records.len() < PENDING_MAX {
            pending.records.push_back(record);
        } else {
            pending.dropped += 1;
        }
    }

    /// The next batch, and the span of time that it is of; `None` if there is none, or after a fault.
    fn take(&self) -> Option<(Vec<Arc<RunRecord>>, u64, u64)> {
        let mut pending = self.pending();
        let is_paused = pending.pause.is_some_and(|(until, _)| Instant::now() < until);
        if is_paused || pending.records.is_empty() {
            return None;
        }
        let number = pending.records.len().min(BATCH);
        let records = pending.records.drain(..number).collect();
        let until = now();
        let since = std::mem::replace(&mut pending.since, until);
        Some((records, since, until))
    }

    fn well(&self) {
        self.pending().pause = None;
    }

    /// Keeps a batch for later, before all others.
    fn later(&self, records: Vec<Arc<RunRecord>>, since: u64, endpoint: &Url, why: &str) {
        let mut pending = self.pending();
        let last = pending.pause.map_or(PAUSE_MIN / 2, |(_, pause)| pause);
        let pause = (last * 2).min(PAUSE_MAX);
        pending.pause = Some((Instant::now() + pause, pause));
        pending.since = since;
        let room = PENDING_MAX.saturating_sub(pending.records.len()).min(records.len());
        pending.dropped += (records.len() - room) as u64;
        for record in records.into_iter().take(room).rev() {
            pending.records.push_front(record);
        }
        drop(pending);
        self.tell(endpoint, why);
    }

    fn refused(&self, records: &[Arc<RunRecord>], endpoint: &Url, why: &str) {
        self.pending().dropped += records.len() as u64;
        self.tell(endpoint, why);
    }

    /// Says that a collector did not take everything, once in a while.
    fn tell(&self, endpoint: &Url, why: &str) {
        let mut pending = self.pending();
        if pending.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        pending.told = Some(Instant::now());
        let dropped = std::mem::take(&mut pending.dropped);
        let waiting = pending.records.len();
        let name = self.name;
        tracing::warn!(
            "{name} were not sent to {endpoint}: {why}; {waiting} runs wait, {dropped} were dropped"
        );
    }
}

/// Why records were not taken.
#[derive(Debug)]
enum Failed {
    /// They may be taken later.
    Later(String),
    /// Nobody knows.
    NoAnswer,
    /// They will not be.
    Never(String),
    /// Some of them were.
    InPart(String),
}

/// X-Ray's endpoint, for traces only: the worker's log has CloudWatch's metrics.
pub(crate) fn is_xray(endpoint: &Url) -> bool {
    let labels: Vec<&str> = endpoint.host_str().unwrap_or_default().split('.').collect();
    let is_aws =
        matches!(labels[..], ["xray", _, "amazonaws", "com"] | ["xray", _, "amazonaws", "com", "cn"]);
    endpoint.scheme() == "https" && is_aws
}

/// The beginning of what a collector has said.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// In nanoseconds since 1970.
fn now() -> u64 {
    SystemClock.now().ms() * 1_000_000
}
