//! Tests as a table: params and prepared HTTP answers in, outcome and children out. The tests run the
//! component under production limits, so the same table fits a task in any language.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use hyper::{Request, Response};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::time::Instant;
use wasq_engine::{
    Engine, Module, Report, Responder, Responding, Run, RunContext, SecretValues, Steps, normalized_url,
};
use wasq_protocol::{
    ByteCount, Caps, Clock, FailureKind, Outcome, SecretValue, Settings, SystemClock, TaskName,
    parse_duration,
};
use wasq_schema::Schema;

use crate::schema::bad_params;

/// A file of tests: `tests.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cases {
    /// The tests, in the order in which they run.
    #[serde(default, rename = "case")]
    pub cases: Vec<Case>,
}

/// One test: a run, and the expectations of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// The test's name, for people.
    pub name: String,
    params: Option<Value>,
    /// JSON text, for params that TOML cannot express.
    params_json: Option<String>,
    /// The size, such as `900KiB`, to which spaces after the params extend them.
    params_size: Option<ByteCount>,
    /// Settings that replace the task's own.
    #[serde(default)]
    settings: toml::Table,
    /// The memory that the run may take beyond the memory at its start, in which languages differ.
    memory_left: Option<ByteCount>,
    #[serde(default = "first")]
    attempt: u32,
    #[serde(default = "test_id")]
    id: String,
    /// The steps that an earlier attempt saved, with their values.
    #[serde(default)]
    steps: BTreeMap<String, Value>,
    #[serde(default)]
    answers: Vec<Answer>,
    expect: Expectation,
}

fn first() -> u32 {
    1
}

fn test_id() -> String {
    "test".to_owned()
}

/// The prepared answer to a request to a URL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    url: String,
    /// Headers that the request must have. It may have others as well.
    #[serde(default)]
    request_headers: BTreeMap<String, String>,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// A body as text.
    body: Option<String>,
    /// A body as JSON.
    json: Option<Value>,
    /// A body as bytes in hexadecimal digits.
    hex: Option<String>,
    /// The size, such as `4MiB`, to which spaces after the body extend it.
    size: Option<ByteCount>,
    /// The delay before the answer.
    after: Option<String>,
    /// The error that the request gets instead of an answer.
    error: Option<String>,
}

fn ok() -> u16 {
    200
}

/// The expectations of a run.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expectation {
    success: Option<Value>,
    /// JSON text, for results that TOML cannot express.
    success_json: Option<String>,
    /// A part of the result: members that it must have, at every depth. It may have others.
    success_includes: Option<Value>,
    failure: Option<ExpectedFailure>,
    /// The children that are sent, in their order. If left out, the test expects none.
    #[serde(default)]
    children: Vec<ExpectedChild>,
    /// The steps that the run saves, with their values. If left out, the test accepts any.
    steps: Option<BTreeMap<String, Value>>,
    /// The requests that are made, as `METHOD URL`, in their order. If left out, the test accepts any.
    requests: Option<Vec<String>>,
    /// Texts that the log must contain.
    #[serde(default)]
    log: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedFailure {
    kind: FailureKind,
    /// A text that the failure's message must contain.
    #[serde(default)]
    message: String,
    retry_after_seconds: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectedChild {
    task: TaskName,
    params: Value,
    /// If left out, the test accepts any delay.
    delay_seconds: Option<u64>,
}

/// The component under test, and everything that its runs need.
pub struct Subject {
    /// The engine that runs it.
    pub engine: Engine,
    /// The component, loaded.
    pub module: Module,
    /// Its name.
    pub task: TaskName,
    /// Its own settings, as TOML text.
    pub settings: String,
    /// The component's memory at its start, in bytes; see [`crate::initial_memory`].
    pub initial_memory: u64,
    /// The schema of its params, if it has one.
    pub params: Option<Schema>,
}

/// The result of a test.
#[derive(Debug)]
pub struct Verdict {
    /// The differences between the run and the expectations; empty if there are none.
    pub problems: Vec<String>,
    /// The run.
    pub report: Report,
}

impl Cases {
    /// Reads a file of tests.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        let cases: Self = toml::from_str(&text).with_context(|| format!("read {}", path.display()))?;
        for case in &cases.cases {
            case.check().with_context(|| format!("read {}: the case {:?}", path.display(), case.name))?;
        }
        ensure!(!cases.cases.is_empty(), "{} has no [[case]]", path.display());
        Ok(cases)
    }
}

