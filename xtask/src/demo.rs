//! `cargo xtask demo`: the main job, end to end, on this machine.

use std::io::{BufRead, BufReader};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::setup::{binary, example_tasks, guest, root, target, wasq_without_aws};

const TASKS: [&str; 2] = ["github_repositories", "github_users"];

pub(crate) fn demo() -> Result<()> {
    let mut steps = Steps::new();
    steps.begin("build the example tasks and wasq", "some minutes the first time, most of them for wasmtime");
    // Side by side: each has a part in which only one core is busy.
    std::thread::scope(|scope| {
        let tasks = scope.spawn(example_tasks);
        wasq_without_aws()?;
        tasks.join().expect("building does not panic")
    })?;

    let folder = target().join("demo");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("remove the last demo's folder")?;
    }
    let (tasks, data) = (folder.join("tasks"), folder.join("data"));
    std::fs::create_dir_all(&tasks)?;
    steps.begin("look for GitHub", "the tasks ask it for numbers");
    let github = GitHub::find(&folder)?;

    steps.begin("start wasq dev", "queue, consumer, worker and publisher in one process");
    let (stack, ready) = start_stack(&tasks, &data)?;
    let queue = ready["queue_url"].as_str().context("wasq dev printed no queue address")?;
    println!("wasq dev is ready: {queue}");

    steps.begin("publish two tasks", "copy NAME.toml and NAME.wasm into the tasks folder");
    for task in TASKS {
        github.settings(task, &tasks)?;
        std::fs::copy(guest(task), tasks.join(format!("{task}.wasm")))?;
    }
    wait_until_live(&data)?;

    steps.begin("run github_repositories", "send a message, and wait for the result");
    let repositories = send(&data, "github_repositories", r#"{"user": "javimb"}"#)?;
    steps.begin("run github_users", "the same with another task");
    let users = send(&data, "github_users", r#"{"city": "Madrid"}"#)?;
    steps.begin("stop wasq dev", "with SIGTERM, as an operator would");
    stack.end()?;
    steps.end();

    println!("\nResults{}", github.note());
    println!("  github_repositories  {repositories}");
    println!("  github_users         {users}\n");
    steps.print();
    ensure!(
        repositories["user"] == "javimb" && repositories["repositories"].is_u64(),
        "not the result that was expected"
    );
    ensure!(users["users"].is_u64(), "not the result that was expected");
    Ok(())
}

/// The steps so far, and their times.
struct Steps {
    begun: Instant,
    current: Option<&'static str>,
    done: Vec<(&'static str, Duration)>,
}

/// The number of steps, for `[1/7]`.
const STEPS: usize = 7;

impl Steps {
    fn new() -> Self {
        Self { begun: Instant::now(), current: None, done: Vec::new() }
    }

    /// Says what comes next, and why or how.
    fn begin(&mut self, step: &'static str, note: &str) {
        self.end();
        println!("\n[{}/{STEPS}] {step}: {note}", self.done.len() + 1);
        self.current = Some(step);
    }

    fn end(&mut self) {
        let now = Instant::now();
        if let Some(step) = self.current.take() {
            self.done.push((step, now - self.begun));
        }
        self.begun = now;
    }

    fn print(&self) {
        println!("Times");
        for (step, time) in &self.done {
            println!("  {step:<34} {:>8.2} s", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, time)| time).sum();
        println!("  {:<34} {:>8.2} s", "all", total.as_secs_f64());
    }
}

/// The GitHub that the tasks ask.
enum GitHub {
    Real,
    /// A small server with answers of the same shape.
    StandIn {
        url: String,
        _server: Process,
    },
}

impl GitHub {
    /// The real one if it answers a task; a stand-in otherwise.
    fn find(folder: &Path) -> Result<Self> {
        if real_answers() {
            println!("\napi.github.com answers: the tasks ask the real GitHub");
            return Ok(Self::Real);
        }
        println!(
            "\napi.github.com does not answer from here: the tasks ask a STAND-IN with GitHub-shaped, made-up numbers"
        );
        let log = std::fs::File::create(folder.join("stand-in.log"))?;
        let mut server = Process::start(
            Command::new("python3")
                .arg(root().join("proofs/system/github_stand_in.py"))
                .stdout(Stdio::piped())
                .stderr(log),
        )?;
        let url = server.first_line().context("start the stand-in for GitHub")?;
        Ok(Self::StandIn { url, _server: server })
    }

    /// Writes a task's settings into the tasks folder, pointing at this GitHub.
    fn settings(&self, task: &str, tasks: &Path) -> Result<()> {
        let name = format!("{task}.toml");
        let settings = std::fs::read_to_string(root().join("example-tasks/rust").join(task).join(&name))?;
        let settings = match self {
            Self::Real => settings,
            Self::StandIn { url, .. } => settings.replace("https://api.github.com", url),
        };
        std::fs::write(tasks.join(name), settings)?;
        Ok(())
    }

    fn note(&self) -> &'static str {
        match self {
            Self::Real => "",
            Self::StandIn { .. } => " (numbers from the stand-in, not from GitHub)",
        }
    }
}

/// Whether the task itself gets an answer from api.github.com.
fn real_answers() -> bool {
    let Ok(mut addresses) = ("api.github.com", 443).to_socket_addrs() else {
        return false;
    };
    let connects =
        addresses.any(|address| TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_ok());
    let settings = root().join("example-tasks/rust/github_repositories/github_repositories.toml");
    connects
        && Command::new(binary("wasq"))
            .arg("run")
            .arg(guest("github_repositories"))
            .args(["--params", r#"{"user": "javimb"}"#, "--log", "error", "--settings"])
            .arg(settings)
            .output()
            .is_ok_and(|output| output.status.success())
}

fn start_stack(tasks: &Path, data: &Path) -> Result<(Process, Value)> {
    let mut stack = Process::start(
        Command::new(binary("wasq"))
            .args([
                "dev",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--log",
                "info,wasq_consumer=debug",
                // The address of the stand-in for GitHub.
                "--allow-address",
                "127.0.0.1",
                "--tasks",
            ])
            .arg(tasks)
            .arg("--data")
            .arg(data)
            .stdout(Stdio::piped()),
    )?;
    let line = stack.first_line().context("start wasq dev")?;
    let ready = serde_json::from_str(&line).with_context(|| format!("read {line:?}"))?;
    Ok((stack, ready))
}

fn wait_until_live(data: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        let listed = wasq(&["tasks", "--json", "--data"], data)?;
        let listed = listed["tasks"].as_array().context("wasq tasks printed no list")?;
        if let Some(rejected) = listed.iter().find(|task| !task["rejected"].is_null()) {
            bail!("an upload was refused: {}", rejected["rejected"]["reason"]);
        }
        if listed.iter().filter(|task| !task["live"].is_null()).count() == TASKS.len() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("the tasks were not live within a minute")
}

/// Sends a message through the SQS endpoint, and returns the task's result.
fn send(data: &Path, task: &str, params: &str) -> Result<Value> {
    println!("\nsend {{\"task\": \"{task}\", \"params\": {params}}}");
    let ended =
        wasq(&["enqueue", task, "--params", params, "--wait", "--timeout", "60s", "--json", "--data"], data)?;
    println!("{task}: {ended}");
    ensure!(ended["result"]["outcome"] == "success", "{task} failed");
    Ok(ended["result"]["output"].clone())
}

fn wasq(args: &[&str], data: &Path) -> Result<Value> {
    let output = Command::new(binary("wasq")).args(args).arg(data).stderr(Stdio::inherit()).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("wasq {}: printed {text:?}", args.join(" ")))
}

/// A child process that never outlives us.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        let child = command.stdin(Stdio::null()).spawn();
        child.map(Self).with_context(|| format!("start {}", command.get_program().display()))
    }

    /// The first line on its stdout, which says that it is ready.
    fn first_line(&mut self) -> Result<String> {
        let stdout = self.0.stdout.take().context("its output is not connected")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        ensure!(!line.is_empty(), "it ended before it was ready: {}", self.0.wait()?);
        Ok(line.trim().to_owned())
    }

    /// Asks it to end, as an operator would, and expects it to end with success.
    fn end(mut self) -> Result<()> {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().context("run kill")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            if let Some(status) = self.0.try_wait()? {
                ensure!(status.success(), "wasq dev ended with {status}");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        bail!("wasq dev did not end within 20 s after SIGTERM")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
