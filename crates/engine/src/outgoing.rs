//! Outgoing HTTP: one client for the process, one policy for both interfaces.
//!
//! `wasq:task/http` (see `http.rs`) and `wasi:http` both end in [`Outgoing::send`].

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};
use wasq_protocol::{AllowedHost, with_causes};

use crate::addresses::Refused;
use crate::connect::{Connector, Resolver};
use crate::destination::{Destination, SendError};
use crate::limits::Limits;
use crate::secrets::RunSecrets;

/// The client of the whole process, with its connections and TLS sessions. The operator's policy decides
/// which addresses a connection may reach, and it is the same for all tasks. So any task may use an existing
/// connection if the task's own policy names the host.
pub(crate) struct HttpClient(Client<HttpsConnector<Connector>, WasiBody>);

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

/// Idle connections per host that are kept.
const IDLE_PER_HOST: usize = 8;
/// An idle connection is closed after this; servers commonly close theirs after 60 s.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

impl HttpClient {
    pub(crate) fn new(limits: &Limits, resolver: Arc<dyn Resolver>) -> Self {
        let tcp = Connector { addresses: Arc::new(limits.addresses.clone()), resolver };
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .http1_max_headers(limits.http_headers_max)
            .http1_max_buf_size(2 * limits.http_header_bytes_max)
            .build(connector);
        Self(client)
    }
}

/// The outgoing HTTP of one run. Clones share the run's counters.
#[derive(Clone)]
pub(crate) struct Outgoing {
    exchange: Exchange,
    allow: Arc<[AllowedHost]>,
    secrets: RunSecrets,
    limits: Arc<Limits>,
    usage: Arc<HttpUsage>,
}

/// The counters of one run.
struct HttpUsage {
    requests: AtomicU32,
    denied: AtomicU32,
    received: AtomicU64,
    open: AtomicU32,
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

impl Outgoing {
    pub(crate) fn new(
        exchange: Exchange,
        allow: &[AllowedHost],
        secrets: RunSecrets,
        limits: Arc<Limits>,
    ) -> Self {
        let usage = HttpUsage {
            requests: AtomicU32::new(0),
            denied: AtomicU32::new(0),
            received: AtomicU64::new(0),
            open: AtomicU32::new(0),
        };
        Self { exchange, allow: allow.into(), secrets, limits, usage: Arc::new(usage) }
    }

    /// Requests that the policy has denied so far.
    pub(crate) fn denied(&self) -> u32 {
        self.usage.denied.load(Ordering::Relaxed)
    }

    /// Sends a request if the policy allows its address. Redirects are not followed: the task sees them, and a new
    /// request passes the policy again.
    pub(crate) async fn send(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
        let sent = self.send_allowed(request).await;
        if let Err(SendError::Denied(_)) = sent {
            self.usage.denied.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    async fn send_allowed(&self, mut request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
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
        let response = tokio::time::timeout(*http_first_byte_max, self.exchange(request)).await;
        let response = response.map_err(|_| {
            SendError::Failed(format!("no response within {} s", http_first_byte_max.as_secs()))
        })??;
        let bytes_max = self.limits.http_received_bytes_max;
        Ok(response.map(|body| Metered { body, open, bytes_max }.boxed_unsync()))
    }

    async fn exchange(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
        match &self.exchange {
            Exchange::Network(client) => {
                let response = client.0.request(request).await.map_err(|e| match refused(&e) {
                    Some(refused) => SendError::Denied(refused.to_string()),
                    None => SendError::Failed(with_causes(&e)),
                })?;
                Ok(response.map(|body: Incoming| body.map_err(Error::from).boxed_unsync()))
            }
            Exchange::Responder(responder) => {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map_err(|e| SendError::Failed(format!("{e:?}")))?;
                let request = Request::from_parts(head, body.to_bytes());
                let response = responder.respond(request).await.map_err(SendError::Failed)?;
                Ok(response.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync()))
            }
        }
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
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let (outgoing, secrets) = (self.clone(), self.secrets.clone());
        let first_byte = options.and_then(|o| o.first_byte_timeout);
        Box::new(async move {
            let sending = outgoing.send(request);
            let sent = match first_byte {
                Some(limit) => {
                    tokio::time::timeout(limit, sending).await.map_err(|_| Error::ConnectionReadTimeout)?
                }
                None => sending.await,
            };
            let response = sent.map_err(|e| match e {
                SendError::Denied(why) => {
                    tracing::warn!(target: "task", "request denied: {}", secrets.redact(&why));
                    Error::HttpRequestDenied
                }
                SendError::Invalid(why) | SendError::Failed(why) => Error::InternalError(Some(why)),
            })?;
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}