impl Case {
    /// Checks the rules that the file's format cannot express.
    fn check(&self) -> Result<()> {
        let Self { params, params_json, steps, answers, expect, .. } = self;
        ensure!(
            params.is_none() || params_json.is_none(),
            "it has params and params_json; one of them will do"
        );
        let Expectation { success, success_json, success_includes, failure, .. } = expect;
        let expected =
            [success.is_some(), success_json.is_some(), success_includes.is_some(), failure.is_some()];
        ensure!(
            expected.iter().filter(|given| **given).count() == 1,
            "expect one of success, success_json, success_includes and failure"
        );
        self.params()?;
        self.expected_success()?;
        let children = expect.children.iter().map(|child| &child.params);
        let bodies = answers.iter().filter_map(|answer| answer.json.as_ref());
        let values = params
            .iter()
            .chain(&expect.success)
            .chain(&expect.success_includes)
            .chain(children)
            .chain(steps.values())
            .chain(expect.steps.iter().flat_map(BTreeMap::values))
            .chain(bodies);
        ensure!(
            !values.into_iter().any(has_date),
            "there is a date in it, which JSON does not know: put it in quotation marks"
        );
        for answer in answers {
            answer.body().with_context(|| format!("the answer of {}", answer.url))?;
            answer.delay().with_context(|| format!("the answer of {}", answer.url))?;
            normalized_url(&answer.url).map_err(|why| anyhow::anyhow!("the answer's {why}"))?;
            ensure!(
                (100..1000).contains(&answer.status),
                "the answer of {}: {} is no status",
                answer.url,
                answer.status
            );
        }
        Ok(())
    }

    /// The message's params as JSON text.
    fn params(&self) -> Result<String> {
        let mut text = match (&self.params, &self.params_json) {
            (Some(value), _) => value.to_string(),
            (_, Some(text)) => {
                // Accepts any JSON, with anything in its strings, as SQS does.
                let _: &RawValue = serde_json::from_str(text).context("params_json is not JSON")?;
                text.clone()
            }
            _ => "{}".to_owned(),
        };
        if let Some(size) = self.params_size {
            ensure!(size.0 <= 1 << 30, "params_size: more than 1GiB");
            let spaces = (size.0 as usize).saturating_sub(text.len());
            text.push_str(&" ".repeat(spaces));
        }
        Ok(text)
    }

    /// The whole result as JSON text, if the test expects one.
    fn expected_success(&self) -> Result<Option<String>> {
        match &self.expect.success_json {
            Some(text) => {
                let _: &RawValue = serde_json::from_str(text).context("expect.success_json is not JSON")?;
                Ok(Some(text.clone()))
            }
            None => Ok(self.expect.success.as_ref().map(Value::to_string)),
        }
    }

    /// Runs the test.
    pub async fn run(&self, subject: &Subject) -> Result<Verdict> {
        let Subject { engine, module, task, settings, initial_memory, params: schema } = subject;
        let mut table: toml::Table = toml::from_str(settings).context("read the task's settings")?;
        table.extend(self.settings.clone());
        if let Some(left) = self.memory_left {
            let memory = ByteCount(initial_memory + left.0).to_string();
            table.insert("memory".to_owned(), memory.into());
        }
        let settings = Settings::from_toml(&table.to_string())
            .with_context(|| format!("the settings of the case {:?}", self.name))?
            .capped(&Caps::default());
        let script = Arc::new(Script {
            left: Mutex::new(self.answers.clone()),
            asked: Mutex::default(),
            unexpected: Mutex::default(),
        });
        let engine = engine.clone().answered_by(script.clone());
        let context = RunContext {
            task: task.clone(),
            attempt: self.attempt,
            max_attempts: settings.max_attempts,
            deadline: SystemClock.now().plus(settings.timeout),
            parent: None,
            root: self.id.clone(),
            id: self.id.clone(),
            depth: 0,
            descendants: None,
            traceparent: None,
            trace_header: None,
        };
        let deadline = Instant::now() + settings.timeout;
        let (params, secrets) = (self.params()?, secrets(&settings));
        let raw = |value: &Value| RawValue::from_string(value.to_string());
        let steps = self.steps.iter().map(|(name, value)| Ok((name.clone(), raw(value)?)));
        let steps = Steps::Reported(steps.collect::<Result<_>>()?);
        let run = Run {
            context,
            params: &params,
            settings: &settings,
            secrets: &secrets,
            steps,
            deadline,
            child_checks: None,
        };
        let report = match bad_params(schema.as_ref(), &params) {
            Some(failure) => Report::not_run(failure),
            None => engine.run(module, run).await,
        };
        let mut problems = Vec::new();
        self.judge_outcome(&report.outcome, &mut problems)?;
        self.judge_rest(&report, &script, &mut problems);
        Ok(Verdict { problems, report })
    }

