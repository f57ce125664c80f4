//! The deployment under check: its queues, its registry, its functions and the log of its worker.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use aws_sdk_sqs::types::QueueAttributeName;
use tokio::sync::Mutex;
use tokio::time::Instant;
use wasq_aws::{Outbound, QueueEndpoint};
use wasq_local::Listed;
use wasq_protocol::{Clock, RunItem, RunRecord, SystemClock, TaskName, Timestamp};

use crate::cloud::{DeployedRuns, Deployment, PublisherFunction, Stack, explain, records};
use crate::deployed::DeployedQueues;
use crate::dlq::Letter;
use crate::output::tell;
use crate::registry::Registry;
use crate::verify::disturbances::{self, Before};
use crate::verify::judge::{Dead, Traces, judge};
use crate::verify::probe::{self, Probe};
use crate::verify::report::{Part, Report, Shown};

/// The interval between two looks.
const POLL: Duration = Duration::from_secs(2);
/// The time for which dead letters of others stay invisible, while this command looks for its own.
const HELD_FOR: Duration = Duration::from_secs(60);
/// How long an upload may take at most until it is live or refused.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(120);
/// How long the records of runs may take. After this, the table of runs is asked as well.
const RECORDS_WITHIN: Duration = Duration::from_secs(30);
/// The clock of this machine and those of AWS may differ by this.
const CLOCKS: Duration = Duration::from_secs(120);

pub(super) struct Site {
    pub(super) deployment: Deployment,
    pub(super) publisher: PublisherFunction,
    pub(super) lambda: aws_sdk_lambda::Client,
    pub(super) registry: Registry,
    /// The ids of all messages of this run begin with it.
    pub(super) prefix: String,
    /// The largest message that the queue takes, in bytes.
    pub(super) largest: usize,
    /// How long to wait for the messages of a part.
    pub(super) timeout: Duration,
    queue: QueueEndpoint,
    letters: QueueEndpoint,
    /// `None`: the deployment has no table of runs.
    runs: Option<DeployedRuns>,
    worker_logs: String,
    since: Timestamp,
    /// The dead letters of this run that were found, by the ids of their messages. They are deleted from the queue.
    found: Mutex<HashMap<String, Letter>>,
    /// The worker's settings from before this check changed them.
    pub(super) before: Mutex<Before>,
}

impl Site {
    pub(super) async fn open(deployment: &Deployment, timeout: Duration) -> Result<Self> {
        let DeployedQueues { queue: url, dead_letters, sdk } = deployment.queues()?;
        let sqs = aws_sdk_sqs::Client::new(&sdk);
        let name = QueueAttributeName::MaximumMessageSize;
        let asked = sqs.get_queue_attributes().queue_url(&url).attribute_names(name.clone()).send().await;
        let attributes = asked.map_err(explain).with_context(|| format!("read the attributes of {url}"))?;
        let largest =
            attributes.attributes().and_then(|all| all.get(&name)).and_then(|size| size.parse().ok());
        let resources = deployment.resources().await?;
        let worker_logs = resources.get("WorkerLogs").context("the stack has no WorkerLogs")?.clone();
        let now = SystemClock.now();
        let stack = Stack::new(deployment.session.clone(), deployment.name.clone());
        Ok(Self {
            deployment: deployment.clone(),
            publisher: PublisherFunction::of(&stack),
            lambda: aws_sdk_lambda::Client::new(&sdk),
            registry: Registry::Aws(deployment.buckets()?),
            prefix: format!("wasq-verify-{}", now.ms()),
            largest: largest.context("the queue does not say how large its messages may be")?,
            timeout,
            queue: QueueEndpoint::new(sqs.clone(), url),
            letters: QueueEndpoint::new(sqs, dead_letters),
            runs: deployment.remembers_runs().then(|| deployment.runs()).transpose()?,
            worker_logs,
            since: now.minus(CLOCKS),
            found: Mutex::default(),
            before: Mutex::default(),
        })
    }

