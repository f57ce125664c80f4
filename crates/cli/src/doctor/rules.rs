//! The rules for settings that would lose, duplicate or expose something. ARCHITECTURE.md ("The promise")
//! says why each value matters.

use std::time::Duration;

use wasq_protocol::{LEASE_BY_DEFAULT, RETENTION_BY_DEFAULT, TaskName, format_duration, parse_duration};

use crate::doctor::configuration::{
    BucketSettings, Deployed, ExpiryRule, FunctionSettings, Live, MappingSettings, QueueSettings, Read,
    RoleSettings, TableSettings, TaskSchedule,
};
use crate::doctor::findings::{Effect, Finding, Findings, Fix};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// A message may wait up to 4 days for a retry or for its time.
const RETENTION_MIN: Duration = DAY.saturating_mul(4);
/// The longest retention that SQS allows.
const DEAD_LETTER_RETENTION: Duration = DAY.saturating_mul(14);
const RECEIVES: u32 = 1000;
/// The largest message that SQS allows, in bytes.
const MESSAGE_MAX: u64 = 1 << 20;
/// The time that the worker needs to say how a run ended.
const WORKER_MARGIN: Duration = Duration::from_secs(5);

/// New accounts have 10. Lambda reserves nothing below 100.
const CONCURRENCY_MIN: u32 = 100;

/// Returns all findings.
pub(crate) fn examine(live: &Live) -> Vec<Finding> {
    let mut found = Findings::new(&live.place);
    for missing in &live.missing {
        let problem = "it belongs to the stack, and is not there".to_owned();
        let fix = Fix::Advice(
            "`wasq destroy`, then `wasq deploy`, creates it again; queues and buckets stay, with their contents",
        );
        found.add(Effect::Stops, missing, problem, fix);
    }
    queues(live, &mut found);
    if let Some(deployed) = &live.deployed {
        // There are no findings about parts that are not known.
        if let Some(worker) = deployed.worker.known() {
            leases(live, deployed, worker, &mut found);
            functions(deployed, worker, &mut found);
            intake(live, deployed, worker, &mut found);
        }
        roles(deployed, &mut found);
        if let Some(tasks) = deployed.tasks_bucket.known() {
            // Tasks lie in no folder.
            bucket("tasks bucket", tasks, |rule| !rule.prefix.contains('/'), &mut found);
        }
        if let Some(bucket) = deployed.registry_bucket.known() {
            let in_use =
                |rule: &ExpiryRule| ["live/", "modules/", "compiled/"].iter().any(|kept| rule.covers(kept));
            self::bucket("registry bucket", bucket, in_use, &mut found);
            registry(deployed, bucket, &mut found);
        }
        match &deployed.runs_table {
            Some(table) => {
                if let Some(table) = table.known() {
                    runs(deployed, table, &mut found);
                }
            }
            None => tasks_without_a_table(&deployed.once, &mut found),
        }
        uploads(deployed, &mut found);
        task_schedules(live, deployed, &mut found);
        engine(deployed, &mut found);
    }
    found.sorted()
}

fn set_queue(queue: &QueueSettings, attribute: &str) -> Fix {
    Fix::Aws(format!("sqs set-queue-attributes --queue-url {} --attributes {attribute}", queue.url))
}

