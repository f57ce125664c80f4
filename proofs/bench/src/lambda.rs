//! The parts of AWS that Lambda functions use, on loopback and as fast as possible: runtime API, bucket and table of runs.
//!
//! The measurements are of the function alone. On AWS every invoke takes milliseconds more.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::sync::{Mutex, mpsc};
use wasq_protocol::{Clock, LiveRecord, SystemClock};

use crate::worker::Compiled;

/// How a function is started.
pub(crate) struct Function {
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<String>,
    /// Variables in addition to those that Lambda sets.
    pub(crate) env: Vec<(String, String)>,
}

impl Function {
    /// wasq's worker with a table of runs.
    pub(crate) fn remembering_worker(program: PathBuf, cache: &Path) -> Self {
        let mut function = Self::worker(program, cache);
        function.env.push(("WASQ_RUNS_TABLE".to_owned(), "runs".to_owned()));
        function
    }

    /// wasq's worker, with the artifact on its disk, and the live record in the bucket.
    pub(crate) fn worker(program: PathBuf, cache: &Path) -> Self {
        let env = [
            ("WASQ_QUEUE_URL", "http://127.0.0.1:9/000000000000/wasq"),
            ("WASQ_DEAD_LETTER_URL", "http://127.0.0.1:9/000000000000/wasq-dead-letters"),
            ("WASQ_REGISTRY_BUCKET", "registry"),
            ("WASQ_METRICS", "off"),
        ];
        let mut env: Vec<_> =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        env.push(("WASQ_CACHE_DIR".to_owned(), cache.display().to_string()));
        Self { program, args: Vec::new(), env }
    }
}

/// A process of a function, and the platform that it asks for work.
pub(crate) struct Running {
    platform: Arc<Platform>,
    process: Child,
    answers: mpsc::UnboundedReceiver<(Instant, Result<Bytes>)>,
}

struct Platform {
    events: Mutex<mpsc::UnboundedReceiver<Bytes>>,
    events_sender: mpsc::UnboundedSender<Bytes>,
    answers: mpsc::UnboundedSender<(Instant, Result<Bytes>)>,
    objects: HashMap<String, Bytes>,
}

/// The longest time that any answer here may take.
const PATIENCE: Duration = Duration::from_secs(30);

impl Running {
    /// Starts a new process with an event already waiting for it, and returns the time until the answer.
    pub(crate) async fn start(
        function: &Function,
        bucket: &[&Compiled],
        event: &str,
    ) -> Result<(Self, Duration)> {
        let objects = bucket.iter().map(|compiled| {
            let record = serde_json::to_vec(&compiled.record())?;
            Ok((format!("/registry/{}", LiveRecord::key(&compiled.task)), record.into()))
        });
        let (events_sender, events) = mpsc::unbounded_channel();
        let (sender, answers) = mpsc::unbounded_channel();
        let platform = Arc::new(Platform {
            events: Mutex::new(events),
            events_sender,
            answers: sender,
            objects: objects.collect::<Result<_>>()?,
        });
        let address = serve(platform.clone()).await?;
        platform.events_sender.send(event.to_owned().into())?;
        let started = Instant::now();
        let process = Command::new(&function.program)
            .args(&function.args)
            .env_clear()
            .envs(function.env.iter().map(|(name, value)| (name, value)))
            .envs([
                ("AWS_LAMBDA_RUNTIME_API", address.to_string()),
                ("AWS_ENDPOINT_URL", format!("http://{address}")),
            ])
            .envs([
                ("AWS_LAMBDA_FUNCTION_NAME", "bench"),
                ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1769"),
                ("AWS_LAMBDA_FUNCTION_VERSION", "1"),
                ("AWS_LAMBDA_LOG_GROUP_NAME", "bench"),
                ("AWS_LAMBDA_LOG_STREAM_NAME", "bench"),
                ("AWS_REGION", "eu-central-1"),
                ("AWS_ACCESS_KEY_ID", "bench"),
                ("AWS_SECRET_ACCESS_KEY", "bench"),
                ("AWS_EC2_METADATA_DISABLED", "true"),
            ])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", function.program.display()))?;
        let mut running = Self { platform, process, answers };
        let took = running.answered(started).await?;
        Ok((running, took))
    }

    /// Invokes the waiting process, and returns the time until the answer.
    pub(crate) async fn invoke(&mut self, event: &str) -> Result<Duration> {
        let started = Instant::now();
        self.platform.events_sender.send(event.to_owned().into())?;
        self.answered(started).await
    }

    async fn answered(&mut self, started: Instant) -> Result<Duration> {
        let answered = tokio::select! {
            answered = tokio::time::timeout(PATIENCE, self.answers.recv()) => answered.context("no answer")?,
            ended = self.process.wait() => bail!("the function ended: {}", ended?),
        };
        let (at, answer) = answered.context("the platform has ended")?;
        let answer = answer?;
        let good = answer == "null" || answer.starts_with(br#"{"outcome":"success""#);
        ensure!(good, "the function answered {}", String::from_utf8_lossy(&answer));
        Ok(at - started)
    }

    /// Ends the process.
    pub(crate) async fn end(mut self) -> Result<()> {
        self.process.kill().await.context("end the function")
    }
}

async fn serve(platform: Arc<Platform>) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = stream.set_nodelay(true);
            let platform = platform.clone();
            let answer = service_fn(move |request| {
                let platform = platform.clone();
                async move { Ok::<_, Infallible>(platform.answer(request).await) }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
            );
        }
    });
    Ok(address)
}

impl Platform {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        if path == "/2018-06-01/runtime/invocation/next" {
            let event = self.events.lock().await.recv().await.unwrap_or_default();
            let deadline = SystemClock.now().plus(PATIENCE).ms();
            return Response::builder()
                .header("lambda-runtime-aws-request-id", "8476a536-e9f4-11e8-9739-2dfe598c3fcd")
                .header("lambda-runtime-deadline-ms", deadline)
                .header("lambda-runtime-invoked-function-arn", "arn:aws:lambda:eu-central-1:0:function:bench")
                .header("content-type", "application/json")
                .body(Full::new(event))
                .expect("a response");
        }
        let method = request.method().clone();
        let is_table = request.headers().contains_key("x-amz-target");
        let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let (status, answer) = if path.starts_with("/2018-06-01/runtime/") {
            let said = String::from_utf8_lossy(&body).into_owned();
            let answer =
                if path.ends_with("/response") { Ok(body) } else { Err(anyhow::anyhow!("{path}: {said}")) };
            // The receiver of the measurement may be gone.
            let _ = self.answers.send((Instant::now(), answer));
            (StatusCode::ACCEPTED, Bytes::new())
        } else if is_table {
            // DynamoDB takes every write.
            (StatusCode::OK, Bytes::from_static(b"{}"))
        } else {
            match self.objects.get(&path) {
                Some(object) if method == Method::GET => (StatusCode::OK, object.clone()),
                _ => (StatusCode::NOT_FOUND, Bytes::from_static(b"<Error><Code>NoSuchKey</Code></Error>")),
            }
        };
        Response::builder().status(status).body(Full::new(answer)).expect("a response")
    }
}
