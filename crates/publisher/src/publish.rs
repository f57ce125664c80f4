//! Publishing: from an upload to a new live record.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use tracing::Instrument;
use wasq_engine::made_with;
use wasq_protocol::{
    Artifact, Clock, Compatible, Digest, LiveRecord, Rejection, SecretError, SecretStore, Settings, TaskName,
    Timestamp, Version, WORLD,
};
use wasq_schema::{Schema, Schemas};

use crate::event::Change;
use crate::ports::{
    Bucket, Compiled, Compiler, Condition, PublisherParts, PublisherPorts, Put, Scheduler, Upload, Uploader,
    Uploads,
};

/// Publishes tasks from the tasks bucket into the registry.
pub struct Publisher<P: PublisherPorts>(PublisherParts<P>);

/// The result of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is live as this version.
    Live(Version),
    /// It was live already, with the same settings.
    Unchanged(Version),
    /// The upload was refused; the version that was live before still is.
    Rejected(Rejection),
    /// Its module was removed, and so is the task; this was its last version.
    Removed(Version),
    /// There are settings but no module yet, or nothing at all.
    NoModule,
}

/// The most tries to write the live record, if other publishers are faster. Each try starts from the newest
/// upload.
const RACES_MAX: usize = 8;

/// The largest module that is read, in bytes.
const MODULE_BYTES_MAX: u64 = 256 << 20;
/// The largest settings that are read, in bytes.
const SETTINGS_BYTES_MAX: u64 = 256 << 10;

/// Why one try to publish did not end.
enum Unpublished {
    /// The upload is refused; the reason is written for its author or the operator.
    Refused(String),
    /// Another publisher wrote the live record first.
    Raced,
    /// A bucket, the secret store or the compiler did not work.
    Fault(anyhow::Error),
}

impl From<anyhow::Error> for Unpublished {
    fn from(e: anyhow::Error) -> Self {
        Self::Fault(e)
    }
}

/// The object under the key of a task's live record.
struct Live {
    /// The record; `None` if there is none, or if it is damaged.
    record: Option<LiveRecord>,
    /// The condition for writing the next record: the state is still the one that was read.
    unchanged: Condition,
}

/// An uploaded module.
struct Module {
    bytes: Vec<u8>,
    digest: Digest,
    etag: Option<String>,
}

/// The digests of the uploads that a try to publish has read.
#[derive(Clone, Copy, Default)]
struct Seen {
    module: Option<Digest>,
    /// Without settings, the digest of an empty file.
    settings: Option<Digest>,
}

impl<P: PublisherPorts> Publisher<P> {
    /// A publisher on these ports.
    pub fn new(ports: PublisherParts<P>) -> Self {
        Self(ports)
    }

    /// The ports that it works on.
    pub fn ports(&self) -> &PublisherParts<P> {
        &self.0
    }

    /// Makes the newest upload of a task live, or says why not. `Err` is a fault of a port: try again.
    pub async fn publish(&self, task: &TaskName) -> Result<Published> {
        self.publish_newest(task, &[]).instrument(tracing::error_span!("publish", %task)).await
    }

    /// Publishes a task after an event of its uploads. The version names its uploader, if the event is that of the newest upload.
    pub async fn publish_change(&self, change: &Change) -> Result<Published> {
        let Change { task, uploaders } = change;
        self.publish_newest(task, uploaders).instrument(tracing::error_span!("publish", %task)).await
    }

    /// Publishes a task whose last upload is in no record, or was not published because of a fault. Returns `None` if nothing was
    /// missed. `changed`: when its files were written last; `None` if there is no module.
    pub async fn publish_if_missed(
        &self,
        task: &TaskName,
        changed: Option<Timestamp>,
    ) -> Result<Option<Published>> {
        let live = self.live(task).await?.record;
        let rejection = self.0.registry.get(&Rejection::key(task)).await?;
        let rejection = rejection.and_then(|object| serde_json::from_slice::<Rejection>(&object.bytes).ok());
        let is_missed = match (changed, &live, &rejection) {
            (None, Some(record), _) => record.removed.is_none(),
            (None, None, _) => false,
            (Some(_), _, Some(Rejection { fault: true, .. })) => true,
            (Some(changed), _, _) => {
                let published = live.as_ref().map(|record| record.version.published);
                let removed = live.as_ref().and_then(|record| record.removed);
                let refused = rejection.as_ref().map(|rejection| rejection.at);
                [published, removed, refused].into_iter().flatten().all(|recorded| recorded < changed)
            }
        };
        if !is_missed {
            // The scheduler may have lost one, or have been restored.
            self.schedule(task).await?;
            if rejection.is_some_and(|rejection| rejection.fault) {
                // The schedules were all that was left to do.
                self.0.registry.delete(&Rejection::key(task)).await?;
            }
            return Ok(None);
        }
        self.publish(task).await.map(Some)
    }

