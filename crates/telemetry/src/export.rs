//! Sending spans and metrics to a collector.

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
use wasq_protocol::{Clock, RunRecord, SystemClock, with_causes};

use crate::config::{Headers, OtlpConfig, headers};
use crate::metrics::metrics;
use crate::otlp::{
    ExportResponse, KeyValue, MetricsRequest, Resource, ResourceMetrics, ResourceSpans, Scope, ScopeMetrics,
    ScopeSpans, TraceRequest,
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
    pending: Mutex<Pending>,
    /// One export at a time.
    exporting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Pending {
    records: Vec<RunRecord>,
    /// Records that found no room since the last export.
    dropped: u64,
    /// When the last export ended, in nanoseconds since 1970.
    since: u64,
    /// When a fault was told last.
    told: Option<Instant>,
}

/// Records that wait for an export. If a collector does not answer, further ones are dropped.
const PENDING_MAX: usize = 10_000;
/// Records in one request: about a megabyte at most.
const BATCH: usize = 500;
/// One export takes no longer than this, so that nobody waits for a collector that does not answer.
const EXPORT_MAX: Duration = Duration::from_secs(3);
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
            pending: Mutex::new(Pending { since: now(), ..Pending::default() }),
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

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.0.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a record for the next export.
    pub fn observe(&self, record: &RunRecord) {
        let mut pending = self.pending();
        if pending.records.len() < PENDING_MAX {
            pending.records.push(record.clone());
        } else {
            pending.dropped += 1;
        }
    }

    /// Sends what was collected. A collector that does not answer costs at most three seconds; its records are sent with the next
    /// export, as far as there is room for them.
    pub async fn export(&self) {
        let _exporting = self.0.exporting.lock().await;
        let deadline = Instant::now() + EXPORT_MAX;
        loop {
            let (records, since) = {
                let mut pending = self.pending();
                let number = pending.records.len().min(BATCH);
                let records: Vec<_> = pending.records.drain(..number).collect();
                let since = std::mem::replace(&mut pending.since, now());
                (records, since)
            };
            if records.is_empty() {
                break;
            }
            let sent = timeout_at(deadline, self.send(&records, since)).await;
            let sent = sent.unwrap_or_else(|_| Err(Failed::Later("it did not answer in time".to_owned())));
            match sent {
                Ok(()) => {}
                Err(Failed::Later(why)) => {
                    let mut pending = self.pending();
                    let room = PENDING_MAX.saturating_sub(pending.records.len()).min(records.len());
                    pending.dropped += (records.len() - room) as u64;
                    pending.records.splice(0..0, records.into_iter().take(room));
                    pending.since = since;
                    tell(&mut pending, &self.0.config.endpoint, &why);
                    return;
                }
                Err(Failed::Never(why)) => {
                    let mut pending = self.pending();
                    pending.dropped += records.len() as u64;
                    tell(&mut pending, &self.0.config.endpoint, &why);
                }
            }
        }
    }

    async fn send(&self, records: &[RunRecord], since: u64) -> Result<(), Failed> {
        let all: Vec<_> = records.iter().flat_map(spans).collect();
        if !all.is_empty() {
            let scope_spans = vec![ScopeSpans { scope: Some(Scope::wasq()), spans: all }];
            let resource = Some(self.0.resource.clone());
            let request = TraceRequest { resource_spans: vec![ResourceSpans { resource, scope_spans }] };
            self.post("traces", request.encode_to_vec()).await?;
        }
        let all = metrics(records, since, now());
        if !all.is_empty() && self.takes_metrics() {
            let scope_metrics = vec![ScopeMetrics { scope: Some(Scope::wasq()), metrics: all }];
            let resource = Some(self.0.resource.clone());
            let request =
                MetricsRequest { resource_metrics: vec![ResourceMetrics { resource, scope_metrics }] };
            // The spans are there already, and must not be sent again.
            self.post("metrics", request.encode_to_vec()).await.map_err(Failed::finally)?;
        }
        Ok(())
    }

    /// X-Ray's endpoint takes traces only. The worker's log has CloudWatch's metrics.
    fn takes_metrics(&self) -> bool {
        !self
            .0
            .config
            .endpoint
            .host_str()
            .is_some_and(|host| host.starts_with("xray.") && host.contains(".amazonaws.com"))
    }

    async fn post(&self, kind: &str, body: Vec<u8>) -> Result<(), Failed> {
        let request = self.request(kind, body).await.map_err(|e| Failed::Never(format!("{e:#}")))?;
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
                    Some(partial) => Err(Failed::Never(format!(
                        "{} {kind} were refused: {}",
                        partial.rejected, partial.message
                    ))),
                    None => Ok(()),
                }
            }
            status if busy.contains(&status) => Err(Failed::Later(format!("status {status}"))),
            status => {
                let text: String =
                    String::from_utf8_lossy(&body).chars().filter(|c| !c.is_control()).take(300).collect();
                Err(Failed::Never(format!("status {status} {text}")))
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

/// Why records were not taken.
#[derive(Debug)]
enum Failed {
    /// They may be taken later.
    Later(String),
    /// They will not be.
    Never(String),
}

impl Failed {
    fn finally(self) -> Self {
        match self {
            Self::Later(why) | Self::Never(why) => Self::Never(why),
        }
    }
}

/// Says that a collector took nothing, once in a while.
fn tell(pending: &mut Pending, endpoint: &url::Url, why: &str) {
    if pending.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
        return;
    }
    pending.told = Some(Instant::now());
    let dropped = std::mem::take(&mut pending.dropped);
    let waiting = pending.records.len();
    tracing::warn!(
        "traces and metrics were not sent to {endpoint}: {why}; {waiting} runs wait, {dropped} were dropped"
    );
}

/// In nanoseconds since 1970.
fn now() -> u64 {
    SystemClock.now().ms() * 1_000_000
}
