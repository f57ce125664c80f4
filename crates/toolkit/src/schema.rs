//! The schema of a project, and what does not fit it.

use std::path::Path;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tokio::time::Instant;
use wasm_encoder::{ComponentSection, CustomSection};
use wasq_engine::{Engine, Limits, Pool, Run, RunContext, SecretValues, Steps};
use wasq_protocol::{Caps, Clock, Failure, FailureKind, Outcome, Settings, SystemClock, TaskName};
use wasq_schema::{BYTES_MAX, SECTION, Schema, Schemas};

/// The file of a project's folder that has its schema.
pub(crate) const FILE: &str = "schema.json";

/// The file of a project that has its schema, and its content. Without the file, the types of the task say the schema.
pub(crate) fn file(folder: &Path) -> Result<Option<String>> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(content) => Ok(Some(content)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e).with_context(|| format!("read {}", path.display())),
    }
}

/// Writes a schema into a component. The content is that of the file, or was made of the types of the task.
pub(crate) fn embed(content: &str, from: Source<'_>, component: &mut Vec<u8>) -> Result<()> {
    let named = |problem: String| match from {
        Source::File(folder) => anyhow!("{}: {problem}", folder.join(FILE).display()),
        Source::Types => anyhow!(
            "the schema that the types of the task say cannot be used: {problem}; take simpler types, or write the schema into a file \
             {FILE}"
        ),
    };
    // Without its blanks.
    let value: Value = serde_json::from_str(content).map_err(|e| named(e.to_string()))?;
    let schemas = Schemas::of(&value).map_err(named)?;
    if schemas.params.is_none() && schemas.result.is_none() {
        return Ok(());
    }
    let content = value.to_string();
    if content.len() > BYTES_MAX {
        return Err(named(format!("it has {} bytes; the most is {BYTES_MAX}", content.len())));
    }
    CustomSection { name: SECTION.into(), data: content.as_bytes().into() }.append_to_component(component);
    Ok(())
}

/// The source of a schema.
#[derive(Clone, Copy)]
pub(crate) enum Source<'a> {
    /// The file in this folder.
    File(&'a Path),
    Types,
}

/// Runs a component once, without params, and returns its result as it wrote it.
pub(crate) fn answer(task: &TaskName, component: Vec<u8>) -> Result<String> {
    let task = task.clone();
    // Its own thread, because the caller may be in a runtime.
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(answered(task, &component))
    });
    running.join().map_err(|_| anyhow!("the run panicked"))?
}

async fn answered(task: TaskName, component: &[u8]) -> Result<String> {
    let pool = Pool { concurrency: 1, memory: Caps::default().memory };
    let engine = Engine::new(pool, Limits::default()).map_err(|e| anyhow!("start the engine: {e:#}"))?;
    let artifact = engine.compile(component)?;
    // Safety: it was compiled here a moment ago.
    let module = unsafe { engine.load_bytes(&artifact) }?;
    let (settings, secrets) = (Settings::default(), SecretValues::default());
    let id = "schema".to_owned();
    let context = RunContext {
        task,
        attempt: 1,
        max_attempts: 1,
        deadline: SystemClock.now().plus(settings.timeout),
        parent: None,
        root: id.clone(),
        id,
        depth: 0,
        descendants: None,
        traceparent: None,
        trace_header: None,
    };
    let deadline = Instant::now() + settings.timeout;
    let (params, settings, secrets, steps) = ("null", &settings, &secrets, Steps::default());
    match engine
        .run(&module, Run { context, params, settings, secrets, steps, deadline, child_checks: None })
        .await
        .outcome
    {
        Outcome::Success { output } => Ok(output.get().to_owned()),
        Outcome::Failure(failure) => bail!("{failure}"),
    }
}

/// The failure of a message whose params do not fit.
pub fn bad_params(schema: Option<&Schema>, params: &str) -> Option<Failure> {
    let mismatch = schema?.check(params).err()?;
    Some(Failure::new(FailureKind::BadParams, format!("the params do not fit: {mismatch}")))
}