fn queues(live: &Live, found: &mut Findings<'_>) {
    let queue = &live.queue;
    let name = |queue: &QueueSettings| format!("queue {}", queue.name);
    if queue.retention < RETENTION_MIN {
        let problem = format!(
            "it keeps messages for {}, then SQS deletes them; a message may wait up to 4 days for a retry or for its time",
            format_duration(queue.retention)
        );
        found.add(Effect::Loses, name(queue), problem, set_queue(queue, "MessageRetentionPeriod=1209600"));
    }
    // Without a dead-letter queue no policy can be set. It is reported as missing, or as not read.
    if let Some(letters) = live.dead_letters.known() {
        if letters.retention < DEAD_LETTER_RETENTION {
            let problem = format!(
                "it keeps dead letters for {}, counted from the first send; 14 days is the most there is",
                format_duration(letters.retention)
            );
            let fix = set_queue(letters, "MessageRetentionPeriod=1209600");
            found.add(Effect::Loses, name(letters), problem, fix);
        }
        redrive(queue, letters, found);
    }
    if !queue.delay.is_zero() {
        let problem =
            format!("every message waits {} before it can be received", format_duration(queue.delay));
        found.add(Effect::Stops, name(queue), problem, set_queue(queue, "DelaySeconds=0"));
    }
    for queue in std::iter::once(queue).chain(live.dead_letters.known()) {
        if queue.message_max < MESSAGE_MAX {
            let problem = format!(
                "it takes messages of up to {} bytes: a larger dead letter or child task cannot be sent, and its message runs again and again",
                queue.message_max
            );
            let fix = set_queue(queue, &format!("MaximumMessageSize={MESSAGE_MAX}"));
            found.add(Effect::Stops, name(queue), problem, fix);
        }
        if queue.policy.iter().any(|statement| statement.is_public()) {
            let problem = "its policy lets everybody use it".to_owned();
            found.add(Effect::Exposes, name(queue), problem, set_queue(queue, "Policy="));
        }
        if live.deployed.is_some() && !queue.encrypted {
            let fix = set_queue(queue, "SqsManagedSseEnabled=true");
            found.add(Effect::Exposes, name(queue), "it is not encrypted".to_owned(), fix);
        }
    }
}

/// Checks that the queue moves messages to its dead-letter queue as late as possible.
fn redrive(queue: &QueueSettings, letters: &QueueSettings, found: &mut Findings<'_>) {
    let problem = match &queue.redrive {
        None => {
            "it has no redrive policy: a message that kills its worker every time comes again until it expires"
                .to_owned()
        }
        Some(redrive) if redrive.target_arn != letters.arn => {
            format!("its redrive policy names {}, not {}", redrive.target_arn, letters.arn)
        }
        Some(redrive) if redrive.receives_max < RECEIVES => format!(
            "its redrive policy moves a message after {} receives; a healthy message may need more, because of waiting, retries and crashes",
            redrive.receives_max
        ),
        Some(_) => return,
    };
    let policy = serde_json::json!({ "deadLetterTargetArn": letters.arn, "maxReceiveCount": RECEIVES });
    let attributes = serde_json::json!({ "RedrivePolicy": policy.to_string() });
    let fix = set_queue(queue, &format!("'{attributes}'"));
    found.add(Effect::Loses, format!("queue {}", queue.name), problem, fix);
}

/// A duration in a function's environment.
fn duration(function: &FunctionSettings, name: &str) -> Option<Duration> {
    function.variable(name).and_then(|text| parse_duration(text).ok())
}

