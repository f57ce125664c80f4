//! `cargo xtask demo`: the main job, end to end, on this machine.

use std::io::{BufRead, BufReader};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::setup::{binaries, binary, guest, root, rust_guests, target};

const TASKS: [&str; 2] = ["github_repositories", "github_users"];

pub(crate) fn demo() -> Result<()> {
    let mut steps = Steps::new();
    rust_guests()?;
    steps.done("build the example tasks");
    binaries()?;
    steps.done("build wasq");

    let folder = target().join("demo");
    if folder.exists() {
        std::fs::remove_dir_all(&folder).context("remove the last demo's folder")?;
    }
    let (tasks, data) = (folder.join("tasks"), folder.join("data"));
    std::fs::create_dir_all(&tasks)?;
    let github = GitHub::find(&folder)?;
    steps.done("look for GitHub");

    let (stack, ready) = start_stack(&tasks, &data)?;
    let queue = ready["queue_url"].as_str().context("wasq dev printed no queue address")?;
    println!("\nwasq dev is ready: {queue}");
    steps.done("start the stack");

    for task in TASKS {
        println!("publish {task}: copy {task}.toml and {task}.wasm into the tasks folder");
        github.settings(task, &tasks)?;
        std::fs::copy(guest(task), tasks.join(format!("{task}.wasm")))?;
    }
    wait_until_live(&data)?;
    steps.done("publish two tasks");

    let repositories = send(&data, "github_repositories", r#"{"user": "javimb"}"#)?;
    steps.done("run github_repositories");
    let users = send(&data, "github_users", r#"{"city": "Madrid"}"#)?;
    steps.done("run github_users");
    stack.end()?;
    steps.done("end the stack");

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

/// The time of each step.
struct Steps {
    last: Instant,
    done: Vec<(&'static str, Duration)>,
}

impl Steps {
    fn new() -> Self {
        Self { last: Instant::now(), done: Vec::new() }
    }

    fn done(&mut self, step: &'static str) {
        let now = Instant::now();
        self.done.push((step, now - self.last));
        self.last = now;
    }

    fn print(&self) {
        println!("Time of each step");
        for (step, time) in &self.done {
            println!("  {step:<26} {:>8.2} s", time.as_secs_f64());
        }
        let total: Duration = self.done.iter().map(|(_, time)| time).sum();
        println!("  {:<26} {:>8.2} s", "all", total.as_secs_f64());
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
