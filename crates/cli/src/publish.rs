//! `wasq push`, `rollback` and `rm`: change the tasks bucket, and wait for the publisher's result.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tokio::time::Instant;
use wasq_local::Listed;
use wasq_protocol::{Digest, LiveRecord, Rejection, Settings, TaskName, Version, parse_duration};
use wasq_toolkit::{Contract, Project};

use crate::build;
use crate::component::Component;
use crate::output::{self, Ended, Progress, tell};
use crate::registry::Registry;
use crate::target::TargetArgs;

/// Whether a command waits for the publisher.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until the publisher has processed the change
    #[arg(long)]
    pub(crate) wait: bool,
    /// How long to wait at most
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = parse_duration, requires = "wait")]
    pub(crate) timeout: Duration,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Push {
    /// A project's folder, or a component
    #[arg(value_name = "DIR|FILE.wasm")]
    pub(crate) path: PathBuf,
    /// The task's name; without this, the project's or the file's
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<TaskName>,
    /// The task's settings; without this, the project's own, or FILE.toml beside FILE.wasm if it is there
    #[arg(long, value_name = "FILE.toml")]
    pub(crate) settings: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The task
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    /// The version's number, as `wasq tasks TASK` lists it; without this, the previous version
    #[arg(value_name = "VERSION", value_parser = version)]
    pub(crate) version: Option<u64>,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Rm {
    /// The task
    #[arg(value_name = "TASK")]
    pub(crate) task: TaskName,
    #[command(flatten)]
    pub(crate) waiting: Waiting,
    #[command(flatten)]
    pub(crate) target: TargetArgs,
}

fn version(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| "expected a number such as 3; `wasq tasks TASK` lists the versions".to_owned())
}

/// The interval between two looks at the state of a task.
const LOOK: Duration = Duration::from_millis(100);

pub(crate) async fn push(args: Push, json: bool) -> Result<Ended> {
    let Push { path, name, settings, waiting, target } = args;
    let (file, settings) = if path.is_dir() {
        let built = build::make(&Project::open(&path)?)?;
        (built.component, settings.or(built.settings))
    } else {
        (path, settings)
    };
    let component = Component::read(&file, settings.as_deref())?;
    let task = name.unwrap_or_else(|| component.task.clone());
    // If the publisher would refuse the component, refuse it here, before anything is uploaded.
    let contract = Contract::of(&component.wasm).with_context(|| file.display().to_string())?;
    if !contract.problems.is_empty() {
        bail!("{} does not fit: {}", file.display(), contract.problems.join("; "));
    }
    let registry = Registry::of(&target.target().await?)?;
    registry.warn_if_not_published();
    let upload = Upload {
        task,
        module: component.wasm,
        settings: component.settings_file.then_some((component.settings_text, component.settings)),
    };
    upload.make(&registry, waiting, json).await
}

pub(crate) async fn rollback(args: Rollback, json: bool) -> Result<Ended> {
    let Rollback { task, version, waiting, target } = args;
    let registry = Registry::of(&target.target().await?)?;
    let listed = registry.task(&task).await?;
    let record = listed.record().with_context(|| format!("no task named {task} was ever live"))?;
    let Version { version, digest, settings, published, .. } = chosen(record, version)?.clone();
    ensure!(
        record.removed.is_some() || version != record.version.version,
        "version {version} of {task} is live already"
    );
    registry.warn_if_not_published();
    tell!("wasq: version {version} of {task} comes back ({}, of {published})", digest.short());
    let module = registry.module(&digest).await?;
    ensure!(Digest::of(&module) == digest, "the registry's copy of {digest} is damaged");
    let upload = Upload { task, module, settings: Some((settings.to_toml(), settings)) };
    upload.make(&registry, waiting, json).await
}

/// The version to bring back: the given one, or else the previous one. For a removed task, it is the last
/// one.
fn chosen(record: &LiveRecord, version: Option<u64>) -> Result<&Version> {
    let all = || std::iter::once(&record.version).chain(&record.history);
    let known = || all().map(|version| version.version.to_string()).collect::<Vec<_>>().join(", ");
    match version {
        Some(wanted) => all()
            .find(|version| version.version == wanted)
            .with_context(|| format!("{} has no version {wanted}; there are {}", record.task, known())),
        None if record.removed.is_some() => Ok(&record.version),
        None => record
            .history
            .first()
            .with_context(|| format!("{} has only one version, {}", record.task, record.version.version)),
    }
}

