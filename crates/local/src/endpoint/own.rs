//! The requests of wasq's own commands, beside SQS's:
//!
//! - `GET /wasq/results?message_id=...&id=...&params=DIGEST&wait=SECONDS&seen=NUMBER`: how a message ended. If it has not
//!   ended, 202 with the last failure, if that has a higher number; otherwise, and without `seen`, 204.
//! - `GET /wasq/runs?task=...&state=...&kind=...&parent=...&before=NUMBER&max=NUMBER`: items, newest first.
//! - `GET /wasq/overview?span=hour|day`: the state of the whole, as the page shows it.
//! - `GET /wasq/run?id=...`: one item; 404 if there is none.
//! - `POST /wasq/cancel?id=...`: cancels a message; 409 with its state if it has ended.
//! - `GET /wasq/schedules`: all schedules.
//! - `POST /wasq/schedules/pause?name=...`, `resume`: pauses a schedule, or lets it go on; 409 if there is none.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, Response, StatusCode};
use serde::Serialize;
use serde_json::json;
use url::form_urlencoded;
use wasq_page::Data;
use wasq_protocol::{FailureKind, RunItem};

use crate::db::DbError;
use crate::endpoint::Endpoint;
use crate::results::{Awaited, Waited};
use crate::runs::RunFilter;

/// The longest wait of one request.
const WAIT_MAX_SECONDS: u64 = 20;
/// Items in one answer.
const ITEMS: usize = 20;
const ITEMS_MAX: usize = 1000;

/// Whether a request is one of these, or one of SQS's that is sent by GET: SQS takes an action in an address, and this endpoint
/// does not, because any page in a browser can make a GET.
pub(super) fn is_own(request: &Request<Incoming>) -> bool {
    let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
    let is_action =
        path.starts_with("/000000000000/") || query.split('&').any(|field| field.starts_with("Action="));
    path.starts_with("/wasq/") || request.method() == Method::GET && is_action
}

pub(super) async fn respond(endpoint: &Endpoint, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let query = Query::of(request.uri().query().unwrap_or_default());
    let answered = match (request.method(), request.uri().path()) {
        (&Method::GET, "/wasq/results") => result(endpoint, &query).await,
        (&Method::GET, "/wasq/runs") => list(endpoint, &query).await,
        (&Method::GET, "/wasq/overview") => overview(endpoint, &query).await,
        (&Method::GET, "/wasq/run") => show(endpoint, &query).await,
        (&Method::POST, "/wasq/cancel") => cancel(endpoint, &query).await,
        (&Method::GET, "/wasq/schedules") => {
            endpoint.timer.schedules().await.map(|all| json(StatusCode::OK, &all)).map_err(Problem::from)
        }
        (&Method::POST, "/wasq/schedules/pause") => pause(endpoint, &query, true).await,
        (&Method::POST, "/wasq/schedules/resume") => pause(endpoint, &query, false).await,
        _ => Err(Problem(
            StatusCode::NOT_FOUND,
            "wasq dev: an SQS endpoint; send POST requests with an AWS SDK\n".to_owned(),
        )),
    };
    answered.unwrap_or_else(|Problem(status, text)| {
        let mut response = Response::new(Full::from(text));
        *response.status_mut() = status;
        response
    })
}

/// Why a request is not done.
struct Problem(StatusCode, String);

impl From<DbError> for Problem {
    fn from(e: DbError) -> Self {
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{e}\n"))
    }
}

type Answer = Result<Response<Full<Bytes>>, Problem>;

fn wrong(what: String) -> Problem {
    Problem(StatusCode::BAD_REQUEST, what + "\n")
}

/// The parameters of a request.
struct Query(HashMap<String, String>);

impl Query {
    fn of(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn required(&self, name: &str) -> Result<String, Problem> {
        self.text(name).ok_or_else(|| wrong(format!("the parameter {name} is missing")))
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Problem> {
        let parse = |text: &String| text.parse().map_err(|_| wrong(format!("{name}: {text:?} is not valid")));
        self.0.get(name).map(parse).transpose()
    }
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(serde_json::to_string(value).expect("string keys")));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("ASCII"));
    response
}

async fn result(endpoint: &Endpoint, query: &Query) -> Answer {
    let awaited = Awaited {
        message_id: query.required("message_id")?,
        id: query.text("id"),
        params: query.parsed("params")?,
    };
    let wait = Duration::from_secs(query.parsed("wait")?.unwrap_or(0).min(WAIT_MAX_SECONDS));
    let seen = query.parsed("seen")?.unwrap_or(u64::MAX);
    Ok(match endpoint.results.wait(awaited, seen, wait).await? {
        Waited::Ended(ended) => json(StatusCode::OK, &ended),
        Waited::Unfinished(unfinished) => json(StatusCode::ACCEPTED, &unfinished),
        Waited::Nothing => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NO_CONTENT;
            response
        }
    })
}

async fn list(endpoint: &Endpoint, query: &Query) -> Answer {
    let kind = match query.text("kind") {
        None => None,
        Some(text) => {
            let kind = FailureKind::ALL.into_iter().find(|kind| kind.as_str() == text);
            Some(kind.ok_or_else(|| wrong(format!("kind: {text:?} is not valid")))?)
        }
    };
    let filter = RunFilter {
        task: query.parsed("task")?,
        state: query.parsed("state")?,
        kind,
        parent: query.text("parent"),
        since: query.parsed("since")?,
        until: query.parsed("until")?,
        before: query.parsed("before")?,
        max: query.parsed("max")?.unwrap_or(ITEMS).min(ITEMS_MAX),
    };
    let listed = endpoint.runs.list(filter).await?;
    let next = listed.last().map(|(number, _)| *number);
    let items: Vec<RunItem> = listed.into_iter().map(|(_, item)| item).collect();
    #[derive(Serialize)]
    struct Page {
        items: Vec<RunItem>,
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<i64>,
    }
    Ok(json(StatusCode::OK, &Page { items, next }))
}

async fn overview(endpoint: &Endpoint, query: &Query) -> Answer {
    let span = query.parsed("span")?.unwrap_or_default();
    match endpoint.site.data().overview(span).await {
        Ok(overview) => Ok(json(StatusCode::OK, &overview)),
        Err(e) => Err(Problem(StatusCode::INTERNAL_SERVER_ERROR, format!("{e:#}\n"))),
    }
}

async fn show(endpoint: &Endpoint, query: &Query) -> Answer {
    match endpoint.runs.get(query.required("id")?).await? {
        Some(item) => Ok(json(StatusCode::OK, &item)),
        None => Err(Problem(StatusCode::NOT_FOUND, "no run with this id is remembered\n".to_owned())),
    }
}

async fn cancel(endpoint: &Endpoint, query: &Query) -> Answer {
    Ok(match endpoint.runs.cancel(query.required("id")?).await? {
        Ok(item) => json(StatusCode::OK, &item),
        Err(state) => json(StatusCode::CONFLICT, &json!({ "state": state })),
    })
}

async fn pause(endpoint: &Endpoint, query: &Query, paused: bool) -> Answer {
    if endpoint.timer.pause(query.required("name")?, paused).await? {
        return Ok(json(StatusCode::OK, &json!({})));
    }
    Err(Problem(StatusCode::CONFLICT, "there is no schedule of this name\n".to_owned()))
}
