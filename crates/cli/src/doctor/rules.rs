//! The rules for settings that would lose, duplicate or expose something. ARCHITECTURE.md ("The promise")
//! says why each value matters.

use std::time::Duration;

use wasq_protocol::{LEASE_BY_DEFAULT, RETENTION_BY_DEFAULT, format_duration, parse_duration};

use crate::doctor::live::{
    BucketSettings, Deployed, FunctionSettings, Live, Place, QueueSettings, RoleSettings,
};

/// A setting or a resource that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) effect: Effect,
    /// The resource.
    pub(crate) resource: String,
    /// The problem with the resource.
    pub(crate) problem: String,
    /// A command that fixes it, or advice.
    pub(crate) mend: String,
}

/// The effect of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// Messages are lost.
    Loses,
    /// Nothing runs, or nothing goes live.
    Stops,
    /// Tasks run more than once for no good reason.
    Duplicates,
    /// Somebody has access that they should not have.
    Exposes,
}

impl Effect {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Loses => "loses",
            Self::Stops => "stops",
            Self::Duplicates => "duplicates",
            Self::Exposes => "exposes",
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A message may wait up to 4 days for a retry or for its time.
const RETENTION_MIN: Duration = DAY.saturating_mul(4);
/// The longest retention that SQS allows.
const DEAD_LETTER_RETENTION: Duration = DAY.saturating_mul(14);
const RECEIVES: u32 = 1000;
/// The time that the worker needs to say how a run ended.
const WORKER_MARGIN: Duration = Duration::from_secs(5);

/// Returns all findings.
pub(crate) fn examine(live: &Live) -> Vec<Finding> {
    let mut found = Findings { place: &live.place, found: Vec::new() };
    for missing in &live.missing {
        let problem = "it belongs to the stack, and is not there".to_owned();
        let mend = "`wasq destroy`, then `wasq deploy`, creates it again; queues and buckets stay, with their contents";
        found.add(Effect::Stops, missing, problem, mend.to_owned());
    }
    queues(live, &mut found);
    if let Some(deployed) = &live.deployed {
        // There are no findings about parts that could not be read.
        if !deployed.worker.name.is_empty() {
            leases(live, deployed, &mut found);
            worker(deployed, &mut found);
            intake(live, deployed, &mut found);
        }
        roles(deployed, &mut found);
        bucket("tasks bucket", &deployed.tasks_bucket, &mut found);
        bucket("registry bucket", &deployed.registry_bucket, &mut found);
        registry(deployed, &mut found);
    }
    let mut found = found.found;
    found.sort_by_key(|finding| finding.effect);
    found
}

struct Findings<'a> {
    place: &'a Place,
    found: Vec<Finding>,
}

impl Findings<'_> {
    /// Adds a finding. `mend` is a command, which gets the options of `place`, or advice in words.
    fn add(&mut self, effect: Effect, resource: impl Into<String>, problem: String, mend: String) {
        let Place { aws, wasq } = self.place;
        let mend = match (mend.strip_prefix("aws "), mend.strip_prefix("wasq ")) {
            (Some(rest), _) => format!("aws {aws} {rest}"),
            (_, Some(rest)) => match rest.split_once(' ') {
                Some((command, rest)) => format!("wasq {command} {wasq} {rest}"),
                None => format!("wasq {rest} {wasq}"),
            },
            (None, None) => mend,
        };
        self.found.push(Finding { effect, resource: resource.into(), problem, mend });
    }
}

fn set_queue(queue: &QueueSettings, attribute: &str) -> String {
    format!("aws sqs set-queue-attributes --queue-url {} --attributes {attribute}", queue.url)
}

