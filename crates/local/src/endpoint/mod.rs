//! The endpoint: SQS's two protocols over HTTP, the runs for the commands of wasq, and the page.

mod actions;
mod batch;
mod bodies;
mod connections;
mod own;
mod page_only;
mod params;
mod query;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;
use wasq_page::{Body, Callers, Site};

use crate::endpoint::actions::Caller;
use crate::endpoint::bodies::Bodies;
use crate::endpoint::page_only::{ELSEWHERE, show};
use crate::endpoint::query::QueryRequest;
use crate::page::LocalPage;
use crate::results::Results;
use crate::runs::LocalRuns;
use crate::sqs::error::SqsError;
use crate::sqs::queues::Queues;
use crate::timer::LocalTimer;

/// A request with a larger body takes much more memory while it is parsed. So few of them are parsed at once.
const LARGE_REQUEST_BYTES: usize = 64 << 10;
const LARGE_REQUESTS_MAX: usize = 4;

/// The queues and results that the endpoint serves.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) queues: Queues,
    pub(crate) results: Results,
    runs: LocalRuns,
    timer: LocalTimer,
    pub(crate) address: SocketAddr,
    callers: Callers,
    bodies: Bodies,
    site: Site<LocalPage>,
    large: Arc<Semaphore>,
}

pub use page_only::serve_page;

/// Opens the port.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("listen on {address}: is another `wasq dev` running? Choose another address with --listen")
    })
}

/// Serves for ever.
pub(crate) async fn serve(listener: TcpListener, endpoint: Endpoint) -> Infallible {
    let respond = move |request, is_here| {
        let endpoint = endpoint.clone();
        async move { endpoint.respond(request, is_here).await }
    };
    connections::serve(listener, respond).await
}

impl Endpoint {
    pub(crate) fn new(
        queues: Queues,
        results: Results,
        runs: LocalRuns,
        timer: LocalTimer,
        address: SocketAddr,
        allow_hosts: Vec<String>,
        site: Site<LocalPage>,
    ) -> Self {
        let large = Arc::new(Semaphore::new(LARGE_REQUESTS_MAX));
        Self {
            queues,
            results,
            runs,
            timer,
            address,
            callers: Callers { allow_hosts, can_allow: true },
            bodies: Bodies::default(),
            site,
            large,
        }
    }

    /// Answers a request. `is_here`: it comes from this machine.
    async fn respond(&self, request: Request<Incoming>, is_here: bool) -> Response<Body> {
        let mut caller = self.callers.check(request.headers());
        let is_for_page = Site::<LocalPage>::is_for(request.method(), request.uri().path());
        if is_for_page && !own::is_own(&request) {
            if caller.is_ok() && !is_here {
                caller = Err(ELSEWHERE.to_owned());
            }
            let is_browser =
                header(&request, ACCEPT.as_str()).is_some_and(|kinds| kinds.contains("text/html"));
            match &caller {
                Ok(()) => return show(&self.site, &self.bodies, request).await,
                Err(why) if is_browser => return wasq_page::refused(why),
                Err(_) => {}
            }
        }
        self.answer(request, caller).await.map(BodyExt::boxed_unsync)
    }