/// Checks that queue, consumer and worker have the same lease.
fn leases(live: &Live, deployed: &Deployed, worker: &FunctionSettings, found: &mut Findings<'_>) {
    let queue = &live.queue;
    let queue_name = format!("queue {}", queue.name);
    let lease = duration(worker, "WASQ_LEASE").unwrap_or(LEASE_BY_DEFAULT);
    let mut mappings = deployed.mappings.known().into_iter().flatten();
    let polled = mappings.any(|mapping| mapping.function == worker.name);
    let fix = set_queue(queue, &format!("VisibilityTimeout={}", lease.as_secs()));
    if polled && queue.visibility < worker.timeout {
        let problem = format!(
            "its visibility timeout is {}, less than the worker's timeout of {}: messages come again while they run",
            format_duration(queue.visibility),
            format_duration(worker.timeout)
        );
        found.add(Effect::Duplicates, queue_name, problem, fix);
    } else if queue.visibility != lease {
        let problem = format!(
            "its visibility timeout is {}, but the worker's WASQ_LEASE says {}",
            format_duration(queue.visibility),
            format_duration(lease)
        );
        found.add(Effect::Duplicates, queue_name, problem, fix);
    }
    if let Some(consumer) = deployed.consumer.as_ref().and_then(Read::known)
        && duration(consumer, "WASQ_LEASE").unwrap_or(LEASE_BY_DEFAULT) != lease
    {
        let problem = format!(
            "its WASQ_LEASE is {}, the worker's is {}",
            consumer.variable("WASQ_LEASE").unwrap_or("not set"),
            format_duration(lease)
        );
        let fix = Fix::Advice("set both to the same value by `wasq deploy --longest-task`, or by hand");
        found.add(Effect::Duplicates, function_name(consumer), problem, fix);
    }
    let retention = duration(worker, "WASQ_RETENTION").unwrap_or(RETENTION_BY_DEFAULT);
    if retention > queue.retention {
        let problem = format!(
            "its WASQ_RETENTION is {}, but the queue keeps messages for {}: they expire before the worker moves them to the dead-letter queue",
            format_duration(retention),
            format_duration(queue.retention)
        );
        let fix = set_queue(queue, &format!("MessageRetentionPeriod={}", retention.as_secs()));
        found.add(Effect::Loses, function_name(worker), problem, fix);
    }
}

fn function_name(function: &FunctionSettings) -> String {
    format!("function {}", function.name)
}

/// Checks the worker's function, and that no function is switched off.
fn functions(deployed: &Deployed, worker: &FunctionSettings, found: &mut Findings<'_>) {
    let consumer = deployed.consumer.as_ref().and_then(Read::known);
    for function in [Some(worker), consumer, deployed.publisher.known()].into_iter().flatten() {
        if function.reserved == Some(0) {
            let problem = "its reserved concurrency is 0: Lambda drops its events".to_owned();
            let fix =
                Fix::Aws(format!("lambda delete-function-concurrency --function-name {}", function.name));
            found.add(Effect::Stops, function_name(function), problem, fix);
        }
    }
    if let Some(most) = deployed.account_concurrency.known().filter(|most| **most < CONCURRENCY_MIN) {
        let problem = format!(
            "Lambda runs {most} functions at once in this account, and wasq shares them with all others: with busy workers, the consumer and the publisher cannot start"
        );
        let fix = Fix::Advice(
            "ask AWS for a higher quota of concurrent executions (Service Quotas, Lambda); accounts usually have 1000",
        );
        found.add(Effect::Stops, "account", problem, fix);
    }
    let name = &worker.name;
    if !worker.may_recur {
        let problem = "Lambda's recursive loop detection is on: a chain of child tasks is cut after about 16"
            .to_owned();
        let fix = Fix::Aws(format!(
            "lambda put-function-recursion-config --function-name {name} --recursive-loop Allow"
        ));
        found.add(Effect::Loses, function_name(worker), problem, fix);
    }
    let longest = duration(worker, "WASQ_MAX_TIMEOUT").unwrap_or(Duration::from_secs(14 * 60));
    if worker.timeout < longest + WORKER_MARGIN {
        let problem = format!(
            "its timeout is {}, and tasks may take {}: Lambda stops it before it can say how they ended",
            format_duration(worker.timeout),
            format_duration(longest)
        );
        let seconds = (longest + 2 * WORKER_MARGIN).as_secs();
        let fix = Fix::Aws(format!(
            "lambda update-function-configuration --function-name {name} --timeout {seconds}"
        ));
        found.add(Effect::Duplicates, function_name(worker), problem, fix);
    }
}