pub(crate) async fn rm(args: Rm, json: bool) -> Result<Ended> {
    let Rm { task, waiting, target } = args;
    let registry = Registry::of(&target.target().await?)?;
    let (module, settings) = (format!("{task}.wasm"), format!("{task}.toml"));
    let listed = registry.task(&task).await?;
    ensure!(
        listed.live.is_some()
            || listed.rejected.is_some()
            || registry.uploaded(&module).await?.is_some()
            || registry.uploaded(&settings).await?.is_some(),
        "no task named {task} is live"
    );
    registry.warn_if_not_published();
    let started = Instant::now();
    // Withdraw the module first: settings alone have no effect.
    registry.withdraw(&module).await?;
    registry.withdraw(&settings).await?;
    if waiting.wait {
        let _progress = Progress::start(format!("waiting until {task} is removed"));
        let gone = |listed: Listed| (listed.live.is_none() && listed.rejected.is_none()).then_some(());
        wait(&registry, &task, &waiting, started, gone).await?;
    }
    let version = listed.live.map(|record| record.version.version);
    if json {
        output::value(&json!({ "task": task, "removed": version, "waited": waiting.wait }));
        return Ok(Ended::Well);
    }
    output::text(&match waiting.wait {
        true => format!("{task} is removed: nothing runs under its name any more\n"),
        false => format!("{task} is withdrawn; `wasq tasks {task}` says when it is removed\n"),
    });
    if version.is_some() {
        tell!("wasq: `wasq rollback {task}` brings it back");
    }
    Ok(Ended::Well)
}

/// A module and its settings, on their way into the tasks bucket.
struct Upload {
    task: TaskName,
    module: Vec<u8>,
    /// The settings as text and parsed. If there are none, the settings of the last upload stay.
    settings: Option<(String, Settings)>,
}

/// The result of an upload.
enum Came {
    /// It is live as this version.
    Live(Box<Version>),
    Refused(Rejection),
}

impl Upload {
    async fn make(self, registry: &Registry, waiting: Waiting, json: bool) -> Result<Ended> {
        let Self { task, module, settings } = self;
        let (started, digest) = (Instant::now(), Digest::of(&module));
        let before = registry.task(&task).await?;
        let key = format!("{task}.toml");
        let uploaded = registry.uploaded(&key).await?;
        let (text, settings) = match settings {
            Some((text, settings)) => (Some(text.into_bytes()), settings),
            None => (None, settings_of(uploaded.as_deref(), &key)?),
        };
        let settings_digest = text.as_deref().map(Digest::of);
        // Settings first, so that the module never runs without them; and only if they change something.
        if let Some(text) = text.filter(|text| uploaded.as_ref() != Some(text)) {
            registry.upload(&key, text).await?;
        }
        let bytes = module.len();
        registry.upload(&format!("{task}.wasm"), module).await?;
        if !waiting.wait {
            if json {
                output::value(&json!({ "task": task, "digest": digest }));
            } else {
                output::text(&format!(
                    "{task} is uploaded, {bytes} bytes; `wasq tasks {task}` says when it is live\n"
                ));
            }
            return Ok(Ended::Well);
        }
        let _progress = Progress::start(format!("waiting until {task} is live"));
        let wanted = Wanted { digest, settings, settings_digest };
        let came = wait(registry, &task, &waiting, started, |listed| wanted.came(listed, &before)).await?;
        let ms = started.elapsed().as_millis();
        match came {
            Came::Live(version) if json => {
                output::value(&json!({ "task": task, "live": version, "duration_ms": ms }));
            }
            Came::Refused(rejection) if json => {
                output::value(&json!({ "task": task, "rejected": rejection, "duration_ms": ms }));
                return Ok(Ended::InPart);
            }
            Came::Live(version) => {
                output::text(&format!(
                    "{task} is live, version {}, after {:.1} s\n",
                    version.version,
                    ms as f64 / 1000.0
                ));
            }
            Came::Refused(rejection) => {
                let what = if rejection.fault { "not published yet, and tried again" } else { "refused" };
                tell!("wasq: {what}: {}", rejection.reason);
                return Ok(Ended::InPart);
            }
        }
        Ok(Ended::Well)
    }
}