    async fn answer(&self, request: Request<Incoming>, caller: Result<(), String>) -> Response<Full<Bytes>> {
        let id = Uuid::new_v4().to_string();
        if is_query(&request) {
            let answered = match caller {
                Ok(()) => self.call_query(request).await,
                Err(why) => Err(SqsError::access_denied(why)),
            };
            let (status, body) = match answered {
                Ok((action, answer)) => (StatusCode::OK, query::answer(&action, &answer, &id)),
                Err(e) => (status_of(&e), query::error(e, &id)),
            };
            return answer(status, body, "text/xml", &id);
        }
        if caller.is_ok() && own::is_own(&request) {
            return own::respond(self, &request).await;
        }
        let answered = match caller {
            Ok(()) => self.call(request).await,
            Err(why) => Err(SqsError::access_denied(why)),
        };
        match answered {
            Ok(Value::Null) => answer(StatusCode::OK, String::new(), JSON, &id),
            Ok(value) => answer(StatusCode::OK, value.to_string(), JSON, &id),
            Err(e) => {
                let body = serde_json::json!({ "__type": e.shape, "message": e.message }).to_string();
                let mut response = answer(status_of(&e), body, JSON, &id);
                let fault = if e.sender_fault() { "Sender" } else { "Receiver" };
                let code = format!("{};{fault}", e.code).parse().expect("codes are ASCII");
                response.headers_mut().insert("x-amzn-query-error", code);
                response
            }
        }
    }

    /// A request of the JSON protocol.
    async fn call(&self, request: Request<Incoming>) -> Result<Value, SqsError> {
        let action = header(&request, "x-amz-target").and_then(|target| target.strip_prefix("AmazonSQS."));
        let action = action
            .ok_or_else(|| {
                SqsError::unknown_action(
                    "this endpoint speaks SQS's protocols: POST a form, or JSON with the header X-Amz-Target: AmazonSQS.ACTION",
                )
            })?
            .to_owned();
        let caller = self.caller(&request);
        let (body, _held) = self.bodies.read(request.into_body()).await?;
        let request: Map<String, Value> = if body.is_empty() {
            Map::new()
        } else {
            let _large = self.place(body.len()).await;
            serde_json::from_slice(&body)
                .map_err(|e| SqsError::malformed(format!("not a JSON object: {e}")))?
        };
        actions::answer(&self.queues, &action, &request, &caller).await
    }

    /// A request of the older protocol. Returns its action as well.
    async fn call_query(&self, request: Request<Incoming>) -> Result<(String, Value), SqsError> {
        let caller = self.caller(&request);
        let path = request.uri().path().to_owned();
        let queue_url = format!("{}{path}", caller.base);
        let (form, _held) = self.bodies.read(request.into_body()).await?;
        let QueryRequest { action, request } = {
            let _large = self.place(form.len()).await;
            query::read(&form, &queue_url)?
        };
        let about_queues = ["CreateQueue", "ListQueues"].contains(&action.as_str());
        if about_queues && path.trim_matches('/').contains('/') {
            return Err(SqsError::unknown_action(format!(
                "The action {action} is not valid for this endpoint."
            )));
        }
        let answer = actions::answer(&self.queues, &action, &request, &caller).await?;
        Ok((action, answer))
    }

    fn caller(&self, request: &Request<Incoming>) -> Caller {
        Caller {
            base: match header(request, HOST.as_str()) {
                Some(host) => format!("http://{host}"),
                None => format!("http://{}", self.address),
            },
            trace_header: header(request, "x-amzn-trace-id").map(str::to_owned),
        }
    }

    /// A place among the large requests, for one of so many bytes.
    async fn place(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        match bytes {
            0..=LARGE_REQUEST_BYTES => None,
            _ => Some(self.large.acquire().await.expect("the semaphore is never closed")),
        }
    }
}

const JSON: &str = "application/x-amz-json-1.0";

fn header<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Whether a request is one of the older protocol: a form that is sent. SQS also takes an action in an address; here it is
/// refused, because any page in a browser can make a GET.
fn is_query(request: &Request<Incoming>) -> bool {
    let is_form = header(request, CONTENT_TYPE.as_str())
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/x-www-form-urlencoded"));
    request.method() == Method::POST && is_form && header(request, "x-amz-target").is_none()
}

fn status_of(error: &SqsError) -> StatusCode {
    StatusCode::from_u16(error.status).unwrap_or(StatusCode::BAD_REQUEST)
}

fn answer(status: StatusCode, body: String, content_type: &'static str, id: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert("x-amzn-requestid", id.parse().expect("ASCII"));
    response
}
