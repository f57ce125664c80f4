//! The memory of runs: the database of `wasq dev`, or the table of a deployment.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::ops::ControlFlow;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Method, Request, StatusCode};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use wasq_local::LastStack;
use wasq_page::Span;
use wasq_protocol::{FailureKind, ItemState, Overview, RunItem, ScheduleState, TaskName, Timestamp};

use crate::cloud::DeployedRuns;
use crate::target::{Target, TargetArgs};
use crate::time::time;

/// The memory of runs of a `wasq dev`, or of a deployment.
pub(crate) enum Source {
    Here(Box<Endpoint>),
    Aws(Box<DeployedRuns>),
}

/// The endpoint of `wasq dev`.
pub(crate) struct Endpoint {
    address: String,
    http: HttpClient<HttpConnector, Empty<Bytes>>,
}

/// The runs that a list contains: all that is given must hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Select {
    /// Only runs of this task
    #[arg(long, value_name = "TASK")]
    pub(crate) task: Option<TaskName>,
    /// Only runs in this state: waiting, running, retrying, done, dead or cancelled
    #[arg(long, value_name = "STATE")]
    pub(crate) state: Option<ItemState>,
    /// Only runs whose last failure is of this kind, such as trap or out-of-time
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Option<FailureKind>,
    /// Only children of the message with this id
    #[arg(long, value_name = "ID")]
    pub(crate) parent: Option<String>,
    /// Only runs that began at or after this time, such as 2026-11-23T08:30:00Z, or within a duration before now, such as 2h. A run that
    /// has not begun counts by its last change
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) since: Option<Timestamp>,
    /// Only runs that began before this time, in the same form
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) until: Option<Timestamp>,
}

/// A part of a list, newest first.
pub(crate) struct Page {
    pub(crate) items: Vec<RunItem>,
    /// Names the next part; `None` after the last one.
    pub(crate) next: Option<String>,
}

fn kind(text: &str) -> Result<FailureKind, String> {
    let kinds = || FailureKind::ALL.map(FailureKind::as_str).join(", ");
    FailureKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| format!("expected one of {}", kinds()))
}

impl Source {
    pub(crate) async fn of(target: TargetArgs) -> Result<Self> {
        match target.target().await? {
            Target::Local(data) => Ok(Self::Here(Box::new(Endpoint::of(&data)?))),
            Target::Aws(deployment) => Ok(Self::Aws(Box::new(deployment.runs()?))),
        }
    }

    /// The item of a message by its own id. `wasq dev` also finds it by the queue's.
    pub(crate) async fn get(&self, id: &str) -> Result<Option<RunItem>> {
        match self {
            Self::Here(endpoint) => {
                match endpoint.ask(Method::GET, "run", &[("id", Some(id.to_owned()))]).await? {
                    (StatusCode::NOT_FOUND, _) => Ok(None),
                    answer => read(answer).map(Some),
                }
            }
            Self::Aws(runs) => runs.get(id).await,
        }
    }

    /// The newest items that match, from `before` on.
    pub(crate) async fn list(&self, select: &Select, before: Option<String>, max: usize) -> Result<Page> {
        match self {
            Self::Here(endpoint) => {
                #[derive(Deserialize)]
                struct Answer {
                    items: Vec<RunItem>,
                    next: Option<i64>,
                }
                let Select { task, state, kind, parent, since, until } = select;
                let parameters = [
                    ("task", task.as_ref().map(ToString::to_string)),
                    ("state", state.map(|state| state.to_string())),
                    ("kind", kind.map(|kind| kind.to_string())),
                    ("parent", parent.clone()),
                    ("since", since.map(|since| since.to_string())),
                    ("until", until.map(|until| until.to_string())),
                    ("before", before),
                    ("max", Some(max.to_string())),
                ];
                let Answer { items, next } = read(endpoint.ask(Method::GET, "runs", &parameters).await?)?;
                let next = next.filter(|_| items.len() == max).map(|next| next.to_string());
                Ok(Page { items, next })
            }
            Self::Aws(runs) => {
                let expected =
                    |before: &str| format!("--before {before}: expected what an earlier list has printed");
                let place = |before: String| Place::read(&before).with_context(|| expected(&before));
                let before = before.map(place).transpose()?;
                let mut newest: BTreeMap<Place, RunItem> = BTreeMap::new();
                // The table has no order: all of it is read, and the newest items are kept.
                runs.scan(|item| {
                    let place = Place::of(&item);
                    if select.fits(&item) && before.as_ref().is_none_or(|before| place < *before) {
                        newest.insert(place, item);
                        if newest.len() > max + 1 {
                            newest.pop_first();
                        }
                    }
                    ControlFlow::Continue(())
                })
                .await?;
                let more = newest.len() > max;
                if more {
                    newest.pop_first();
                }
                let next = newest.first_key_value().filter(|_| more).map(|(place, _)| place.write());
                Ok(Page { items: newest.into_values().rev().collect(), next })
            }
        }
    }

