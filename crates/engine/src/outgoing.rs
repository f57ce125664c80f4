//! Outgoing HTTP: one client for the process, one policy for both interfaces.
//!
//! `wasq:task/http` (see `http.rs`) and `wasi:http` both end in [`Outgoing::send`].

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{CONTENT_LENGTH, HeaderName, HeaderValue, USER_AGENT};
use hyper::http::Extensions;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::{Client, Error as ClientError};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::Instant;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};
use wasq_protocol::{AllowedHost, SentRequest, Settings, TaskName, with_causes};

use crate::addresses::Refused;
use crate::bindings::LogLevel;
use crate::capture::RunLog;
use crate::connect::{ConnectionUse, Connector, OpenConnections};
use crate::destination::{Destination, SendError};
use crate::holdings::BODY_CHUNK_BYTES;
use crate::idempotency::IdempotencyKeys;
use crate::limits::Limits;
use crate::request_url::encode_other_letters;
use crate::resolver::Resolver;
use crate::run::RunContext;
use crate::secrets::RunSecrets;

/// The client of the whole process, with its TLS sessions. Each task keeps connections of its own: what a server has left
/// behind in a connection reaches no other task.
pub(crate) struct HttpClient {
    /// For each task, a client that keeps its connections.
    keeping: Mutex<HashMap<TaskName, Pooled>>,
    /// Uses a new connection for each request.
    fresh: Pooled,
    connector: HttpsConnector<Connector>,
    headers_max: usize,
    buffer_max: usize,
    open: OpenConnections,
}

type Pooled = Client<HttpsConnector<Connector>, WasiBody>;

/// Answers requests instead of the network, so that a task can be tested without a network. The policy is
/// still checked first.
pub trait Responder: Send + Sync {
    /// Answers a request. An error says why there is no answer, like the error of a failed connection.
    fn respond(&self, request: Request<Bytes>) -> Responding;
}

/// An answer that is under way.
pub type Responding = Pin<Box<dyn Future<Output = Result<Response<Bytes>, String>> + Send>>;

/// Where requests go.
#[derive(Clone)]
pub(crate) enum Exchange {
    Network(Arc<HttpClient>),
    Responder(Arc<dyn Responder>),
}

/// The bytes of a reason that are kept in the run's log: it can contain what the task wrote.
const WHY_BYTES_MAX: usize = 500;
/// The bytes of a destination, and of a method, that are recorded.
const TO_BYTES_MAX: usize = 200;
/// With so many open connections, of all hosts together, no further ones are kept: a task may reach any number of hosts.
const KEPT_MAX: usize = 128;
/// Idle connections that a task keeps for each host.
const IDLE_PER_HOST: usize = 8;
/// With so many tasks that keep connections, all of them are closed.
const KEEPING_MAX: usize = 256;
/// An idle connection is closed after this; servers commonly close theirs after 60 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

impl HttpClient {
    pub(crate) fn new(limits: &Limits, resolver: Arc<dyn Resolver>) -> Self {
        let open = OpenConnections::default();
        let tcp = Connector { addresses: Arc::new(limits.addresses.clone()), resolver, open: open.clone() };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let (headers_max, buffer_max) = (limits.http_headers_max, 2 * limits.http_header_bytes_max);
        let fresh = pooled(&connector, 0, headers_max, buffer_max);
        Self { keeping: Mutex::default(), fresh, connector, headers_max, buffer_max, open }
    }

    /// The client that keeps a task's connections.
    fn of(&self, task: &TaskName) -> Pooled {
        let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = keeping.get(task) {
            return client.clone();
        }
        if keeping.len() >= KEEPING_MAX {
            keeping.clear();
        }
        let client = pooled(&self.connector, IDLE_PER_HOST, self.headers_max, self.buffer_max);
        keeping.insert(task.clone(), client.clone());
        client
    }

    /// Sends a request. A server may close a kept connection at the moment when a request goes out on it. If
    /// the method is safe (RFC 9110, 9.2.1), the request is then sent once more, on a new connection.
    async fn send(
        &self,
        task: &TaskName,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (head, body) = request.into_parts();
        let again = match &body {
            RequestBody::Whole(bytes) if head.method.is_safe() => Some((head.clone(), bytes.clone())),
            RequestBody::Whole(_) | RequestBody::Stream(_) => None,
        };
        let client = if self.open.count() < KEPT_MAX { self.of(task) } else { self.fresh.clone() };
        match (client.request(Request::from_parts(head, body.into_body())).await, again) {
            (Ok(response), _) => {
                if let Some(connection) = response.extensions().get::<ConnectionUse>() {
                    connection.mark_answered();
                }
                Ok(response)
            }
            (Err(error), Some((head, bytes))) if was_kept(&error) => {
                let body = RequestBody::Whole(bytes).into_body();
                self.fresh.request(Request::from_parts(head, body)).await
            }
            (Err(error), _) => Err(error),
        }
    }
}

