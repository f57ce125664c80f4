//! Publishing: from an upload to a moved live pointer.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use wasq_protocol::{
    Artifact, Clock, Digest, LiveRecord, Rejection, SecretError, Settings, TaskName, Version, WORLD,
};

use crate::ports::{Bucket, Compiled, Compiler, Condition, Object, Put, SecretStore};

/// Publishes tasks from one bucket into another.
pub struct Publisher<T, R, S, X, C> {
    /// Where uploads are.
    pub tasks: T,
    /// What is live.
    pub registry: R,
    /// Where the secrets are that settings name.
    pub secrets: S,
    /// What compiles uploads.
    pub compiler: X,
    /// The time.
    pub clock: C,
}

/// What came of an upload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It is live as this version.
    Live(Version),
    /// It was live already, with the same settings.
    Unchanged(Version),
    /// It was refused; what was live before still is.
    Rejected(Rejection),
    /// Its module was removed, and so is the task; this was its last version.
    Removed(Version),
    /// There are settings but no module yet, or nothing at all.
    NoModule,
}

/// How often a lost race for the live pointer is run again, each time from the newest upload.
const RACES_MAX: usize = 8;

impl<T: Bucket, R: Bucket, S: SecretStore, X: Compiler, C: Clock> Publisher<T, R, S, X, C> {
    /// Makes the newest upload of a task live, or says why not. `Err` is a fault of the buckets: try again.
    pub async fn publish(&self, task: &TaskName) -> Result<Published> {
        for _ in 0..RACES_MAX {
            if let Some(published) = self.try_publish(task).await? {
                return Ok(published);
            }
            tracing::info!(%task, "another publisher was faster, once more from the newest upload");
        }
        bail!("publish {task}: the live record changed {RACES_MAX} times while it was being written")
    }

    /// Compiles the live module of a task for this publisher's fingerprint, whatever the registry has.
    pub async fn recompile(&self, task: &TaskName) -> Result<()> {
        for _ in 0..RACES_MAX {
            let Some((mut record, tag)) = self.live(task).await? else {
                bail!("recompile {task}: no task of this name is live");
            };
            let digest = record.version.digest;
            let key = LiveRecord::module_key(&digest);
            let module = self.registry.get(&key).await?;
            let module = module.with_context(|| format!("the registry has no {key}"))?;
            let artifact = match self.compile_and_store(&digest, module.bytes).await? {
                Ok(artifact) => artifact,
                Err(reason) => bail!("recompile {task}: {reason}"),
            };
            record.version.artifacts.insert(self.compiler.fingerprint().clone(), artifact);
            if self.put_live(&record, Condition::Unchanged(tag)).await? == Put::Done {
                return Ok(());
            }
        }
        bail!("recompile {task}: the live record changed {RACES_MAX} times while it was being written")
    }

    /// One attempt; `None` if another publisher moved the pointer meanwhile.
    async fn try_publish(&self, task: &TaskName) -> Result<Option<Published>> {
        // The pointer first: an upload that comes after this read moves the pointer after us, or makes us lose.
        let live = self.live(task).await?;
        let Some(module) = self.tasks.get(&format!("{task}.wasm")).await? else {
            return self.remove(task, live).await;
        };
        let settings = self.tasks.get(&format!("{task}.toml")).await?;
        let digest = Digest::of(&module.bytes);

        let settings = match settings.map(read_settings).transpose() {
            Ok(settings) => settings.unwrap_or_default(),
            Err(reason) => {
                let reason = format!("{task}.toml: {reason}");
                return self.reject(task, digest, reason).await.map(Some);
            }
        };
        if let Err(reason) = self.secrets_are_there(&settings).await? {
            let reason = format!("{task}.toml: {reason}");
            return self.reject(task, digest, reason).await.map(Some);
        }
        if let Some((record, _)) = &live
            && record.version.digest == digest
            && record.version.settings == settings
            && record.version.artifacts.contains_key(self.compiler.fingerprint())
            && record.removed.is_none()
        {
            self.registry.delete(&Rejection::key(task)).await?;
            return Ok(Some(Published::Unchanged(record.version.clone())));
        }
        let artifact = match self.artifact(&live, &digest, module).await? {
            Ok(artifact) => artifact,
            Err(reason) => {
                let reason = format!("{task}.wasm: {reason}");
                return self.reject(task, digest, reason).await.map(Some);
            }
        };
        let now = self.clock.now();
        // What was compiled of this module before stays good, for other workers as well.
        let mut artifacts = BTreeMap::from([(self.compiler.fingerprint().clone(), artifact)]);
        for version in versions(&live).filter(|version| version.digest == digest) {
            for (fingerprint, artifact) in &version.artifacts {
                artifacts.entry(fingerprint.clone()).or_insert(*artifact);
            }
        }
        let version = Version {
            version: live.as_ref().map_or(1, |(record, _)| record.version.version + 1),
            digest,
            world: WORLD.to_owned(),
            settings,
            published: now,
            artifacts,
        };
        let (condition, first_published, history) = match live {
            None => (Condition::Absent, now, Vec::new()),
            Some((record, tag)) => {
                let mut history = record.history;
                history.insert(0, record.version);
                history.truncate(LiveRecord::HISTORY_MAX);
                (Condition::Unchanged(tag), record.first_published, history)
            }
        };
        let record = LiveRecord {
            task: task.clone(),
            version: version.clone(),
            first_published,
            removed: None,
            history,
        };
        if self.put_live(&record, condition).await? == Put::Conflict {
            return Ok(None);
        }
        self.registry.delete(&Rejection::key(task)).await?;
        Ok(Some(Published::Live(version)))
    }