    fn judge_outcome(&self, outcome: &Outcome, problems: &mut Vec<String>) -> Result<()> {
        if let (Outcome::Success { output }, Some(part)) = (outcome, &self.expect.success_includes) {
            let found = serde_json::from_str::<Value>(output.get());
            if !found.is_ok_and(|found| includes(&found, part)) {
                problems.push(format!("expected a result with {part} in it, found {}", output.get()));
            }
            return Ok(());
        }
        let success = self.expected_success()?;
        match (outcome, &success, &self.expect.failure) {
            (Outcome::Success { output }, Some(expected), _) => {
                if !same_json(output.get(), expected) {
                    problems.push(format!("expected the result {expected}, found {}", output.get()));
                }
            }
            (Outcome::Failure(failure), _, Some(expected)) => {
                let ExpectedFailure { kind, message, retry_after_seconds } = expected;
                if failure.kind != *kind {
                    problems.push(format!("expected {kind}, found {failure}"));
                } else if !failure.message.contains(message) {
                    problems.push(format!("expected a reason with {message:?} in it, found {failure}"));
                }
                if retry_after_seconds.is_some() && failure.retry_after_seconds != *retry_after_seconds {
                    let shown = |seconds: &Option<u32>| {
                        seconds.map_or("none".to_owned(), |seconds| seconds.to_string())
                    };
                    problems.push(format!(
                        "expected retry_after_seconds {}, found {}",
                        shown(retry_after_seconds),
                        shown(&failure.retry_after_seconds)
                    ));
                }
            }
            (Outcome::Success { output }, _, Some(expected)) => {
                problems.push(format!("expected {}, found success: {}", expected.kind, output.get()));
            }
            (Outcome::Failure(failure), _, None) => {
                problems.push(format!("expected success, found {failure}"));
            }
            (Outcome::Success { .. }, None, None) => bail!("the case {:?} expects nothing", self.name),
        }
        Ok(())
    }

    fn judge_rest(&self, report: &Report, script: &Script, problems: &mut Vec<String>) {
        let Expectation { children, steps, requests, log, .. } = &self.expect;
        let json_or_text =
            |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        let found: Vec<_> = report
            .children
            .iter()
            .map(|child| json!({ "task": child.message.task, "params": json_or_text(child.message.params.get()) }))
            .collect();
        let expected: Vec<_> =
            children.iter().map(|child| json!({ "task": child.task, "params": child.params })).collect();
        if found != expected {
            problems.push(format!("expected the children {}, found {}", json!(expected), json!(found)));
        }
        for (child, expected) in report.children.iter().zip(children) {
            let found = child.delay.as_secs();
            if let Some(expected) = expected.delay_seconds.filter(|expected| *expected != found) {
                problems.push(format!("expected a child with a delay of {expected} s, found {found} s"));
            }
        }
        let found: BTreeMap<_, _> =
            report.steps.iter().map(|(name, value)| (name.clone(), json_or_text(value.get()))).collect();
        if let Some(expected) = steps
            && found != *expected
        {
            problems.push(format!("expected the steps {}, found {}", json!(expected), json!(found)));
        }
        let asked = script.asked.lock().expect("nobody panics with it");
        let expected: Option<Vec<_>> =
            requests.as_ref().map(|lines| lines.iter().map(|line| requested_line(line)).collect());
        if let Some(expected) = expected
            && *asked != expected
        {
            problems.push(format!("expected the requests {expected:?}, found {:?}", *asked));
        }
        problems.append(&mut script.unexpected.lock().expect("nobody panics with it"));
        for answer in script.left.lock().expect("nobody panics with it").iter() {
            problems.push(format!("nobody asked for {}", answer.url));
        }
        for text in log {
            if !report.log.iter().any(|line| line.text.contains(text.as_str())) {
                problems.push(format!("expected {text:?} in the log"));
            }
        }
    }
}

/// Whether two JSON texts have the same value. Some JSON does not become a `Value`, such as half a surrogate pair
/// or more than 128 levels: two such texts must be the same but for white space.
fn same_json(one: &str, other: &str) -> bool {
    match (serde_json::from_str::<Value>(one), serde_json::from_str::<Value>(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => without_space(one) == without_space(other),
    }
}

fn without_space(json: &str) -> String {
    let (mut in_string, mut escaped) = (false, false);
    let keep = |&c: &char| {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = in_string,
            '"' => in_string = !in_string,
            _ => {}
        }
        in_string || !c.is_ascii_whitespace()
    };
    json.chars().filter(keep).collect()
}

/// Whether a value has the members of a part, at every depth. An array must have an element for each of the
/// part's elements, in the same order.
fn includes(found: &Value, part: &Value) -> bool {
    match (found, part) {
        (Value::Object(found), Value::Object(part)) => {
            part.iter().all(|(key, part)| found.get(key).is_some_and(|found| includes(found, part)))
        }
        (Value::Array(found), Value::Array(part)) => {
            let mut left = found.iter();
            part.iter().all(|part| left.any(|found| includes(found, part)))
        }
        (found, part) => found == part,
    }
}

