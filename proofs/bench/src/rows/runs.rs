//! Rows of warm runs: their times and their instructions.

use anyhow::Result;

use super::{Bench, Rows};
use crate::child::{ask, instructions};
use crate::peers::Extism;
use crate::plot::Plot;
use crate::report::{Table, Target};
use crate::samples::{Samples, digits};
use crate::warm::{Noops, Runs, Throughput, Warm, cores};

impl Bench<'_> {
    pub(super) fn warm_runs(&self) -> Result<Rows> {
        let Noops { bare, interruptible, wasq } = &self.noops;
        let [bare, interruptible, wasq] = [bare, interruptible, wasq].map(|path| path.display().to_string());
        let rounds = self.all.rounds.to_string();
        let args = ["runs", &bare, &interruptible, &wasq, &rounds];
        // Each in a process of its own, because no process can have both kernels.
        let here: Runs = ask(&args)?;
        let older: Runs = ask(&[&args[..], &["--older-kernel"]].concat())?;
        let extism = match &self.all.extism {
            None => None,
            Some(program) => Some(self.runtime.block_on(async {
                let (mut extism, _) = Extism::start(program, &self.all.plugin).await?;
                let (mut fresh, mut again) = (Vec::new(), Vec::new());
                for _ in 0..self.all.rounds {
                    let (of_fresh, of_again) = extism.round().await?;
                    fresh.push(of_fresh);
                    again.push(of_again);
                }
                extism.end().await?;
                anyhow::Ok((Samples::new(fresh), Samples::new(again)))
            })?),
        };
        let floor = here.warm.bare.median();
        let row = |way: &str, isolated: &str, of: fn(&Warm) -> &Samples| {
            let (figures, on_older) = (of(&here.warm), of(&older.warm));
            vec![
                way.to_owned(),
                isolated.to_owned(),
                figures.show(),
                digits(figures.median() / floor),
                on_older.show(),
                digits(on_older.median() / older.warm.bare.median()),
            ]
        };
        let mut rows = vec![
            row("wasmtime by itself", "yes", |warm| &warm.bare),
            row("wasmtime by itself, interruptible", "yes", |warm| &warm.interruptible),
            row("wasq's engine", "yes", |warm| &warm.engine),
            row("wasq's worker, from payload to answer", "yes", |warm| &warm.worker),
            row("wasmtime by itself, sandbox reused", "no", |warm| &warm.reused),
        ];
        let mut bars = vec![
            ("wasmtime by itself".to_owned(), floor),
            ("wasmtime by itself, interruptible".to_owned(), here.warm.interruptible.median()),
            ("wasq's engine".to_owned(), here.warm.engine.median()),
            ("wasq's worker".to_owned(), here.warm.worker.median()),
        ];
        match &extism {
            Some((fresh, again)) => {
                let row = |way: &str, isolated: &str, figures: &Samples| {
                    let by_floor = digits(figures.median() / floor);
                    let not_measured = || "-".to_owned();
                    vec![
                        way.to_owned(),
                        isolated.to_owned(),
                        figures.show(),
                        by_floor,
                        not_measured(),
                        not_measured(),
                    ]
                };
                rows.push(row("Extism, a new instance", "yes", fresh));
                rows.push(row("Extism, instance reused", "no", again));
                bars.push(("Extism, a new instance".to_owned(), fresh.median()));
            }
            None => {
                let mut row = vec![String::new(); 6];
                (row[0], row[2]) = ("Extism".to_owned(), self.missing("extism"));
                rows.push(row);
            }
        }
        let warm_table = Table {
            title: "A warm run",
            about: format!(
                "A no-op in Rust that reads its params as JSON and returns null. The process has it loaded. The times are in microseconds: the median of {} rounds of 500 runs each, and in brackets the range of the middle eight of ten rounds.\n\
                 \n\
                 - *Isolated*: yes, if a run finds nothing that an earlier run left behind.\n\
                 - *Interruptible*: wasmtime with epochs and asynchronous calls. Without them, nothing could end a task that never ends.\n\
                 - wasq's rows include its limits, its log, its policy and its timeout.\n\
                 - The worker's row also includes the invoke's JSON, the live record, slots, memory and the record of the run.\n\
                 - Extism compiles to another ABI with its own wasmtime. It is a process of its own, measured after the others.\n\
                 - *Older kernel*: before Linux 6.7, a kernel cannot say which pages were written. Here, this kernel refuses that information to the measured process.",
                self.all.rounds
            ),
            columns: vec!["way", "isolated", "us", "x wasmtime", "older kernel, us", "x wasmtime there"],
            rows,
            plot: Some(Plot { name: "warm", title: "A warm run in a fresh sandbox", unit: "us", bars }),
        };
        let row = |way: &str, of: fn(&Throughput) -> (&Samples, Option<&Samples>)| {
            let mut row = vec![way.to_owned()];
            for runs in [&here, &older] {
                let (rate, part) = of(&runs.throughput);
                row.push(rate.show());
                row.push(part.map(Samples::show).unwrap_or_default());
            }
            row
        };
        let throughput_table = Table {
            title: "Runs in a second",
            about: format!(
                "The same no-op on all {} cores at once, a fresh sandbox for each run. The table of runs is in memory and takes no time: its row shows the worker's own work for a claim and a commit of each run.",
                cores()
            ),
            columns: vec!["way", "runs/s", "x wasmtime", "older kernel, runs/s", "x wasmtime there"],
            rows: vec![
                row("wasmtime by itself, a thread for each core", |rates| (&rates.bare, None)),
                row("wasq's engine", |rates| (&rates.engine, Some(&rates.engine_ratio))),
                row("wasq's worker, in batches of ten", |rates| (&rates.worker, Some(&rates.worker_ratio))),
                row("the same with a table of runs", |rates| {
                    (&rates.remembering, Some(&rates.remembering_ratio))
                }),
            ],
            plot: None,
        };
        let warm = |what: &'static str, of: fn(&Warm) -> &Samples| {
            let (ratio, on_older) = (of(&here.warm).median(), of(&older.warm).median());
            Target {
                what,
                measured: format!(
                    "{} x bare wasmtime, {} x on an older kernel",
                    digits(ratio),
                    digits(on_older)
                ),
                wanted: "<= 1.15 x",
                met: Some(ratio <= 1.15 && on_older <= 1.15),
            }
        };
        let throughput = |what: &'static str, of: fn(&Throughput) -> &Samples| {
            let (part, on_older) = (of(&here.throughput).median(), of(&older.throughput).median());
            Target {
                what,
                measured: format!(
                    "{:.0} % of the bare loop, {:.0} % on an older kernel",
                    part * 100.0,
                    on_older * 100.0
                ),
                wanted: ">= 85 %",
                met: Some(part >= 0.85 && on_older >= 0.85),
            }
        };
        let targets = vec![
            warm("warm run of a no-op, fresh sandbox: the engine", |warm| &warm.engine_ratio),
            warm("warm run: the worker, with the invoke's JSON and the record", |warm| &warm.worker_ratio),
            throughput("throughput on all cores, fresh sandbox each: the engine", |rates| {
                &rates.engine_ratio
            }),
            throughput("throughput on all cores: the worker, in batches", |rates| &rates.worker_ratio),
        ];
        Ok((targets, vec![warm_table, throughput_table]))
    }

    pub(super) fn instructions(&self) -> Result<Rows> {
        let about = "Instructions in user space for one run, counted by valgrind's cachegrind. The count \
                     is the same on a noisy machine, so it shows a regression. The kernel's part is not \
                     included. Valgrind does not know pagemap scan, so the memory is reset without it; \
                     this writes 64 KiB in all rows. All rows have one slot. The deliveries of a batch \
                     wait for it."
            .to_owned();
        let ways = [
            ("wasmtime by itself", "bare", &self.noops.bare),
            ("wasmtime by itself, interruptible", "interruptible", &self.noops.interruptible),
            ("wasq's engine", "engine", &self.noop.code.path),
            ("wasq's worker, from payload to answer", "worker", &self.noop.code.path),
            ("wasq's worker, in batches of ten", "batches", &self.noop.code.path),
            ("the same with a table of runs in memory", "remembering", &self.noop.code.path),
        ];
        let mut rows = Vec::new();
        let mut floor = None;
        for (name, way, artifact) in ways {
            match instructions(way, artifact) {
                Ok(count) => {
                    let floor = *floor.get_or_insert(count);
                    rows.push(vec![name.to_owned(), digits(count), digits(count - floor)]);
                }
                Err(e) => rows.push(vec![name.to_owned(), format!("not measured: {e:#}"), String::new()]),
            }
        }
        let columns = vec!["way", "instructions", "more than wasmtime"];
        Ok((Vec::new(), vec![Table { title: "Instructions of a run", about, columns, rows, plot: None }]))
    }
}
