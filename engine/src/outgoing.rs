//! Outgoing HTTP: one client for the process, one policy for both interfaces.
//!
//! `wasq:task/http` (see `http.rs`) and `wasi:http` both end in [`Outgoing::send`].

use std::fmt;
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
use wasq_protocol::AllowedHost;

use crate::addresses::Refused;
use crate::connect::{Connector, Resolver};
use crate::limits::Limits;
use crate::secrets::Secrets;

/// The client of the whole process, with its connections and TLS sessions. What a connection may lead to is the operator's policy,
/// the same for all tasks; so any task may use one that is there, if its own policy names the host.
pub(crate) struct HttpClient(Client<HttpsConnector<Connector>, WasiBody>);

/// Answers requests in the network's stead, so that a task can be tested without one. The policy is asked first, as ever.
pub trait Responder: Send + Sync {
    /// Answers a request, or says why there is no answer, as a failed connection would.
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

/// Outgoing HTTP as one run may use it. Clones share what is spent.
#[derive(Clone)]
pub(crate) struct Outgoing {
    exchange: Exchange,
    allow: Arc<[AllowedHost]>,
    secrets: Secrets,
    limits: Arc<Limits>,
    spent: Arc<Spent>,
}

/// Where a request goes.
pub(crate) struct Destination<'a> {
    https: bool,
    /// Without brackets or port.
    host: &'a str,
    port: u16,
    /// As the task wrote it, for messages.
    authority: &'a str,
}

impl<'a> Destination<'a> {
    fn of(uri: &'a Uri) -> Result<Self, SendError> {
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(SendError::Denied(format!("{uri} has no scheme http or https"))),
        };
        let host = uri
            .host()
            .ok_or_else(|| SendError::Denied(format!("{uri} has no host")))?
            .trim_start_matches('[')
            .trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        Ok(Self {
            https,
            host,
            port,
            authority: uri.authority().map_or(host, |authority| authority.as_str()),
        })
    }

    pub(crate) fn is_among(&self, hosts: &[AllowedHost]) -> bool {
        hosts.iter().any(|entry| entry.allows(self.https, self.host, self.port))
    }
}

impl fmt::Display for Destination<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", if self.https { "https" } else { "http" }, self.authority)
    }
}

/// What one run has used so far.
struct Spent {
    requests: AtomicU32,
    denied: AtomicU32,
    received: AtomicU64,
    open: AtomicU32,
}

/// One request that is under way, until dropped.
struct Place(Arc<Spent>);

impl Place {
    fn take(spent: &Arc<Spent>, most: u32) -> Option<Self> {
        // Counted before it is looked at, and given back where there was none.
        let place = Self(spent.clone());
        (spent.open.fetch_add(1, Ordering::Relaxed) < most).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Why there is no response.
pub(crate) enum SendError {
    /// The policy forbids it.
    Denied(String),
    /// The request has too much of something.
    Invalid(String),
    /// It was tried, or the run has used up what it may.
    Failed(String),
}

impl Outgoing {
    pub(crate) fn new(
        exchange: Exchange,
        allow: &[AllowedHost],
        secrets: Secrets,
        limits: Arc<Limits>,
    ) -> Self {
        let spent = Spent {
            requests: AtomicU32::new(0),
            denied: AtomicU32::new(0),
            received: AtomicU64::new(0),
            open: AtomicU32::new(0),
        };
        Self { exchange, allow: allow.into(), secrets, limits, spent: Arc::new(spent) }
    }

    /// Requests that the policy has denied so far.
    pub(crate) fn denied(&self) -> u32 {
        self.spent.denied.load(Ordering::Relaxed)
    }

    /// Sends a request if the policy allows its address. Redirects are not followed: the task sees them, and a new
    /// request passes the policy again.
    pub(crate) async fn send(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
        let sent = self.send_allowed(request).await;
        if let Err(SendError::Denied(_)) = sent {
            self.spent.denied.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    async fn send_allowed(&self, mut request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
        let uri = request.uri().clone();
        let destination = self.allowed(&uri)?;
        self.check_headers(request.headers())?;
        if self.secrets.put_into(request.headers_mut(), &destination, self.limits.http_header_bytes_max)? {
            self.check_headers(request.headers())?;
        }
        let Limits { http_requests_max, http_open_max, http_first_byte_max, .. } = &*self.limits;
        if self.spent.requests.fetch_add(1, Ordering::Relaxed) >= *http_requests_max {
            let problem = format!("this run has made {http_requests_max} requests, and may make no more");
            return Err(SendError::Failed(problem));
        }
        let Some(place) = Place::take(&self.spent, *http_open_max) else {
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
        Ok(response.map(|body| Metered { body, place, bytes_max }.boxed_unsync()))
    }

    async fn exchange(&self, request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
        match &self.exchange {
            Exchange::Network(client) => {
                let response = client.0.request(request).await.map_err(|e| match refused(&e) {
                    Some(refused) => SendError::Denied(refused.to_string()),
                    None => SendError::Failed(chain(&e)),
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
    fn allowed<'a>(&self, uri: &'a Uri) -> Result<Destination<'a>, SendError> {
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

/// The body of a response, counted; while it lives, its request is under way.
struct Metered {
    body: WasiBody,
    place: Place,
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
            if self.place.0.received.fetch_add(bytes, Ordering::Relaxed) + bytes > self.bytes_max {
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

/// The refusal among the causes of an error, if it is one.
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

/// An error with its causes: hyper's own text alone is only "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
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
