//! The live record: the uploads that change it, and the uploads that do not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};
use wasq_protocol::{
    ByteCount, Clock, Digest, LiveRecord, Rejection, Schedule, SecretError, SecretSource, SecretStore,
    SecretValue, SystemClock, TaskName, Version, When,
};
use wasq_publisher::{
    Bucket, Change, CompileLimits, Condition, Object, Published, Publisher, PublisherParts, PublisherPorts,
    Put, Scheduler, Upload, Uploader, Uploads, Wasm,
};
use wasq_testing::read_guest;

type Race = Box<dyn FnOnce() + Send>;

/// A bucket in memory. `race` runs once, before the next write of a record: it plays a faster publisher.
#[derive(Clone, Default)]
struct Memory {
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    race: Arc<Mutex<Option<Race>>>,
    /// The keys that the publisher wrote.
    written: Arc<Mutex<Vec<String>>>,
}

impl Memory {
    fn set(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        self.objects.lock().expect("no panic").insert(key.to_owned(), bytes.into());
    }

    fn bytes(&self, key: &str) -> Option<Vec<u8>> {
        self.objects.lock().expect("no panic").get(key).cloned()
    }

    /// How often the publisher wrote under a key.
    fn written(&self, key: &str) -> usize {
        self.written.lock().expect("no panic").iter().filter(|written| *written == key).count()
    }

    fn live(&self) -> LiveRecord {
        serde_json::from_slice(&self.bytes("live/hello.json").expect("live")).expect("a live record")
    }
}

impl Uploads for Memory {
    async fn upload(&self, key: &str, bytes_max: u64) -> Result<Upload> {
        Ok(match self.bytes(key) {
            None => Upload::Absent,
            Some(bytes) if bytes.len() as u64 > bytes_max => Upload::too_large(bytes_max),
            Some(bytes) => Upload::Whole { etag: Some(Digest::of(&bytes).to_string()), bytes },
        })
    }

    async fn etag(&self, key: &str) -> Result<Option<String>> {
        Ok(self.bytes(key).map(|bytes| Digest::of(&bytes).to_string()))
    }
}

impl Bucket for Memory {
    async fn get(&self, key: &str) -> Result<Option<Object>> {
        Ok(self.bytes(key).map(|bytes| Object { tag: Digest::of(&bytes).to_string(), bytes }))
    }

    async fn put(&self, key: &str, bytes: Vec<u8>, condition: Condition) -> Result<Put> {
        if let Some(race) = self.race.lock().expect("no panic").take() {
            race();
        }
        let current = self.bytes(key).map(|bytes| Digest::of(&bytes).to_string());
        let holds = match condition {
            Condition::Always => true,
            Condition::Absent => current.is_none(),
            Condition::Unchanged(tag) => current == Some(tag),
        };
        if holds {
            self.written.lock().expect("no panic").push(key.to_owned());
            self.set(key, bytes);
        }
        Ok(if holds { Put::Done } else { Put::Conflict })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        self.objects.lock().expect("no panic").remove(key);
        Ok(())
    }
}

/// Knows one secret.
struct OneSecret;

impl SecretStore for OneSecret {
    async fn secret(&self, _: &str, from: &SecretSource) -> Result<SecretValue, SecretError> {
        match from.to_string().as_str() {
            "ssm:/wasq/token" => Ok(SecretValue::new("a value to keep".to_owned())),
            "ssm:/wasq/short" => Ok(SecretValue::new("1234".to_owned())),
            "ssm:/wasq/busy" => Err(SecretError::Unavailable("ThrottlingException".to_owned())),
            _ => Err(SecretError::Missing("ParameterNotFound".to_owned())),
        }
    }
}

fn guest(name: &str) -> Vec<u8> {
    read_guest(name).expect("the guest is built")
}

/// A scheduler that cannot keep schedules of one minute.
#[derive(Clone, Default)]
struct Planned {
    set: Arc<Mutex<Vec<(String, usize)>>>,
    fails: Arc<Mutex<bool>>,
    /// Runs once, during the next call: it plays a faster publisher.
    race: Arc<Mutex<Option<Race>>>,
}

impl Scheduler for Planned {
    fn refusal(&self, schedule: &Schedule) -> Option<String> {
        (schedule.when == When::Every(Duration::from_secs(60))).then(|| "every minute is too much".to_owned())
    }