fn pooled(
    connector: &HttpsConnector<Connector>,
    idle_per_host: usize,
    headers_max: usize,
    buffer_max: usize,
) -> Pooled {
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(idle_per_host)
        .http1_max_headers(headers_max)
        .http1_max_buf_size(buffer_max)
        .build(connector.clone())
}

/// Whether a request failed on a connection that had carried an answer before.
fn was_kept(error: &ClientError) -> bool {
    let mut extras = Extensions::new();
    if let Some(connected) = error.connect_info() {
        connected.get_extras(&mut extras);
    }
    extras.get::<ConnectionUse>().is_some_and(ConnectionUse::has_answered)
}

/// The body of a request.
pub(crate) enum RequestBody {
    /// All of it is there, so that it can be sent again.
    Whole(Bytes),
    /// The task is still writing it.
    Stream(WasiBody),
}

impl RequestBody {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn into_body(self) -> WasiBody {
        match self {
            Self::Whole(bytes) => Full::new(bytes).map_err(|never| match never {}).boxed_unsync(),
            Self::Stream(body) => body,
        }
    }
}

impl From<WasiBody> for RequestBody {
    fn from(body: WasiBody) -> Self {
        if body.is_end_stream() { Self::Whole(Bytes::new()) } else { Self::Stream(body) }
    }
}

/// The outgoing HTTP of one run. Clones share the run's counters.
#[derive(Clone)]
pub(crate) struct Outgoing {
    context: Arc<RunContext>,
    exchange: Exchange,
    allow: Arc<[AllowedHost]>,
    secrets: RunSecrets,
    log: RunLog,
    limits: Arc<Limits>,
    usage: Arc<HttpUsage>,
    /// Whether requests get idempotency keys.
    wants_keys: bool,
}

/// The counters of one run.
struct HttpUsage {
    requests: AtomicU32,
    denied: AtomicU32,
    received: AtomicU64,
    open: AtomicU32,
    /// The first requests.
    sent: Mutex<Vec<SentRequest>>,
    began: Instant,
    /// Made when a request or a step first needs them: most runs have neither.
    keys: OnceLock<IdempotencyKeys>,
}

/// One request that is under way, until dropped.
struct OpenRequest(Arc<HttpUsage>);

