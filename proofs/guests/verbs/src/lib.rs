//! The test guest: carries out the verb in its params. A test of the host uses each verb.

wit_bindgen::generate!({ path: "../../../tasks-wit/wit", world: "task" });

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::OutputStream;
use wasq::task::context;
use wasq::task::http::{self, Header, Request};
use wasq::task::log::{self, Level};
use wasq::task::outcome::RetryAfter;
use wasq::task::queue::{self, EnqueueOptions};
use wasq::task::steps::{self, StepError};

#[derive(Deserialize)]
#[serde(tag = "verb", rename_all = "kebab-case", deny_unknown_fields)]
enum Verb {
    /// Returns `value`.
    Echo {
        value: Value,
    },
    /// Returns `text` as it is, JSON or not.
    Raw {
        text: String,
    },
    /// Returns a string of `bytes` bytes.
    Output {
        bytes: usize,
    },
    /// Returns all values of the context.
    Context,
    /// Returns the environment.
    Env,
    /// Takes `mib` MiB of memory and touches it.
    Alloc {
        mib: usize,
    },
    /// Computes for ever.
    Spin,
    /// Sleeps, and prints a line afterwards.
    Sleep {
        ms: u64,
    },
    /// Calls the host for ever.
    HostCalls,
    /// Calls itself for ever.
    Recurse,
    /// Asks for `bytes` random bytes at once.
    Random {
        bytes: u64,
    },
    /// Takes resources of the host for ever, and releases none.
    Resources,
    /// Makes `count` requests of `wasi:http` that are never sent, each with this in it.
    Hold {
        what: Held,
        count: usize,
    },
    /// Prints `bytes` bytes, without an end of a line.
    Flood {
        bytes: usize,
    },
    /// Enqueues children of `bytes` bytes until the host refuses one.
    EnqueueLarge {
        bytes: usize,
    },
    /// Panics while it holds streams of the host.
    PanicWithStreams,
    /// Ends the process.
    Exit,
    /// Panics with `message`.
    Panic {
        message: String,
    },
    /// Writes `count` lines by `log`, and one line each to stdout and stderr.
    Log {
        count: usize,
    },
    /// Sends a GET through `wasq:task/http`.
    Fetch {
        url: String,
    },
    /// Sends `count` GETs through `wasq:task/http`, one after the other. Returns the number of answers, and
    /// the first error.
    FetchMany {
        url: String,
        count: u32,
    },
    /// Sends a GET with `count` headers of `bytes` bytes each.
    FetchHeaders {
        url: String,
        count: usize,
        bytes: usize,
    },
    /// Sends each request, one after the other, and returns the answers.
    Send {
        requests: Vec<Sending>,
    },
    /// Sends `count` GETs through `wasi:http` and reads no answer. Returns the number of answers, and the
    /// first error.
    WasiOpen {
        authority: String,
        path: String,
        count: u32,
    },
    /// Sends a GET through `wasi:http`.
    WasiFetch {
        authority: String,
        path: String,
    },
    /// Sends a GET with the header `authorization`. In its value, `{NAME}` means an environment variable.
    /// `basic`: the value is encoded for the scheme Basic. `wasi`: through `wasi:http`.
    Authorize {
        authority: String,
        authorization: String,
        #[serde(default)]
        basic: bool,
        #[serde(default)]
        wasi: bool,
    },
    /// Writes a text by `log`, to stdout and to stderr, and ends with it. In it, `{NAME}` means an
    /// environment variable.
    Say {
        text: String,
        end: SayEnd,
    },
    /// Enqueues `children` children that visit `url` with their number appended. Then it sends a GET to
    /// `url`, and one to `url/done` at its end, so that a test can count every run. If an answer is not a
    /// success, it asks for a retry.
    Visit {
        url: String,
        #[serde(default)]
        children: u32,
    },
    /// Enqueues `count` children of the task `task`, then succeeds or fails. Each child has a delay of this many seconds, and this
    /// many bytes more in its params.
    Enqueue {
        task: String,
        count: u32,
        fail: bool,
        #[serde(default)]
        delay: Option<u32>,
        #[serde(default)]
        more_bytes: usize,
    },
    Retry {
        reason: String,
    },
    RetryAfter {
        seconds: u32,
        reason: String,
    },
    Reject {
        reason: String,
    },
    /// Fails with `retry` in attempts before `succeeds_in`.
    Flaky {
        succeeds_in: u32,
    },
    /// Makes these calls, one after the other, and returns the answers.
    Steps {
        calls: Vec<StepCall>,
    },
    /// Tries to read a file and to open a socket.
    Escape,
}