    async fn set(&self, task: &TaskName, schedules: &[Schedule]) -> Result<()> {
        if let Some(race) = self.race.lock().expect("no panic").take() {
            race();
        }
        if *self.fails.lock().expect("no panic") {
            bail!("the scheduler is down");
        }
        self.set.lock().expect("no panic").push((task.to_string(), schedules.len()));
        Ok(())
    }
}

struct Test;

impl PublisherPorts for Test {
    type Tasks = Memory;
    type Registry = Memory;
    type SecretStore = OneSecret;
    type Compiler = Wasm;
    type Scheduler = Planned;
    type Clock = SystemClock;
}

const LIMITS: CompileLimits = CompileLimits {
    memory: ByteCount::mib(1024),
    processor: Duration::from_secs(60),
    time: Duration::from_secs(120),
    at_once: 2,
};

fn compiler(limits: CompileLimits) -> Wasm {
    let wasm = Wasm::new(limits).expect("this program is known");
    wasm.in_program(env!("CARGO_BIN_EXE_wasq-publisher").into())
}

fn set_up() -> (Memory, Memory, Publisher<Test>, TaskName) {
    set_up_with(None)
}

fn set_up_with(scheduler: Option<Planned>) -> (Memory, Memory, Publisher<Test>, TaskName) {
    let (tasks, registry) = (Memory::default(), Memory::default());
    let publisher = Publisher::new(PublisherParts {
        tasks: tasks.clone(),
        registry: registry.clone(),
        secrets: OneSecret,
        compiler: compiler(LIMITS),
        scheduler,
        clock: SystemClock,
    });
    (tasks, registry, publisher, "hello".parse().expect("a name"))
}

#[tokio::test]
async fn versions_and_their_history() {
    let (tasks, registry, publisher, hello) = set_up();
    assert_eq!(publisher.publish(&hello).await.expect("no fault"), Published::NoModule);
    tasks.set("hello.toml", "timeout = \"1s\"");
    assert_eq!(publisher.publish(&hello).await.expect("no fault"), Published::NoModule);

    tasks.set("hello.wasm", guest("hello"));
    assert!(
        matches!(publisher.publish(&hello).await.expect("no fault"), Published::Live(v) if v.version == 1)
    );
    assert!(
        matches!(publisher.publish(&hello).await.expect("no fault"), Published::Unchanged(v) if v.version == 1)
    );
    let first = registry.live();
    let [(fingerprint, artifact)] = first.version.artifacts.iter().collect::<Vec<_>>()[..] else {
        panic!("one artifact")
    };
    let key = LiveRecord::artifact_key(fingerprint, &first.version.digest);
    assert_eq!(Digest::of(&registry.bytes(&key).expect("the artifact")), artifact.sha256);
    assert_eq!(registry.bytes(&LiveRecord::module_key(&first.version.digest)), Some(guest("hello")));

    tasks.set("hello.wasm", guest("verbs"));
    assert!(
        matches!(publisher.publish(&hello).await.expect("no fault"), Published::Live(v) if v.version == 2)
    );
    let second = registry.live();
    assert_eq!(second.history, [first.version]);
    assert_eq!(second.first_published, first.first_published);
}

#[tokio::test]
async fn a_refused_upload_moves_nothing() {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let live = registry.bytes("live/hello.json");

    tasks.set("hello.wasm", "nonsense");
    let Published::Rejected(rejection) = publisher.publish(&hello).await.expect("no fault") else {
        panic!("it was not refused")
    };
    assert!(rejection.reason.starts_with("hello.wasm: not WebAssembly"), "{}", rejection.reason);
    assert_eq!(registry.bytes("live/hello.json"), live);
    assert!(registry.bytes("rejected/hello.json").is_some());

    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    assert!(registry.bytes("rejected/hello.json").is_none(), "the rejection is deleted after a good upload");
}

#[tokio::test]
async fn who_loses_a_race_starts_again_from_the_newest_upload() {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let mut faster = registry.live();
    faster.version.version = 7;
    tasks.set("hello.wasm", guest("verbs"));
    let raced = registry.clone();
    *registry.race.lock().expect("no panic") =
        Some(Box::new(move || raced.set("live/hello.json", serde_json::to_vec(&faster).expect("JSON"))));
    assert!(
        matches!(publisher.publish(&hello).await.expect("no fault"), Published::Live(v) if v.version == 8)
    );
    assert_eq!(registry.live().history[0].version, 7, "no history is lost");
}