    /// The worker's function.
    pub(super) fn worker(&self) -> Result<&str> {
        self.deployment.output("WorkerFunction")
    }

    /// Uploads a task, its settings first.
    pub(super) async fn upload(&self, task: &str, module: Vec<u8>, settings: &str) -> Result<()> {
        self.registry.upload(&format!("{task}.toml"), settings.as_bytes().to_vec()).await?;
        self.registry.upload(&format!("{task}.wasm"), module).await
    }

    /// Looks at a task until there is an answer. Returns the answer, or what was seen last.
    pub(super) async fn published<T>(&self, name: &str, answer: impl Fn(&Listed) -> Option<T>) -> Result<T> {
        let (task, started): (TaskName, _) = (probe::task(name), Instant::now());
        let patience = self.timeout.min(PUBLISHED_WITHIN);
        loop {
            let listed = self.registry.task(&task).await?;
            if let Some(answer) = answer(&listed) {
                return Ok(answer);
            }
            if started.elapsed() > patience {
                let refused = listed.rejected.map(|rejection| format!("refused: {}", rejection.reason));
                let seen = refused.unwrap_or_else(|| match listed.live {
                    Some(live) => format!("version {} stays live", live.version.version),
                    None => "nothing is live".to_owned(),
                });
                bail!("{seen} {} s after the upload of {name}", patience.as_secs());
            }
            tokio::time::sleep(POLL / 4).await;
        }
    }

    pub(super) async fn send(&self, probes: &[Probe]) -> Result<()> {
        let message = |probe: &Probe| Outbound { body: probe.body.clone(), ..Outbound::default() };
        for sent in self.queue.send(probes.iter().map(message).collect()).await {
            sent.context("send a message")?;
        }
        Ok(())
    }

    /// Sends the message of a dead letter again, as `wasq dlq redrive` does.
    pub(super) async fn redrive(&self, id: &str) -> Result<()> {
        let letter = self.found.lock().await.remove(id);
        let letter = letter.with_context(|| format!("the dead letter of {id} was not seen"))?;
        self.queue.send(vec![letter.copy()]).await.pop().context("one message was sent")?
    }

    /// How often the message of a dead letter was a dead letter before.
    pub(super) async fn earlier_ends(&self, id: &str) -> usize {
        self.found.lock().await.get(id).map_or(0, |letter| letter.notes.history.len())
    }

    /// Sends messages, and adds a row for each when it has ended, or when the time is up.
    pub(super) async fn follow(&self, part: Part, probes: &[Probe], report: &mut Report) {
        let started = Instant::now();
        if let Err(e) = self.send(probes).await {
            report.add(part, "The queue takes messages", started.elapsed(), Err(e));
            return;
        }
        let mut open: Vec<_> = probes.iter().collect();
        let mut traces = Traces::default();
        while !open.is_empty() {
            tokio::time::sleep(POLL).await;
            let waited = started.elapsed();
            let seen = self.look(&mut traces, &open, waited).await;
            let late = waited > self.timeout;
            if let Err(e) = &seen {
                if late {
                    let e = format!("{e:#}");
                    open.drain(..).for_each(|probe| {
                        report.add(part, probe.promise, started.elapsed(), Err(anyhow::anyhow!(e.clone())));
                    });
                }
                continue;
            }
            open.retain(|probe| match judge(probe, &traces) {
                Some(judged) => {
                    report.add(part, probe.promise, started.elapsed(), judged.map(Shown::Held));
                    false
                }
                None if late => {
                    let error = Err(self.not_seen(probe, &traces));
                    report.add(part, probe.promise, started.elapsed(), error);
                    false
                }
                None => true,
            });
        }
    }

    /// Sends messages, and waits until all have ended as promised; see [`Self::ended`].
    pub(super) async fn all(&self, probes: &[Probe]) -> Result<Vec<RunRecord>> {
        self.send(probes).await?;
        self.ended(probes).await
    }