    async fn publish_newest(&self, task: &TaskName, uploaders: &[Uploader]) -> Result<Published> {
        for _ in 0..RACES_MAX {
            let mut seen = Seen::default();
            match self.publish_once(task, uploaders, &mut seen).await {
                Ok(Some(published)) => return Ok(published),
                Ok(None) => {
                    tracing::info!("another publisher was faster, starting again from the newest upload");
                }
                Err(e) => {
                    self.record_fault(task, seen, &e).await;
                    return Err(e);
                }
            }
        }
        bail!("publish {task}: other publishers were faster {RACES_MAX} times")
    }

    /// Publishes what lies in the tasks bucket now, or records why not. `None`: another publisher was faster, or there is a later upload.
    async fn publish_once(
        &self,
        task: &TaskName,
        uploaders: &[Uploader],
        seen: &mut Seen,
    ) -> Result<Option<Published>> {
        let before = self.uploads(task).await?;
        let published = match self.promote_or_remove(task, uploaders, seen).await {
            Ok(published) => {
                self.schedule(task).await?;
                published
            }
            Err(Unpublished::Refused(reason)) => {
                let rejection = self.rejection(task, *seen, reason);
                self.put_rejection(&rejection).await?;
                Published::Rejected(rejection)
            }
            Err(Unpublished::Raced) => return Ok(None),
            Err(Unpublished::Fault(e)) => return Err(e),
        };
        // This look comes after the last write. A later upload comes before it, and is published here, or its own publisher sees
        // what was written here.
        let is_newest = self.uploads(task).await? == before;
        Ok(is_newest.then_some(published))
    }

    /// The states of the module and the settings in the tasks bucket.
    async fn uploads(&self, task: &TaskName) -> Result<[Option<String>; 2]> {
        let (module, settings) = (format!("{task}.wasm"), format!("{task}.toml"));
        Ok([self.0.tasks.etag(&module).await?, self.0.tasks.etag(&settings).await?])
    }

    async fn promote_or_remove(
        &self,
        task: &TaskName,
        uploaders: &[Uploader],
        seen: &mut Seen,
    ) -> Result<Published, Unpublished> {
        // Read the pointer first. The publisher of any later upload then moves the pointer after this one, or
        // makes this one lose the race.
        let live = self.live(task).await?;
        match self.0.tasks.upload(&format!("{task}.wasm"), MODULE_BYTES_MAX).await? {
            Upload::Whole { bytes, etag } => {
                let digest = Digest::of(&bytes);
                seen.module = Some(digest);
                self.promote(task, live, Module { bytes, digest, etag }, uploaders, seen).await
            }
            Upload::Absent => self.remove(task, live).await,
            Upload::Refused(reason) => Err(Unpublished::Refused(format!("{task}.wasm: {reason}"))),
        }
    }

    /// Compiles the live module of a task for this publisher's fingerprint, unless the registry has a whole artifact for it: many
    /// workers may ask for the same one. `unusable`: that artifact is no good.
    pub async fn recompile(&self, task: &TaskName, unusable: bool) -> Result<()> {
        self.recompile_live(task, unusable).instrument(tracing::error_span!("recompile", %task)).await
    }

    async fn recompile_live(&self, task: &TaskName, unusable: bool) -> Result<()> {
        for _ in 0..RACES_MAX {
            let Live { record: Some(mut record), unchanged } = self.live(task).await? else {
                bail!("recompile {task}: no task of this name is live");
            };
            let digest = record.version.digest;
            let fingerprint = self.0.compiler.fingerprint();
            if !unusable && let Some(artifact) = record.version.artifacts.get(fingerprint) {
                let stored = self.0.registry.get(&LiveRecord::artifact_key(fingerprint, &digest)).await?;
                if stored.is_some_and(|stored| Digest::of(&stored.bytes) == artifact.sha256) {
                    tracing::info!("it is compiled already");
                    return Ok(());
                }
            }
            let key = LiveRecord::module_key(&digest);
            let module = self.0.registry.get(&key).await?;
            let module = module.with_context(|| format!("the registry has no {key}"))?;
            let artifact = match self.compile_and_store(&digest, module.bytes).await {
                Ok(artifact) => artifact,
                Err(Unpublished::Refused(reason)) => bail!("recompile {task}: {reason}"),
                Err(Unpublished::Fault(e)) => return Err(e),
                Err(Unpublished::Raced) => continue,
            };
            record.version.artifacts.insert(self.0.compiler.fingerprint().clone(), artifact);
            match self.put_live(&record, unchanged).await {
                Ok(()) => return Ok(()),
                Err(Unpublished::Fault(e)) => return Err(e),
                Err(_) => {}
            }
        }
        bail!("recompile {task}: the live record changed {RACES_MAX} times while it was being written")
    }

