//! `wasq-hostile VERBS.wasm [ROUNDS]`: runs the whole corpus, round after round, and checks that the process
//! does not grow. `wasq-hostile costly [PLOT.svg]`: compiles components that are made to be costly, at growing size.
//! `wasq-hostile compile FILE.wasm ...`: compiles honest components. `wasq-hostile serve DIR`: writes the corpus as files for
//! `wasq dev`, and runs the hostile server that some guests call, until it is killed.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit};
use serde_json::json;
use wasq_hostile::{
    COSTLY, Code, Compilation, Cost, End, Host, Limits, ON_AWS, Seen, compile, corpus, plot, start_server,
};
use wasq_protocol::ByteCount;
use wasq_publisher::compile_if_asked;

/// The largest component that still counts as small.
const COSTLY_BYTES_MAX: usize = 2 << 20;
const SETTLE: Duration = Duration::from_millis(500);
/// Rounds to warm up. After them, everything that is made once exists.
const WARM_UP: usize = 4;
/// The limit of a neighbour's run. It computes for some milliseconds, and two guests may compute at the same
/// time.
const NEIGHBOUR_MAX: Duration = Duration::from_millis(500);
/// The allowed growth, from the most memory in the earlier rounds to the most memory in the later rounds:
/// less than a megabyte for each round.
const GROWTH_KB_MAX: i64 = 8 << 10;

/// The memory of the worker's function in the template.
const WORKER_MEMORY: ByteCount = ByteCount::mib(1769);

fn main() -> Result<ExitCode> {
    // Before anything else: the process may be one that compiles.
    compile_if_asked(|_| None);
    answer()
}

#[tokio::main]
async fn answer() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some("compile") => compile_files(&arguments[1..]).await,
        Some("costly") => costly(arguments.get(1).map(Path::new)).await,
        Some("serve") => {
            serve(Path::new(arguments.get(1).context("expected: wasq-hostile serve DIR")?)).await
        }
        _ => run_corpus(&arguments).await,
    }
}

/// Writes each guest as a component, and each kind of costly component. Prints one JSON array with what a test needs: the file,
/// the params of its message, and how it must end.
async fn serve(folder: &Path) -> Result<ExitCode> {
    let server = start_server().await?;
    let mut listed = Vec::new();
    for (number, guest) in corpus().into_iter().enumerate() {
        let (file, params) = match guest.code {
            Code::Verb(params) => (None, params.to_string().replace("SERVER", &server.to_string())),
            Code::Text(text) => (Some(wat::parse_str(text).context(guest.name)?), "{}".to_owned()),
            Code::Binary(wasm) => (Some(wasm), "{}".to_owned()),
        };
        let end = match guest.end {
            End::Fails(kind) => kind.as_str(),
            End::Refused => "refused",
            End::Harmless => "success",
        };
        let task = write(folder, format!("guest-{number}"), file)?;
        let params: serde_json::Value = serde_json::from_str(&params)?;
        listed.push(json!({ "name": guest.name, "task": task, "params": params, "end": end }));
    }
    for (number, kind) in COSTLY.iter().enumerate() {
        let Ok(wasm) = kind.component(kind.from * 16) else { continue };
        let task = write(folder, format!("costly-{number}"), Some(wasm))?;
        listed.push(json!({ "name": kind.name, "task": task, "params": {}, "end": "refused" }));
    }
    println!("{}", json!({ "server": server, "guests": listed }));
    std::future::pending().await
}

/// Writes a component as a task. Returns the task's name, or `verbs` if there is no component.
fn write(folder: &Path, name: String, wasm: Option<Vec<u8>>) -> Result<String> {
    let Some(wasm) = wasm else { return Ok("verbs".to_owned()) };
    std::fs::write(folder.join(format!("{name}.wasm")), wasm).with_context(|| format!("write {name}"))?;
    Ok(name)
}