    /// Whether a run would find every secret. The inner error is the uploader's or the operator's fault.
    async fn secrets_are_there(&self, settings: &Settings) -> Result<Result<(), String>> {
        for (name, secret) in &settings.secrets {
            match secret.found(name, self.secrets.secret(name, &secret.from).await) {
                Ok(_) => {}
                Err(SecretError::Missing(why)) => return Ok(Err(why)),
                Err(SecretError::Unavailable(why)) => bail!("read {why}"),
            }
        }
        Ok(Ok(()))
    }

    /// The module is gone: so is the task, but not its history. `None` if another publisher was faster.
    async fn remove(&self, task: &TaskName, live: Option<(LiveRecord, String)>) -> Result<Option<Published>> {
        let Some((mut record, tag)) = live.filter(|(record, _)| record.removed.is_none()) else {
            self.registry.delete(&Rejection::key(task)).await?;
            return Ok(Some(Published::NoModule));
        };
        record.removed = Some(self.clock.now());
        if self.put_live(&record, Condition::Unchanged(tag)).await? == Put::Conflict {
            return Ok(None);
        }
        self.registry.delete(&Rejection::key(task)).await?;
        Ok(Some(Published::Removed(record.version)))
    }

    /// The artifact of a module: one that an earlier version had, or a new one.
    async fn artifact(
        &self,
        live: &Option<(LiveRecord, String)>,
        digest: &Digest,
        module: Object,
    ) -> Result<Result<Artifact, String>> {
        let fingerprint = self.compiler.fingerprint();
        let mut known = versions(live).filter(|version| version.digest == *digest);
        if let Some(artifact) = known.find_map(|version| version.artifacts.get(fingerprint)) {
            return Ok(Ok(*artifact));
        }
        self.compile_and_store(digest, module.bytes).await
    }

    /// Compiles a module and stores both. The inner error is the module's fault.
    async fn compile_and_store(&self, digest: &Digest, wasm: Vec<u8>) -> Result<Result<Artifact, String>> {
        let (module, machine_code) = match self.compiler.compile(wasm).await? {
            Compiled::Fits { module, machine_code } => (module, machine_code),
            Compiled::Refused(reason) => return Ok(Err(reason)),
        };
        let artifact = Artifact {
            sha256: Digest::of(&machine_code),
            bytes: machine_code.len() as u64,
            compiled: self.clock.now(),
        };
        let module_key = LiveRecord::module_key(digest);
        self.registry.put(&module_key, module, Condition::Always).await?;
        let artifact_key = LiveRecord::artifact_key(self.compiler.fingerprint(), digest);
        self.registry.put(&artifact_key, machine_code, Condition::Always).await?;
        Ok(Ok(artifact))
    }

    async fn reject(&self, task: &TaskName, digest: Digest, reason: String) -> Result<Published> {
        let rejection = Rejection { task: task.clone(), digest: Some(digest), reason, at: self.clock.now() };
        let json = serde_json::to_vec_pretty(&rejection).context("write a rejection")?;
        self.registry.put(&Rejection::key(task), json, Condition::Always).await?;
        Ok(Published::Rejected(rejection))
    }

    async fn live(&self, task: &TaskName) -> Result<Option<(LiveRecord, String)>> {
        let key = LiveRecord::key(task);
        let Some(object) = self.registry.get(&key).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&object.bytes).with_context(|| format!("read {key}"))?;
        Ok(Some((record, object.tag)))
    }

    async fn put_live(&self, record: &LiveRecord, condition: Condition) -> Result<Put> {
        let json = serde_json::to_vec_pretty(record).context("write a live record")?;
        self.registry.put(&LiveRecord::key(&record.task), json, condition).await
    }
}

/// All versions that a record knows, newest first.
fn versions(live: &Option<(LiveRecord, String)>) -> impl Iterator<Item = &Version> {
    live.iter().flat_map(|(record, _)| std::iter::once(&record.version).chain(&record.history))
}

fn read_settings(object: Object) -> Result<Settings, String> {
    let text = String::from_utf8(object.bytes).map_err(|e| format!("not UTF-8: {e}"))?;
    Settings::from_toml(&text).map_err(|e| e.to_string())
}