    /// Checks and compiles an upload, and writes the live record that names it.
    async fn promote(
        &self,
        task: &TaskName,
        live: Live,
        module: Module,
        uploaders: &[Uploader],
        seen: &mut Seen,
    ) -> Result<Published, Unpublished> {
        let Module { bytes: module, digest, etag: module_etag } = module;
        let in_settings = |reason| Unpublished::Refused(format!("{task}.toml: {reason}"));
        let (settings, settings_etag) =
            match self.0.tasks.upload(&format!("{task}.toml"), SETTINGS_BYTES_MAX).await? {
                Upload::Absent => {
                    seen.settings = Some(Digest::of(b""));
                    (Settings::default(), None)
                }
                Upload::Whole { bytes, etag } => {
                    seen.settings = Some(Digest::of(&bytes));
                    (read_settings(bytes).map_err(in_settings)?, etag)
                }
                Upload::Refused(reason) => return Err(in_settings(reason)),
            };
        self.check_schedules(task, &settings).map_err(in_settings)?;
        let schema = schema_of(&module).map_err(|e| Unpublished::Refused(format!("{task}.wasm: {e}")))?;
        if let Some((_, Schemas { params: Some(schema), .. })) = &schema {
            check_params_of_schedules(task, &settings, schema).map_err(in_settings)?;
        }
        if settings.compatible == Some(Compatible::Backward) {
            let params = schema.as_ref().and_then(|(_, schemas)| schemas.params.as_ref());
            check_compatible(&live, &digest, params)
                .map_err(|e| Unpublished::Refused(format!("{task}.wasm: {e}")))?;
        }
        self.check_secrets(&settings).await.map_err(|e| match e {
            Unpublished::Refused(reason) => in_settings(reason),
            e => e,
        })?;
        // The uploader of what is new since an earlier version.
        let uploader_after = |earlier: Option<&Version>| {
            let is_new_module = earlier.is_none_or(|earlier| earlier.digest != digest);
            let etag = if is_new_module { module_etag.as_ref() } else { settings_etag.as_ref() };
            uploaders.iter().find(|uploader| etag == Some(&uploader.etag))
        };
        if let Some(record) = &live.record
            && record.version.digest == digest
            && record.version.settings == settings
            && record.version.artifacts.contains_key(self.0.compiler.fingerprint())
            && record.removed.is_none()
        {
            let mut record = record.clone();
            // An earlier event, or the sweep, may have published this upload before its own event came.
            if record.version.uploader.is_none()
                && let Some(uploader) = uploader_after(record.history.first())
                && uploader.at <= record.version.published
            {
                record.version.uploader = Some(uploader.name.clone());
                self.put_live(&record, live.unchanged).await?;
            }
            self.0.registry.delete(&Rejection::key(task)).await?;
            return Ok(Published::Unchanged(record.version));
        }
        let before =
            live.record.as_ref().filter(|record| record.removed.is_none()).map(|record| &record.version);
        let uploader = match before {
            // Only the engine is another one.
            Some(before) if before.digest == digest && before.settings == settings => before.uploader.clone(),
            before => uploader_after(before).map(|uploader| uploader.name.clone()),
        };
        let (bytes, made_with) = (module.len() as u64, made_with(&module));
        let artifact = self.artifact(&live, &digest, module).await.map_err(|e| match e {
            Unpublished::Refused(reason) => Unpublished::Refused(format!("{task}.wasm: {reason}")),
            e => e,
        })?;
        let now = self.0.clock.now();
        // Earlier artifacts of this module stay good, for workers with other engines as well.
        let mut artifacts = BTreeMap::from([(self.0.compiler.fingerprint().clone(), artifact)]);
        for version in versions(&live).filter(|version| version.digest == digest) {
            for (fingerprint, artifact) in &version.artifacts {
                artifacts.entry(fingerprint.clone()).or_insert(*artifact);
            }
        }
        let version = Version {
            version: live.record.as_ref().map_or(1, |record| record.version.version + 1),
            digest,
            world: WORLD.to_owned(),
            settings,
            schema: schema.map(|(json, _)| json),
            published: now,
            bytes: Some(bytes),
            made_with,
            uploader,
            artifacts,
        };
        let (first_published, history) = match live.record {
            None => (now, Vec::new()),
            Some(record) => {
                let mut history = record.history;
                // The module has it, and workers read the record all the time.
                history.insert(0, Version { schema: None, ..record.version });
                history.truncate(LiveRecord::HISTORY_MAX);
                (record.first_published, history)
            }
        };
        let record = LiveRecord {
            task: task.clone(),
            version: version.clone(),
            first_published,
            removed: None,
            history,
        };
        self.put_live(&record, live.unchanged).await?;
        self.0.registry.delete(&Rejection::key(task)).await?;
        Ok(Published::Live(version))
    }