/// The settings of the last upload, which stay.
fn settings_of(uploaded: Option<&[u8]>, key: &str) -> Result<Settings> {
    let Some(bytes) = uploaded else { return Ok(Settings::default()) };
    let text = std::str::from_utf8(bytes).with_context(|| format!("read {key}"))?;
    Settings::from_toml(text).with_context(|| {
        format!("{key}, which was uploaded before, is wrong: give other settings by --settings")
    })
}

/// The module and the settings that an upload is to bring live.
struct Wanted {
    /// The module's.
    digest: Digest,
    settings: Settings,
    /// `None`: the settings are not a part of it, and others may change them meanwhile.
    settings_digest: Option<Digest>,
}

impl Wanted {
    /// The result of the upload according to the registry; `None` if there is none yet. `before`: its state before the upload.
    fn came(&self, now: Listed, before: &Listed) -> Option<Came> {
        if let Some(record) = now.live
            && record.version.digest == self.digest
            && record.version.settings == self.settings
        {
            return Some(Came::Live(Box::new(record.version)));
        }
        // The same upload may have been refused before.
        let rejected = now.rejected.filter(|rejection| before.rejected.as_ref() != Some(rejection))?;
        self.is_refused_by(&rejected).then_some(Came::Refused(rejected))
    }

    /// Whether a rejection is that of this upload, not of an earlier one that the publisher finished late. It has no digest of what
    /// could not be read.
    fn is_refused_by(&self, rejection: &Rejection) -> bool {
        let is_same = |found: Option<Digest>, own| found.is_none_or(|found| found == own);
        is_same(rejection.digest, self.digest)
            && self.settings_digest.is_none_or(|own| is_same(rejection.settings_digest, own))
    }
}

/// Looks at a task until there is an answer.
async fn wait<T>(
    registry: &Registry,
    task: &TaskName,
    waiting: &Waiting,
    started: Instant,
    answer: impl Fn(Listed) -> Option<T>,
) -> Result<T> {
    loop {
        if let Some(answer) = answer(registry.task(task).await?) {
            return Ok(answer);
        }
        if !registry.is_published() {
            bail!("`wasq dev` does not run: it makes this change when it is started again");
        }
        if started.elapsed() > waiting.timeout {
            bail!(
                "not done after {} s; `wasq tasks {task}` shows when it is done, and `wasq logs` shows what is wrong",
                waiting.timeout.as_secs()
            );
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_an_earlier_upload_is_not_the_answer_to_this_one() {
        let (module, settings) = (Digest::of(b"module"), Digest::of(b"settings"));
        let rejection = |digest, settings_digest| Rejection {
            task: "hello".parse().expect("a name"),
            digest,
            settings_digest,
            reason: String::new(),
            at: wasq_protocol::Timestamp::from_ms(0),
            fault: false,
        };
        let wanted =
            Wanted { digest: module, settings: Settings::default(), settings_digest: Some(settings) };
        assert!(wanted.is_refused_by(&rejection(Some(module), Some(settings))));
        assert!(!wanted.is_refused_by(&rejection(Some(module), Some(Digest::of(b"earlier settings")))));
        assert!(!wanted.is_refused_by(&rejection(Some(Digest::of(b"an earlier module")), Some(settings))));
        // A module that could not be read, and a publisher that does not say the settings.
        assert!(wanted.is_refused_by(&rejection(None, None)));
        assert!(wanted.is_refused_by(&rejection(Some(module), None)));
        // The settings that are there already are not part of it.
        let wanted = Wanted { settings_digest: None, ..wanted };
        assert!(
            wanted.is_refused_by(&rejection(Some(module), Some(Digest::of(b"settings of another push"))))
        );
    }
}
