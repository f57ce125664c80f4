//! Other systems for the same work, each in a process of its own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::samples::Samples;
use crate::warm::PARAMS;

/// Extism's host with the no-op as a plug-in.
pub(crate) struct Extism {
    process: Child,
    ask: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

#[derive(Deserialize)]
struct Calls {
    fresh_us: Vec<f64>,
    reused_us: Vec<f64>,
}

impl Extism {
    /// Starts Extism, and returns the time until its first answer.
    pub(crate) async fn start(program: &Path, plugin: &Path) -> Result<(Self, Duration)> {
        const CALLS: &str = "500";
        let started = Instant::now();
        let mut process = Command::new(program)
            .arg(plugin)
            .args([PARAMS, CALLS])
            // Without this, Extism would reuse compiled code from earlier runs on this machine.
            .env("EXTISM_CACHE_CONFIG", "")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        let ask = process.stdin.take().context("its stdin")?;
        let mut answers = BufReader::new(process.stdout.take().context("its stdout")?).lines();
        answers.next_line().await?.context("Extism ended")?;
        Ok((Self { process, ask, answers }, started.elapsed()))
    }

    /// Microseconds of a call: with a new instance, and with one that is used again.
    pub(crate) async fn round(&mut self) -> Result<(f64, f64)> {
        self.ask.write_all(b"\n").await?;
        let answer = self.answers.next_line().await?.context("Extism ended")?;
        let Calls { fresh_us, reused_us } = serde_json::from_str(&answer)?;
        Ok((Samples::new(fresh_us).median(), Samples::new(reused_us).median()))
    }

    /// Ends the process.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.process.kill().await.context("end Extism")
    }
}

/// `wasmtime serve` with the no-op behind HTTP.
pub(crate) struct Serve {
    process: Child,
    requests: SendRequest<Full<Bytes>>,
}

impl Serve {
    /// Compiles the component, as a deployment would before it starts.
    pub(crate) async fn compile(wasmtime: &Path, component: &Path, artifact: &Path) -> Result<()> {
        let mut compile = Command::new(wasmtime);
        compile.arg("compile").arg(component).arg("-o").arg(artifact);
        let status = compile.status().await.with_context(|| format!("start {}", wasmtime.display()))?;
        ensure!(status.success(), "wasmtime compile: {status}");
        Ok(())
    }

    /// Starts the server, and returns the time until its first answer.
    pub(crate) async fn start(wasmtime: &Path, artifact: &Path) -> Result<(Self, Duration)> {
        let address = free_address().await?;
        let started = Instant::now();
        let mut process = Command::new(wasmtime)
            .args([
                "serve",
                "--allow-precompiled",
                "-S",
                "cli",
                "-O",
                "pooling-allocator=y",
                "--addr",
                &address.to_string(),
            ])
            .arg(artifact)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", wasmtime.display()))?;
        let mut said = BufReader::new(process.stderr.take().context("its stderr")?).lines();
        let first = said.next_line().await?.context("wasmtime serve ended")?;
        ensure!(first.starts_with("Serving HTTP"), "wasmtime serve: {first}");
        // The server writes more lines, and ends if nobody reads them.
        tokio::spawn(async move {
            while let Ok(Some(line)) = said.next_line().await {
                eprintln!("wasmtime serve: {line}");
            }
        });
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut serve = Self { process, requests };
        serve.request().await?;
        Ok((serve, started.elapsed()))
    }

    /// One request on the open connection.
    pub(crate) async fn request(&mut self) -> Result<Duration> {
        self.requests.ready().await?;
        let started = Instant::now();
        let request = Request::post("/").header("host", "localhost").body(Full::new(Bytes::from(PARAMS)))?;
        let response = self.requests.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        ensure!(status == 200 && body == "null", "wasmtime serve answered {status} {body:?}");
        Ok(started.elapsed())
    }

    /// Ends the process.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.process.kill().await.context("end wasmtime serve")
    }
}

async fn free_address() -> Result<SocketAddr> {
    Ok(tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?)
}