    /// Refuses settings that name a secret without a value: no run could find it.
    async fn check_secrets(&self, settings: &Settings) -> Result<(), Unpublished> {
        for (name, secret) in &settings.secrets {
            match secret.found(name, self.0.secrets.secret(name, &secret.from).await) {
                Ok(_) => {}
                Err(SecretError::Missing(why)) => return Err(Unpublished::Refused(why)),
                Err(SecretError::Unavailable(why)) => return Err(anyhow!("read {why}").into()),
            }
        }
        Ok(())
    }

    /// Whether the scheduler can keep all schedules.
    fn check_schedules(&self, task: &TaskName, settings: &Settings) -> Result<(), String> {
        wasq_schedule::check(task, settings)?;
        let refusal = |schedule| match &self.0.scheduler {
            Some(scheduler) => scheduler.refusal(schedule),
            None => Some("schedule: this deployment has no scheduler; `wasq deploy` adds one".to_owned()),
        };
        settings.schedule.iter().find_map(refusal).map_or(Ok(()), Err)
    }

    /// Gives the scheduler the schedules of the live version, after its record is written. If another publisher has written a newer
    /// record meanwhile, the schedules are those of the newer one.
    async fn schedule(&self, task: &TaskName) -> Result<()> {
        let Some(scheduler) = &self.0.scheduler else { return Ok(()) };
        let mut live = self.live(task).await?;
        for _ in 0..RACES_MAX {
            let Some(record) = &live.record else { return Ok(()) };
            // Most tasks have no schedules, and never had any.
            if versions(&live).all(|version| version.settings.schedule.is_empty()) {
                return Ok(());
            }
            let schedules = match record.removed {
                Some(_) => &[][..],
                None => &record.version.settings.schedule,
            };
            scheduler.set(task, schedules).await.with_context(|| format!("set the schedules of {task}"))?;
            let newest = self.live(task).await?;
            if newest.unchanged == live.unchanged {
                return Ok(());
            }
            live = newest;
        }
        bail!("set the schedules of {task}: the live record changed {RACES_MAX} times meanwhile")
    }

    /// Marks the record of a task as removed. Its module is gone; its history stays.
    async fn remove(&self, task: &TaskName, live: Live) -> Result<Published, Unpublished> {
        let Some(mut record) = live.record.filter(|record| record.removed.is_none()) else {
            self.0.registry.delete(&Rejection::key(task)).await?;
            return Ok(Published::NoModule);
        };
        record.removed = Some(self.0.clock.now());
        self.put_live(&record, live.unchanged).await?;
        self.0.registry.delete(&Rejection::key(task)).await?;
        Ok(Published::Removed(record.version))
    }

    /// The artifact of a module: that of an earlier version, or a new one.
    async fn artifact(&self, live: &Live, digest: &Digest, module: Vec<u8>) -> Result<Artifact, Unpublished> {
        let fingerprint = self.0.compiler.fingerprint();
        let mut known = versions(live).filter(|version| version.digest == *digest);
        if let Some(artifact) = known.find_map(|version| version.artifacts.get(fingerprint)) {
            return Ok(*artifact);
        }
        self.compile_and_store(digest, module).await
    }

    /// Compiles a module, and stores it with its artifact.
    async fn compile_and_store(&self, digest: &Digest, wasm: Vec<u8>) -> Result<Artifact, Unpublished> {
        let (module, machine_code) = match self.0.compiler.compile(wasm).await? {
            Compiled::Fits { module, machine_code } => (module, machine_code),
            Compiled::Refused(reason) => return Err(Unpublished::Refused(reason)),
        };
        let artifact = Artifact {
            sha256: Digest::of(&machine_code),
            bytes: machine_code.len() as u64,
            compiled: self.0.clock.now(),
        };
        let module_key = LiveRecord::module_key(digest);
        self.0.registry.put(&module_key, module, Condition::Always).await?;
        let artifact_key = LiveRecord::artifact_key(self.0.compiler.fingerprint(), digest);
        self.0.registry.put(&artifact_key, machine_code, Condition::Always).await?;
        Ok(artifact)
    }

