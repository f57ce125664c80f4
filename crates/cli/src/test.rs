//! `wasq test`: a task's tests, as a table.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};
use serde::Serialize;
use wasq_protocol::{Outcome, TaskName};
use wasq_toolkit::{Cases, Project, Subject, Verdict, initial_memory};

use crate::build;
use crate::component::Component;
use crate::output::{self, Ended};

#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// A project's folder, or a component
    #[arg(default_value = ".", value_name = "DIR|FILE.wasm")]
    pub(crate) path: PathBuf,
    /// The tests; without this, tests.toml in the project, or beside the component
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) cases: Option<PathBuf>,
    /// The task's settings; without this, the project's own, or FILE.toml beside FILE.wasm
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
}

/// The component to test, its settings and the test cases.
struct Tested {
    component: PathBuf,
    settings: Option<PathBuf>,
    cases: Cases,
}

pub(crate) async fn test(args: Test, json: bool) -> Result<Ended> {
    let Tested { component, settings, cases } = tested(args)?;
    let component = Component::read(&component, settings.as_deref())?;
    let (task, settings) = (component.task.clone(), component.settings_text.clone());
    let initial_memory = initial_memory(&component.wasm).unwrap_or_default();
    let params = component.params_schema()?;
    let (engine, module) = component.load(Vec::new()).await?;
    let subject = Subject { engine, module, task, settings, initial_memory, params };
    let (mut made, mut failed): (Vec<Tried<'_>>, usize) = (Vec::new(), 0);
    for case in &cases.cases {
        let started = Instant::now();
        let verdict = case.run(&subject).await?;
        let took = started.elapsed();
        failed += usize::from(!verdict.problems.is_empty());
        if json {
            made.push(Tried {
                name: &case.name,
                passed: verdict.problems.is_empty(),
                problems: verdict.problems,
                outcome: verdict.report.outcome,
                duration_ms: verdict.report.duration.as_secs_f64() * 1000.0,
                peak_memory_bytes: verdict.report.peak_memory,
            });
        } else {
            print(&case.name, &verdict, took.as_secs_f64() * 1000.0);
        }
    }
    let (task, count) = (subject.task, cases.cases.len());
    if json {
        output::value(&Shown { task, count, failed, cases: made });
    } else {
        output::text(&format!("{count} tests of {task}, {failed} failed\n"));
    }
    Ok(if failed == 0 { Ended::Well } else { Ended::InPart })
}

/// The end of all tests, as `--json` shows it. Typed all the way: a result that is valid JSON need not fit into a
/// `serde_json::Value`.
#[derive(Serialize)]
struct Shown<'a> {
    task: TaskName,
    count: usize,
    failed: usize,
    cases: Vec<Tried<'a>>,
}

#[derive(Serialize)]
struct Tried<'a> {
    name: &'a str,
    passed: bool,
    problems: Vec<String>,
    outcome: Outcome,
    duration_ms: f64,
    peak_memory_bytes: u64,
}

fn tested(args: Test) -> Result<Tested> {
    let Test { path, cases, settings } = args;
    if path.is_dir() {
        let project = Project::open(&path)?;
        let cases = cases.unwrap_or_else(|| project.cases());
        let cases = read(&cases)?;
        let built = build::make(&project)?;
        return Ok(Tested { component: built.component, settings, cases });
    }
    if !path.exists() {
        bail!("{} is not there; give a project's folder, or a component", path.display());
    }
    let cases = cases.unwrap_or_else(|| path.with_file_name("tests.toml"));
    Ok(Tested { component: path, settings, cases: read(&cases)? })
}

fn read(cases: &Path) -> Result<Cases> {
    if !cases.exists() {
        bail!(
            "no tests: {} is not there; write it (`wasq new` makes an example), or name another file by --cases",
            cases.display()
        );
    }
    Cases::read(cases)
}

fn print(name: &str, verdict: &Verdict, ms: f64) {
    let Verdict { problems, report } = verdict;
    let memory = output::size(report.peak_memory);
    if problems.is_empty() {
        return output::text(&format!("ok    {name}  ({ms:.1} ms, {memory})\n"));
    }
    let mut text = format!("FAIL  {name}\n");
    for problem in problems {
        text += &format!("      {}\n", problem.replace('\n', "\n      "));
    }
    for line in &report.log {
        text += &format!("      log: {}\n", line.text.replace('\n', "\n           "));
    }
    output::text(&text);
}