/// A call of `wasq:task/steps`, or what a task does around them.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StepCall {
    Load(String),
    /// A name, and a text that need not be JSON.
    Save(String, String),
    Abandon(String),
    /// Saves a value of so many bytes.
    SaveBytes(String, usize),
    /// Begins a step whose name is the value of an environment variable.
    LoadEnv(String),
    /// Saves the value of an environment variable.
    SaveEnv(String, String),
    /// Sends a POST to a URL, with the number of the attempt. Returns the body of the answer.
    Post(String),
    /// A whole step by its name: sends a POST to a URL, and saves the body of the answer.
    Step(String, String),
    /// Begins and saves so many steps. Returns the number of them, and the first error.
    Many(u32),
    /// Fails with `retry` in attempts before this.
    RetryBefore(u32),
    /// Spins for ever.
    Spin,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sending {
    /// Through `wasi:http`; otherwise through `wasq:task/http`.
    #[serde(default)]
    wasi: bool,
    #[serde(default = "get_method")]
    method: String,
    /// For `wasi:http`, the part up to the first slash or star behind `http://` is the authority.
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// The large part of a request that is not sent.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Held {
    Body,
    Headers,
    Method,
    Path,
}

/// The parts of a request that is held. They are dropped in this order: a stream before its body.
type HeldRequest = (Option<(OutputStream, OutgoingBody)>, OutgoingRequest);

fn hold(what: &Held) -> HeldRequest {
    let headers = Fields::new();
    if let Held::Headers = what {
        for name in ["one", "two"] {
            headers.append(name, &vec![b'x'; 30_000]).expect("it fits");
        }
    }
    let request = OutgoingRequest::new(headers);
    match what {
        Held::Headers => {}
        Held::Method => request.set_method(&Method::Other("x".repeat(1 << 20))).expect("a method"),
        Held::Path => {
            let path = format!("/{}", "x".repeat(60_000));
            request.set_path_with_query(Some(&path)).expect("a path");
        }
        Held::Body => {
            let body = request.body().expect("its first body");
            let stream = body.write().expect("its first stream");
            // As much as the host takes.
            while let Ok(room) = stream.check_write() {
                if room == 0 {
                    break;
                }
                stream.write(&vec![0; room.min(1 << 20) as usize]).expect("there is room");
                stream.flush().expect("it is open");
            }
            return (Some((stream, body)), request);
        }
    }
    (None, request)
}