/// Each secret that a task's settings name has a value of its own in a test: `value-of-NAME`.
fn secrets(settings: &Settings) -> SecretValues {
    let names = settings.secrets.keys();
    names.map(|name| (name.clone(), SecretValue::new(format!("value-of-{name}")))).collect()
}

/// The prepared answers of a test. Each is given once.
struct Script {
    left: Mutex<Vec<Answer>>,
    asked: Mutex<Vec<String>>,
    /// The problems that were found in requests.
    unexpected: Mutex<Vec<String>>,
}

impl Responder for Script {
    fn respond(&self, request: Request<Bytes>) -> Responding {
        let url = as_requested(&request.uri().to_string());
        let what = format!("{} {url}", request.method());
        self.asked.lock().expect("nobody panics with it").push(what.clone());
        let mut left = self.left.lock().expect("nobody panics with it");
        let answer =
            left.iter().position(|answer| as_requested(&answer.url) == url).map(|at| left.remove(at));
        let unexpected = answer.as_ref().and_then(|answer| answer.unexpected(&request));
        self.unexpected.lock().expect("nobody panics with it").extend(unexpected);
        Box::pin(async move {
            let answer = answer.ok_or_else(|| format!("the test has no answer to {what}"))?;
            answer.give().await
        })
    }
}

/// A URL as a request has it, however it is spelt.
fn as_requested(url: &str) -> String {
    normalized_url(url).unwrap_or_else(|_| url.to_owned())
}

/// `METHOD URL` with the URL as a request has it.
fn requested_line(line: &str) -> String {
    match line.split_once(' ') {
        Some((method, url)) => format!("{method} {}", as_requested(url)),
        None => line.to_owned(),
    }
}

impl Answer {
    /// Returns a message about the first header that the request should have and does not have.
    fn unexpected(&self, request: &Request<Bytes>) -> Option<String> {
        self.request_headers.iter().find_map(|(name, expected)| {
            let found = request.headers().get(name);
            if found.is_some_and(|found| found == expected) {
                return None;
            }
            let found = found.map_or("none".into(), |found| String::from_utf8_lossy(found.as_bytes()));
            Some(format!("expected the header {name} of {} to be {expected}, found {found}", self.url))
        })
    }

    async fn give(self) -> Result<Response<Bytes>, String> {
        // The delay and the body were checked when the file was read.
        if let Ok(Some(delay)) = self.delay() {
            tokio::time::sleep(delay).await;
        }
        if let Some(why) = self.error {
            return Err(why);
        }
        let mut response = Response::builder().status(self.status);
        for (name, value) in &self.headers {
            response = response.header(name, value);
        }
        let body = self.body().map_err(|e| format!("{e:#}"))?;
        response.body(body).map_err(|e| format!("the prepared answer: {e}"))
    }

    fn delay(&self) -> Result<Option<Duration>> {
        let after = self.after.as_deref().map(parse_duration).transpose();
        after.map_err(|e| anyhow::anyhow!("after: {e}"))
    }

    fn body(&self) -> Result<Bytes> {
        let Self { body, json, hex, size, .. } = self;
        let mut bytes = match (body, json, hex) {
            (None, None, None) => Vec::new(),
            (Some(text), None, None) => text.clone().into_bytes(),
            (None, Some(value), None) => value.to_string().into_bytes(),
            (None, None, Some(digits)) => from_hex(digits)?,
            _ => bail!("one of body, json and hex will do"),
        };
        if let Some(size) = size {
            ensure!(size.0 <= 1 << 30, "size: more than 1GiB");
            bytes.resize(bytes.len().max(size.0 as usize), b' ');
        }
        Ok(bytes.into())
    }
}

/// Whether a value from TOML contains a date. In serde's data model a date can only be hidden in an object.
fn has_date(value: &Value) -> bool {
    match value {
        Value::Object(members) => {
            members.contains_key("$__toml_private_datetime") || members.values().any(has_date)
        }
        Value::Array(elements) => elements.iter().any(has_date),
        _ => false,
    }
}

fn from_hex(digits: &str) -> Result<Vec<u8>> {
    let digits: String = digits.split_whitespace().collect();
    ensure!(
        digits.is_ascii() && digits.len().is_multiple_of(2),
        "hex: expected pairs of digits, such as \"ff fe\""
    );
    (0..digits.len())
        .step_by(2)
        .map(|at| {
            u8::from_str_radix(&digits[at..at + 2], 16)
                .with_context(|| format!("hex: {:?}", &digits[at..at + 2]))
        })
        .collect()
}
