//! Tests of a task on any machine: a [`World`] does the work of the host.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use log::Level;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::context::Context;
use crate::http::{self, ErrorKind, Request, Response};
use crate::queue::{Child, EnqueueError};
use crate::steps::StepError;
use crate::{Failure, task};

/// The host of a task in a test: prepared answers, and a record of requests, children and log lines.
#[derive(Debug)]
pub struct World {
    context: Context,
    answers: VecDeque<Answer>,
    /// The requests that it made, as `METHOD URL`.
    pub requests: Vec<String>,
    /// The children that it enqueued.
    pub children: Vec<Child>,
    /// The steps that it saved, and those that an earlier attempt saved, with their values.
    pub steps: BTreeMap<String, Value>,
    /// The lines that it logged.
    pub log: Vec<(Level, String)>,
    /// The step that it executes.
    step: Option<String>,
    /// The steps that have ended in this run.
    ended: BTreeSet<String>,
}

#[derive(Debug)]
struct Answer {
    url: String,
    result: Result<Response, ErrorKind>,
}

thread_local!(static WORLD: RefCell<World> = RefCell::new(World::new()));

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// A first attempt of a message without parents, and no answer to any request.
    pub fn new() -> Self {
        let context = Context {
            id: "test".to_owned(),
            task: "test".to_owned(),
            attempt: 1,
            max_attempts: 5,
            deadline_ms: 253_402_300_799_000,
            parent: None,
            root: "test".to_owned(),
            depth: 0,
            traceparent: None,
        };
        Self {
            context,
            answers: VecDeque::new(),
            requests: Vec::new(),
            children: Vec::new(),
            steps: BTreeMap::new(),
            log: Vec::new(),
            step: None,
            ended: BTreeSet::new(),
        }
    }

    /// Sets the number of the attempt.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.context.attempt = attempt;
        self
    }

    /// Sets the message's id.
    pub fn id(mut self, id: &str) -> Self {
        self.context.id = id.to_owned();
        self.context.root = id.to_owned();
        self
    }

    /// Adds a step that an earlier attempt saved.
    pub fn step(mut self, name: &str, value: Value) -> Self {
        self.steps.insert(name.to_owned(), value);
        self
    }

    /// Answers the next request, which must go to this URL.
    pub fn answer(self, url: &str, status: u16, body: impl Into<Vec<u8>>) -> Self {
        self.answer_with(url, status, &[], body)
    }

    /// Like [`World::answer`], with headers.
    pub fn answer_with(
        mut self,
        url: &str,
        status: u16,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Self {
        let headers = headers.iter().map(|(name, value)| (name.to_lowercase(), (*value).to_owned()));
        let response =
            Response { url: url.to_owned(), status, headers: headers.collect(), body: body.into() };
        self.answers.push_back(Answer { url: url.to_owned(), result: Ok(response) });
        self
    }

    /// Fails the next request, which must go to this URL.
    pub fn fail(mut self, url: &str, kind: ErrorKind) -> Self {
        self.answers.push_back(Answer { url: url.to_owned(), result: Err(kind) });
        self
    }

    /// Runs a task in this world, from JSON to JSON as wasq does. Returns its result, and the world
    /// afterwards.
    ///
    /// # Panics
    ///
    /// If the task makes a request that was not prepared, or does not make all requests that were.
    #[track_caller]
    pub fn run<P, O>(
        self,
        task: impl FnOnce(P) -> Result<O, Failure>,
        params: Value,
    ) -> (Result<Value, Failure>, Self)
    where
        P: DeserializeOwned,
        O: Serialize,
    {
        WORLD.set(self);
        let result = task::run(&params.to_string(), task);
        let world = WORLD.take();
        let unused: Vec<_> = world.answers.iter().map(|answer| answer.url.as_str()).collect();
        assert!(unused.is_empty(), "nobody asked for {}; the task returned {result:?}", unused.join(", "));
        let json = |text: String| serde_json::from_str(&text).expect("it was written as JSON");
        (result.map(json), world)
    }
}

pub(crate) fn context<T>(get: impl FnOnce(&Context) -> T) -> T {
    WORLD.with_borrow(|world| get(&world.context))
}

pub(crate) fn enqueue(child: Child) -> Result<String, EnqueueError> {
    WORLD.with_borrow_mut(|world| {
        let id = child.id.clone().unwrap_or_else(|| format!("{}.{}", world.context.id, world.children.len()));
        world.children.push(child);
        Ok(id)
    })
}

pub(crate) fn send(request: Request) -> Result<Response, http::Error> {
    let Request { method, url, .. } = request;
    let answer = WORLD.with_borrow_mut(|world| {
        world.requests.push(format!("{method} {url}"));
        world.answers.pop_front()
    });
    let Some(Answer { url: expected, result }) = answer else {
        panic!("{method} {url}: no answer was prepared; World::answer does that");
    };
    assert_eq!(url, expected, "the next prepared answer is for another URL");
    result.map_err(|kind| http::Error { url, kind })
}

pub(crate) fn load_step(name: &str) -> Result<Option<String>, StepError> {
    WORLD.with_borrow_mut(|world| {
        if let Some(open) = &world.step {
            let why = format!("step {name:?}: step {open:?} has not ended; one step runs at a time");
            return Err(StepError::Invalid(why));
        }
        if world.ended.contains(name) {
            let why = format!("step {name:?}: this run had a step with this name before");
            return Err(StepError::Invalid(why));
        }
        match world.steps.get(name).map(Value::to_string) {
            Some(saved) => {
                world.ended.insert(name.to_owned());
                Ok(Some(saved))
            }
            None => {
                world.step = Some(name.to_owned());
                Ok(None)
            }
        }
    })
}

pub(crate) fn save_step(name: &str, value: &str) -> Result<(), StepError> {
    let value = serde_json::from_str(value).expect("it was written as JSON");
    WORLD.with_borrow_mut(|world| {
        world.step = None;
        world.ended.insert(name.to_owned());
        world.steps.insert(name.to_owned(), value);
    });
    Ok(())
}

pub(crate) fn abandon_step(name: &str) {
    WORLD.with_borrow_mut(|world| {
        if world.step.as_deref() == Some(name) {
            world.step = None;
        }
    });
}

pub(crate) fn log(level: Level, message: &str) {
    // A line that another thread logs after the end of the test has no world.
    let _ = WORLD.try_with(|world| {
        if let Ok(mut world) = world.try_borrow_mut() {
            world.log.push((level, message.to_owned()));
        }
    });
}
