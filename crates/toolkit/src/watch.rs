//! Builds projects, and builds them again whenever one of their files is saved.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::build::{Built, build, put};
use crate::project::Project;

/// Editors save a file in several steps. A project with no change for this long counts as saved.
const QUIET: Duration = Duration::from_millis(100);
/// Folders of a project that tools write to, in addition to folders that begin with a dot.
const OUTPUTS: [&str; 4] = ["build", "target", "venv", "zig-out"];
/// Folders that tools write to, at any depth of a project.
const OUTPUTS_WITHIN: [&str; 2] = ["node_modules", "__pycache__"];

/// Watched projects. Until this value is dropped, their components go into a folder.
pub struct Projects {
    projects: Vec<Project>,
    tasks: PathBuf,
    /// Folders that may lie in a project but contain no sources: the tasks folder and the data folder.
    outputs: Vec<PathBuf>,
    changed: mpsc::UnboundedReceiver<PathBuf>,
    watcher: RecommendedWatcher,
}

impl Projects {
    /// Watches projects. Their components go into the folder `tasks`. `tasks` and `data` contain no sources.
    pub fn watch(projects: Vec<Project>, tasks: PathBuf, data: &Path) -> Result<Self> {
        for (i, project) in projects.iter().enumerate() {
            if let Some(same) = projects[..i].iter().find(|earlier| earlier.name() == project.name()) {
                let (one, other) = (same.folder().display(), project.folder().display());
                bail!("{one} and {other} are both the task {}; build one of them", project.name());
            }
        }
        let absolute = |path: &Path| path.canonicalize().with_context(|| format!("find {}", path.display()));
        let outputs = vec![absolute(&tasks)?, absolute(data)?];
        let (sender, changed) = mpsc::unbounded_channel();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) if matches!(event.kind, EventKind::Access(_)) => {}
            Ok(event) => event.paths.into_iter().for_each(|path| {
                // The receiver lives as long as the watcher.
                let _ = sender.send(path);
            }),
            Err(e) => tracing::warn!("watch a project: {e}"),
        })
        .context("watch the projects")?;
        let mut watched = Self { projects, tasks, outputs, changed, watcher };
        for project in watched.projects.clone() {
            watched.watch_folder(&project, project.folder())?;
        }
        Ok(watched)
    }

    /// Watches a folder of a project and its subfolders, but none that tools write to: there may be
    /// thousands.
    fn watch_folder(&mut self, project: &Project, folder: &Path) -> Result<()> {
        let watching = || format!("watch {}", folder.display());
        self.watcher.watch(folder, RecursiveMode::NonRecursive).with_context(watching)?;
        for entry in std::fs::read_dir(folder).with_context(watching)? {
            let entry = entry.with_context(watching)?;
            // A link is not followed: it may lead back.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && self.is_source(project, &entry.path()) {
                self.watch_folder(project, &entry.path())?;
            }
        }
        Ok(())
    }

    /// Whether a file is one that a build of the project reads.
    fn is_source(&self, project: &Project, path: &Path) -> bool {
        let Ok(within) = path.strip_prefix(project.folder()) else { return false };
        if within == Path::new("tests.toml") || self.outputs.iter().any(|output| path.starts_with(output)) {
            return false;
        }
        !within.iter().enumerate().any(|(depth, name)| {
            let name = name.to_string_lossy();
            // Editors' own files, folders such as .git and .venv, and logs of `wasq dev`, if it is told to
            // write some.
            name.starts_with('.')
                || name.ends_with('~')
                || name.ends_with(".log")
                || OUTPUTS_WITHIN.contains(&&*name)
                || depth == 0 && OUTPUTS.contains(&&*name)
        })
    }

    /// Builds all projects, one after the other. A build that fails is logged.
    pub async fn build_all(&self) {
        for project in self.projects.clone() {
            self.build(project).await;
        }
    }

    /// Builds each project again when it changes, for ever. A build that fails is logged, and the next save
    /// starts another build.
    pub async fn build_changes(&mut self) {
        let mut quiet_at: HashMap<usize, Instant> = HashMap::new();
        loop {
            let next = quiet_at.values().min().copied();
            tokio::select! {
                Some(path) = self.changed.recv() => {
                    for (index, project) in self.projects.clone().iter().enumerate() {
                        if !self.is_source(project, &path) {
                            continue;
                        }
                        quiet_at.insert(index, Instant::now() + QUIET);
                        if path.is_dir()
                            && let Err(e) = self.watch_folder(project, &path)
                        {
                            tracing::warn!(task = %project.name(), "{e:#}");
                        }
                    }
                }
                () = until(next) => {
                    let now = Instant::now();
                    let due: Vec<_> = quiet_at.iter().filter(|(_, at)| **at <= now).map(|(index, _)| *index).collect();
                    for index in due {
                        quiet_at.remove(&index);
                        self.build(self.projects[index].clone()).await;
                    }
                }
            }
        }
    }

    async fn build(&self, project: Project) {
        let task = project.name().clone();
        let started = Instant::now();
        tracing::info!(%task, "building");
        let tasks = self.tasks.clone();
        let built = tokio::task::spawn_blocking(move || {
            let built = build(&project)?;
            hand_over(&project, &built, &tasks).map(|()| built)
        });
        match built.await {
            Ok(Ok(built)) => {
                let ms = started.elapsed().as_millis();
                tracing::info!(%task, bytes = built.bytes, "built with {} after {ms} ms", built.toolchain);
            }
            Ok(Err(e)) => tracing::error!(%task, "not built; a version that is live stays: {e:#}"),
            Err(e) => tracing::error!(%task, "not built: {e}"),
        }
    }
}

/// Copies settings and component into the tasks folder, settings first, so that both are published together.
fn hand_over(project: &Project, built: &Built, tasks: &Path) -> Result<()> {
    let copy = |from: &Path, to: &Path| -> Result<()> {
        let bytes = std::fs::read(from).with_context(|| format!("read {}", from.display()))?;
        if std::fs::read(to).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        put(to, &bytes)
    };
    let component = tasks.join(format!("{}.wasm", project.name()));
    let beside = component.with_extension("toml");
    match &built.settings {
        Some(settings) => copy(settings, &beside)?,
        // The file may not be ours, so it stays.
        None if beside.exists() => {
            tracing::warn!(
                "{} exists and stays in force: the project has no settings of its own",
                beside.display()
            );
        }
        None => {}
    }
    copy(&built.component, &component)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