/// How messages get to the worker.
fn intake(live: &Live, deployed: &Deployed, worker: &FunctionSettings, found: &mut Findings<'_>) {
    for mapping in deployed.mappings.known().into_iter().flatten() {
        let resource = format!("event source mapping {}", mapping.id);
        if mapping.function != worker.name {
            let problem = format!("the function {} takes messages from the queue as well", mapping.function);
            let fix = Fix::Aws(format!("lambda delete-event-source-mapping --uuid {}", mapping.id));
            found.add(Effect::Loses, resource, problem, fix);
            continue;
        }
        if !mapping.reports_failures {
            let problem =
                "it does not look at which messages failed: Lambda deletes them with the others".to_owned();
            let fix = Fix::Aws(format!(
                "lambda update-event-source-mapping --uuid {} --function-response-types ReportBatchItemFailures",
                mapping.id
            ));
            found.add(Effect::Loses, resource.clone(), problem, fix);
        }
        if mapping.filters {
            let problem = "it has filters: Lambda deletes the messages that match none of them".to_owned();
            let fix = Fix::Aws(format!(
                "lambda update-event-source-mapping --uuid {} --filter-criteria '{{}}'",
                mapping.id
            ));
            found.add(Effect::Loses, resource.clone(), problem, fix);
        }
        if let (Some(most), Some(reserved @ 2..)) = (mapping.concurrency_max, worker.reserved)
            && most > reserved
        {
            let problem = format!(
                "it invokes up to {most} workers at once, and {reserved} may run: the others are throttled, and each time a message is received it counts as an attempt"
            );
            let fix = Fix::Aws(format!(
                "lambda update-event-source-mapping --uuid {} --scaling-config MaximumConcurrency={reserved}",
                mapping.id
            ));
            found.add(Effect::Loses, resource.clone(), problem, fix);
        }
        if !mapping.enabled && deployed.consumer.is_none() {
            let problem = "it is disabled: nothing is drained, and messages expire".to_owned();
            found.add(Effect::Stops, resource, problem, Fix::Wasq("resume", String::new()));
        }
    }
    if let Some(schedule) = deployed.schedule.as_ref().and_then(Read::known) {
        let resource = format!("schedule {}", schedule.name);
        if !schedule.enabled {
            let problem = "it is disabled: nothing is drained, and messages expire";
            found.add(Effect::Stops, resource, problem, Fix::Wasq("resume", String::new()));
        } else if schedule.expression != "rate(1 minute)" {
            let problem = format!(
                "it wakes the consumer at {}; between the consumer's runs nothing is drained",
                schedule.expression
            );
            let fix = Fix::Advice("set it to rate(1 minute); a consumer runs for a minute");
            found.add(Effect::Stops, resource, problem, fix);
        }
    }
    let mappings = deployed.mappings.known();
    let polls = |mappings: &Vec<MappingSettings>| mappings.iter().any(|m| m.function == worker.name);
    if deployed.consumer.is_none() && mappings.is_some_and(|mappings| !polls(mappings)) {
        let problem = "neither a consumer nor an event source mapping drains it";
        let fix = Fix::Wasq("deploy", "--mode window".to_owned());
        found.add(Effect::Stops, format!("queue {}", live.queue.name), problem, fix);
    }
    let dead_letters = live.dead_letters.known().map(|letters| &letters.url);
    let registry = deployed.registry_bucket.known().map(|bucket| &bucket.name);
    let expected = [
        ("WASQ_QUEUE_URL", Some(&live.queue.url)),
        ("WASQ_DEAD_LETTER_URL", dead_letters),
        ("WASQ_REGISTRY_BUCKET", registry),
    ];
    for (variable, expected) in expected {
        if let Some(expected) = expected
            && worker.variable(variable) != Some(expected)
        {
            let value = worker.variable(variable).unwrap_or("not set");
            let problem = format!("its {variable} is {value}, not {expected}");
            let fix = Fix::Advice("set it in Lambda's console");
            found.add(Effect::Loses, function_name(worker), problem, fix);
        }
    }
}