/// Compiles honest components, and prints what that costs. None may be refused.
async fn compile_files(files: &[String]) -> Result<ExitCode> {
    let mut refused = 0;
    for file in files {
        let wasm = std::fs::read(file).with_context(|| format!("read {file}"))?;
        let seen = compile(ON_AWS, wasm).await?;
        refused += usize::from(seen.refused.is_some());
        print_compilation(file, &seen);
    }
    println!("\n{} components, {refused} refused", files.len());
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Compiles each kind of costly component at growing size, until it is refused, or is so large that nobody would call it
/// small. Draws what they cost, if there is a file for it.
async fn costly(picture: Option<&Path>) -> Result<ExitCode> {
    let mut beyond = 0;
    let mut kinds = Vec::new();
    for kind in COSTLY {
        let mut n = kind.from;
        let mut costs = Vec::new();
        while let Ok(wasm) = kind.component(n) {
            if wasm.len() > COSTLY_BYTES_MAX {
                break;
            }
            let seen = compile(ON_AWS, wasm).await?;
            // The process itself takes a part of a second to begin and to be ended.
            let over = seen.time > ON_AWS.time + Duration::from_secs(5) || seen.memory > ByteCount::mib(3008);
            beyond += usize::from(over);
            print_compilation(&format!("{n} {}", kind.name), &seen);
            costs.push(Cost {
                bytes: seen.bytes as f64,
                seconds: seen.time.as_secs_f64(),
                mib: seen.memory.0 as f64 / f64::from(1 << 20),
            });
            // A component that does not fit the world has been compiled before.
            if seen.refused.is_some_and(|why| !why.contains("does not fit the world")) {
                break;
            }
            n *= 2;
        }
        kinds.push(costs);
    }
    if let Some(picture) = picture {
        let limits = Limits { seconds: ON_AWS.time.as_secs_f64(), mib: (ON_AWS.memory.0 >> 20) as f64 };
        std::fs::write(picture, plot(&kinds, limits))
            .with_context(|| format!("write {}", picture.display()))?;
    }
    println!("\n{} kinds, {beyond} compilations beyond the limits", COSTLY.len());
    Ok(if beyond == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_compilation(what: &str, seen: &Compilation) {
    let (bytes, mib) = (seen.bytes, seen.memory.0 >> 20);
    let end: String = seen.refused.as_deref().unwrap_or("fits").chars().take(110).collect();
    println!("{what:<60} {bytes:>9} B {:>7.2} s {mib:>5} MiB  {end}", seen.time.as_secs_f64());
}

async fn run_corpus(arguments: &[String]) -> Result<ExitCode> {
    let verbs = arguments.first().context("expected: wasq-hostile VERBS.wasm [ROUNDS]")?;
    let rounds = arguments.get(1).map_or(Ok(10), |rounds| rounds.parse()).context("ROUNDS is no number")?;
    // As much as a worker on AWS has. A guest that makes the host hold more ends this process.
    let limit = Rlimit { current: Some(WORKER_MEMORY.0), maximum: None };
    rustix::process::setrlimit(Resource::Data, limit).context("limit the memory of this process")?;
    let host = Host::start(Path::new(verbs)).await?;
    let guests = corpus();
    let mut failed = 0;
    let mut held = Vec::new();
    let (mut neighbours, mut slowest) = (Vec::new(), Duration::ZERO);
    for round in 0..rounds + WARM_UP {
        for guest in &guests {
            let seen = host.run(guest).await?;
            failed += seen.problems.len();
            neighbours.push(seen.neighbour);
            slowest = slowest.max(seen.neighbour);
            if round == 0 {
                print(guest.name, &seen);
            }
            for problem in &seen.problems {
                println!("  PROBLEM in round {}: {}: {problem}", round + 1, guest.name);
            }
        }
        // Runs that were cut off get time to end.
        tokio::time::sleep(SETTLE).await;
        let now = Process::now()?;
        let Process { memory_kb, threads, descriptors } = now;
        eprintln!(
            "round {:>2}: memory {memory_kb} kB, threads {threads}, file descriptors {descriptors}",
            round + 1
        );
        if round >= WARM_UP {
            held.push(now);
        }
    }
    println!("\n{} guests, {rounds} rounds after {WARM_UP} to warm up, {failed} problems.", guests.len());
    neighbours.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "Their neighbours ran for {:.1} ms (the median), and for {:.1} ms at most.",
        ms(neighbours[neighbours.len() / 2]),
        ms(slowest)
    );
    let late = slowest > NEIGHBOUR_MAX;
    if late {
        println!("PROBLEM: a neighbour was held up");
    }
    let (earlier, later) = held.split_at(held.len() / 2);
    let (earlier, later) = (Process::most(earlier), Process::most(later));
    println!(
        "The most that the process held, in earlier and in later rounds: memory {} and {} kB, threads {} and {}, file descriptors {} and {}",
        earlier.memory_kb,
        later.memory_kb,
        earlier.threads,
        later.threads,
        earlier.descriptors,
        later.descriptors
    );
    let grew = later.memory_kb - earlier.memory_kb > GROWTH_KB_MAX
        || later.threads > earlier.threads
        || later.descriptors > earlier.descriptors;
    if grew {
        println!("PROBLEM: it has grown");
    }
    Ok(if failed == 0 && !grew && !late { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(name: &str, seen: &Seen) {
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let message: String = seen.message.replace('\n', " ").chars().take(90).collect();
    let (took, neighbour) = (ms(seen.took), ms(seen.neighbour));
    println!("{name:<58} {:<16} {took:>7.1} ms  neighbour {neighbour:>5.1} ms  {message}", seen.end);
}

/// The resources that the process holds, from Linux's /proc.
#[derive(Default)]
struct Process {
    memory_kb: i64,
    threads: usize,
    descriptors: usize,
}

impl Process {
    /// The maximum of each resource.
    fn most(held: &[Self]) -> Self {
        held.iter().fold(Self::default(), |most, held| Self {
            memory_kb: most.memory_kb.max(held.memory_kb),
            threads: most.threads.max(held.threads),
            descriptors: most.descriptors.max(held.descriptors),
        })
    }

    fn now() -> Result<Self> {
        let status = std::fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
        let memory =
            status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS is missing")?;
        let memory = memory.trim().trim_end_matches(" kB");
        Ok(Self {
            memory_kb: memory.parse().context("VmRSS is no number")?,
            threads: std::fs::read_dir("/proc/self/task")?.count(),
            descriptors: std::fs::read_dir("/proc/self/fd")?.count(),
        })
    }
}