fn queues(live: &Live, found: &mut Findings<'_>) {
    let (queue, letters) = (&live.queue, &live.dead_letters);
    let name = |queue: &QueueSettings| format!("queue {}", queue.name);
    if queue.retention < RETENTION_MIN {
        let problem = format!(
            "it keeps messages for {}, then SQS deletes them; a message may wait up to 4 days for a retry or for its time",
            format_duration(queue.retention)
        );
        found.add(Effect::Loses, name(queue), problem, set_queue(queue, "MessageRetentionPeriod=1209600"));
    }
    let letters_are_there = !letters.name.is_empty();
    if letters_are_there && letters.retention < DEAD_LETTER_RETENTION {
        let problem = format!(
            "it keeps dead letters for {}, counted from the first send; 14 days is the most there is",
            format_duration(letters.retention)
        );
        found.add(
            Effect::Loses,
            name(letters),
            problem,
            set_queue(letters, "MessageRetentionPeriod=1209600"),
        );
    }
    let redrive = serde_json::json!({ "deadLetterTargetArn": letters.arn, "maxReceiveCount": RECEIVES });
    let redrive = serde_json::json!({ "RedrivePolicy": redrive.to_string() });
    let mend = set_queue(queue, &format!("'{redrive}'"));
    match &queue.redrive {
        // Without a dead-letter queue no policy can be set. It is reported as missing, or as not read.
        _ if !letters_are_there => {}
        None => {
            let problem = "it has no redrive policy: a message that kills its worker every time comes again until it expires".to_owned();
            found.add(Effect::Loses, name(queue), problem, mend);
        }
        Some(redrive) if redrive.target_arn != letters.arn => {
            let problem = format!("its redrive policy names {}, not {}", redrive.target_arn, letters.arn);
            found.add(Effect::Loses, name(queue), problem, mend);
        }
        Some(redrive) if redrive.receives_max < RECEIVES => {
            let problem = format!(
                "its redrive policy moves a message after {} receives; a healthy message may need more, because of waiting, retries and crashes",
                redrive.receives_max
            );
            found.add(Effect::Loses, name(queue), problem, mend);
        }
        Some(_) => {}
    }
    for queue in [queue, letters].into_iter().filter(|queue| !queue.name.is_empty()) {
        if queue.policy.iter().any(|statement| statement.is_public()) {
            let problem = "its policy lets everybody use it".to_owned();
            found.add(Effect::Exposes, name(queue), problem, set_queue(queue, "Policy="));
        }
        if live.deployed.is_some() && !queue.encrypted {
            let mend = set_queue(queue, "SqsManagedSseEnabled=true");
            found.add(Effect::Exposes, name(queue), "it is not encrypted".to_owned(), mend);
        }
    }
}

/// A duration in a function's environment.
fn duration(function: &FunctionSettings, name: &str) -> Option<Duration> {
    function.variable(name).and_then(|text| parse_duration(text).ok())
}

/// Checks that queue, consumer and worker have the same lease.
fn leases(live: &Live, deployed: &Deployed, found: &mut Findings<'_>) {
    let (queue, worker) = (&live.queue, &deployed.worker);
    let queue_name = format!("queue {}", queue.name);
    let lease = duration(worker, "WASQ_LEASE").unwrap_or(LEASE_BY_DEFAULT);
    let mut mappings = deployed.mappings.iter().flatten();
    let polled = mappings.any(|mapping| mapping.function == worker.name);
    let mend = set_queue(queue, &format!("VisibilityTimeout={}", lease.as_secs()));
    if polled && queue.visibility < worker.timeout {
        let problem = format!(
            "its visibility timeout is {}, less than the worker's timeout of {}: messages come again while they run",
            format_duration(queue.visibility),
            format_duration(worker.timeout)
        );
        found.add(Effect::Duplicates, queue_name, problem, mend);
    } else if queue.visibility != lease {
        let problem = format!(
            "its visibility timeout is {}, but the worker's WASQ_LEASE says {}",
            format_duration(queue.visibility),
            format_duration(lease)
        );
        found.add(Effect::Duplicates, queue_name, problem, mend);
    }
    if let Some(consumer) = deployed.consumer.as_ref().filter(|consumer| !consumer.name.is_empty())
        && duration(consumer, "WASQ_LEASE").unwrap_or(LEASE_BY_DEFAULT) != lease
    {
        let problem = format!(
            "its WASQ_LEASE is {}, the worker's is {}",
            consumer.variable("WASQ_LEASE").unwrap_or("not set"),
            format_duration(lease)
        );
        let mend = "set both to the same value by `wasq deploy --longest-task`, or by hand".to_owned();
        found.add(Effect::Duplicates, function_name(consumer), problem, mend);
    }
    let retention = duration(worker, "WASQ_RETENTION").unwrap_or(RETENTION_BY_DEFAULT);
    if retention > queue.retention {
        let problem = format!(
            "its WASQ_RETENTION is {}, but the queue keeps messages for {}: they expire before the worker moves them to the dead-letter queue",
            format_duration(retention),
            format_duration(queue.retention)
        );
        let mend = set_queue(queue, &format!("MessageRetentionPeriod={}", retention.as_secs()));
        found.add(Effect::Loses, function_name(worker), problem, mend);
    }
}