fn roles(deployed: &Deployed, found: &mut Findings<'_>) {
    for RoleSettings { whose, name, statements, attached } in &deployed.roles {
        let resource = format!("role {name}");
        for policy in attached {
            let problem = format!("the {whose}'s role has {policy} in addition to its own policy");
            let fix = Fix::Aws(format!("iam detach-role-policy --role-name {name} --policy-arn {policy}"));
            found.add(Effect::Exposes, &resource, problem, fix);
        }
        let registry = deployed.registry_bucket.known();
        let fix = || {
            Fix::Aws(format!(
                "iam list-role-policies --role-name {name}, and delete the policies that are not in deploy/template.yaml"
            ))
        };
        for statement in statements {
            let writes = ["s3:PutObject", "s3:DeleteObject"].iter().any(|action| statement.covers(action));
            if let Some(problem) = statement.too_wide() {
                found.add(
                    Effect::Exposes,
                    &resource,
                    format!("the {whose}'s role is too wide: {problem}"),
                    fix(),
                );
            } else if *whose != "publisher"
                && statement.allows
                && writes
                && registry.is_some_and(|registry| {
                    // Workers read results only to answer with them, and never run them.
                    statement.reaches(&registry.arn)
                        && !statement.is_within(&format!("{}/results/", registry.arn))
                })
            {
                let problem =
                    format!("the {whose} may write the registry, and so run any code in every worker");
                found.add(Effect::Exposes, &resource, problem, fix());
            }
        }
    }
}

/// Tasks that say `once` wait for a table of runs.
fn tasks_without_a_table(once: &[TaskName], found: &mut Findings<'_>) {
    if once.is_empty() {
        return;
    }
    let names = once.iter().map(TaskName::as_str).collect::<Vec<_>>().join(", ");
    let problem = format!(
        "there is none, and the settings of {names} say once: their messages wait until there is one"
    );
    found.add(Effect::Stops, "table of runs", problem, Fix::Wasq("deploy", "--runs on".to_owned()));
}

/// Checks that runs are remembered, and forgotten in time.
fn runs(deployed: &Deployed, table: &TableSettings, found: &mut Findings<'_>) {
    let TableSettings { name, forgets, recoverable } = table;
    let resource = format!("table of runs {name}");
    if !forgets {
        let problem = "it never deletes what is forgotten, and grows for ever".to_owned();
        let fix = Fix::Aws(format!(
            "dynamodb update-time-to-live --table-name {name} --time-to-live-specification Enabled=true,AttributeName=expires"
        ));
        found.add(Effect::Costs, &resource, problem, fix);
    }
    if !recoverable {
        let problem = "it has no point-in-time recovery: what is deleted by mistake is gone, and ids that are done run again".to_owned();
        let fix = Fix::Aws(format!(
            "dynamodb update-continuous-backups --table-name {name} --point-in-time-recovery-specification PointInTimeRecoveryEnabled=true"
        ));
        found.add(Effect::Duplicates, &resource, problem, fix);
    }
    if let Some(worker) = deployed.worker.known()
        && worker.variable("WASQ_RUNS_TABLE") != Some(name)
    {
        let problem = format!("the worker {} does not use it, and remembers no runs", worker.name);
        let fix = Fix::Wasq("deploy", "--runs on".to_owned());
        found.add(Effect::Duplicates, &resource, problem, fix);
    }
}

