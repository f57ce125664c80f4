//! `wasq deploy`: creates the stack on AWS, or brings it up to date.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use wasq_engine::Platform;
use wasq_protocol::{Fingerprint, SecretSource, TaskName};
use wasq_telemetry::OtlpConfig;

use crate::cloud::{
    ARCHITECTURES, CodeBucket, Deployment, Functions, Namespace, PublisherFunction, Recompiled, Session,
    Stack,
};
use crate::output::{self, Ended, tell};
use crate::registry::Registry;
use crate::target::{Target, stack_name};

#[derive(Debug, clap::Args)]
pub(crate) struct Deploy {
    /// The stack's name; everything in it is named after it
    #[arg(long, default_value = "wasq", value_name = "NAME", env = "WASQ_STACK", value_parser = stack_name)]
    pub(crate) stack: String,
    /// The AWS region; without this, the region that the AWS CLI would use
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,
    /// The folder with the functions' zips, in its folders arm64 and x86_64; without this, the folder
    /// `functions` next to this command
    #[arg(long, value_name = "DIR")]
    pub(crate) functions: Option<PathBuf>,
    /// A bucket of yours for the zips; without this, one is made
    #[arg(long, value_name = "NAME")]
    pub(crate) code_bucket: Option<String>,
    /// A tag of the stack and of everything in it, such as team=data; can be given several times. Without any, the tags stay as
    /// they are
    #[arg(long, value_name = "KEY=VALUE", value_parser = tag)]
    pub(crate) tag: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) options: StackOptions,
}

fn tag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, _)) if key.is_empty() || key.starts_with("aws:") => {
            Err("a tag's key must not be empty, nor begin with aws:".to_owned())
        }
        Some((key, value)) => Ok((key.to_owned(), value.to_owned())),
        None => Err("expected KEY=VALUE, such as team=data".to_owned()),
    }
}

/// The template's parameters.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct StackOptions {
    /// The functions' processor [default: arm64]
    #[arg(long, value_parser = ARCHITECTURES)]
    pub(crate) arch: Option<String>,
    /// How messages get to the worker. window: a consumer waits for them all the time; until-empty: it looks once a minute,
    /// which is the cheapest; event-source: Lambda polls by itself [default: window]
    #[arg(long, value_parser = ["window", "until-empty", "event-source"])]
    mode: Option<String>,
    /// The upper limit for the time that a task may run [default: 5m]
    #[arg(long, value_parser = ["1m", "5m", "14m"])]
    longest_task: Option<String>,
    /// Number of workers that may run at once, reserved for wasq; 0 shares the account's concurrency
    /// [default: 0]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=1000))]
    concurrency: Option<u32>,
    /// Tasks that one worker runs at once [default: 10]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    tasks_per_worker: Option<u32>,
    /// The worker's memory in MB, for all tasks that it runs at once [default: 1769]
    #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u32).range(256..=10240))]
    worker_memory: Option<u32>,
    /// The upper limit for the memory that a task may have, such as 512MiB [default: 512MiB]
    #[arg(long, value_name = "SIZE")]
    largest_task: Option<String>,
    /// on: a table remembers every run, its state, attempts, steps and result, for two writes of DynamoDB each; off: nothing
    /// does, and tasks with once or with steps wait
    /// [default: on for a new deployment]
    #[arg(long, value_parser = ["on", "off"])]
    runs: Option<String>,
    /// The upper limit for the time that the end of a run is remembered, such as 12h or 30d [default: 30d]
    #[arg(long, value_name = "DURATION")]
    longest_keep: Option<String>,
    /// Addresses that tasks may reach in addition to the public internet, such as 10.0.0.0/8, separated by
    /// commas; "" for none [default: none]
    #[arg(long, value_name = "RANGES", alias = "allow-address")]
    allow_addresses: Option<String>,
    /// Subnets that workers run in, separated by commas, so that tasks reach private addresses; "" for none. They need a way to
    /// SQS, S3, Lambda and DynamoDB, by a NAT gateway or by endpoints [default: none]
    #[arg(long, value_name = "IDS")]
    subnets: Option<String>,
    /// The security groups of the workers in these subnets, separated by commas [default: none]
    #[arg(long, value_name = "IDS")]
    security_groups: Option<String>,
    /// A policy that the functions' roles cannot exceed, such as one made of boundary-policy.json; "" for none [default: none]
    #[arg(long, value_name = "ARN")]
    permissions_boundary: Option<String>,
    /// The KMS key that secrets of tasks are encrypted with; "" for the account's own [default: the account's own]
    #[arg(long, value_name = "ARN")]
    secrets_key: Option<String>,
    /// The namespace of the buckets' names: nobody else can take those of account-regional. Only for new stacks [default:
    /// account-regional, if the region has it and the stack's name has 23 characters at most]
    #[arg(long, value_parser = ["global", "account-regional"])]
    bucket_namespace: Option<String>,
    /// The KMS key that queues and buckets are encrypted with; "" for the keys that SQS and S3 own. Senders and uploaders need
    /// kms:Decrypt and kms:GenerateDataKey for it [default: keys of SQS and S3]
    #[arg(long, value_name = "ARN")]
    key: Option<String>,
    /// The CloudWatch metrics. off: none; function: for all tasks together; task: for each task as well (each
    /// metric is billed) [default: function]
    #[arg(long, value_parser = ["off", "function", "task"])]
    metrics: Option<String>,
    /// A collector of OpenTelemetry that gets traces and metrics of runs (OTLP over HTTP), such as `https://otlp.example.com`;
    /// cloudwatch for CloudWatch's own, which takes traces; "" for none [default: none]
    #[arg(long, value_name = "URL", value_parser = otlp_endpoint)]
    otlp_endpoint: Option<String>,
    /// A secret with the headers that the collector wants, as name=value,name=value: ssm:/STACK/NAME or secretsmanager:STACK/NAME;
    /// "" for none [default: none]
    #[arg(long, value_name = "SECRET", value_parser = otlp_headers_secret)]
    otlp_headers_secret: Option<String>,
    /// How long logs are kept, in days [default: 30]
    #[arg(long, value_name = "DAYS")]
    log_retention: Option<u32>,
    /// The SNS topic that alarms are sent to
    #[arg(long, value_name = "ARN")]
    alarm_topic: Option<String>,
}