fn function_name(function: &FunctionSettings) -> String {
    format!("function {}", function.name)
}

fn worker(deployed: &Deployed, found: &mut Findings<'_>) {
    let worker = &deployed.worker;
    for function in
        [Some(worker), deployed.consumer.as_ref(), Some(&deployed.publisher)].into_iter().flatten()
    {
        if function.reserved == Some(0) {
            let problem = "its reserved concurrency is 0: Lambda drops its events".to_owned();
            let mend = format!("aws lambda delete-function-concurrency --function-name {}", function.name);
            found.add(Effect::Stops, function_name(function), problem, mend);
        }
    }
    let name = &worker.name;
    let invokes = format!(
        "aws lambda put-function-event-invoke-config --function-name {name} --maximum-retry-attempts 0 --maximum-event-age-in-seconds 60"
    );
    if worker.retries > 0 {
        let problem = format!(
            "Lambda repeats its asynchronous invokes {} times, after their leases have ended; the queue already repeats messages",
            worker.retries
        );
        found.add(Effect::Duplicates, function_name(worker), problem, invokes.clone());
    }
    let lease = duration(worker, "WASQ_LEASE").unwrap_or(LEASE_BY_DEFAULT);
    if worker.event_age >= lease {
        let problem = format!(
            "Lambda keeps events for up to {}, longer than a lease of {}: they arrive when another worker has their messages",
            format_duration(worker.event_age),
            format_duration(lease)
        );
        found.add(Effect::Duplicates, function_name(worker), problem, invokes);
    }
    if !worker.may_recur {
        let problem = "Lambda's recursive loop detection is on: a chain of child tasks is cut after about 16"
            .to_owned();
        let mend =
            format!("aws lambda put-function-recursion-config --function-name {name} --recursive-loop Allow");
        found.add(Effect::Loses, function_name(worker), problem, mend);
    }
    let longest = duration(worker, "WASQ_MAX_TIMEOUT").unwrap_or(Duration::from_secs(14 * 60));
    if worker.timeout < longest + WORKER_MARGIN {
        let problem = format!(
            "its timeout is {}, and tasks may take {}: Lambda stops it before it can say how they ended",
            format_duration(worker.timeout),
            format_duration(longest)
        );
        let seconds = (longest + 2 * WORKER_MARGIN).as_secs();
        let mend =
            format!("aws lambda update-function-configuration --function-name {name} --timeout {seconds}");
        found.add(Effect::Duplicates, function_name(worker), problem, mend);
    }
    let in_flight = deployed.consumer.as_ref().and_then(|consumer| consumer.variable("WASQ_IN_FLIGHT_MAX"));
    if let (Some(reserved @ 1..), Some(in_flight)) = (worker.reserved, in_flight)
        && in_flight.parse().is_ok_and(|in_flight: u32| in_flight > reserved)
    {
        let problem = format!(
            "{reserved} workers may run at once, but the consumer hands over up to {in_flight} messages: their events wait until Lambda drops them"
        );
        let mend = format!("wasq deploy --concurrency {reserved}");
        found.add(Effect::Duplicates, function_name(worker), problem, mend);
    }
}