/// `in_use`: whether a rule is for objects that must stay.
fn bucket(
    what: &str,
    bucket: &BucketSettings,
    in_use: impl Fn(&ExpiryRule) -> bool,
    found: &mut Findings<'_>,
) {
    let (name, resource) = (&bucket.name, format!("{what} {}", bucket.name));
    if !bucket.closed_to_public {
        let problem = "it is not closed to the public".to_owned();
        let fix = Fix::Aws(format!(
            "s3api put-public-access-block --bucket {name} --public-access-block-configuration BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true"
        ));
        found.add(Effect::Exposes, &resource, problem, fix);
    }
    let template = Fix::Advice("take the bucket's policy from deploy/template.yaml");
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
        let fix = Fix::Aws(format!(
            "s3api put-bucket-encryption --bucket {name} --server-side-encryption-configuration '{{\"Rules\": [{{\"ApplyServerSideEncryptionByDefault\": {{\"SSEAlgorithm\": \"AES256\"}}}}]}}'"
        ));
        found.add(Effect::Exposes, &resource, "it is not encrypted".to_owned(), fix);
    }
    for rule in bucket.expiry.iter().filter(|rule| rule.current && in_use(rule)) {
        let problem = format!(
            "its lifecycle rule {:?} deletes objects that are in use: tasks stop without a word",
            rule.id
        );
        let fix = Fix::Advice("take the bucket's lifecycle rules from deploy/template.yaml");
        found.add(Effect::Loses, &resource, problem, fix);
    }
    if bucket.versioned && !bucket.expiry.iter().any(|rule| rule.noncurrent && rule.prefix.is_empty()) {
        let problem = "no lifecycle rule deletes earlier versions: it grows for ever".to_owned();
        let fix = Fix::Aws(format!(
            "s3api put-bucket-lifecycle-configuration --bucket {name} --lifecycle-configuration '{{\"Rules\": [{{\"ID\": \"earlier-versions\", \"Status\": \"Enabled\", \"Filter\": {{\"Prefix\": \"\"}}, \"NoncurrentVersionExpiration\": {{\"NoncurrentDays\": 30}}}}]}}'"
        ));
        found.add(Effect::Costs, &resource, problem, fix);
    }
    if !bucket.versioned {
        let problem = "it keeps no earlier versions: overwritten objects are lost".to_owned();
        let fix = Fix::Aws(format!(
            "s3api put-bucket-versioning --bucket {name} --versioning-configuration Status=Enabled"
        ));
        found.add(Effect::Loses, &resource, problem, fix);
    }
}

impl ExpiryRule {
    /// Whether it is for any object whose name begins so.
    fn covers(&self, kept: &str) -> bool {
        self.prefix.starts_with(kept) || kept.starts_with(&self.prefix)
    }
}

/// Checks that only the publisher can write the registry.
fn registry(deployed: &Deployed, registry: &BucketSettings, found: &mut Findings<'_>) {
    let resource = format!("registry bucket {}", registry.name);
    let template = Fix::Advice("take the bucket's policy from deploy/template.yaml");
    // The policy refuses everybody except the role of this name.
    let role = deployed.roles.iter().find(|role| role.whose == "publisher").map(|role| role.name.as_str());
    let but_for = |condition: String| role.is_none_or(|role| condition.contains(&format!(":role/{role}\"")));
    let guarded = registry.policy.iter().any(|statement| {
        !statement.allows
            && statement.covers("s3:PutObject")
            && statement.condition_on("aws:PrincipalArn").is_some_and(but_for)
    });
    if !guarded {
        let problem =
            "somebody other than the publisher may write machine code there, which every worker runs"
                .to_owned();
        found.add(Effect::Exposes, &resource, problem, template.clone());
    }
    if registry.policy.iter().any(|s| s.allows && !s.is_public() && s.covers("s3:PutObject")) {
        let problem = "its policy lets somebody write machine code there, which every worker runs".to_owned();
        found.add(Effect::Exposes, &resource, problem, template);
    }
}