/// Checks the address of a collector: a worker with a wrong one would not start.
fn otlp_endpoint(text: &str) -> Result<String, String> {
    match text {
        "" | "cloudwatch" => Ok(text.to_owned()),
        url => OtlpConfig::read(url, "").map(|_| url.to_owned()),
    }
}

fn otlp_headers_secret(text: &str) -> Result<String, String> {
    match text {
        "" => Ok(String::new()),
        secret => secret.parse::<SecretSource>().map(|_| secret.to_owned()),
    }
}

impl StackOptions {
    /// The values that were given, by the names of the template's parameters.
    pub(crate) fn parameters(self) -> BTreeMap<&'static str, String> {
        let Self {
            arch,
            mode,
            longest_task,
            concurrency,
            tasks_per_worker,
            worker_memory,
            largest_task,
            runs,
            longest_keep,
            allow_addresses,
            subnets,
            security_groups,
            permissions_boundary,
            secrets_key,
            bucket_namespace,
            key,
            metrics,
            otlp_endpoint,
            otlp_headers_secret,
            log_retention,
            alarm_topic,
        } = self;
        let number = |number: Option<u32>| number.map(|number| number.to_string());
        let given = [
            ("Architecture", arch),
            ("Mode", mode),
            ("LongestTask", longest_task),
            ("Concurrency", number(concurrency)),
            ("TasksPerWorker", number(tasks_per_worker)),
            ("WorkerMemory", number(worker_memory)),
            ("LargestTask", largest_task),
            ("Runs", runs),
            ("LongestKeep", longest_keep),
            ("AllowAddresses", allow_addresses),
            ("Subnets", subnets),
            ("SecurityGroups", security_groups),
            ("PermissionsBoundary", permissions_boundary),
            ("SecretsKey", secrets_key),
            ("BucketNamespace", bucket_namespace),
            ("Key", key),
            ("Metrics", metrics),
            ("OtlpEndpoint", otlp_endpoint),
            ("OtlpHeadersSecret", otlp_headers_secret),
            ("LogRetention", number(log_retention)),
            ("AlarmTopic", alarm_topic),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

pub(crate) async fn deploy(args: Deploy, json: bool) -> Result<Ended> {
    let Deploy { stack, region, functions, code_bucket, tag: tags, options } = args;
    let session = Session::open(region).await?;
    let identity = session.identity().await?;
    let stack = Stack::new(session.clone(), stack);
    // Find errors on this machine before anything on AWS is changed.
    let before = stack.describe().await?;
    let architecture =
        options.arch.clone().or_else(|| before.as_ref()?.parameters.get("Architecture").cloned());
    let architecture = architecture.unwrap_or_else(|| "arm64".to_owned());
    let functions = Functions::read(functions, &architecture)?;

    tell!("Deploying {} to account {} in {}", stack.name, identity.account, session.region);
    let code_bucket = code_bucket
        .or_else(|| before.as_ref()?.parameters.get("CodeBucket").cloned())
        .unwrap_or_else(|| CodeBucket::name(&stack.name, &identity.account, &session.region));
    let code = CodeBucket::open(&session, code_bucket, &identity.account).await?;
    code.upload(&functions).await?;

    let settled = stack.settle().await?;
    let asked = options.bucket_namespace.as_deref().map(Namespace::named);
    // A stack that was interrupted while it took over its buckets has neither outputs nor parameters, but it has the buckets.
    let (namespace, kept) = match &settled {
        Some(now) => {
            (now.resources().await?.get("TasksBucket").map(|bucket| Namespace::of(bucket)), Vec::new())
        }
        None => {
            let new = asked.unwrap_or_else(|| Namespace::for_new(&stack.name, &session.region));
            let kept = stack.kept(&identity, new).await?;
            let bucket = kept.iter().find(|kept| kept.property == "BucketName");
            (Some(bucket.map_or(new, |bucket| Namespace::of(&bucket.name))), kept)
        }
    };
    if let (Some(asked), Some(namespace)) = (asked, namespace) {
        ensure!(
            asked == namespace,
            "--bucket-namespace is for new stacks: the buckets of {} are in the namespace {}, and keep their names",
            stack.name,
            namespace.as_str()
        );
    }
    let mut is_there = settled.is_some();
    let takes_over = !kept.is_empty();
    if takes_over {
        let names: Vec<_> = kept.iter().map(|kept| kept.name.as_str()).collect();
        tell!("  an earlier stack has kept {}; taking them over with their contents", names.join(", "));
        stack.adopt(&kept).await?;
        is_there = true;
    }
    // The earlier parameters stay, even if the stack had to be removed first.
    let mut parameters: BTreeMap<String, String> = before.map(|before| before.parameters).unwrap_or_default();
    if parameters.is_empty() {
        // It is new. A deployment of an earlier version goes on without the table until somebody asks for it.
        parameters.insert("Runs".to_owned(), "on".to_owned());
    }
    let earlier_key = parameters.get("Key").cloned().unwrap_or_default();
    parameters.extend(options.parameters().into_iter().map(|(name, value)| (name.to_owned(), value)));
    if let Some(namespace) = namespace {
        parameters.insert("BucketNamespace".to_owned(), namespace.as_str().to_owned());
    }
    check_key(&stack.name, &earlier_key, &parameters)?;
    check_headers_secret(&stack.name, &parameters)?;
    parameters.insert("Architecture".to_owned(), architecture);
    parameters.insert("CodeBucket".to_owned(), code.name.clone());
    parameters.insert("CodePrefix".to_owned(), functions.prefix.clone());
    // These parameters belong to the first step of an upgrade. This update is the last step.
    for (parameter, _) in PUBLISHER_FIRST {
        parameters.remove(parameter);
    }
    reserve(&session, &stack.name, &mut parameters).await?;
    if let Some(settled) = settled {
        compile_ahead(&stack, settled, &parameters).await?;
    }
    let changed = stack.apply(is_there, &parameters, &tags).await?;
    if !changed {
        tell!("  nothing to change");
    }

    let deployment = stack.find().await.context("after the deployment")?;
    if takes_over {
        // The schedules of the earlier stack went with it, and its tasks are there.
        if let Err(e) = PublisherFunction::of(&stack).sweep().await {
            tell!("wasq: the schedules of the tasks are set within an hour, and not at once: {e:#}");
        }
    }
    if json {
        output::value(&json!({
            "stack": stack.name,
            "region": session.region,
            "account": identity.account,
            "changed": changed,
            "parameters": deployment.parameters,
            "outputs": deployment.outputs,
        }));
        return Ok(Ended::Well);
    }
    let (queue, tasks) = (deployment.output("QueueUrl")?, deployment.output("TasksBucketName")?);
    let (name, region) = (&stack.name, &session.region);
    output::text(&format!(
        "{name} is deployed.\n  \
         queue         {queue}\n  \
         dead letters  {}\n  \
         tasks         s3://{tasks} (put NAME.wasm here, and NAME.toml beside it)\n\n\
         Try it:\n  \
         aws s3 cp hello.wasm s3://{tasks}/ --region {region}\n  \
         aws sqs send-message --region {region} --queue-url {queue} --message-body '{{\"task\": \"hello\", \"params\": {{}}}}'\n  \
         wasq logs --stack {name} --region {region} --follow\n\
         Then: wasq status, wasq doctor, wasq tasks, wasq dlq ls, all with --stack {name} --region {region}\n",
        deployment.output("DeadLetterUrl")?
    ));
    Ok(Ended::Well)
}

/// Refuses another key than the one that everything is encrypted with: the functions could not read it any more.
fn check_key(stack: &str, earlier: &str, parameters: &BTreeMap<String, String>) -> Result<()> {
    let key = parameters.get("Key").map_or("", String::as_str);
    ensure!(
        earlier.is_empty() || key == earlier,
        "--key: the queues and buckets of {stack} are encrypted with {earlier}, and keep it; KMS itself can rotate a key. Deploy another stack for another key"
    );
    Ok(())
}

/// Refuses a secret that the worker's role cannot read.
fn check_headers_secret(stack: &str, parameters: &BTreeMap<String, String>) -> Result<()> {
    let secret = parameters.get("OtlpHeadersSecret").map_or("", String::as_str);
    let places = [format!("ssm:/{stack}/"), format!("secretsmanager:{stack}/")];
    ensure!(
        secret.is_empty() || places.iter().any(|place| secret.starts_with(place)),
        "--otlp-headers-secret: the worker can read only secrets whose names begin with the stack's: {} or {}, and not {secret}",
        places[0],
        places[1]
    );
    Ok(())
}

/// The concurrency that Lambda keeps unreserved in every account.
const UNRESERVED_MIN: i32 = 100;

/// The places that a consumer and its successor need, while the one ends and the other begins.
const CONSUMERS: i32 = 2;

/// Reserves concurrency for the consumer, if the account has enough. Refuses a reservation for the worker that Lambda would refuse
/// in the middle of the deployment.
async fn reserve(session: &Session, stack: &str, parameters: &mut BTreeMap<String, String>) -> Result<()> {
    const CONSUMER: &str = "ConsumerConcurrency";
    let wanted = parameters.get("Concurrency").and_then(|text| text.parse::<i32>().ok()).unwrap_or(0);
    let lambda = aws_sdk_lambda::Client::new(&session.sdk);
    // A deployer may not be allowed to ask. CloudFormation then says it, later.
    let Ok(account) = lambda.get_account_settings().send().await else { return Ok(()) };
    let Some(limit) = account.account_limit else { return Ok(()) };
    let reserved = async |function: &str| {
        let name = format!("{stack}-{function}");
        let ours = lambda.get_function_concurrency().function_name(name).send().await;
        ours.ok().and_then(|ours| ours.reserved_concurrent_executions).unwrap_or(0)
    };
    let free = limit.unreserved_concurrent_executions.unwrap_or(limit.concurrent_executions);
    // The consumer keeps its own until the worker has what it wants: CloudFormation changes the worker first.
    let most = free + reserved("worker").await - UNRESERVED_MIN;
    ensure!(
        wanted == 0 || wanted <= most,
        "--concurrency {wanted}: Lambda keeps {UNRESERVED_MIN} of the account's {} concurrent executions unreserved, so {} can be reserved; ask AWS for a higher quota, or give a lower number",
        limit.concurrent_executions,
        most.max(0)
    );
    let scheduled = parameters.get("Mode").is_none_or(|mode| mode != "event-source");
    let consumers =
        if scheduled && wanted + CONSUMERS <= most + reserved("consumer").await { CONSUMERS } else { 0 };
    if scheduled && consumers == 0 {
        tell!(
            "  nothing is reserved for the consumer: of the account's {} concurrent executions, Lambda keeps {UNRESERVED_MIN} for all functions. Busy workers can keep the consumer from starting; ask AWS for a higher quota",
            limit.concurrent_executions
        );
    }
    parameters.insert(CONSUMER.to_owned(), consumers.to_string());
    Ok(())
}

/// The parameters for the publisher's code in the first step of an upgrade, each with the parameter of the
/// last step that has its value.
const PUBLISHER_FIRST: [(&str, &str); 3] = [
    ("PublisherCodePrefix", "CodePrefix"),
    ("PublisherCodeBucket", "CodeBucket"),
    ("PublisherArchitecture", "Architecture"),
];

/// Lets the newer publisher compile the live tasks before newer workers start, if the engine has changed.
/// Otherwise every task would wait for its compilation when its first message comes. Until then, the older
/// workers continue with the artifacts that they have.
async fn compile_ahead(
    stack: &Stack,
    before: Deployment,
    parameters: &BTreeMap<String, String>,
) -> Result<()> {
    let architecture = parameters.get("Architecture").map(String::as_str);
    let platform =
        if architecture == Some("x86_64") { Platform::LINUX_X86_64 } else { Platform::LINUX_ARM64 };
    let fingerprint = platform.fingerprint();
    // A stack that has no registry yet has no tasks either.
    let Ok(registry) = Registry::of(&Target::Aws(Box::new(before.clone()))) else {
        return Ok(());
    };
    if waiting(&registry, &fingerprint).await?.is_empty() {
        return Ok(());
    }
    let [(first_of_all, _), ..] = PUBLISHER_FIRST;
    if !before.parameters.contains_key(first_of_all) {
        tell!("  the engine has changed: each task is compiled for it when its next message comes");
        return Ok(());
    }
    tell!("  the engine has changed: tasks are compiled for it before its workers start");
    let mut first = before.parameters.clone();
    for (step, last) in PUBLISHER_FIRST {
        first.insert(step.to_owned(), parameters[last].clone());
    }
    stack.apply_to_its_template(&first).await.context("put the newer publisher before the newer workers")?;
    let compiled = compile_all(stack, &registry, &fingerprint).await;
    if compiled.is_err() {
        // The older workers cannot run the artifacts of the newer publisher.
        let mut back = before.parameters;
        back.insert(first_of_all.to_owned(), String::new());
        if let Err(e) = stack.apply_to_its_template(&back).await {
            tell!(
                "  the older publisher could not be put back, and uploads wait until you deploy again: {e:#}"
            );
        }
    }
    compiled
}

async fn compile_all(stack: &Stack, registry: &Registry, fingerprint: &Fingerprint) -> Result<()> {
    let publisher = PublisherFunction::of(stack);
    let mut refused = Vec::new();
    // List the tasks again: one may have been published since the first look.
    for task in waiting(registry, fingerprint).await? {
        if let Recompiled::Refused(why) = publisher.compile(&task).await? {
            refused.push(format!("{task}: {why}"));
            continue;
        }
        let live = registry.task(&task).await?.live;
        if live.is_some_and(|record| !record.version.artifacts.contains_key(fingerprint)) {
            tell!(
                "  these functions come from another release than this command: each task is compiled when its next message comes"
            );
            return Ok(());
        }
        tell!("  {task} is compiled");
    }
    ensure!(
        refused.is_empty(),
        "the older workers go on, because the newer engine does not take all tasks:\n  {}\nupload another version of these, or remove them by `wasq rm`; then deploy again",
        refused.join("\n  ")
    );
    Ok(())
}

/// The tasks that are live and not compiled for an engine.
async fn waiting(registry: &Registry, fingerprint: &Fingerprint) -> Result<Vec<TaskName>> {
    let listed = registry.tasks().await.context("look for tasks that are live")?;
    let live = listed.into_iter().filter_map(|listed| listed.live);
    let without = live.filter(|record| !record.version.artifacts.contains_key(fingerprint));
    Ok(without.map(|record| record.task).collect())
}
