//! From requests to pages.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use futures_util::stream;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION, SET_COOKIE,
};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use wasq_protocol::{Clock, FailureKind, ItemState, SystemClock, TaskName, Timestamp, parse_duration};

use crate::data::{Data, DeadLetters, Group, NotAPlace, Search, Task};
use crate::family::Family;
use crate::fields::{Field, fields_of};
use crate::form::{Form, decoded};
use crate::guard::Token;
use crate::once::{self, Once};
use crate::text::line;
use crate::views::run::Said;
use crate::views::send::Filled;
use crate::views::tasks::Asked;
use crate::views::{self, View, notice, run_address, whole};

/// The body of an answer. That of the events never ends.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The page over its data. Cheap to clone.
pub struct Site<D> {
    pub(crate) data: Arc<D>,
    token: Token,
    /// The port that it is served on: it makes the name of the cookie.
    port: u16,
    following: Arc<AtomicUsize>,
    once: Arc<Once>,
}

impl<D> Clone for Site<D> {
    fn clone(&self) -> Self {
        let Self { data, token, port, following, once } = self;
        Self {
            data: data.clone(),
            token: token.clone(),
            port: *port,
            following: following.clone(),
            once: once.clone(),
        }
    }
}

impl<D> std::fmt::Debug for Site<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Site").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Nothing but the page's own style and script, and no frame around it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
/// The address that a component is uploaded to; its body is the component.
const UPLOAD: &str = "/act/upload";
const STYLE: &str = include_str!("../assets/style.css");
const SCRIPT: &str = include_str!("../assets/page.js");
/// Why there is no page: its status, a title and a text.
pub(crate) struct Problem(StatusCode, &'static str, String);

impl From<anyhow::Error> for Problem {
    fn from(e: anyhow::Error) -> Self {
        if let Some(no_place) = e.downcast_ref::<NotAPlace>() {
            return wrong(no_place.to_string());
        }
        Self(StatusCode::INTERNAL_SERVER_ERROR, "That did not work", format!("{e:#}"))
    }
}

pub(crate) fn missing(what: String) -> Problem {
    Problem(StatusCode::NOT_FOUND, "Not found", what)
}

pub(crate) fn no_task(name: &str) -> Problem {
    missing(format!("There is no task {name:?}."))
}

pub(crate) fn wrong(what: String) -> Problem {
    Problem(StatusCode::BAD_REQUEST, "Not a valid request", what)
}

/// Says that somebody may not see the page.
pub fn refused(why: &str) -> Response<Body> {
    let mut response = page(StatusCode::FORBIDDEN, views::closed(&format!("This page is not shown: {why}.")));
    protect(&mut response);
    response
}

/// Adds what keeps a page to itself.
fn protect(response: &mut Response<Body>) {
    let fixed = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (HeaderName::from_static("x-content-type-options"), "nosniff"),
        // Not "no-referrer": browsers would send "Origin: null" with the page's own forms.
        (HeaderName::from_static("referrer-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    let headers = response.headers_mut();
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

impl<D: Data> Site<D> {
    /// The page, on this port.
    pub fn new(data: D, token: Token, port: u16) -> Self {
        Self { data: Arc::new(data), token, port, following: Arc::default(), once: Arc::default() }
    }

    /// The data behind the page.
    pub fn data(&self) -> &D {
        &self.data
    }

    /// Whether a request is for the page: every GET, and the acts.
    pub fn is_for(method: &Method, path: &str) -> bool {
        [Method::GET, Method::HEAD].contains(method) || path.starts_with("/act/")
    }

    /// Whether the body of a request is a component: it may be large, and comes from somebody who may upload.
    pub fn is_upload(&self, request: &Parts) -> bool {
        request.method == Method::POST
            && request.uri.path() == UPLOAD
            && self.token.is_in(&request.headers, &self.port.to_string())
    }

    /// Answers a request for the page. The caller has checked who sent it: its host, and that no other site did.
    pub async fn respond(&self, request: &Parts, body: Bytes) -> Response<Body> {
        let mut response = match self.answer(request, body).await {
            Ok(response) => response,
            Err(Problem(status, title, text)) => page(status, notice(title, &text)),
        };
        protect(&mut response);
        response
    }

    async fn answer(&self, request: &Parts, body: Bytes) -> Result<Response<Body>, Problem> {
        let path = request.uri.path();
        match path {
            "/assets/style.css" => return Ok(asset("text/css; charset=utf-8", STYLE)),
            "/assets/page.js" => return Ok(asset("text/javascript; charset=utf-8", SCRIPT)),
            _ => {}
        }
        let query = Form::read(request.uri.query().unwrap_or_default().as_bytes());
        let port = self.port.to_string();
        if request.method == Method::GET && query.text("token").is_some_and(|token| self.token.is(token)) {
            // The token leaves the address at once, so that nobody reads or copies it there.
            // Two slashes at the beginning would name another host.
            let place = format!("/{}", path.trim_start_matches(['/', '\\']));
            let mut response = redirect(&query.without("token").address(&place));
            let cookie = self.token.set_cookie(&port).parse().expect("ASCII");
            response.headers_mut().insert(SET_COOKIE, cookie);
            return Ok(response);
        }
        if !self.token.is_in(&request.headers, &port) {
            let why = "This page opens with the address that wasq has printed: it has a token in it.";
            return Ok(page(StatusCode::UNAUTHORIZED, views::closed(why)));
        }
        if request.method == Method::POST {
            return match path {
                UPLOAD => self.upload(&query, body).await,
                _ => self.act_once(path, &body).await,
            };
        }
        // Before anything is read, so that no change is missed.
        let live = Some(self.data.changes());
        let main = match path {
            "/" => {
                let span = parsed(&query, "span")?.unwrap_or_default();
                let overview = self.data.overview(span).await?;
                whole(View::Overview, "Overview", live, &views::overview::overview(&overview, span))
            }
            "/runs" => return self.runs(&query).await,
            "/tasks" => whole(View::Tasks, "Tasks", live, &views::tasks::tasks(&self.data.tasks().await?)),
            "/schedules" => {
                let asked = |name, of: fn(String) -> views::schedules::Asked| {
                    query.text(name).map(|text| of(text.to_owned()))
                };
                let asked = asked("fired", views::schedules::Asked::Fired)
                    .or_else(|| asked("paused", views::schedules::Asked::Paused))
                    .or_else(|| asked("resumed", views::schedules::Asked::Resumed));
                let main = views::schedules::schedules(&self.data.schedules().await?, asked.as_ref());
                whole(View::Schedules, "Schedules", live, &main)
            }
            "/dead" => {
                let DeadLetters { letters, note } = self.data.dead_letters().await?;
                let groups = Group::all(letters);
                let number = |name| query.text(name).and_then(|number| number.parse().ok());
                let redriven = number("redriven").map(|number| ("sent back to the queue", number));
                let done = redriven.or_else(|| number("deleted").map(|number| ("deleted", number)));
                whole(View::Dead, "Dead letters", live, &views::dead::dead(&groups, note.as_deref(), done))
            }
            "/send" => {
                let filled = match query.text("letter") {
                    Some(letter) => self.of_letter(letter).await?,
                    None => {
                        let task = query.text("task").unwrap_or_default().to_owned();
                        let fields = match query.text("as") {
                            Some("json") => None,
                            _ => self.fields(&task).await?,
                        };
                        Filled { task, fields, ..Filled::default() }
                    }
                };
                self.send_form(&filled).await?
            }
            "/events" => return self.events(query.text("seen").and_then(|seen| seen.parse().ok())),
            "/run" => return self.run(query.exactly("id"), &query).await,
            _ => return self.other(path, &query).await,
        };
        Ok(page(StatusCode::OK, main))
    }

    /// Acts once, also if the form is sent twice. The caller carries the answer out to its end if the browser goes away.
    async fn act_once(&self, path: &str, body: &[u8]) -> Result<Response<Body>, Problem> {
        let form = Form::read(body);
        if form.text(once::FIELD).is_none() {
            return self.act(path, &form).await;
        }
        let sent = self.once.of(path, body);
        let mut sent = sent.lock().await;
        if let Some(to) = &*sent {
            return Ok(redirect(to));
        }
        let response = self.act(path, &form).await?;
        let to = response.headers().get(LOCATION).and_then(|to| to.to_str().ok());
        *sent = to.map(str::to_owned);
        Ok(response)
    }

    /// The pages with a name in their address.
    async fn other(&self, path: &str, query: &Form) -> Result<Response<Body>, Problem> {
        if let Some(id) = path.strip_prefix("/runs/").and_then(decoded) {
            return self.run(&id, query).await;
        }
        if let Some(name) = path.strip_prefix("/tasks/") {
            let live = Some(self.data.changes());
            let said = query.text("asked").and_then(Asked::read);
            let task = match (self.task(name).await?, name.parse(), said) {
                // The publisher has not seen its first upload yet.
                (None, Ok(name), Some(Asked::Uploaded)) => Task { name, record: None, rejected: None },
                (found, ..) => found.ok_or_else(|| no_task(name))?,
            };
            return Ok(page(
                StatusCode::OK,
                whole(View::Tasks, name, live, &views::tasks::task(&task, said)),
            ));
        }
        Err(missing(format!("There is no page {path:?}.")))
    }

    async fn run(&self, id: &str, query: &Form) -> Result<Response<Body>, Problem> {
        let live = Some(self.data.changes());
        let sent = query.text("sent");
        let Some(run) = self.data.run(id).await? else {
            if sent.is_some() {
                let main = views::send::sent(id, query.text("letter"));
                return Ok(page(StatusCode::OK, whole(View::Send, "Sent", live, &main)));
            }
            return Err(missing(format!(
                "No run of {id:?} is remembered: no worker had the message yet, it was given up without a run, or its end was forgotten."
            )));
        };
        let log = self.data.log(&run).await?;
        let family = Family::of(&*self.data, &run).await;
        let said = match (query.text("asked"), sent) {
            (Some("cancelled"), _) => Some(Said::Cancelled),
            (Some(state), _) => state.parse().ok().map(Said::Ended),
            (None, Some(sent)) if run.message_id.as_deref().is_some_and(|last| last != sent) => {
                Some(Said::IdUsed)
            }
            (None, _) => None,
        };
        let main = views::run::run(&run, &family, &log, SystemClock.now(), said, query.text("letter"));
        let title = format!("Run {}", line(&run.id, 60));
        // Children are sent when their parent has ended. Those of long ago may be forgotten.
        let has_ended =
            |ended: Timestamp| !family.is_alive() || ended.plus(CHILDREN_AWAITED) < SystemClock.now();
        let live = live.filter(|_| !run.state.is_end() || run.ended.is_some_and(|ended| !has_ended(ended)));
        Ok(page(StatusCode::OK, whole(View::Runs, &title, live, &main)))
    }

    async fn runs(&self, query: &Form) -> Result<Response<Body>, Problem> {
        let mut search = Search {
            task: parsed::<TaskName>(query, "task")?,
            state: parsed::<ItemState>(query, "state")?,
            kind: match query.text("kind") {
                Some(text) => {
                    let kind = FailureKind::ALL.into_iter().find(|kind| kind.as_str() == text);
                    Some(kind.ok_or_else(|| wrong(format!("{text:?} is no kind of failure.")))?)
                }
                None => None,
            },
            parent: query.text("parent").map(str::to_owned),
            within: match query.text("within") {
                Some(text) => Some(parse_duration(text).map_err(|e| wrong(format!("within: {e}.")))?),
                None => None,
            },
            before: query.text("before").map(str::to_owned),
        };
        if let Some(id) = query.text("id") {
            // A run of this id, or else its children.
            match self.data.run(id).await? {
                Some(run) if run.children_count == 0 => {
                    return Ok(redirect(&run_address(&run.id)));
                }
                Some(run) => search.parent = Some(run.id),
                None => search.parent = Some(id.to_owned()),
            }
        }
        let live = Some(self.data.changes()).filter(|_| search.before.is_none());
        let runs = self.data.runs(&search).await?;
        let tasks: Vec<TaskName> = self.data.tasks().await?.into_iter().map(|task| task.name).collect();
        Ok(page(StatusCode::OK, whole(View::Runs, "Runs", live, &views::runs::runs(&runs, &search, &tasks))))
    }

    pub(crate) async fn send_form(&self, filled: &Filled) -> Result<String, Problem> {
        let tasks = self.data.tasks().await?;
        let live: Vec<_> = tasks
            .into_iter()
            .filter(|task| task.record.as_ref().is_some_and(|record| record.removed.is_none()))
            .collect();
        let with_fields: Vec<TaskName> =
            live.iter().filter(|task| fields_of_task(task).is_some()).map(|task| task.name.clone()).collect();
        let names: Vec<TaskName> = live.into_iter().map(|task| task.name).collect();
        let main = views::send::send(filled, &names, &with_fields);
        Ok(whole(View::Send, "Send a message", None, &main))
    }

    /// The fields for the params of a task, if its schema says them.
    pub(crate) async fn fields(&self, task: &str) -> Result<Option<Vec<Field>>, Problem> {
        Ok(self.task(task).await?.as_ref().and_then(fields_of_task))
    }

    /// Tells a browser again and again that something has changed, and how often.
    fn events(&self, seen: Option<u64>) -> Result<Response<Body>, Problem> {
        let Some(following) = Following::begin(&self.following) else {
            let why = format!("{FOLLOWING_MAX} pages follow what happens, and no more can.");
            return Err(Problem(StatusCode::SERVICE_UNAVAILABLE, "Too many pages", why));
        };
        let seen = seen.unwrap_or_else(|| self.data.changes());
        let start = (self.data.clone(), following, seen, true);
        let events = stream::unfold(start, |(data, following, seen, is_first)| async move {
            // A comment first: the browser learns that the connection is there.
            let (text, seen) = match is_first {
                true => (":\n\n".to_owned(), seen),
                false => {
                    let seen = data.changed(seen).await;
                    (format!("event: changed\ndata: {seen}\n\n"), seen)
                }
            };
            Some((Ok::<_, Infallible>(Frame::data(Bytes::from(text))), (data, following, seen, false)))
        });
        let mut response = Response::new(StreamBody::new(events).boxed_unsync());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    }
}

/// How long the page of a run that has ended follows its children.
const CHILDREN_AWAITED: Duration = Duration::from_secs(3600);
/// Pages that follow what happens, each over a connection of its own.
const FOLLOWING_MAX: usize = 50;

/// A page that follows what happens, until dropped.
struct Following(Arc<AtomicUsize>);

impl Following {
    fn begin(all: &Arc<AtomicUsize>) -> Option<Self> {
        // Count first, then check. If there was no room, dropping it takes the count back.
        let following = Self(all.clone());
        (all.fetch_add(1, Ordering::Relaxed) < FOLLOWING_MAX).then_some(following)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn parsed<T: std::str::FromStr>(query: &Form, name: &str) -> Result<Option<T>, Problem> {
    let parse = |text: &str| text.parse().map_err(|_| wrong(format!("{name}: {text:?} is not valid.")));
    query.text(name).map(parse).transpose()
}

pub(crate) fn page(status: StatusCode, html: String) -> Response<Body> {
    let mut response = Response::new(Full::from(html).boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn asset(kind: &'static str, text: &'static str) -> Response<Body> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

pub(crate) fn redirect(to: &str) -> Response<Body> {
    let mut response = Response::new(Full::default().boxed_unsync());
    *response.status_mut() = StatusCode::SEE_OTHER;
    // Addresses of pages are made here, and encoded.
    response.headers_mut().insert(LOCATION, to.parse().unwrap_or(HeaderValue::from_static("/")));
    response
}

fn fields_of_task(task: &Task) -> Option<Vec<Field>> {
    fields_of(task.record.as_ref()?.version.schema.as_ref()?.get("params")?)
}