    /// Waits until all messages have ended as promised, and returns the records of this check. The error says what is wrong with the
    /// first message that did not.
    pub(super) async fn ended(&self, probes: &[Probe]) -> Result<Vec<RunRecord>> {
        let started = Instant::now();
        let mut open: Vec<_> = probes.iter().collect();
        let mut traces = Traces::default();
        loop {
            tokio::time::sleep(POLL).await;
            let waited = started.elapsed();
            self.look(&mut traces, &open, waited).await?;
            let mut still_open = Vec::with_capacity(open.len());
            for probe in probes {
                match judge(probe, &traces) {
                    Some(Ok(_)) => {}
                    Some(Err(e)) => return Err(e.context(format!("message {}", probe.id))),
                    None => still_open.push(probe),
                }
            }
            let Some(first) = still_open.first() else { return Ok(traces.records) };
            if waited > self.timeout {
                let error = self.not_seen(first, &traces);
                return Err(error.context(format!(
                    "{} of {} messages have not ended",
                    still_open.len(),
                    probes.len()
                )));
            }
            open = still_open;
        }
    }

    /// The records of some messages.
    pub(super) async fn records_of(&self, probes: &[Probe]) -> Result<Vec<RunRecord>> {
        let mut records = self.records().await?;
        records.retain(|record| probes.iter().any(|probe| probe.id == record.id));
        Ok(records)
    }

    fn not_seen(&self, probe: &Probe, traces: &Traces) -> anyhow::Error {
        let seconds = self.timeout.as_secs();
        let remembered = traces.items.get(&probe.id).map_or_else(String::new, |item| {
            format!("; the table of runs: {}, attempt {}", item.state, item.attempts)
        });
        match traces.records.iter().rfind(|record| record.id == probe.id) {
            Some(record) => anyhow::anyhow!(
                "not ended as promised after {seconds} s; seen last: {}{remembered}",
                record.message
            ),
            None => anyhow::anyhow!(
                "no run was seen after {seconds} s: `wasq logs --id {}` may say why{remembered}",
                probe.id
            ),
        }
    }

    /// Brings the traces of this check's messages up to date. Of the table of runs, only the items of `open` messages and of their
    /// children are read, and only if `waited`, the time since they were sent, is long.
    async fn look(&self, traces: &mut Traces, open: &[&Probe], waited: Duration) -> Result<()> {
        if open.iter().any(|probe| probe.ends_dead()) {
            self.collect_letters().await?;
        }
        traces.records = self.records().await?;
        if waited > self.timeout.min(RECORDS_WITHIN)
            && let Some(runs) = &self.runs
            && let Err(e) = read_items(runs, &mut traces.items, open).await
        {
            // The log alone may say enough.
            tracing::warn!("read the table of runs: {e:#}");
        }
        let dead = |letter: &Letter| Dead {
            kind: letter.notes.kind,
            reason: letter.notes.reason.clone().unwrap_or_default(),
        };
        let found = self.found.lock().await;
        traces.dead = found.iter().map(|(id, letter)| (id.clone(), dead(letter))).collect();
        Ok(())
    }

    /// The records of this check's messages.
    async fn records(&self) -> Result<Vec<RunRecord>> {
        records(&self.deployment.session.sdk, &self.worker_logs, self.since, &self.prefix).await
    }

    /// Takes this run's dead letters out of their queue, and releases those of others. Looks at as many as it can in half of the
    /// time for which it holds them.
    async fn collect_letters(&self) -> Result<()> {
        let started = Instant::now();
        let mut others = Vec::new();
        let mut collected = Ok(());
        while started.elapsed() < HELD_FOR / 2 {
            let received =
                match self.letters.receive(Duration::from_secs(1), HELD_FOR, || SystemClock.now()).await {
                    Ok(received) => received,
                    Err(e) => {
                        collected = Err(e);
                        break;
                    }
                };
            if received.is_empty() {
                break;
            }
            let mut ours = Vec::new();
            for delivery in received {
                match self.own_id(&delivery.body) {
                    Some(id) => ours.push((id, delivery)),
                    None => others.push((delivery.receipt, Duration::ZERO)),
                }
            }
            let receipts: Vec<_> = ours.iter().map(|(_, delivery)| delivery.receipt.clone()).collect();
            for ((id, delivery), deleted) in ours.into_iter().zip(self.letters.delete(&receipts).await) {
                match deleted {
                    Ok(()) => {
                        self.found.lock().await.insert(id, Letter::of(delivery));
                    }
                    Err(e) => collected = Err(e.context(format!("delete the dead letter of {id}"))),
                }
            }
        }
        for error in self.letters.set_visibility(&others).await.into_iter().filter_map(Result::err) {
            tracing::warn!("a dead letter stays invisible for up to {} s: {error:#}", HELD_FOR.as_secs());
        }
        collected
    }

