//! The tasks folder: files that are put there are published.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use wasq_protocol::{LiveRecord, TaskName};
use wasq_publisher::{Bucket, Published, PublisherEvent};

use crate::adapters::TaskQueue;
use crate::folder::FolderPublisher;
use crate::secrets::LocalSecrets;

/// A file counts as whole when it has not changed for this long. A file that was not whole is refused, and it
/// is published when the rest arrives.
const QUIET: Duration = Duration::from_millis(150);

/// The wait before an upload is published again after a fault of this machine.
const AGAIN: Duration = Duration::from_secs(5);
/// Tasks that are published at once: each holds its module in memory.
const AT_ONCE: usize = 4;
/// The interval between two looks at the secrets file.
const LOOK: Duration = Duration::from_secs(1);

const WRITTEN: EventKind = EventKind::Access(AccessKind::Close(AccessMode::Write));

/// Watches a folder until dropped.
pub(crate) struct TasksFolder {
    path: PathBuf,
    secrets: LocalSecrets,
    changed: mpsc::UnboundedReceiver<PathBuf>,
    _watcher: RecommendedWatcher,
}

impl TasksFolder {
    pub(crate) fn watch(path: &Path, secrets: LocalSecrets) -> Result<Self> {
        std::fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let (sender, changed) = mpsc::unbounded_channel();
        let folder = path.to_owned();
        let watching = || format!("watch {}", path.display());
        let mut watcher =
            notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
                // Events were lost: everything may have changed.
                Ok(event) if event.need_rescan() => {
                    let _ = sender.send(folder.clone());
                }
                // Reading a file does not change it; closing a file that was written to ends a change.
                Ok(event) if event.kind.is_access() && event.kind != WRITTEN => {}
                Ok(event) => event.paths.into_iter().for_each(|path| {
                    // The receiver lives as long as the watcher.
                    let _ = sender.send(path);
                }),
                Err(e) => tracing::warn!("watch the tasks folder: {e}"),
            })
            .with_context(watching)?;
        watcher.watch(path, RecursiveMode::NonRecursive).with_context(watching)?;
        Ok(Self { path: path.to_owned(), secrets, changed, _watcher: watcher })
    }

    /// The tasks in the folder, and the live tasks that are not in it any more.
    pub(crate) fn tasks(&self, publisher: &FolderPublisher) -> Result<Vec<TaskName>> {
        let entries =
            std::fs::read_dir(&self.path).with_context(|| format!("read {}", self.path.display()))?;
        let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        paths.sort();
        let mut tasks: Vec<_> = paths.iter().filter_map(|path| task_of(path)).collect();
        tasks.extend(publisher.ports().registry.live_tasks()?);
        tasks.sort();
        tasks.dedup();
        Ok(tasks)
    }

    /// Publishes these tasks, and then every change, for ever. Tasks are published side by side, so that one that takes
    /// long holds no other up. `published` is told when the first ones are done, and `changes` counts all.
    pub(crate) async fn publish(
        &mut self,
        publisher: &Arc<FolderPublisher>,
        queue: &TaskQueue,
        changes: &watch::Sender<u64>,
        first: Vec<TaskName>,
        published: oneshot::Sender<()>,
    ) {
        let mut due = Due::default();
        first.into_iter().for_each(|task| due.at(task, Instant::now()));
        let mut published = Some(published);
        let mut running: JoinSet<bool> = JoinSet::new();
        let mut names = HashMap::new();
        let mut secrets = self.secrets.changed();
        let mut look = tokio::time::interval(LOOK);
        loop {
            for task in due.begin(AT_ONCE - running.len()) {
                let (publisher, queue, name) = (publisher.clone(), queue.clone(), task.clone());
                let begun = running.spawn(async move { publish(&publisher, &queue, &task).await });
                names.insert(begun.id(), name);
            }
            if running.is_empty()
                && let Some(published) = published.take()
            {
                // Nobody may wait for it any more.
                let _ = published.send(());
            }
            let next = due.next().filter(|_| running.len() < AT_ONCE);
            tokio::select! {
                // A task was perhaps refused because a secret had no value.
                _ = look.tick() => {
                    let now = self.secrets.changed();
                    if now != secrets {
                        secrets = now;
                        self.all_again(publisher, &mut due);
                    }
                }
                Some(path) = self.changed.recv() => {
                    if path == self.path {
                        self.all_again(publisher, &mut due);
                    }
                    if let Some(task) = task_of(&path) {
                        due.at(task, Instant::now() + QUIET);
                    }
                }
                Some(ended) = running.join_next_with_id() => {
                    let (id, again) = match ended {
                        Ok((id, done)) => (id, !done),
                        Err(e) => {
                            tracing::error!("publishing a task ended in a panic: {e}");
                            (e.id(), false)
                        }
                    };
                    changes.send_modify(|changes| *changes += 1);
                    let task = names.remove(&id).expect("each has its name");
                    due.ended(&task);
                    if again {
                        due.at_the_latest(task, Instant::now() + AGAIN);
                    }
                }
                () = until(next) => {}
            }
        }
    }

    fn all_again(&self, publisher: &FolderPublisher, due: &mut Due) {
        match self.tasks(publisher) {
            Ok(tasks) => tasks.into_iter().for_each(|task| due.at(task, Instant::now())),
            Err(e) => tracing::error!("{e:#}"),
        }
    }
}