impl OpenRequest {
    fn begin(usage: &Arc<HttpUsage>, most: u32) -> Option<Self> {
        // Count first, then check. If there was no room, dropping `request` takes the count back.
        let request = Self(usage.clone());
        (usage.open.fetch_add(1, Ordering::Relaxed) < most).then_some(request)
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request that is recorded. When this is dropped, the request has its response, or nobody waits for it any more.
struct Recording {
    usage: Arc<HttpUsage>,
    at: usize,
    status: Option<u16>,
}

impl Drop for Recording {
    fn drop(&mut self) {
        let now = ms(self.usage.began.elapsed());
        let mut sent = self.usage.sent.lock().unwrap_or_else(PoisonError::into_inner);
        // The list is taken already if the run ended before its request.
        if let Some(request) = sent.get_mut(self.at) {
            request.took_ms = now - request.began_ms;
            request.status = self.status;
        }
    }
}

impl Outgoing {
    pub(crate) fn new(
        context: Arc<RunContext>,
        began: Instant,
        exchange: Exchange,
        settings: &Settings,
        secrets: RunSecrets,
        log: RunLog,
        limits: Arc<Limits>,
    ) -> Self {
        let usage = HttpUsage {
            requests: AtomicU32::new(0),
            denied: AtomicU32::new(0),
            received: AtomicU64::new(0),
            open: AtomicU32::new(0),
            sent: Mutex::default(),
            began,
            keys: OnceLock::new(),
        };
        Self {
            context,
            exchange,
            allow: settings.allow_hosts.clone().into(),
            secrets,
            log,
            limits,
            usage: Arc::new(usage),
            wants_keys: settings.idempotency_key,
        }
    }

    /// `None` if the task's settings want no keys.
    fn keys(&self) -> Option<&IdempotencyKeys> {
        self.wants_keys.then(|| self.usage.keys.get_or_init(|| IdempotencyKeys::new(&self.context.id)))
    }

    /// Sets the step that the next requests belong to.
    pub(crate) fn set_step(&self, step: Option<&str>) {
        if let Some(keys) = self.keys() {
            keys.set_step(step);
        }
    }

    /// Requests that the policy has denied so far.
    pub(crate) fn denied(&self) -> u32 {
        self.usage.denied.load(Ordering::Relaxed)
    }

    /// Sends a request if the policy allows its address. Redirects are not followed: the task sees them, and a new
    /// request passes the policy again. The header `added` is the host's own, and counts for no limit.
    pub(crate) async fn send(
        &self,
        request: Request<RequestBody>,
        added: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Response<WasiBody>, SendError> {
        let recording = self.begin(&request);
        let sent = self.send_allowed(request, added).await;
        if let Err(SendError::Denied(_)) = sent {
            self.usage.denied.fetch_add(1, Ordering::Relaxed);
        }
        if let (Some(mut recording), Ok(response)) = (recording, &sent) {
            recording.status = Some(response.status().as_u16());
        }
        sent
    }

    /// The first requests so far. One that has no response yet has taken the time until now.
    pub(crate) fn sent(&self) -> Vec<SentRequest> {
        let now = ms(self.usage.began.elapsed());
        let mut sent = std::mem::take(&mut *self.requests());
        for request in sent.iter_mut().filter(|request| request.took_ms == 0.0) {
            request.took_ms = now - request.began_ms;
        }
        sent
    }

    fn requests(&self) -> MutexGuard<'_, Vec<SentRequest>> {
        self.usage.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the begin of a request, if it is one of the first.
    fn begin(&self, request: &Request<RequestBody>) -> Option<Recording> {
        let mut sent = self.requests();
        if sent.len() >= SentRequest::KEPT {
            return None;
        }
        let to = Destination::of(request.uri()).map(|to| to.to_string()).unwrap_or_default();
        // Redact before cutting: half a secret would not be recognised.
        let shown = |text: &str| {
            let text = self.secrets.redact(text);
            text[..text.floor_char_boundary(TO_BYTES_MAX.min(text.len()))].to_owned()
        };
        sent.push(SentRequest {
            method: shown(request.method().as_str()),
            to: shown(&to),
            status: None,
            began_ms: ms(self.usage.began.elapsed()),
            took_ms: 0.0,
        });
        Some(Recording { usage: self.usage.clone(), at: sent.len() - 1, status: None })
    }

    async fn send_allowed(
        &self,
        mut request: Request<RequestBody>,
        added: Option<(HeaderName, HeaderValue)>,
    ) -> Result<Response<WasiBody>, SendError> {
        check_line(&mut request)?;
        let destination = self.allowed(request.uri())?;
        self.check_headers(request.headers())?;
        if self.secrets.put_into(request.headers_mut(), &destination, self.limits.http_header_bytes_max)? {
            self.check_headers(request.headers())?;
        }
        let Limits { http_requests_max, http_open_max, http_first_byte_max, .. } = &*self.limits;
        if self.usage.requests.fetch_add(1, Ordering::Relaxed) >= *http_requests_max {
            let problem = format!("this run has made {http_requests_max} requests, and may make no more");
            return Err(SendError::Failed(problem));
        }
        let Some(open) = OpenRequest::begin(&self.usage, *http_open_max) else {
            let problem = format!("this run has {http_open_max} requests under way, and may have no more");
            return Err(SendError::Failed(problem));
        };
        request
            .headers_mut()
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("wasq/", env!("CARGO_PKG_VERSION"))));
        if let Some(keys) = self.keys() {
            keys.put_into(&mut request);
        }
        request.headers_mut().extend(added);
        if request.body().is_empty() && [Method::POST, Method::PUT, Method::PATCH].contains(request.method())
        {
            // RFC 9110, 8.6: many servers answer 411 without it.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let response = tokio::time::timeout(*http_first_byte_max, self.exchange(request)).await;
        let response = response.map_err(|_| {
            SendError::Failed(format!("no response within {} s", http_first_byte_max.as_secs()))
        })??;
        let bytes_max = self.limits.http_received_bytes_max;
        Ok(response.map(|body| Metered { body, open, bytes_max }.boxed_unsync()))
    }

    async fn exchange(&self, request: Request<RequestBody>) -> Result<Response<WasiBody>, SendError> {
        match &self.exchange {
            Exchange::Network(client) => {
                let response =
                    client.send(&self.context.task, request).await.map_err(|e| match refused(&e) {
                        Some(refused) => SendError::Denied(refused.to_string()),
                        None => SendError::Failed(with_causes(&e)),
                    })?;
                Ok(response.map(|body: Incoming| body.map_err(Error::from).boxed_unsync()))
            }
            Exchange::Responder(responder) => {
                let (head, body) = request.into_parts();
                let body =
                    body.into_body().collect().await.map_err(|e| SendError::Failed(format!("{e:?}")))?;
                let request = Request::from_parts(head, body.to_bytes());
                let response = responder.respond(request).await.map_err(SendError::Failed)?;
                Ok(response.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()))
            }
        }
    }

    /// Says in the run's log why a request of `wasi:http` has no response: the libraries of most languages do not tell.
    fn tell(&self, what: &str, why: &str) {
        // Redact before cutting: half a secret would not be recognised.
        let why = self.secrets.redact(why);
        let end = why.floor_char_boundary(WHY_BYTES_MAX.min(why.len()));
        let more = if end < why.len() { " ..." } else { "" };
        self.log.line(LogLevel::Warn, &format!("request {what}: {}{more}", &why[..end]));
    }

    /// Where a request goes, if the task's settings allow it.
    fn allowed(&self, uri: &Uri) -> Result<Destination, SendError> {
        let destination = Destination::of(uri)?;
        if destination.is_among(&self.allow) {
            return Ok(destination);
        }
        Err(SendError::Denied(format!(
            "{destination} is not in the task's allow_hosts; to allow it, add \"{destination}\" there"
        )))
    }

    fn check_headers(&self, headers: &HeaderMap) -> Result<(), SendError> {
        let Limits { http_headers_max, http_header_bytes_max, .. } = &*self.limits;
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let problem = if headers.len() > *http_headers_max {
            format!("headers: {}; the most is {http_headers_max}", headers.len())
        } else if bytes > *http_header_bytes_max {
            format!("headers: {bytes} bytes; the most is {http_header_bytes_max}")
        } else {
            return Ok(());
        };
        Err(SendError::Invalid(problem))
    }
}

/// Checks a request's method and URL, and percent-encodes what is not ASCII in the URL.
fn check_line(request: &mut Request<RequestBody>) -> Result<(), SendError> {
    let invalid = |problem: String| Err(SendError::Invalid(problem));
    if [Method::CONNECT, Method::TRACE].contains(request.method()) {
        return invalid(format!("method: {} is not allowed", request.method()));
    }
    let uri = request.uri();
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return invalid("url: it has a user or a password; send them in the header authorization".to_owned());
    }
    if !uri.path().starts_with('/') {
        return invalid("url: its path does not begin with /".to_owned());
    }
    encode_other_letters(request.uri_mut()).map_err(SendError::Invalid)
}

