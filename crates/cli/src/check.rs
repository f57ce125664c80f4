//! `wasq check`: describes a component, and says whether it can be published.

use std::path::PathBuf;

use anyhow::Result;
use serde_json::json;
use wasq_toolkit::{Checked, Import};

use crate::component::{Component, engine};
use crate::output::{self, Ended, Progress};

#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    /// A project's folder, which is built first, or a component
    #[arg(value_name = "DIR|FILE.wasm")]
    pub(crate) path: PathBuf,
    /// The task's settings; without this, the project's own, or FILE.toml beside FILE.wasm if it is there
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
}

pub(crate) async fn check(args: Check, json: bool) -> Result<Ended> {
    let Check { path, settings } = args;
    let component = Component::open(&path, settings.as_deref())?;
    let engine = engine(Vec::new())?;
    let compiling = Progress::start(format!("compiling {}", path.display()));
    let checked = tokio::task::spawn_blocking(move || {
        wasq_toolkit::check(&engine, &component.wasm, &component.settings)
    })
    .await?;
    drop(compiling);
    let checked = checked?;
    if json {
        output::value(&as_json(&checked));
    } else {
        output::text(&as_text(&checked));
    }
    Ok(if checked.problems.is_empty() { Ended::Well } else { Ended::InPart })
}

fn as_json(checked: &Checked) -> serde_json::Value {
    let Checked { problems, made_with, imports, bytes, initial_memory, compiled } = checked;
    let imports: Vec<_> = imports
        .iter()
        .map(|Import { name, limits, denied }| json!({ "name": name, "limits": limits, "denied": denied }))
        .collect();
    json!({
        "fits": problems.is_empty(),
        "problems": problems,
        "made_with": made_with,
        "imports": imports,
        "bytes": bytes,
        "initial_memory_bytes": initial_memory,
        "compiled_bytes": compiled.map(|(bytes, _)| bytes),
        "compile_ms": compiled.map(|(_, took)| took.as_secs_f64() * 1000.0),
    })
}

fn as_text(checked: &Checked) -> String {
    let Checked { problems, made_with, imports, bytes, initial_memory, compiled } = checked;
    let mut text = match problems.as_slice() {
        [] => "fits       the world wasq:task/task; it can be published\n".to_owned(),
        problems => problems.iter().map(|problem| format!("PROBLEM    {problem}\n")).collect(),
    };
    let made_with = if made_with.is_empty() { "(it does not say)".to_owned() } else { made_with.join(", ") };
    text += &format!("made with  {made_with}\n");
    text += &format!("size       {}\n", output::size(*bytes));
    if let Some((bytes, took)) = compiled {
        text += &format!("compiled   {} in {:.1} s\n", output::size(*bytes), took.as_secs_f64());
    }
    text += &format!("memory     {} at its start\n", output::size(*initial_memory));
    for (i, Import { name, limits, denied }) in imports.iter().enumerate() {
        let heading = if i == 0 { "imports  " } else { "         " };
        let limits = match (limits, denied) {
            (Some(why), true) => format!("  denied: {why}"),
            (Some(limits), false) => format!("  ({limits})"),
            (None, _) => String::new(),
        };
        text += &format!("{heading}  {name}{limits}\n");
    }
    text
}
