//! The data of the page of a deployment: its table of runs, its queues, its registry and its log.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::{Mutex, OnceCell};
use tokio::time::Instant;
use wasq_aws::QueueEndpoint;
use wasq_local::Listed;
use wasq_page::{Cancelled, Data, DeadLetters, LogLine, Page, Search, Span, Stats, Task, Upload};
use wasq_protocol::{
    Clock, Digest, Message, MessageCounts, Overview, RunItem, ScheduleState, SystemClock, TaskName,
};
use wasq_schedule::name_on_aws;

use crate::cloud::Deployment;
use crate::deployed::DeployedQueues;
use crate::pause::Switch;
use crate::registry::Registry;
use crate::schedule::of_deployment;
use crate::ui::letters::Letters;
use crate::ui::remembered::Remembered;

/// The data of the page of a deployment.
pub(crate) struct DeployedPage {
    deployment: Deployment,
    sqs: aws_sdk_sqs::Client,
    queue_url: String,
    queue: QueueEndpoint,
    dead_letters: QueueEndpoint,
    letters: Arc<Letters>,
    /// None if the deployment has no table.
    runs: Option<Remembered>,
    registry: Registry,
    /// The tasks that were read last.
    tasks: Mutex<Option<(Instant, Vec<Task>)>>,
    log_group: OnceCell<Option<String>>,
    switch: OnceCell<Switch>,
    /// Whether it was paused when that was read last.
    paused: Mutex<Option<(Instant, Option<bool>)>>,
    started: Instant,
}

/// The shortest time between two events of a page.
const EVENT_PAUSE: Duration = Duration::from_secs(1);
/// A page is shown anew after this: AWS does not say when something changes.
const EVENT_EVERY: Duration = Duration::from_secs(10);
/// How long the tasks that were read are shown (each is an object of its own), and whether the deployment is paused.
const TASKS_FRESH: Duration = Duration::from_secs(5);
/// The log is searched from this before the send of a message to this after its last write.
const LOG_MARGIN: Duration = Duration::from_secs(300);
const LINES_MAX: usize = 500;

impl DeployedPage {
    pub(crate) fn of(deployment: Deployment) -> Result<Self> {
        let DeployedQueues { queue: queue_url, dead_letters, sdk } = deployment.queues()?;
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let queue = QueueEndpoint::new(sqs.clone(), &queue_url);
        let dead_letters = QueueEndpoint::new(sqs.clone(), dead_letters);
        let has_table = deployment.remembers_runs();
        Ok(Self {
            letters: Arc::new(Letters::new(queue.clone(), dead_letters.clone())),
            runs: if has_table { Some(Remembered::new(deployment.runs()?)) } else { None },
            registry: Registry::Aws(deployment.buckets()?),
            tasks: Mutex::new(None),
            log_group: OnceCell::new(),
            switch: OnceCell::new(),
            paused: Mutex::new(None),
            started: Instant::now(),
            deployment,
            sqs,
            queue_url,
            queue,
            dead_letters,
        })
    }

    /// Its dead letters.
    pub(super) fn letters(&self) -> Arc<Letters> {
        self.letters.clone()
    }

    /// A sentence for a deployment without a table.
    fn without_table(&self) -> String {
        let name = &self.deployment.name;
        format!("{name} remembers no runs: `wasq deploy --stack {name} --runs on` adds the table.")
    }

    async fn switch(&self) -> Result<&Switch> {
        self.switch.get_or_try_init(|| Switch::of(&self.deployment)).await
    }

    /// Whether the deployment is paused. Credentials that may read the queue need not be allowed to see that.
    async fn is_paused(&self) -> Option<bool> {
        let mut last = self.paused.lock().await;
        if let Some((at, paused)) = *last
            && at.elapsed() < TASKS_FRESH
        {
            return paused;
        }
        let paused = async { self.switch().await?.is_paused(&self.deployment).await }.await.ok();
        *last = Some((Instant::now(), paused));
        paused
    }

    async fn lines(&self, run: &RunItem) -> Result<Vec<LogLine>> {
        let group = self.log_group.get_or_try_init(async || {
            Ok::<_, anyhow::Error>(self.deployment.resources().await?.remove("WorkerLogs"))
        });
        let group = group.await?.as_ref().context("the deployment has no log of its worker")?;
        let from = run.sent.or(run.started).unwrap_or(run.updated).minus(LOG_MARGIN);
        let until = if run.state.is_end() { run.updated } else { SystemClock.now() }.plus(LOG_MARGIN);
        let lines = self.deployment.log_lines(group, from, until, &run.id).await?;
        let mut lines: Vec<_> = lines.iter().filter_map(|line| LogLine::read(line, &run.id)).collect();
        lines.drain(..lines.len().saturating_sub(LINES_MAX));
        Ok(lines)
    }
}

/// Messages outside of the queue that are counted: each hundred of them is a request.
const DELAYED_MAX: usize = 300;