/// Publishes an upload, which `later` follows while its result is being written. Its own publisher is done by then.
async fn overtaken(
    upload: Vec<u8>,
    later: impl FnOnce(&Memory, &Memory) + Send + 'static,
) -> (Memory, Published) {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    tasks.set("hello.wasm", upload);
    let later = {
        let (tasks, registry) = (tasks.clone(), registry.clone());
        move || later(&tasks, &registry)
    };
    *registry.race.lock().expect("no panic") = Some(Box::new(later));
    let published = publisher.publish(&hello).await.expect("no fault");
    (registry, published)
}

#[tokio::test]
async fn a_refusal_is_not_that_of_a_later_upload() {
    // The live module is uploaded again, and its publisher had nothing to write.
    let (registry, published) =
        overtaken(b"nonsense".to_vec(), |tasks, _| tasks.set("hello.wasm", guest("hello"))).await;
    assert!(matches!(published, Published::Unchanged(version) if version.version == 1));
    assert_eq!(registry.bytes("rejected/hello.json"), None);

    // The later upload was refused as well.
    let (registry, published) = overtaken(b"nonsense".to_vec(), |tasks, registry| {
        tasks.set("hello.wasm", guest("verbs"));
        tasks.set("hello.toml", "timeout = 7");
        registry.set("rejected/hello.json", "that of the later upload");
    })
    .await;
    let Published::Rejected(rejection) = published else { panic!("{published:?}") };
    assert!(rejection.reason.starts_with("hello.toml: "), "{}", rejection.reason);
    assert_eq!(rejection.digest, Some(Digest::of(&guest("verbs"))));
    assert_eq!(rejection.settings_digest, Some(Digest::of(b"timeout = 7")));
    let written = registry.bytes("rejected/hello.json").expect("it is recorded");
    assert_eq!(serde_json::from_slice::<Rejection>(&written).expect("JSON"), rejection);
}

#[tokio::test]
async fn an_earlier_upload_does_not_stay_live() {
    // The publisher of the later upload found it live already, or refused it, and so wrote no live record.
    let (registry, published) =
        overtaken(guest("verbs"), |tasks, _| tasks.set("hello.wasm", guest("hello"))).await;
    assert!(matches!(published, Published::Live(version) if version.version == 3));
    assert_eq!(registry.live().version.digest, Digest::of(&guest("hello")));

    let (registry, published) = overtaken(guest("verbs"), |tasks, registry| {
        tasks.set("hello.toml", "timeout = 7");
        registry.set("rejected/hello.json", "that of the later upload");
    })
    .await;
    assert!(matches!(published, Published::Rejected(_)), "{published:?}");
    assert!(registry.bytes("rejected/hello.json").is_some(), "the refusal of the newest upload is lost");
}