    /// The id in a body, if it is the body of one of this run's messages. The body need not be valid.
    fn own_id(&self, body: &str) -> Option<String> {
        let id = &body[body.find(&self.prefix)?..];
        Some(id.split('"').next().unwrap_or(id).to_owned())
    }

    /// Sets the worker back, and removes the tasks, and the dead letters that have come since.
    pub(super) async fn clear(&self, report: &mut Report) {
        let started = Instant::now();
        let cleared = self.remove().await;
        report.add(Part::Uploads, "Nothing is left behind", started.elapsed(), cleared);
    }

    async fn remove(&self) -> Result<Shown> {
        // After an interruption, the function may still be changed. The rest is removed in any case.
        let restored = disturbances::restore(self).await;
        for name in [probe::PROBE, probe::WITH_SECRET, probe::BROKEN, probe::HEAVY] {
            self.registry.withdraw(&format!("{name}.wasm")).await?;
            self.registry.withdraw(&format!("{name}.toml")).await?;
        }
        self.delete_secret().await?;
        self.collect_letters().await?;
        for name in [probe::PROBE, probe::WITH_SECRET, probe::BROKEN, probe::HEAVY] {
            let gone = |listed: &Listed| (listed.live.is_none() && listed.rejected.is_none()).then_some(());
            self.published(name, gone).await.with_context(|| format!("remove {name}"))?;
        }
        let counts = self.queue.counts().await?;
        let waiting = counts.visible + counts.in_flight + counts.delayed;
        if waiting > 0 {
            tell!(
                "wasq: about {waiting} messages are in the queue; if some are of this check, they become dead letters of the kind unknown-task"
            );
        }
        restored.context("set the worker back")?;
        Ok(Shown::Held(String::new()))
    }

    /// The name of the secret, under the stack's name.
    pub(super) fn secret(&self) -> String {
        format!("/{}/wasq-verify", self.deployment.name)
    }

    pub(super) async fn make_secret(&self) -> Result<()> {
        let ssm = aws_sdk_ssm::Client::new(&self.deployment.session.sdk);
        let put = ssm
            .put_parameter()
            .name(self.secret())
            .r#type(aws_sdk_ssm::types::ParameterType::SecureString)
            .value(&self.prefix)
            .overwrite(true)
            .send();
        put.await.map_err(explain).with_context(|| format!("make the parameter {}", self.secret()))?;
        Ok(())
    }

    async fn delete_secret(&self) -> Result<()> {
        let ssm = aws_sdk_ssm::Client::new(&self.deployment.session.sdk);
        match ssm.delete_parameter().name(self.secret()).send().await {
            Err(e) if !e.as_service_error().is_some_and(|e| e.is_parameter_not_found()) => {
                Err(explain(e)).with_context(|| format!("delete the parameter {}", self.secret()))
            }
            _ => Ok(()),
        }
    }
}

/// Reads the items of messages and of their children.
async fn read_items(
    runs: &DeployedRuns,
    items: &mut HashMap<String, RunItem>,
    probes: &[&Probe],
) -> Result<()> {
    for probe in probes {
        let Some(item) = runs.get(&probe.id).await? else { continue };
        for child in &item.children {
            items.extend(runs.get(&child.id).await?.map(|child| (child.id.clone(), child)));
        }
        items.insert(item.id.clone(), item);
    }
    Ok(())
}
