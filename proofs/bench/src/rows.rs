//! The rows, in the order in which they are measured.

pub(crate) mod page;
mod runs;

use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::All;
use crate::child::{Held, Loaded, Sleepers, ask};
use crate::lambda::{Function, Running};
use crate::machine::machine;
use crate::peers::{Extism, Serve};
use crate::plot::Plot;
use crate::report::{Report, Table, Target};
use crate::samples::{Samples, digits};
use crate::warm::{Noops, PARAMS};
use crate::worker::Compiled;

/// Rounds of measurements that need a new process each.
const STARTS: usize = 15;
/// Invokes of a process that is warm.
const INVOKES: usize = 500;

/// Everything that is built once for all rows.
struct Bench<'a> {
    all: &'a All,
    folder: TempDir,
    runtime: Runtime,
    noop: Compiled,
    noops: Noops,
}

/// Measures everything.
pub(crate) fn measure(all: &All) -> Result<Report> {
    let folder = tempfile::tempdir().context("make a folder")?;
    let runtime = Runtime::new()?;
    let (noops, noop) = Noops::compile(&all.noop, folder.path())?;
    let bench = Bench { all, folder, runtime, noop, noops };
    let mut targets = Vec::new();
    let mut tables = Vec::new();
    let sections: [(&str, Section<'_>); 9] = [
        ("warm runs", Bench::warm_runs),
        ("instructions", Bench::instructions),
        ("invokes and cold starts", Bench::invokes_and_starts),
        ("loading", Bench::loading),
        ("memory", Bench::memory),
        ("publishing", Bench::publishing),
        ("queues", Bench::queues),
        ("page", Bench::page),
        ("sizes", Bench::sizes),
    ];
    for (what, rows) in sections {
        eprintln!("bench: {what}");
        match rows(&bench) {
            Ok((of_these, table)) => {
                targets.extend(of_these);
                tables.extend(table);
            }
            // The other rows are still worth having.
            Err(e) => {
                eprintln!("bench: {what}: {e:#}");
                let (measured, wanted) = (format!("{e:#}"), "");
                targets.push(Target { what, measured, wanted, met: None });
            }
        }
    }
    Ok(Report { machine: machine(all)?, targets, tables })
}

type Rows = (Vec<Target>, Vec<Table>);
type Section<'a> = fn(&Bench<'a>) -> Result<Rows>;