#[tokio::test]
async fn recompiling_adds_the_artifact_and_no_version() {
    let (tasks, registry, publisher, hello) = set_up();
    assert!(publisher.recompile(&hello, false).await.is_err(), "nothing is live");
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let mut record = registry.live();
    let artifacts = std::mem::take(&mut record.version.artifacts);
    registry.set("live/hello.json", serde_json::to_vec(&record).expect("JSON"));
    publisher.recompile(&hello, false).await.expect("no fault");
    let mut again = registry.live();
    let made = std::mem::take(&mut again.version.artifacts);
    assert_eq!(again, record);
    assert_eq!(made.keys().collect::<Vec<_>>(), artifacts.keys().collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_compiled_is_compiled_again_only_if_it_is_no_good() {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let record = registry.live();
    let fingerprint = record.version.artifacts.keys().next().expect("it is compiled");
    let key = LiveRecord::artifact_key(fingerprint, &record.version.digest);
    let writes = |unusable| {
        let (registry, publisher, hello, key) = (&registry, &publisher, &hello, &key);
        async move {
            let before = registry.written(key);
            publisher.recompile(hello, unusable).await.expect("no fault");
            registry.written(key) - before
        }
    };
    assert_eq!(writes(false).await, 0, "another worker has asked before");
    assert_eq!(writes(true).await, 1);
    registry.set(&key, b"damaged".to_vec());
    assert_eq!(writes(false).await, 1);
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_the_uploads_fault() {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    for (name, why) in [("gone", "ParameterNotFound"), ("short", "has 4 bytes")] {
        tasks.set("hello.toml", format!("[secrets]\nTOKEN = \"ssm:/wasq/{name}\""));
        let Published::Rejected(rejection) = publisher.publish(&hello).await.expect("no fault") else {
            panic!("{name} was accepted");
        };
        let expected = format!("hello.toml: the secret TOKEN (ssm:/wasq/{name}): ");
        assert!(rejection.reason.starts_with(&expected) && rejection.reason.contains(why), "{rejection:?}");
        assert!(!rejection.reason.contains("1234"), "{rejection:?}");
    }
    assert!(registry.bytes("live/hello.json").is_none());

    tasks.set("hello.toml", "[secrets]\nTOKEN = \"ssm:/wasq/busy\"");
    let fault = publisher.publish(&hello).await.expect_err("not the upload's fault: S3's event comes again");
    assert!(format!("{fault:#}").contains("ThrottlingException"), "{fault:#}");

    tasks.set("hello.toml", "[secrets]\nTOKEN = \"ssm:/wasq/token\"");
    assert!(matches!(publisher.publish(&hello).await.expect("no fault"), Published::Live(_)));
    let record = String::from_utf8(registry.bytes("live/hello.json").expect("live")).expect("JSON");
    assert!(record.contains("ssm:/wasq/token") && !record.contains("a value to keep"), "{record}");
}

#[tokio::test]
async fn a_module_that_is_removed_takes_its_task_along_and_leaves_its_history() {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let module = tasks.objects.lock().expect("no panic").remove("hello.wasm").expect("it was there");
    let removed = publisher.publish(&hello).await.expect("no fault");
    assert!(matches!(removed, Published::Removed(version) if version.version == 1));
    let when = registry.live().removed;
    assert!(when.is_some());
    assert_eq!(publisher.publish(&hello).await.expect("no fault"), Published::NoModule);
    assert_eq!(registry.live().removed, when);
    // The same module again is a new version, and its artifact is still valid.
    let compiled = registry.live().version.artifacts;
    tasks.set("hello.wasm", module);
    assert!(
        matches!(publisher.publish(&hello).await.expect("no fault"), Published::Live(v) if v.version == 2)
    );
    let again = registry.live();
    assert_eq!((again.removed, again.history.len()), (None, 1));
    assert_eq!(again.version.artifacts, compiled, "it was not compiled again");
}

#[tokio::test]
async fn what_an_earlier_version_had_is_not_compiled_again() {
    let (tasks, registry, publisher, hello) = set_up();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let compiled = registry.live().version.artifacts;
    tasks.set("hello.wasm", guest("verbs"));
    publisher.publish(&hello).await.expect("no fault");
    assert_ne!(registry.live().version.artifacts, compiled);
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    let back = registry.live();
    assert_eq!((back.version.version, back.history.len()), (3, 2));
    assert_eq!(back.version.artifacts, compiled, "its `compiled` time shows that it is the first artifact");
}

const DAILY: &str = "[[schedule]]\ncron = '0 7 * * *'\n";

#[tokio::test]
async fn schedules_follow_the_live_version() {
    let planned = Planned::default();
    let (tasks, registry, publisher, hello) = set_up_with(Some(planned.clone()));
    let set = || planned.set.lock().expect("no panic").clone();
    tasks.set("hello.wasm", guest("hello"));
    publisher.publish(&hello).await.expect("no fault");
    assert!(set().is_empty(), "a task without schedules costs no call");

    tasks.set("hello.toml", format!("{DAILY}name = 'a'\n{DAILY}name = 'b'"));
    publisher.publish(&hello).await.expect("no fault");
    assert_eq!(set(), [("hello".to_owned(), 2)]);

    // The scheduler is down: the version is live, and publishing it again sets its schedules.
    *planned.fails.lock().expect("no panic") = true;
    tasks.set("hello.toml", DAILY);
    let fault = publisher.publish(&hello).await.expect_err("a fault");
    assert_eq!(format!("{fault:#}"), "set the schedules of hello: the scheduler is down");
    assert_eq!(registry.live().version.settings.schedule.len(), 1);
    *planned.fails.lock().expect("no panic") = false;
    let again = publisher.publish_if_missed(&hello, Some(registry.live().version.published)).await;
    assert!(matches!(again.expect("no fault"), Some(Published::Unchanged(_))));
    assert_eq!(set().last(), Some(&("hello".to_owned(), 1)));

    // A newer version without schedules, and a task that is removed.
    tasks.set("hello.toml", "");
    publisher.publish(&hello).await.expect("no fault");
    assert_eq!(set().last(), Some(&("hello".to_owned(), 0)));
    tasks.set("hello.toml", DAILY);
    publisher.publish(&hello).await.expect("no fault");
    tasks.objects.lock().expect("no panic").clear();
    assert!(matches!(publisher.publish(&hello).await.expect("no fault"), Published::Removed(_)));
    assert_eq!(set()[set().len() - 2..], [("hello".to_owned(), 1), ("hello".to_owned(), 0)]);
}

#[tokio::test]
async fn the_schedules_of_a_newer_version_stay() {
    let planned = Planned::default();
    let (tasks, registry, publisher, hello) = set_up_with(Some(planned.clone()));
    tasks.set("hello.wasm", guest("hello"));
    tasks.set("hello.toml", DAILY);
    let newer = registry.clone();
    *planned.race.lock().expect("no panic") = Some(Box::new(move || {
        let mut record = newer.live();
        record.version.settings.schedule.clear();
        newer.set("live/hello.json", serde_json::to_vec(&record).expect("JSON"));
        // The history still has them.
        let mut older = record.version.clone();
        older.settings.schedule = toml_schedules();
        record.history.insert(0, older);
        newer.set("live/hello.json", serde_json::to_vec(&record).expect("JSON"));
    }));
    publisher.publish(&hello).await.expect("no fault");
    let set = planned.set.lock().expect("no panic").clone();
    assert_eq!(set, [("hello".to_owned(), 1), ("hello".to_owned(), 0)]);
}

fn toml_schedules() -> Vec<Schedule> {
    wasq_protocol::Settings::from_toml(DAILY).expect("valid").schedule
}

#[tokio::test]
async fn schedules_that_cannot_be_kept_are_refused() {
    let refused = async |scheduler, settings: &str| {
        let (tasks, _, publisher, hello) = set_up_with(scheduler);
        tasks.set("hello.wasm", guest("hello"));
        tasks.set("hello.toml", settings);
        match publisher.publish(&hello).await.expect("no fault") {
            Published::Rejected(rejection) => rejection.reason,
            other => panic!("not refused: {other:?}"),
        }
    };
    let some = || Some(Planned::default());
    assert_eq!(
        refused(None, DAILY).await,
        "hello.toml: schedule: this deployment has no scheduler; `wasq deploy` adds one"
    );
    assert_eq!(refused(some(), "[[schedule]]\nevery = '1m'").await, "hello.toml: every minute is too much");
    assert_eq!(
        refused(some(), "[[schedule]]\ncron = '@daily'\ntimezone = 'Mars/Olympus'").await,
        "hello.toml: timezone = \"Mars/Olympus\": there is no such time zone; write an IANA name such as \"Europe/Berlin\""
    );
}

/// A guest with a section `wasq:schema`.
fn with_schema(name: &str, content: &str) -> Vec<u8> {
    let mut section = b"\x0bwasq:schema".to_vec();
    section.extend(content.as_bytes());
    assert!(section.len() < 128, "its length is one byte");
    let mut wasm = guest(name);
    wasm.extend([0, section.len() as u8]);
    wasm.extend(section);
    wasm
}

#[tokio::test]
async fn a_schema_goes_live_with_its_module() {
    let (tasks, registry, publisher, hello) = set_up_with(Some(Planned::default()));
    tasks.set("hello.wasm", with_schema("hello", r#"{"params": {"required": ["user"]}}"#));
    assert!(matches!(publisher.publish(&hello).await.expect("no fault"), Published::Live(_)));
    assert_eq!(registry.live().version.schema, Some(serde_json::json!({"params": {"required": ["user"]}})));

    // A record is read all the time: it has the schema of the live version only.
    tasks.set("hello.wasm", with_schema("verbs", r#"{"params": {"required": ["verb"]}}"#));
    publisher.publish(&hello).await.expect("no fault");
    let record = registry.live();
    assert!(record.version.schema.is_some() && record.history.iter().all(|version| version.schema.is_none()));

    let refused = async |wasm: Vec<u8>, settings: &str| {
        tasks.set("hello.wasm", wasm);
        tasks.set("hello.toml", settings);
        match publisher.publish(&hello).await.expect("no fault") {
            Published::Rejected(rejection) => rejection.reason,
            other => panic!("not refused: {other:?}"),
        }
    };
    assert_eq!(
        refused(with_schema("hello", r#"{"params": {"type": "text"}}"#), "").await,
        "hello.wasm: wasq:schema: params/type: expected null, boolean, integer, number, string, array or object, or a list of them, got \"text\""
    );
    let schema = r#"{"params": {"required": ["user"]}}"#;
    assert_eq!(
        refused(with_schema("hello", schema), DAILY).await,
        "hello.toml: schedule hello: its params do not fit the schema of the task: at the whole: expected the key \"user\", got an empty object"
    );
}

/// A change that somebody made by writing this object.
fn change(name: &str, object: &[u8]) -> Change {
    let uploader =
        Uploader { name: name.to_owned(), etag: Digest::of(object).to_string(), at: SystemClock.now() };
    Change { task: "hello".parse().expect("a name"), uploaders: vec![uploader] }
}

#[tokio::test]
async fn a_version_says_its_size_its_tools_and_who_uploaded_it() {
    let (tasks, registry, publisher, hello) = set_up();
    let version = || (registry.live().version.version, registry.live().version.uploader);
    let of = |number, name: &str| (number, Some(name.to_owned()));
    let (first, second) = (guest("hello"), guest("verbs"));
    tasks.set("hello.wasm", first.clone());
    publisher.publish_change(&change("ana", &first)).await.expect("no fault");
    assert_eq!(version(), of(1, "ana"));
    let Version { bytes, made_with, .. } = registry.live().version;
    assert_eq!(bytes, Some(first.len() as u64));
    assert!(made_with.iter().any(|tool| tool.starts_with("wit-component ")), "{made_with:?}");

    // Settings make a version as well, and so does their removal, which has no uploader.
    let settings = b"timeout = \"7s\"";
    tasks.set("hello.toml", settings.as_slice());
    publisher.publish_change(&change("ben", settings)).await.expect("no fault");
    assert_eq!(version(), of(2, "ben"));
    tasks.delete("hello.toml").await.expect("no fault");
    publisher.publish_change(&Change { task: hello.clone(), uploaders: Vec::new() }).await.expect("no fault");
    assert_eq!(version(), (3, None));
    assert_eq!(registry.live().history[0].uploader.as_deref(), Some("ben"));

    // The new part decides, in whatever order the events come: here the settings are not new.
    tasks.set("hello.toml", settings.as_slice());
    publisher.publish_change(&change("ana", &first)).await.expect("no fault");
    assert_eq!(version(), (4, None), "ana wrote the module again, and the settings are new");
    tasks.set("hello.wasm", second.clone());
    let event = change("cem", &second);
    publisher.publish_change(&change("ben", settings)).await.expect("no fault");
    assert_eq!(version(), (5, None), "ben wrote the settings, and the module is new");

    // The event of the module comes last. Nothing else of the record changes.
    let before = registry.live();
    let published = publisher.publish_change(&event).await.expect("no fault");
    assert!(matches!(published, Published::Unchanged(_)));
    let named = Version { uploader: Some("cem".to_owned()), ..before.version.clone() };
    assert_eq!(registry.live(), LiveRecord { version: named, ..before });
}

#[tokio::test]
async fn a_later_upload_of_the_same_bytes_is_not_the_one_that_was_published() {
    let (tasks, registry, publisher, hello) = set_up();
    let module = guest("hello");
    tasks.set("hello.wasm", module.clone());
    publisher.publish(&hello).await.expect("no fault");
    let mut later = change("ana", &module);
    later.uploaders[0].at = SystemClock.now().plus(Duration::from_secs(1));
    publisher.publish_change(&later).await.expect("no fault");
    assert_eq!(registry.live().version.uploader, None);
}
