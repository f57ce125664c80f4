//! Outgoing HTTP: one client for the process, one policy for both interfaces.
//!
//! `wasq:task/http` (see `http.rs`) and `wasi:http` both end in [`Outgoing::send`].

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};
use wasq_protocol::AllowedHost;

/// The client of the whole process, with its connections and TLS sessions.
pub(crate) struct HttpClient(Client<HttpsConnector<HttpConnector>, WasiBody>);

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
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

impl HttpClient {
    pub(crate) fn new() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_PER_HOST)
            .build(connector);
        Self(client)
    }
}

/// Outgoing HTTP as one run may use it.
#[derive(Clone)]
pub(crate) struct Outgoing {
    pub(crate) exchange: Exchange,
    pub(crate) allow: Arc<[AllowedHost]>,
}

/// Why there is no response.
pub(crate) enum SendError {
    /// The policy forbids it.
    Denied(String),
    /// It was tried.
    Failed(String),
}

impl Outgoing {
    /// Sends a request if the policy allows its address. Redirects are not followed: the task sees them, and a new
    /// request passes the policy again.
    pub(crate) async fn send(&self, mut request: Request<WasiBody>) -> Result<Response<WasiBody>, SendError> {
        self.check(request.uri())?;
        request
            .headers_mut()
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("wasq/", env!("CARGO_PKG_VERSION"))));
        match &self.exchange {
            Exchange::Network(client) => {
                let response = client.0.request(request).await.map_err(|e| SendError::Failed(chain(&e)))?;
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

    fn check(&self, uri: &Uri) -> Result<(), SendError> {
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
        if self.allow.iter().any(|entry| entry.allows(https, host, port)) {
            return Ok(());
        }
        let scheme = if https { "https" } else { "http" };
        let authority = uri.authority().map_or(host, |authority| authority.as_str());
        Err(SendError::Denied(format!(
            "{scheme}://{authority} is not in the task's allow_hosts; to allow it, add \"{scheme}://{authority}\" there"
        )))
    }
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
        let outgoing = self.clone();
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
                    tracing::warn!(target: "task", "request denied: {why}");
                    Error::HttpRequestDenied
                }
                SendError::Failed(why) => Error::InternalError(Some(why)),
            })?;
            let done: Box<dyn Future<Output = Result<(), Error>> + Send> = Box::new(async { Ok(()) });
            Ok((response, done))
        })
    }
}