    /// Says in the registry why an upload is not live yet, so that whoever waits for it sees it at once. When the
    /// upload is published after all, this is deleted.
    async fn record_fault(&self, task: &TaskName, seen: Seen, fault: &anyhow::Error) {
        let rejection = Rejection { fault: true, ..self.rejection(task, seen, format!("{fault:#}")) };
        if let Err(e) = self.put_rejection(&rejection).await {
            tracing::warn!("the reason could not be recorded: {e:#}");
        }
    }

    fn rejection(&self, task: &TaskName, seen: Seen, reason: String) -> Rejection {
        let Seen { module: digest, settings: settings_digest } = seen;
        let at = self.0.clock.now();
        Rejection { task: task.clone(), digest, settings_digest, reason, at, fault: false }
    }

    async fn put_rejection(&self, rejection: &Rejection) -> Result<()> {
        let json = serde_json::to_vec_pretty(rejection).context("write a rejection")?;
        self.0.registry.put(&Rejection::key(&rejection.task), json, Condition::Always).await?;
        Ok(())
    }

    async fn live(&self, task: &TaskName) -> Result<Live> {
        let key = LiveRecord::key(task);
        let Some(object) = self.0.registry.get(&key).await? else {
            return Ok(Live { record: None, unchanged: Condition::Absent });
        };
        let record = match serde_json::from_slice(&object.bytes) {
            Ok(record) => Some(record),
            // It is JSON, but not ours: perhaps a newer wasq wrote it.
            Err(e) if e.is_data() => return Err(e).with_context(|| format!("read {key}")),
            Err(e) => {
                tracing::error!("{key} is damaged ({e}): the upload replaces it, and its history is lost");
                None
            }
        };
        Ok(Live { record, unchanged: Condition::Unchanged(object.tag) })
    }

    /// Writes a live record if its condition holds.
    async fn put_live(&self, record: &LiveRecord, condition: Condition) -> Result<(), Unpublished> {
        let json = serde_json::to_vec_pretty(record).context("write a live record")?;
        match self.0.registry.put(&LiveRecord::key(&record.task), json, condition).await? {
            Put::Done => Ok(()),
            Put::Conflict => Err(Unpublished::Raced),
        }
    }
}

/// The schema that a module carries: its JSON, and what it says.
fn schema_of(module: &[u8]) -> Result<Option<(Value, Schemas)>, String> {
    let Some(content) = wasq_schema::find(module)? else { return Ok(None) };
    let schemas = Schemas::parse(content)?;
    let json = serde_json::from_slice(content).map_err(|e| e.to_string())?;
    Ok(Some((json, schemas)))
}

fn check_params_of_schedules(task: &TaskName, settings: &Settings, schema: &Schema) -> Result<(), String> {
    for schedule in &settings.schedule {
        if let Err(mismatch) = schema.check(&schedule.params.to_string()) {
            let name = schedule.full_name(task);
            return Err(format!("schedule {name}: its params do not fit the schema of the task: {mismatch}"));
        }
    }
    Ok(())
}

/// Whether a module takes all params that the live version takes. A version of before may always come back.
fn check_compatible(live: &Live, digest: &Digest, params: Option<&Schema>) -> Result<(), String> {
    let Some(record) = live.record.as_ref().filter(|record| record.removed.is_none()) else { return Ok(()) };
    let Some(params) = params else { return Ok(()) };
    if versions(live).any(|version| version.digest == *digest) {
        return Ok(());
    }
    // A schema that this publisher cannot read takes who knows what.
    let earlier = match &record.version.schema {
        Some(schema) => Schemas::of(schema)?.params,
        None => None,
    };
    let compared = match &earlier {
        Some(earlier) => params.takes_all_of(earlier),
        None => params.takes_anything(),
    };
    compared.map_err(|narrower| {
        format!(
            "it refuses params that the live version {} takes, and its settings say compatible = \"backward\": {narrower}",
            record.version.version
        )
    })
}

/// All versions that a record knows, newest first.
fn versions(live: &Live) -> impl Iterator<Item = &Version> {
    live.record.iter().flat_map(|record| std::iter::once(&record.version).chain(&record.history))
}

fn read_settings(text: Vec<u8>) -> Result<Settings, String> {
    let text = String::from_utf8(text).map_err(|e| format!("not UTF-8: {e}"))?;
    Settings::from_toml(&text).map_err(|e| e.to_string())
}