/// How messages get to the worker.
fn intake(live: &Live, deployed: &Deployed, found: &mut Findings<'_>) {
    let worker = &deployed.worker;
    for mapping in deployed.mappings.iter().flatten() {
        let resource = format!("event source mapping {}", mapping.id);
        if mapping.function != worker.name {
            let problem = format!("the function {} takes messages from the queue as well", mapping.function);
            let mend = format!("aws lambda delete-event-source-mapping --uuid {}", mapping.id);
            found.add(Effect::Loses, resource, problem, mend);
            continue;
        }
        if !mapping.reports_failures {
            let problem =
                "it does not look at which messages failed: Lambda deletes them with the others".to_owned();
            let mend = format!(
                "aws lambda update-event-source-mapping --uuid {} --function-response-types ReportBatchItemFailures",
                mapping.id
            );
            found.add(Effect::Loses, resource.clone(), problem, mend);
        }
        if !mapping.enabled && deployed.consumer.is_none() {
            let problem = "it is disabled: nothing is drained, and messages expire".to_owned();
            found.add(Effect::Stops, resource, problem, "wasq resume".to_owned());
        }
    }
    match (&deployed.consumer, &deployed.schedule) {
        (Some(_), Some(schedule)) => {
            let resource = format!("schedule {}", schedule.name);
            if schedule.name.is_empty() {
                // Not read.
            } else if !schedule.enabled {
                let problem = "it is disabled: nothing is drained, and messages expire".to_owned();
                found.add(Effect::Stops, resource, problem, "wasq resume".to_owned());
            } else if schedule.expression != "rate(1 minute)" {
                let problem = format!(
                    "it wakes the consumer at {}; between the consumer's runs nothing is drained",
                    schedule.expression
                );
                let mend = "set it to rate(1 minute); a consumer runs for a minute".to_owned();
                found.add(Effect::Stops, resource, problem, mend);
            }
        }
        (None, _)
            if deployed
                .mappings
                .as_ref()
                .is_some_and(|mappings| !mappings.iter().any(|mapping| mapping.function == worker.name)) =>
        {
            let problem = "neither a consumer nor an event source mapping drains it".to_owned();
            let mend = "wasq deploy --mode window".to_owned();
            found.add(Effect::Stops, format!("queue {}", live.queue.name), problem, mend);
        }
        // An absent schedule is reported as a missing resource of the stack.
        (Some(_), None) | (None, _) => {}
    }
    let expected = [
        ("WASQ_QUEUE_URL", &live.queue.url),
        ("WASQ_DEAD_LETTER_URL", &live.dead_letters.url),
        ("WASQ_REGISTRY_BUCKET", &deployed.registry_bucket.name),
    ];
    for (variable, expected) in expected {
        if worker.variable(variable) != Some(expected) {
            let problem = format!(
                "its {variable} is {}, not {expected}",
                worker.variable(variable).unwrap_or("not set")
            );
            let mend = "set it in Lambda's console".to_owned();
            found.add(Effect::Loses, function_name(worker), problem, mend);
        }
    }
}

fn roles(deployed: &Deployed, found: &mut Findings<'_>) {
    for RoleSettings { whose, name, statements, attached } in &deployed.roles {
        let resource = format!("role {name}");
        for policy in attached {
            let problem = format!("the {whose}'s role has {policy} in addition to its own policy");
            let mend = format!("aws iam detach-role-policy --role-name {name} --policy-arn {policy}");
            found.add(Effect::Exposes, &resource, problem, mend);
        }
        let registry = &deployed.registry_bucket.arn;
        let mend = || {
            format!(
                "aws iam list-role-policies --role-name {name}, and delete the policies that are not in deploy/template.yaml"
            )
        };
        for statement in statements {
            let writes = ["s3:PutObject", "s3:DeleteObject"].iter().any(|action| statement.covers(action));
            if let Some(problem) = statement.too_wide() {
                found.add(
                    Effect::Exposes,
                    &resource,
                    format!("the {whose}'s role is too wide: {problem}"),
                    mend(),
                );
            } else if *whose != "publisher" && statement.allows && writes && statement.reaches(registry) {
                let problem =
                    format!("the {whose} may write the registry, and so run any code in every worker");
                found.add(Effect::Exposes, &resource, problem, mend());
            }
        }
    }
}