/// In milliseconds; whole microseconds are exact enough.
fn ms(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// The body of a response; counts the received bytes. Its request is under way until the body is dropped.
struct Metered {
    body: WasiBody,
    open: OpenRequest,
    bytes_max: u64,
}

impl Body for Metered {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let bytes = data.len() as u64;
            if self.open.0.received.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
                let problem = format!("the responses of this run have more than {} bytes", self.bytes_max);
                return Poll::Ready(Some(Err(Error::InternalError(Some(problem)))));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The refusal among the causes of an error, if there is one.
fn refused<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refused> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

type Sent = (Response<WasiBody>, Box<dyn Future<Output = Result<(), Error>> + Send>);

impl WasiHttpHooks for Outgoing {
    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK_BYTES
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let outgoing = self.clone();
        let first_byte = options.and_then(|o| o.first_byte_timeout);
        Box::new(async move {
            let sending = outgoing.send(request.map(RequestBody::from), None);
            let sent = match first_byte {
                Some(limit) => {
                    tokio::time::timeout(limit, sending).await.map_err(|_| Error::ConnectionReadTimeout)?
                }
                None => sending.await,
            };
            let response = sent.map_err(|e| match e {
                SendError::Denied(why) => {
                    outgoing.tell("denied", &why);
                    Error::HttpRequestDenied
                }
                SendError::Invalid(why) | SendError::Failed(why) => {
                    outgoing.tell("failed", &why);
                    Error::InternalError(Some(why))
                }
            })?;
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}