/// Checks that the publisher is notified of uploads.
fn uploads(deployed: &Deployed, found: &mut Findings<'_>) {
    let Deployed { publisher, tasks_bucket, told_of_uploads, .. } = deployed;
    let (Some(publisher), Some(tasks), Some(told)) =
        (publisher.known(), tasks_bucket.known(), told_of_uploads.known())
    else {
        return;
    };
    let is_publisher = |function: &String| {
        function == &publisher.name || function.ends_with(&format!(":function:{}", publisher.name))
    };
    if let Some(unpublished) = deployed.unpublished.known()
        && !unpublished.is_empty()
    {
        let names = unpublished.iter().map(|task| task.as_str()).collect::<Vec<_>>().join(", ");
        let problem = format!("the last upload of {names} is neither live nor refused");
        let fix = Fix::Advice(
            "look at the publisher's log; the publisher tries again every hour, and at once after another upload",
        );
        found.add(Effect::Stops, format!("tasks bucket {}", tasks.name), problem, fix);
    }
    if !told.iter().any(is_publisher) {
        let problem = format!("{} is not notified of uploads: they do not go live", publisher.name);
        let fix = Fix::Advice("take the bucket's notifications from deploy/template.yaml");
        found.add(Effect::Stops, format!("tasks bucket {}", tasks.name), problem, fix);
    }
}

/// Checks that live tasks have their schedules, and that there are no others.
fn task_schedules(live: &Live, deployed: &Deployed, found: &mut Findings<'_>) {
    let Some(there) = deployed.task_schedules.as_ref().and_then(Read::known) else { return };
    let Some(expected) = deployed.expected_schedules.known() else { return };
    let group = &there.group;
    for TaskSchedule { name, enabled, target } in &there.schedules {
        let resource = format!("schedule {group}/{name}");
        let Some(full_name) = expected.get(name) else {
            let problem = "no live task has this schedule; its messages become dead letters".to_owned();
            let fix = Fix::Aws(format!("scheduler delete-schedule --group-name {group} --name {name}"));
            found.add(Effect::Costs, resource, problem, fix);
            continue;
        };
        if *target != live.queue.arn {
            let problem = format!("{full_name} sends to {target}, and not to the queue");
            let fix = Fix::Aws(format!(
                "scheduler delete-schedule --group-name {group} --name {name}, and wait an hour: the publisher sets it again"
            ));
            found.add(Effect::Loses, resource, problem, fix);
        } else if !enabled {
            let problem = format!("{full_name} is paused, and sends no messages");
            found.add(Effect::Stops, resource, problem, Fix::Wasq("schedule", format!("resume {full_name}")));
        }
    }
    for (name, full_name) in expected {
        if !there.schedules.iter().any(|schedule| schedule.name == *name) {
            let problem = format!("{full_name} is not set, and sends no messages");
            let fix = Fix::Advice("the publisher sets it within an hour; its log says if it cannot");
            found.add(Effect::Stops, format!("schedule {group}/{name}"), problem, fix);
        }
    }
}

/// Checks that the worker's engine can run what is live, and that the worker can reach what it needs.
fn engine(deployed: &Deployed, found: &mut Findings<'_>) {
    let (Some(worker), Some(pong)) = (deployed.worker.known(), deployed.pong.known()) else { return };
    if !pong.unreachable.is_empty() {
        let problem = format!(
            "it cannot connect to {}: its subnets have no way to them, or its security groups do not allow HTTPS",
            pong.unreachable.join(", ")
        );
        let fix = Fix::Advice(
            "give the subnets a NAT gateway, or endpoints: a gateway endpoint for S3, interface endpoints for SQS, Lambda, EventBridge Scheduler and, for secrets, SSM or Secrets Manager",
        );
        found.add(Effect::Stops, function_name(worker), problem, fix);
    }
    let runs = &pong.fingerprint;
    let others = deployed.tasks.iter().filter(|(_, compiled_for)| !compiled_for.contains(runs));
    let others: Vec<_> = others.map(|(task, _)| task.as_str()).collect();
    if !others.is_empty() {
        let problem = format!(
            "it runs another engine version than the one that compiled {}: it cannot run them until they are compiled for it",
            others.join(", ")
        );
        found.add(Effect::Stops, function_name(worker), problem, Fix::Wasq("deploy", String::new()));
    }
}