/// The tasks to publish, each with its time. A task is published by one at a time.
#[derive(Default)]
struct Due {
    at: HashMap<TaskName, Instant>,
    running: HashSet<TaskName>,
}

impl Due {
    fn at(&mut self, task: TaskName, at: Instant) {
        self.at.insert(task, at);
    }

    /// As [`Due::at`], but an earlier time stays.
    fn at_the_latest(&mut self, task: TaskName, at: Instant) {
        self.at.entry(task).or_insert(at);
    }

    /// The tasks whose time has come, at most `room`; they count as running until they have ended.
    fn begin(&mut self, room: usize) -> Vec<TaskName> {
        let now = Instant::now();
        let ready = self.at.iter().filter(|(task, at)| **at <= now && !self.running.contains(*task));
        let ready: Vec<_> = ready.map(|(task, _)| task.clone()).take(room).collect();
        for task in &ready {
            self.at.remove(task);
            self.running.insert(task.clone());
        }
        ready
    }

    fn ended(&mut self, task: &TaskName) {
        self.running.remove(task);
    }

    /// The next time at which a task can begin.
    fn next(&self) -> Option<Instant> {
        let waiting = self.at.iter().filter(|(task, _)| !self.running.contains(*task));
        waiting.map(|(_, at)| *at).min()
    }
}

async fn is_live(publisher: &FolderPublisher, task: &TaskName) -> bool {
    let record = publisher.ports().registry.get(&LiveRecord::key(task)).await.ok().flatten();
    let record = record.and_then(|object| serde_json::from_slice::<LiveRecord>(&object.bytes).ok());
    record.is_some_and(|record| record.removed.is_none())
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// The task that a file belongs to; `None` for other files.
fn task_of(path: &Path) -> Option<TaskName> {
    let name = path.file_name()?.to_str()?;
    match PublisherEvent::task_of(name) {
        Ok(task) => Some(task),
        Err(why) if name.ends_with(".wasm") || name.ends_with(".toml") => {
            tracing::warn!(file = name, "not published: {why}");
            None
        }
        Err(_) => None,
    }
}

/// Publishes a task. Returns whether that came to an end: a fault of this machine, such as a full disk, may pass.
async fn publish(publisher: &FolderPublisher, queue: &TaskQueue, task: &TaskName) -> bool {
    let started = Instant::now();
    let was_live = is_live(publisher, task).await;
    match publisher.publish(task).await {
        Ok(Published::Live(version)) => {
            let ms = started.elapsed().as_millis();
            tracing::info!(%task, version = version.version, digest = version.digest.short(), "live after {ms} ms");
            // The messages that came before it need not wait any longer.
            if !was_live && let Err(e) = queue.wake_waiting(task).await {
                tracing::warn!(%task, "wake the messages that wait for it: {e}");
            }
        }
        Ok(Published::Unchanged(_)) => tracing::debug!(%task, "already live"),
        Ok(Published::Rejected(rejection)) => tracing::error!(%task, "rejected: {}", rejection.reason),
        Ok(Published::Removed(_)) => tracing::info!(%task, "removed: nothing runs under its name"),
        Ok(Published::NoModule) => tracing::debug!(%task, "no module"),
        Err(e) => {
            tracing::error!(%task, "not published, and tried again in {} s: {e:#}", AGAIN.as_secs());
            return false;
        }
    }
    true
}