impl Bench<'_> {
    fn missing(&self, name: &str) -> String {
        let why = self.all.missing.iter().find(|(missing, _)| missing == name);
        why.map_or("not available".to_owned(), |(_, why)| format!("not available: {why}"))
    }

    fn invokes_and_starts(&self) -> Result<Rows> {
        let cache = self.folder.path().join("cache");
        std::fs::create_dir_all(&cache)?;
        let name = self.noop.code.path.file_name().context("the artifact's name")?;
        std::fs::copy(&self.noop.code.path, cache.join(name)).context("put the artifact into the cache")?;
        let event = format!(r#"{{"task":"noop","params":{PARAMS}}}"#);
        let hello = Function { program: self.all.hello.clone(), args: Vec::new(), env: Vec::new() };
        let worker = Function::worker(self.all.worker.clone(), &cache);
        let mut functions = vec![
            ("an empty lambda_runtime function", hello),
            ("wasq's worker", worker),
            (
                "wasq's worker with a table of runs",
                Function::remembering_worker(self.all.worker.clone(), &cache),
            ),
        ];
        if let Some(python) = &self.all.python {
            let sources = self.all.python_sources.display().to_string();
            let env = [("LAMBDA_TASK_ROOT", &*sources), ("PYTHONPATH", &*sources), ("QUEUE_URL", "none")];
            let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let args = ["-m", "awslambdaric", "worker.handler"].map(str::to_owned).to_vec();
            functions
                .push(("a worker in Python with boto3", Function { program: python.clone(), args, env }));
        }
        let mut cold: Vec<Vec<f64>> = vec![Vec::new(); functions.len()];
        let mut warm: Vec<Vec<f64>> = vec![Vec::new(); functions.len()];
        let (mut cold_serve, mut warm_serve, mut cold_extism) = (Vec::new(), Vec::new(), Vec::new());
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        let artifact = self.folder.path().join("proxy.cwasm");
        self.runtime.block_on(async {
            if let Some(wasmtime) = &self.all.wasmtime {
                Serve::compile(wasmtime, &self.all.proxy, &artifact).await?;
            }
            // The first round brings the files into the page cache.
            for round in 0..=STARTS {
                for (i, (_, function)) in functions.iter().enumerate() {
                    let (mut running, took) = Running::start(function, &[&self.noop], &event).await?;
                    if round > 0 {
                        cold[i].push(ms(took));
                        for _ in 0..INVOKES / STARTS {
                            warm[i].push(ms(running.invoke(&event).await?));
                        }
                    }
                    running.end().await?;
                }
                if let Some(wasmtime) = &self.all.wasmtime {
                    let (mut serve, took) = Serve::start(wasmtime, &artifact).await?;
                    if round > 0 {
                        cold_serve.push(ms(took));
                        for _ in 0..INVOKES / STARTS {
                            warm_serve.push(ms(serve.request().await?));
                        }
                    }
                    serve.end().await?;
                }
                if let Some(program) = &self.all.extism {
                    let (extism, took) = Extism::start(program, &self.all.plugin).await?;
                    if round > 0 {
                        cold_extism.push(ms(took));
                    }
                    extism.end().await?;
                }
            }
            anyhow::Ok(())
        })?;
        let cold: Vec<_> = cold.into_iter().map(Samples::new).collect();
        let warm: Vec<_> = warm.into_iter().map(Samples::new).collect();
        let (hello, ours) = (cold[0].median(), cold[1].median());
        let row = |name: &str, cold: &Samples, warm: &Samples| {
            vec![name.to_owned(), cold.show(), digits(cold.median() / hello), warm.show()]
        };
        let mut rows: Vec<_> = functions
            .iter()
            .zip(cold.iter().zip(&warm))
            .map(|((name, _), (cold, warm))| row(name, cold, warm))
            .collect();
        let mut bars: Vec<_> = functions
            .iter()
            .zip(&cold)
            .map(|((name, _), cold)| ((*name).to_owned(), cold.median()))
            .collect();
        let absent =
            |name: &str, key: &str| vec![name.to_owned(), self.missing(key), String::new(), String::new()];
        if self.all.python.is_none() {
            rows.push(absent("a worker in Python with boto3", "python"));
        }
        if self.all.wasmtime.is_some() {
            let (cold, warm) = (Samples::new(cold_serve), Samples::new(warm_serve));
            rows.push(row("wasmtime serve, compiled before", &cold, &warm));
            bars.push(("wasmtime serve".to_owned(), cold.median()));
        } else {
            rows.push(absent("wasmtime serve", "wasmtime"));
        }
        if self.all.extism.is_some() {
            let cold = Samples::new(cold_extism);
            rows.push(vec![
                "Extism, which compiles its plug-in".to_owned(),
                cold.show(),
                digits(cold.median() / hello),
                "see above: it has no server".to_owned(),
            ]);
            bars.push(("Extism, which compiles its plug-in".to_owned(), cold.median()));
        } else {
            rows.push(absent("Extism", "extism"));
        }
        let table = Table {
            title: "Start, and an invoke",
            about: format!(
                "- *Cold*: from the start of a process to its first outcome, in milliseconds: the median of {STARTS} processes each, in turns. All files are in the page cache.\n\
                 - *Warm*: the same invoke again, in a process that waits for it. For `wasmtime serve` it is a request on an open connection: one exchange over HTTP instead of two.\n\
                 - The functions ask a runtime API on loopback for their work, as on Lambda. wasq's worker reads the live record from a bucket on loopback; its artifact is on its disk.\n\
                 - It is a direct invoke. For a batch, the worker would make its SQS client after the first run.\n\
                 - The table of runs is on loopback and takes every write at once. On AWS, a run waits some milliseconds for its claim, and some for its commit.\n\
                 - On Lambda, the environment of a function adds milliseconds, the same for all rows."
            ),
            columns: vec!["what", "cold, ms", "x empty", "warm, ms"],
            rows,
            plot: Some(Plot { name: "cold", title: "Process start to first outcome", unit: "ms", bars }),
        };
        let target = Target {
            what: "cold: worker process start to first outcome",
            measured: format!(
                "{} ms, {} x an empty function ({} ms)",
                digits(ours),
                digits(ours / hello),
                digits(hello)
            ),
            wanted: "<= 2 x",
            met: Some(ours / hello <= 2.0),
        };
        Ok((vec![target], vec![table]))
    }

    fn loading(&self) -> Result<Rows> {
        let mut tasks = vec![("no-op in Rust".to_owned(), self.noop.clone())];
        for (language, component) in &self.all.task {
            let compiled = Compiled::new("task", component, self.folder.path())?;
            tasks.push((format!("github_repositories in {language}"), compiled));
        }
        let mut figures: Vec<(Vec<f64>, Vec<f64>)> = vec![Default::default(); tasks.len()];
        for _ in 0..STARTS {
            for ((_, compiled), (check, load)) in tasks.iter().zip(&mut figures) {
                let path = compiled.code.path.to_str().context("a temporary file has a plain name")?;
                let Loaded { check_ms, load_ms } = ask(&["first-load", path])?;
                check.push(check_ms);
                load.push(load_ms);
            }
        }
        let figures: Vec<_> =
            figures.into_iter().map(|(check, load)| (Samples::new(check), Samples::new(load))).collect();
        let smallest = figures[0].1.median();
        let rows = tasks.iter().zip(&figures).map(|((name, compiled), (check, load))| {
            let megabytes = compiled.code.artifact.bytes as f64 / 1e6;
            vec![name.clone(), digits(megabytes), load.show(), digits(load.median() - smallest), check.show()]
        });
        let table = Table {
            title: "Loading",
            about: "The time that a process needs to make a compiled component ready for the first time. The file is on its disk and in the page cache.\n\
                    \n\
                    - *Load*: the process maps the artifact and links it.\n\
                    - *Check*: before that, the process compares the artifact's digest with the live record's. It does this once, and only for an artifact that an earlier process fetched. It checks its own downloads while they arrive."
                .to_owned(),
            columns: vec!["component", "MB", "load, ms", "more than the smallest", "check, ms"],
            rows: rows.collect(),
            plot: None,
        };
        let largest = tasks
            .iter()
            .zip(&figures)
            .filter(|((_, compiled), _)| compiled.code.artifact.bytes >= 10_000_000);
        let most = largest
            .map(|((_, compiled), (_, load))| (load.median() - smallest, compiled.code.artifact.bytes));
        let most = most.max_by(|one, other| one.0.total_cmp(&other.0));
        let target = Target {
            what: "loading a compiled component of 10-40 MB",
            measured: match most {
                Some((more, bytes)) => {
                    format!("{} ms more than the smallest ({} MB)", digits(more), digits(bytes as f64 / 1e6))
                }
                None => self.missing("tasks"),
            },
            wanted: "<= 20 ms more",
            met: most.map(|(more, _)| more <= 20.0),
        };
        Ok((vec![target], vec![table]))
    }

    fn memory(&self) -> Result<Rows> {
        let verbs = Compiled::new("verbs", &self.all.verbs, self.folder.path())?;
        let path = |compiled: &Compiled| compiled.code.path.display().to_string();
        let mut rows = Vec::new();
        let mut each = f64::NAN;
        for runs in [10u64, 100, 1000] {
            let Sleepers { before_kb, asleep_kb, peak_kb, threads } =
                ask(&["sleepers", &path(&verbs), &runs.to_string()])?;
            each = (asleep_kb.saturating_sub(before_kb)) as f64 / runs as f64;
            let megabytes = |kib: u64| digits(kib as f64 * 1024.0 / 1e6);
            rows.push(vec![
                digits(runs as f64),
                megabytes(before_kb),
                megabytes(asleep_kb),
                megabytes(peak_kb),
                digits(each),
                threads.to_string(),
            ]);
        }
        let sleeping = Table {
            title: "Many runs at once",
            about: "Many sleeping runs at once in one worker. The columns show the process's memory (RSS): *before* is after one run, *asleep* is with all runs asleep, *peak* is the maximum. The memory of a run includes the pages that the component itself has touched."
                .to_owned(),
            columns: vec!["runs", "before, MB", "asleep, MB", "peak, MB", "KiB for each run", "threads"],
            rows,
            plot: None,
        };
        const RUNS: u64 = 1_000_000;
        let held: Vec<Held> = ask(&["many", &path(&self.noop), &RUNS.to_string()])?;
        let rows = held
            .iter()
            .map(|Held { runs, kb }| vec![digits(*runs as f64), digits(*kb as f64 * 1024.0 / 1e6)]);
        let million = Table {
            title: "A million runs",
            about: "The memory of one worker (RSS) during a million runs on all cores, in batches of ten."
                .to_owned(),
            columns: vec!["runs", "MB"],
            rows: rows.collect(),
            plot: None,
        };
        let (first, last) = (held.first().context("no runs")?.kb, held.last().context("no runs")?.kb);
        let targets = vec![
            Target {
                what: "memory of each further concurrent run",
                measured: format!("{} KiB, with what the component touched", digits(each)),
                wanted: "<= 256 KiB above that",
                met: Some(each <= 256.0),
            },
            Target {
                what: "a million runs: growth of memory after the first tenth",
                measured: format!("{} KiB", digits(last as f64 - first as f64)),
                // The memory that the allocator keeps varies by some pages.
                wanted: "<= 1 MiB",
                met: Some(last <= first + 1024),
            },
        ];
        Ok((targets, vec![sleeping, million]))
    }

    fn publishing(&self) -> Result<Rows> {
        let (_, rust) = self
            .all
            .task
            .iter()
            .find(|(language, _)| language == "Rust")
            .context("--task Rust=COMPONENT is missing")?;
        let component = std::fs::read(rust).with_context(|| format!("read {}", rust.display()))?;
        let place = self.folder.path().join("publish");
        let tasks = place.join("tasks");
        std::fs::create_dir_all(&tasks)?;
        let mut dev = std::process::Command::new(&self.all.wasq)
            .args(["dev", "--listen", "127.0.0.1:0", "--log", "error", "--tasks"])
            .arg(&tasks)
            .arg("--data")
            .arg(place.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .with_context(|| format!("start {}", self.all.wasq.display()))?;
        let measured = (0..5)
            .map(|i| {
                // Another module each time, so that nothing of it was compiled before.
                let mut module = component.clone();
                module.extend([0, 3, 1, b'x', i]);
                let started = Instant::now();
                std::fs::write(tasks.join(format!("task{i}.wasm")), module)?;
                let live = place.join(format!("data/registry/live/task{i}.json"));
                while !live.exists() {
                    ensure!(started.elapsed() < Duration::from_secs(60), "task{i} does not go live");
                    std::thread::sleep(Duration::from_millis(5));
                }
                Ok(started.elapsed().as_secs_f64())
            })
            .collect::<Result<Vec<_>>>();
        dev.kill().context("end wasq dev")?;
        dev.wait()?;
        let seconds = Samples::new(measured?);
        let target = Target {
            what: "upload of a Rust task until it is live (`wasq dev`)",
            measured: format!("{} s", seconds.show()),
            wanted: "<= 3 s",
            met: Some(seconds.median() <= 3.0),
        };
        Ok((vec![target], Vec::new()))
    }

    fn queues(&self) -> Result<Rows> {
        #[derive(Deserialize)]
        struct Way {
            alone_ms: Vec<f64>,
            per_second: Vec<f64>,
        }
        #[derive(Deserialize)]
        struct Ways {
            wasq: Way,
            celery: Way,
        }
        let mut rows = Vec::new();
        if let Some(python) = &self.all.python {
            let folder = self.folder.path().join("queues");
            std::fs::create_dir_all(&folder)?;
            let output = std::process::Command::new(python)
                .arg(self.all.python_sources.join("queues.py"))
                .arg(&self.all.wasq)
                .arg(&self.all.verbs)
                .arg(&folder)
                .stderr(Stdio::inherit())
                .output()?;
            ensure!(output.status.success(), "queues.py: {}", output.status);
            let Ways { wasq, celery } = serde_json::from_slice(&output.stdout).context("read queues.py")?;
            for (name, Way { alone_ms, per_second }) in [("wasq dev", wasq), ("Celery on Redis", celery)] {
                rows.push(vec![
                    name.to_owned(),
                    Samples::new(alone_ms).show(),
                    Samples::new(per_second).show(),
                ]);
            }
        } else {
            rows.push(vec!["Celery on Redis".to_owned(), self.missing("python"), String::new()]);
        }
        let table = Table {
            title: "From a message to the end of its task",
            about: "Everything is on one machine. One Python client sends the messages. Each task makes one HTTP request on loopback.\n\
                    \n\
                    - *Alone*: one message after the other. The time in milliseconds is from the call that sends to the arrival of the request.\n\
                    - *At once*: 2,000 messages. The rate is in tasks per second and includes the sending.\n\
                    - wasq: the client is boto3; it sends ten messages in a call if there are many. `wasq dev` has a message on its disk before it answers, runs each task in its own sandbox, and deletes the message after the run.\n\
                    - Celery: its own client sends each message by itself. Celery runs with late acknowledgement, one process for each core, and a Redis that writes nothing to disk."
                .to_owned(),
            columns: vec!["queue", "alone, ms", "at once, tasks/s"],
            rows,
            plot: None,
        };
        let mut targets = Vec::new();
        #[derive(Deserialize)]
        struct Drain {
            plain: f64,
            several: f64,
            consumer: f64,
        }
        let drain = match &self.all.drain {
            Some(file) => {
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
                Some(serde_json::from_str::<Drain>(&text).context("read what the drain measured")?)
            }
            None => None,
        };
        targets.push(Target {
            what: "the consumer compared with a plain receive-delete loop",
            measured: match &drain {
                Some(Drain { plain, several, consumer }) => format!(
                    "{:.0} % ({} and {} messages/s), with several receivers; {:.0} % of eight such loops at once",
                    consumer / plain * 100.0,
                    digits(*consumer),
                    digits(*plain),
                    consumer / several * 100.0
                ),
                None => self.missing("drain"),
            },
            wanted: ">= 90 %",
            met: drain.map(|Drain { plain, consumer, .. }| consumer / plain >= 0.9),
        });
        Ok((targets, vec![table]))
    }

    fn sizes(&self) -> Result<Rows> {
        let megabytes = self.all.zip_bytes as f64 / 1e6;
        let target = Target {
            what: "the worker's zip",
            measured: format!("{} MB ({})", digits(megabytes), std::env::consts::ARCH),
            wanted: "<= 6 MB",
            met: Some(self.all.zip_bytes <= 6_000_000),
        };
        Ok((vec![target], Vec::new()))
    }
}