impl Data for DeployedPage {
    async fn overview(&self, span: Span) -> Result<Overview> {
        let outside = async {
            match self.deployment.schedule_group() {
                // Credentials that may read the queue need not be allowed to list schedules.
                Some(group) => Ok(group.delayed(DELAYED_MAX).await.ok()),
                None => Ok(Some(0)),
            }
        };
        let paused = async { Ok(self.is_paused().await) };
        let (queue, dead, tasks, outside, paused) =
            tokio::try_join!(self.queue.counts(), self.dead_letters.counts(), self.tasks(), outside, paused)?;
        let counts = MessageCounts {
            waiting: queue.visible,
            in_flight: queue.in_flight,
            delayed: queue.delayed + outside.unwrap_or(0),
            delayed_or_more: outside.is_none_or(|outside| outside >= DELAYED_MAX as u64),
            dead: dead.visible + dead.in_flight + dead.delayed,
        };
        let now = SystemClock.now();
        let Some(runs) = &self.runs else {
            let overview = Stats::since(now).overview(span, now, counts, tasks);
            return Ok(Overview { paused, note: Some(self.without_table()), ..overview });
        };
        let snapshot = runs.snapshot().await?;
        Ok(Overview { paused, note: snapshot.note(), ..snapshot.stats.overview(span, now, counts, tasks) })
    }

    async fn runs(&self, search: &Search) -> Result<Page> {
        match &self.runs {
            Some(runs) => runs.snapshot().await?.page(search),
            None => Ok(Page { runs: Vec::new(), next: None, note: Some(self.without_table()) }),
        }
    }

    async fn run(&self, id: &str) -> Result<Option<RunItem>> {
        match &self.runs {
            // The table refuses an empty key.
            Some(runs) if !id.is_empty() => runs.table().get(id).await,
            _ => Ok(None),
        }
    }

    async fn log(&self, run: &RunItem) -> Result<Vec<LogLine>> {
        // Credentials that may read the table need not be allowed to read the log.
        Ok(self.lines(run).await.unwrap_or_else(|e| {
            let text = format!("The log could not be read: {e:#}");
            let (at, level) = (run.updated.to_string(), "WARN".to_owned());
            vec![LogLine { at, level, attempt: None, text, requests: Vec::new(), stages: None }]
        }))
    }

    async fn tasks(&self) -> Result<Vec<Task>> {
        let mut last = self.tasks.lock().await;
        if let Some((at, tasks)) = &*last
            && at.elapsed() < TASKS_FRESH
        {
            return Ok(tasks.clone());
        }
        let tasks: Vec<Task> =
            self.registry.tasks().await?.into_iter().filter_map(Listed::for_page).collect();
        *last = Some((Instant::now(), tasks.clone()));
        Ok(tasks)
    }

    async fn module(&self, digest: &Digest) -> Result<Vec<u8>> {
        self.registry.module(digest).await
    }

    async fn upload(&self, upload: Upload) -> Result<()> {
        let Upload { task, module, settings } = upload;
        // Settings first, so that the module never runs without them.
        if let Some(settings) = settings {
            self.registry.upload(&format!("{task}.toml"), settings.into_bytes()).await?;
        }
        self.registry.upload(&format!("{task}.wasm"), module).await
    }

    async fn schedules(&self) -> Result<Vec<ScheduleState>> {
        of_deployment(&self.deployment, &self.registry).await
    }

    async fn pause(&self, paused: bool) -> Result<()> {
        self.switch().await?.set(&self.deployment, paused).await?;
        *self.paused.lock().await = None;
        Ok(())
    }

    async fn pause_schedule(&self, schedule: &ScheduleState, paused: bool) -> Result<bool> {
        self.deployment.schedules()?.pause(&name_on_aws(&schedule.task, &schedule.schedule), paused).await
    }

    async fn remove(&self, task: &TaskName) -> Result<()> {
        // The module first: settings alone have no effect.
        self.registry.withdraw(&format!("{task}.wasm")).await?;
        self.registry.withdraw(&format!("{task}.toml")).await
    }

    async fn dead_letters(&self) -> Result<DeadLetters> {
        self.letters.all().await
    }

    async fn send(&self, message: Message) -> Result<String> {
        let send = self.sqs.send_message().queue_url(&self.queue_url).message_body(message.to_json());
        let sent = send.send().await.map_err(crate::cloud::explain);
        sent.context("send a message")?.message_id.context("the queue answered without a message id")
    }

    async fn cancel(&self, id: &str) -> Result<Cancelled> {
        let runs = self.runs.as_ref().with_context(|| self.without_table())?;
        let cancelled = runs.table().cancel(id).await?;
        runs.changed();
        Ok(match cancelled {
            Ok(_) => Cancelled::Yes,
            Err(state) => Cancelled::Ended(state),
        })
    }

    async fn redrive(&self, ids: Vec<String>) -> Result<u64> {
        self.letters.redrive(ids).await
    }

    async fn delete(&self, ids: Vec<String>) -> Result<u64> {
        self.letters.delete(ids).await
    }

    fn changes(&self) -> u64 {
        self.started.elapsed().as_secs() / EVENT_EVERY.as_secs()
    }

    async fn changed(&self, seen: u64) -> u64 {
        tokio::time::sleep(EVENT_PAUSE).await;
        let now = self.changes();
        if now <= seen {
            let next = EVENT_EVERY.saturating_mul(u32::try_from(now + 1).unwrap_or(u32::MAX));
            tokio::time::sleep_until(self.started + next).await;
        }
        self.changes()
    }
}
