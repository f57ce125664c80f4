//! The test guest: carries out the verb in its params. A test of the host uses each verb.

mod requests;

wit_bindgen::generate!({ path: "../../../tasks-wit/wit", world: "task" });

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;
use serde_json::{Value, json};
use wasip2::http::types::Fields;
use wasq::task::context;
use wasq::task::http::{self, Header};
use wasq::task::log::{self, Level};
use wasq::task::outcome::RetryAfter;
use wasq::task::queue::{self, EnqueueOptions};
use wasq::task::steps::{self, StepError};

use crate::requests::{Held, Sending, fetch, hold, post, request, send, visit, wasi_answer, wasi_fetch};

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

#[allow(unconditional_recursion, reason = "the verb is for that")]
fn recurse(depth: u64) -> u64 {
    let deeper = [depth; 16];
    recurse(std::hint::black_box(&deeper)[7] + 1) + deeper[3]
}

/// `{NAME}` is the environment variable of this name.
fn with_env(text: String) -> String {
    std::env::vars().fold(text, |text, (name, value)| text.replace(&format!("{{{name}}}"), &value))
}