fn get_method() -> String {
    "GET".to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum SayEnd {
    Success,
    Retry,
    Panic,
}

struct Verbs;
export!(Verbs);

impl Guest for Verbs {
    fn run(params: String) -> Result<String, Failure> {
        let verb = serde_json::from_str(&params).map_err(|e| Failure::Reject(format!("params: {e}")))?;
        let value = match verb {
            Verb::Raw { text } => return Ok(text),
            Verb::Echo { value } => value,
            Verb::Output { bytes } => Value::String("x".repeat(bytes)),
            Verb::Context => json!({
                "id": context::id(),
                "task": context::task(),
                "attempt": context::attempt(),
                "max_attempts": context::max_attempts(),
                "deadline": context::deadline(),
                "parent": context::parent(),
                "root": context::root(),
                "depth": context::depth(),
                "traceparent": context::traceparent(),
            }),
            Verb::Env => {
                std::env::vars().collect::<Vec<_>>().into_iter().map(|(k, v)| (k, json!(v))).collect()
            }
            Verb::Alloc { mib } => {
                let memory = vec![1u8; mib << 20];
                json!(memory.iter().map(|&b| usize::from(b)).sum::<usize>())
            }
            Verb::Spin => loop {
                std::hint::black_box(());
            },
            Verb::Sleep { ms } => {
                std::thread::sleep(std::time::Duration::from_millis(ms));
                println!("slept");
                json!(ms)
            }
            Verb::HostCalls => loop {
                std::hint::black_box(context::attempt());
            },
            Verb::Recurse => json!(recurse(0)),
            Verb::Random { bytes } => json!(wasip2::random::random::get_random_bytes(bytes).len()),
            Verb::Resources => {
                let mut held = Vec::new();
                loop {
                    held.push(Fields::new());
                }
            }
            Verb::Hold { what, count } => {
                let held: Vec<_> = (0..count).map(|_| hold(&what)).collect();
                json!(held.len())
            }
            Verb::Flood { bytes } => {
                let chunk = "x".repeat(64 << 10);
                for _ in 0..bytes / chunk.len() {
                    print!("{chunk}");
                }
                json!(bytes)
            }
            Verb::EnqueueLarge { bytes } => {
                let params = json!("x".repeat(bytes)).to_string();
                let options = EnqueueOptions { delay_seconds: None, id: None };
                loop {
                    queue::enqueue("hello", &params, &options)
                        .map_err(|e| Failure::Reject(format!("{e:?}")))?;
                }
            }
            Verb::PanicWithStreams => {
                let _held = (wasip2::cli::stdout::get_stdout(), wasip2::cli::stderr::get_stderr());
                panic!("while holding streams")
            }
            Verb::Exit => std::process::exit(7),
            Verb::Panic { message } => panic!("{message}"),
            Verb::Log { count } => {
                for i in 0..count {
                    log::log(Level::Debug, &format!("line {i}"));
                }
                println!("to stdout");
                eprint!("to stderr, without an end");
                json!(count)
            }
            Verb::Fetch { url } => fetch(url, "x-verb", "fetch".to_owned())?,
            Verb::FetchMany { url, count } => {
                let answers: Vec<_> = (0..count).map(|_| http::send(&request(&url, Vec::new()))).collect();
                let error = answers.iter().find_map(|answer| answer.as_ref().err());
                let answered = answers.iter().filter(|answer| answer.is_ok()).count();
                json!({ "answered": answered, "error": error.map(|e| format!("{e:?}")) })
            }
            Verb::FetchHeaders { url, count, bytes } => {
                let header = |i| Header { name: format!("x-{i}"), value: "v".repeat(bytes) };
                match http::send(&request(&url, (0..count).map(header).collect())) {
                    Ok(response) => json!({ "status": response.status }),
                    Err(error) => json!({ "error": format!("{error:?}") }),
                }
            }
            Verb::Send { requests } => requests.into_iter().map(send).collect(),
            Verb::WasiOpen { authority, path, count } => {
                let answers: Vec<_> =
                    (0..count).map(|_| wasi_answer(&authority, &path, Fields::new())).collect();
                let error = answers.iter().find_map(|answer| answer.as_ref().err());
                let answered = answers.iter().filter(|answer| answer.is_ok()).count();
                json!({ "answered": answered, "error": error.map(|e| format!("{e:?}")) })
            }
            Verb::Authorize { authority, authorization, basic, wasi } => {
                let mut value = with_env(authorization);
                if basic {
                    value = format!("Basic {}", BASE64.encode(value));
                }
                if wasi {
                    let fields = Fields::new();
                    fields.append("authorization", value.as_bytes()).expect("a header");
                    match wasi_fetch(&authority, "/authorization", fields) {
                        Ok((status, body)) => json!({ "status": status, "body": body }),
                        Err(error) => json!({ "error": format!("{error:?}") }),
                    }
                } else {
                    fetch(format!("http://{authority}/authorization"), "authorization", value)?
                }
            }
            Verb::Say { text, end } => {
                let text = with_env(text);
                log::log(Level::Info, &text);
                println!("{text}");
                eprint!("{text}");
                match end {
                    SayEnd::Success => json!({ "said": text, text: [1] }),
                    SayEnd::Retry => return Err(Failure::Retry(text)),
                    SayEnd::Panic => panic!("{text}"),
                }
            }
            Verb::WasiFetch { authority, path } => match wasi_fetch(&authority, &path, Fields::new()) {
                Ok((status, body)) => json!({ "status": status, "body": body }),
                Err(error) => json!({ "error": format!("{error:?}") }),
            },
            Verb::Visit { url, children } => visit(&url, children)?,
            Verb::Enqueue { task, count, fail, delay, more_bytes } => {
                let mut ids = Vec::new();
                for i in 0..count {
                    let options = EnqueueOptions { delay_seconds: delay, id: None };
                    let mut params = json!({ "verb": "echo", "value": i });
                    if more_bytes > 0 {
                        params["more"] = "x".repeat(more_bytes).into();
                    }
                    let params = params.to_string();
                    let id = queue::enqueue(&task, &params, &options)
                        .map_err(|e| Failure::Reject(format!("{e:?}")))?;
                    ids.push(id);
                }
                if fail {
                    return Err(Failure::Retry("as asked, after enqueueing".to_owned()));
                }
                json!(ids)
            }
            Verb::Retry { reason } => return Err(Failure::Retry(reason)),
            Verb::RetryAfter { seconds, reason } => {
                return Err(Failure::RetryAfter(RetryAfter { seconds, reason }));
            }
            Verb::Reject { reason } => return Err(Failure::Reject(reason)),
            Verb::Flaky { succeeds_in } => {
                let attempt = context::attempt();
                if attempt < succeeds_in {
                    return Err(Failure::Retry(format!("attempt {attempt} fails")));
                }
                json!(attempt)
            }
            Verb::Steps { calls } => calls.into_iter().map(step_call).collect::<Result<_, _>>()?,
            Verb::Escape => json!({
                "file": std::fs::read_to_string("/etc/passwd").map_err(|e| e.to_string()).err(),
                "socket": std::net::TcpStream::connect("127.0.0.1:9").map_err(|e| e.kind().to_string()).err(),
            }),
        };
        Ok(value.to_string())
    }
}

fn step_call(call: StepCall) -> Result<Value, Failure> {
    let shown = |error: StepError| json!({ "error": format!("{error:?}") });
    let saved = |saved: Result<(), StepError>| saved.map_or_else(shown, |()| json!("saved"));
    Ok(match call {
        StepCall::Load(name) => steps::load(&name).map_or_else(shown, |value| json!(value)),
        StepCall::Save(name, value) => saved(steps::save(&name, &value)),
        StepCall::SaveBytes(name, bytes) => {
            saved(steps::save(&name, &json!("x".repeat(bytes - 2)).to_string()))
        }
        StepCall::Abandon(name) => {
            steps::abandon(&name);
            json!("abandoned")
        }
        StepCall::LoadEnv(variable) => {
            let name = std::env::var(variable).unwrap_or_default();
            steps::load(&name).map_or_else(shown, |value| json!(value))
        }
        StepCall::SaveEnv(name, variable) => {
            saved(steps::save(&name, &json!(std::env::var(variable).unwrap_or_default()).to_string()))
        }
        StepCall::Post(url) => json!(post(&url)?),
        StepCall::Step(name, url) => {
            let retry = |error| Failure::Retry(format!("{error:?}"));
            match steps::load(&name).map_err(retry)? {
                Some(value) => serde_json::from_str(&value).expect("JSON"),
                None => {
                    let value = json!(post(&url)?);
                    steps::save(&name, &value.to_string()).map_err(retry)?;
                    value
                }
            }
        }
        StepCall::Many(count) => {
            let all = (0..count).map(|number| {
                let name = format!("step {number}");
                steps::load(&name).and_then(|_| steps::save(&name, "1"))
            });
            let all: Vec<_> = all.collect();
            let first = all.iter().find_map(|done| done.as_ref().err()).map(|error| format!("{error:?}"));
            json!({ "saved": all.iter().filter(|done| done.is_ok()).count(), "error": first })
        }
        StepCall::RetryBefore(attempt) if context::attempt() < attempt => {
            return Err(Failure::Retry(format!("before attempt {attempt}")));
        }
        StepCall::RetryBefore(_) => json!(context::attempt()),
        StepCall::Spin => loop {
            std::hint::black_box(());
        },
    })
}

fn post(url: &str) -> Result<String, Failure> {
    let request = Request {
        method: "POST".to_owned(),
        body: Some(format!("attempt {}", context::attempt()).into_bytes()),
        ..request(url, Vec::new())
    };
    let response = http::send(&request).map_err(|error| Failure::Retry(format!("{error:?}")))?;
    Ok(String::from_utf8_lossy(&response.body).into_owned())
}

#[allow(unconditional_recursion, reason = "the verb is for that")]
fn recurse(depth: u64) -> u64 {
    let deeper = [depth; 16];
    recurse(std::hint::black_box(&deeper)[7] + 1) + deeper[3]
}

fn request(url: &str, headers: Vec<Header>) -> Request {
    Request { method: "GET".to_owned(), url: url.to_owned(), headers, body: None, timeout_ms: Some(1000) }
}

/// `{NAME}` is the environment variable of this name.
fn with_env(text: String) -> String {
    std::env::vars().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), &value))
}