fn bucket(what: &str, bucket: &BucketSettings, found: &mut Findings<'_>) {
    let (name, resource) = (&bucket.name, format!("{what} {}", bucket.name));
    if name.is_empty() {
        return;
    }
    if !bucket.closed_to_public {
        let problem = "it is not closed to the public".to_owned();
        let mend = format!(
            "aws s3api put-public-access-block --bucket {name} --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
        );
        found.add(Effect::Exposes, &resource, problem, mend);
    }
    let template = "take the bucket's policy from deploy/template.yaml".to_owned();
    if bucket.policy.iter().any(|statement| statement.is_public()) {
        let problem = "its policy lets everybody use it".to_owned();
        found.add(Effect::Exposes, &resource, problem, template.clone());
    }
    let tls = bucket.policy.iter().any(|statement| {
        !statement.allows
            && statement.covers("s3:GetObject")
            && statement.condition_on("aws:SecureTransport").is_some()
    });
    if !tls {
        let problem = "its policy does not refuse requests without TLS".to_owned();
        found.add(Effect::Exposes, &resource, problem, template);
    }
    if !bucket.encrypted {
        let mend = format!(
            "aws s3api put-bucket-encryption --bucket {name} --server-side-encryption-configuration '{{\"Rules\": [{{\"ApplyServerSideEncryptionByDefault\": {{\"SSEAlgorithm\": \"AES256\"}}}}]}}'"
        );
        found.add(Effect::Exposes, &resource, "it is not encrypted".to_owned(), mend);
    }
    if !bucket.versioned {
        let problem = "it keeps no earlier versions: overwritten objects are lost".to_owned();
        let mend = format!(
            "aws s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled"
        );
        found.add(Effect::Loses, &resource, problem, mend);
    }
}

fn registry(deployed: &Deployed, found: &mut Findings<'_>) {
    let Deployed { registry_bucket: registry, publisher, tasks_bucket, .. } = deployed;
    let resource = format!("registry bucket {}", registry.name);
    let template = "take the bucket's policy from deploy/template.yaml".to_owned();
    // The policy refuses everybody except the role of this name.
    let role = deployed.roles.iter().find(|role| role.whose == "publisher").map(|role| role.name.as_str());
    let but_for = |condition: String| role.is_none_or(|role| condition.contains(&format!(":role/{role}\"")));
    let guarded = registry.policy.iter().any(|statement| {
        !statement.allows
            && statement.covers("s3:PutObject")
            && statement.condition_on("aws:PrincipalArn").is_some_and(but_for)
    });
    if !guarded && !registry.name.is_empty() {
        let problem =
            "somebody other than the publisher may write machine code there, which every worker runs"
                .to_owned();
        found.add(Effect::Exposes, &resource, problem, template.clone());
    }
    if registry.policy.iter().any(|s| s.allows && !s.is_public() && s.covers("s3:PutObject")) {
        let problem = "its policy lets somebody write machine code there, which every worker runs".to_owned();
        found.add(Effect::Exposes, &resource, problem, template);
    }
    let told = |function: &String| {
        function == &publisher.name || function.ends_with(&format!(":function:{}", publisher.name))
    };
    let told_of_uploads = deployed.told_of_uploads.as_ref();
    if !publisher.name.is_empty() && told_of_uploads.is_some_and(|functions| !functions.iter().any(told)) {
        let problem = format!("{} is not notified of uploads: they do not go live", publisher.name);
        let mend = "take the bucket's notifications from deploy/template.yaml".to_owned();
        found.add(Effect::Stops, format!("tasks bucket {}", tasks_bucket.name), problem, mend);
    }
    if let Some(runs) = &deployed.worker_runs {
        let not: Vec<_> = deployed
            .tasks
            .iter()
            .filter(|(_, made)| !made.contains(runs))
            .map(|(task, _)| task.as_str())
            .collect();
        if !not.is_empty() {
            let problem = format!(
                "it runs another engine version than the one that compiled {}: it cannot run them until they are compiled for it",
                not.join(", ")
            );
            let mend = "wasq deploy".to_owned();
            found.add(Effect::Stops, function_name(&deployed.worker), problem, mend);
        }
    }
}
