//! Runs hostile guests beside an honest one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;
use wasq_engine::{Addresses, Engine, Limits, Module, Pool, Report, Run, RunContext};
use wasq_protocol::{ByteCount, Outcome, Settings, Timestamp};

use crate::corpus::{Code, End, Guest};
use crate::server;

/// An engine as a worker has it, the guest that does what it is told, and a server that means harm.
pub struct Host {
    engine: Engine,
    verbs: Module,
    server: SocketAddr,
}

/// What was seen of a hostile guest, and of its neighbour.
#[derive(Clone, Debug)]
pub struct Seen {
    /// How it ended, in a word: a kind of failure, `refused` or `success`.
    pub end: String,
    /// What was said of it: the limit, and what was reached.
    pub message: String,
    /// From its first byte to its end.
    pub took: Duration,
    /// How long its neighbour ran.
    pub neighbour: Duration,
    /// In what this was not as it must be; empty if it was.
    pub problems: Vec<String>,
}

/// Places for the guest, its neighbour, and one to spare.
const PLACES: u32 = 3;
/// What the guests are given. Small, so that they are at their limits soon.
const TIMEOUT: Duration = Duration::from_secs(1);
const MEMORY: ByteCount = ByteCount::mib(32);

impl Host {
    /// Starts the engine; `verbs` is the tests' guest, as `cargo xtask guests --build` makes it.
    pub async fn start(verbs: &Path) -> Result<Self> {
        let server = server::start().await.context("start the server")?;
        // Of loopback, only the server that means harm.
        let addresses =
            Addresses { allow: vec!["127.0.0.1".parse().map_err(|e| anyhow!("{e}"))?], never: Vec::new() };
        let limits = Limits { addresses, ..Limits::default() };
        let pool = Pool { concurrency: PLACES, memory: ByteCount::mib(512) };
        let engine = Engine::new(pool, limits).map_err(|e| anyhow!("start the engine: {e:#}"))?;
        let wasm = std::fs::read(verbs)
            .with_context(|| format!("read {}; `cargo xtask guests --build` makes it", verbs.display()))?;
        let verbs = load(&engine, &wasm).map_err(|e| anyhow!(e))?;
        Ok(Self { engine, verbs, server })
    }

    /// Runs a guest, and its neighbour beside it.
    pub async fn run(&self, guest: &Guest) -> Result<Seen> {
        let started = Instant::now();
        let hostile = self.hostile(guest);
        let neighbour = self.neighbour();
        let (hostile, neighbour) = tokio::join!(hostile, neighbour);
        let neighbour = neighbour?;
        let (end, message, took) = match hostile? {
            Ended::Refused(why) => ("refused".to_owned(), why, started.elapsed()),
            Ended::Ran(report) => match report.outcome {
                Outcome::Success { output } => {
                    let mut output = output.get().to_owned();
                    output.truncate(output.floor_char_boundary(200));
                    ("success".to_owned(), output, report.duration)
                }
                Outcome::Failure(failure) => (failure.kind.to_string(), failure.message, report.duration),
            },
        };
        let mut problems = Vec::new();
        let expected = match guest.end {
            End::Fails(kind) => kind.as_str(),
            End::Refused => "refused",
            End::Harmless => "success",
        };
        if end != expected {
            problems.push(format!("expected {expected}, found {end}: {message}"));
        } else if !message.contains(guest.says) {
            problems.push(format!("expected a message with {:?} in it, found {message}", guest.says));
        }
        if let Outcome::Failure(failure) = &neighbour.outcome {
            problems.push(format!("its neighbour failed: {failure}"));
        }
        Ok(Seen { end, message, took, neighbour: neighbour.duration, problems })
    }

    async fn hostile(&self, guest: &Guest) -> Result<Ended> {
        let (module, params) = match &guest.code {
            Code::Verb(params) => (self.verbs.clone(), params.clone()),
            Code::Text(text) => match self.compiled(wat::parse_str(text).context(guest.name)?).await {
                Ok(module) => (module, json!({})),
                Err(why) => return Ok(Ended::Refused(why)),
            },
            Code::Binary(wasm) => match self.compiled(wasm.clone()).await {
                Ok(module) => (module, json!({})),
                Err(why) => return Ok(Ended::Refused(why)),
            },
        };
        let server = format!("http://{}", self.server);
        let params =
            params.to_string().replace("http://SERVER", &server).replace("SERVER", &self.server.to_string());
        let hosts =
            [server.as_str(), "http://169.254.169.254", "http://localhost:1", "http://[::ffff:10.0.0.1]"];
        let allow_hosts = hosts.map(|host| host.parse().expect("a valid entry")).into();
        let settings = Settings { timeout: TIMEOUT, memory: MEMORY, allow_hosts, ..Settings::default() };
        Ok(Ended::Ran(self.run_module(&module, &params, &settings).await))
    }

    /// Compiled as the publisher would, beside what runs.
    async fn compiled(&self, wasm: Vec<u8>) -> Result<Module, String> {
        let engine = self.engine.clone();
        let compiling = tokio::task::spawn_blocking(move || load(&engine, &wasm));
        compiling.await.unwrap_or_else(|e| Err(format!("the compiler panicked: {e}")))
    }

    /// A run that asks for nothing unusual.
    async fn neighbour(&self) -> Result<Report> {
        let settings = Settings { timeout: Duration::from_secs(20), ..Settings::default() };
        let params = json!({ "verb": "alloc", "mib": 4 });
        let report = self.run_module(&self.verbs, &params.to_string(), &settings).await;
        if let Outcome::Success { output } = &report.outcome {
            let output: Value = serde_json::from_str(output.get())?;
            ensure!(output == 4 << 20, "the neighbour computed {output}");
        }
        Ok(report)
    }

    async fn run_module(&self, module: &Module, params: &str, settings: &Settings) -> Report {
        let context = RunContext {
            task: "hostile".parse().expect("a name"),
            id: "hostile".to_owned(),
            attempt: 1,
            max_attempts: 5,
            deadline: Timestamp::from_ms(0),
            parent: None,
            root: "hostile".to_owned(),
            depth: 0,
            traceparent: None,
            trace_header: None,
        };
        let deadline = Instant::now() + settings.timeout;
        let (engine, module) = (self.engine.clone(), module.clone());
        let (params, settings): (Arc<str>, _) = (params.into(), settings.clone());
        // Each on its own, as in the worker: one that computes must not hold up the other.
        let run = tokio::spawn(async move {
            engine
                .run(
                    &module,
                    Run {
                        context,
                        params: &params,
                        settings: &settings,
                        secrets: &Default::default(),
                        deadline,
                    },
                )
                .await
        });
        run.await.expect("no guest makes the engine panic")
    }
}

enum Ended {
    Refused(String),
    Ran(Report),
}

fn load(engine: &Engine, wasm: &[u8]) -> Result<Module, String> {
    let artifact = engine.compile(wasm).map_err(|e| e.to_string())?;
    // Safety: compiled by this very engine.
    unsafe { engine.load_bytes(&artifact) }.map_err(|e| e.to_string())
}