fn fetch(url: String, name: &str, value: String) -> Result<Value, Failure> {
    let header = Header { name: name.to_owned(), value };
    match http::send(&request(&url, vec![header])) {
        Ok(response) => Ok(json!({
            "status": response.status,
            "body": String::from_utf8_lossy(&response.body),
        })),
        Err(error) => Ok(json!({ "error": format!("{error:?}") })),
    }
}

fn send(sending: Sending) -> Value {
    let Sending { wasi, method, url, headers, body } = sending;
    if wasi {
        return send_by_wasi(method, &url, headers, body).unwrap_or_else(|error| json!({ "error": error }));
    }
    let headers = headers.into_iter().map(|(name, value)| Header { name, value }).collect();
    let body = body.map(String::into_bytes);
    match http::send(&Request { method, url, headers, body, timeout_ms: Some(10_000) }) {
        Ok(response) => {
            let headers: Vec<_> =
                response.headers.into_iter().map(|header| (header.name, header.value)).collect();
            let body = String::from_utf8_lossy(&response.body).into_owned();
            json!({ "status": response.status, "headers": headers, "body": body })
        }
        Err(error) => json!({ "error": format!("{error:?}") }),
    }
}

fn send_by_wasi(
    method: String,
    url: &str,
    headers: Vec<(String, String)>,
    body: Option<String>,
) -> Result<Value, String> {
    let rest = url.strip_prefix("http://").ok_or("the url begins with http://")?;
    let (authority, path) = rest.split_at(rest.find(['/', '*']).unwrap_or(rest.len()));
    let fields = Fields::new();
    for (name, value) in headers {
        fields.append(&name, value.as_bytes()).map_err(|e| format!("{e:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    let method = match method.as_str() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "CONNECT" => Method::Connect,
        "OPTIONS" => Method::Options,
        "TRACE" => Method::Trace,
        "PATCH" => Method::Patch,
        _ => Method::Other(method),
    };
    request.set_method(&method).map_err(|()| "the method is refused")?;
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).map_err(|()| "the authority is refused")?;
    request.set_path_with_query(Some(path)).map_err(|()| "the path is refused")?;
    if let Some(text) = body {
        let body = request.body().expect("it is asked for once");
        let stream = body.write().expect("it is asked for once");
        stream.blocking_write_and_flush(text.as_bytes()).map_err(|e| format!("{e:?}"))?;
        drop(stream);
        OutgoingBody::finish(body, None).map_err(|e| format!("{e:?}"))?;
    }
    let pending = outgoing_handler::handle(request, None).map_err(|e| format!("{e:?}"))?;
    pending.subscribe().block();
    let response = pending.get().expect("it is ready").expect("it is asked for once");
    let response = response.map_err(|e| format!("{e:?}"))?;
    let headers: Vec<_> = response
        .headers()
        .entries()
        .into_iter()
        .map(|(name, value)| (name, String::from_utf8_lossy(&value).into_owned()))
        .collect();
    let (status, body) = read(response);
    Ok(json!({ "status": status, "headers": headers, "body": body }))
}

fn visit(url: &str, children: u32) -> Result<Value, Failure> {
    for i in 0..children {
        let params = json!({ "verb": "visit", "url": format!("{url}.{i}") }).to_string();
        let options = EnqueueOptions { delay_seconds: None, id: None };
        queue::enqueue(&context::task(), &params, &options).map_err(|e| Failure::Reject(format!("{e:?}")))?;
    }
    reach("GET", url)?;
    // The effect: a request that must not be carried out twice.
    reach("POST", &format!("{url}/done"))?;
    Ok(Value::Null)
}

fn reach(method: &str, url: &str) -> Result<(), Failure> {
    let request = Request {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: None,
        timeout_ms: Some(10_000),
    };
    match http::send(&request) {
        Ok(response) if response.status == 200 => Ok(()),
        Ok(response) => Err(Failure::Retry(format!("{url}: status {}", response.status))),
        Err(error) => Err(Failure::Retry(format!("{url}: {error:?}"))),
    }
}

fn wasi_answer(authority: &str, path: &str, headers: Fields) -> Result<IncomingResponse, ErrorCode> {
    let request = OutgoingRequest::new(headers);
    request.set_scheme(Some(&Scheme::Http)).expect("a scheme");
    request.set_authority(Some(authority)).expect("an authority");
    request.set_path_with_query(Some(path)).expect("a path");
    let pending = outgoing_handler::handle(request, None)?;
    pending.subscribe().block();
    pending.get().expect("it is ready").expect("it is asked for once")
}

fn wasi_fetch(authority: &str, path: &str, headers: Fields) -> Result<(u16, String), ErrorCode> {
    Ok(read(wasi_answer(authority, path, headers)?))
}

fn read(response: IncomingResponse) -> (u16, String) {
    let body = response.consume().expect("it is consumed once");
    let stream = body.stream().expect("it is streamed once");
    let mut bytes = Vec::new();
    while let Ok(chunk) = stream.blocking_read(64 << 10) {
        bytes.extend(chunk);
    }
    (response.status(), String::from_utf8_lossy(&bytes).into_owned())
}