    /// Cancels a message. If it has ended, the answer is its state.
    pub(crate) async fn cancel(&self, id: &str) -> Result<Result<RunItem, ItemState>> {
        match self {
            Self::Here(endpoint) => {
                #[derive(Deserialize)]
                struct Ended {
                    state: ItemState,
                }
                match endpoint.ask(Method::POST, "cancel", &[("id", Some(id.to_owned()))]).await? {
                    answer @ (StatusCode::CONFLICT, _) => {
                        let Ended { state } = serde_json::from_slice(&answer.1).context("read the answer")?;
                        Ok(Err(state))
                    }
                    answer => read(answer).map(Ok),
                }
            }
            Self::Aws(runs) => runs.cancel(id).await,
        }
    }
}

impl Select {
    pub(crate) fn fits(&self, item: &RunItem) -> bool {
        let Self { task, state, kind, parent, since, until } = self;
        let at = item.listed_at();
        task.as_ref().is_none_or(|task| item.task.as_ref() == Some(task))
            && state.is_none_or(|state| item.state == state)
            && kind.is_none_or(|kind| item.kind == Some(kind))
            && parent.as_ref().is_none_or(|parent| item.parent.as_ref() == Some(parent))
            && since.is_none_or(|since| at >= since)
            && until.is_none_or(|until| at < until)
    }

    /// Whether nothing is selected, so that every run matches.
    pub(crate) fn is_everything(&self) -> bool {
        let Self { task, state, kind, parent, since, until } = self;
        task.is_none()
            && state.is_none()
            && kind.is_none()
            && parent.is_none()
            && since.is_none()
            && until.is_none()
    }
}

/// The place of an item in the order of time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place(Timestamp, String);

impl Place {
    pub(crate) fn of(item: &RunItem) -> Self {
        Self(item.listed_at(), item.id.clone())
    }

    pub(crate) fn write(&self) -> String {
        format!("{}/{}", self.0.ms(), self.1)
    }

    /// Reads what [`Self::write`] wrote.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (ms, id) = text.split_once('/')?;
        Some(Self(Timestamp::from_ms(ms.parse().ok()?), id.to_owned()))
    }
}

impl Endpoint {
    /// The endpoint of the `wasq dev` with this data folder.
    pub(crate) fn of(data: &Path) -> Result<Self> {
        let LastStack { listen, .. } = LastStack::of(data).with_context(|| {
            format!(
                "no `wasq dev` has run with the data folder {}: start one, or name a deployment by --stack",
                data.display()
            )
        })?;
        let http = HttpClient::builder(TokioExecutor::new()).build_http();
        Ok(Self { address: format!("http://{listen}"), http })
    }

    /// The state of the whole.
    pub(crate) async fn overview(&self, span: Span) -> Result<Overview> {
        let span = ("span", Some(span.as_str().to_owned()));
        read(self.ask(Method::GET, "overview", &[span]).await?)
    }

    /// All schedules.
    pub(crate) async fn schedules(&self) -> Result<Vec<ScheduleState>> {
        read(self.ask(Method::GET, "schedules", &[]).await?)
    }

    /// Pauses a schedule, or lets it go on.
    pub(crate) async fn pause_schedule(&self, name: &str, paused: bool) -> Result<()> {
        let what = if paused { "schedules/pause" } else { "schedules/resume" };
        let answer = self.ask(Method::POST, what, &[("name", Some(name.to_owned()))]).await?;
        read::<IgnoredAny>(answer).map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        what: &str,
        parameters: &[(&str, Option<String>)],
    ) -> Result<(StatusCode, Bytes)> {
        let mut uri = format!("{}/wasq/{what}?", self.address);
        for (name, value) in parameters {
            if let Some(value) = value {
                let _ = write!(uri, "{name}={}&", utf8_percent_encode(value, NON_ALPHANUMERIC));
            }
        }
        let request = Request::builder().method(method).uri(uri).body(Empty::new())?;
        let answer = self.http.request(request).await;
        let answer = answer.with_context(|| format!("ask {} (is `wasq dev` running?)", self.address))?;
        let status = answer.status();
        Ok((status, answer.into_body().collect().await.context("read the answer of `wasq dev`")?.to_bytes()))
    }
}

fn read<T: DeserializeOwned>((status, body): (StatusCode, Bytes)) -> Result<T> {
    if status == StatusCode::NOT_FOUND {
        bail!("`wasq dev` does not know this request: is it of another version?");
    }
    ensure!(
        status == StatusCode::OK,
        "`wasq dev` answers {status}: {}",
        String::from_utf8_lossy(&body).trim()
    );
    serde_json::from_slice(&body).context("read the answer of `wasq dev`")
}
