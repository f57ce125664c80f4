"""`wasq doctor` finds each planted fault, and the command that it names fixes the fault."""

import json

import pytest

from conftest import GUESTS, Cloud, wait_for

STACK = "patient"


@pytest.fixture(scope="module")
def patient(stand_in, functions, tmp_path_factory):
    """A deployment with a task, in which nothing is wrong. Its outputs are in `outputs`."""
    cloud = Cloud(stand_in, tmp_path_factory.mktemp("patient"))
    cloud.outputs = cloud.deploy(functions, STACK)
    bucket = cloud.outputs["TasksBucketName"]
    cloud.shell(f"echo '[[schedule]]\ncron = \"0 7 * * *\"' | aws s3 cp - s3://{bucket}/hello.toml")
    cloud.shell(f"aws s3 cp {GUESTS}/hello.wasm s3://{cloud.outputs['TasksBucketName']}/hello.wasm")
    wait_for(lambda: json.loads(cloud.shell(f"wasq tasks --stack {STACK} --json"))["tasks"], "live task")
    wait_for(lambda: schedules(cloud), "the schedule of the task")
    assert examined(cloud) == []
    yield cloud
    cloud.shell(f"wasq destroy --stack {STACK} --data --yes")


def examined(cloud):
    answer = cloud.shell(f"wasq doctor --stack {STACK} --json || true")
    read = json.loads(answer)
    assert read["unread"] == []
    return read["findings"]


def schedules(cloud):
    """The schedules of tasks."""
    return cloud.client("scheduler").list_schedules(GroupName=STACK, NamePrefix="task.")["Schedules"]


def change_schedule(**changed):
    """Changes the schedule of the task."""

    def plant(cloud):
        api = cloud.client("scheduler")
        [schedule] = schedules(cloud)
        now = api.get_schedule(GroupName=STACK, Name=schedule["Name"])
        keys = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target", "Description")
        api.update_schedule(**({key: now[key] for key in keys} | {"Target": now["Target"] | changed}))

    return plant


def add_schedule(cloud):
    target = {"Arn": "arn:aws:sqs:us-east-1:000000000000:patient", "RoleArn": "arn:aws:iam::000000000000:role/any"}
    cloud.client("scheduler").create_schedule(
        Name="task.of-nobody",
        GroupName=STACK,
        ScheduleExpression="cron(0 7 * * ? *)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
    )


def delete_schedule(cloud):
    [schedule] = schedules(cloud)
    cloud.client("scheduler").delete_schedule(GroupName=STACK, Name=schedule["Name"])


def sweep(cloud):
    cloud.client("lambda").invoke(FunctionName=f"{STACK}-publisher", Payload=b'{"sweep": {}}')


def sweep_without_it(cloud):
    delete_schedule(cloud)
    sweep(cloud)


def role(cloud, logical_id):
    [resource] = cloud.client("cloudformation").describe_stack_resources(
        StackName=STACK, LogicalResourceId=logical_id
    )["StackResources"]
    return resource["PhysicalResourceId"]


def set_queue(output, **attributes):
    return lambda cloud: cloud.client("sqs").set_queue_attributes(
        QueueUrl=cloud.outputs[output], Attributes=attributes
    )


def lifecycle(output, *more):
    """Lifecycle rules beside the template's."""
    ours = {"ID": "earlier-versions", "Filter": {"Prefix": ""}, "NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
    rules = [rule | {"Status": "Enabled"} for rule in (ours, *more)]
    return lambda cloud: cloud.client("s3").put_bucket_lifecycle_configuration(
        Bucket=cloud.outputs[output], LifecycleConfiguration={"Rules": rules}
    )


def allow_worker(action, resource):
    def plant(cloud):
        statement = {"Effect": "Allow", "Action": action, "Resource": resource}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        cloud.client("iam").put_role_policy(
            RoleName=role(cloud, "WorkerRole"), PolicyName="planted", PolicyDocument=json.dumps(document)
        )

    return plant


def allow_worker_no_more(cloud):
    cloud.client("iam").delete_role_policy(RoleName=role(cloud, "WorkerRole"), PolicyName="planted")


def policy(cloud, output):
    return json.loads(cloud.client("s3").get_bucket_policy(Bucket=cloud.outputs[output])["Policy"])


def set_policy(cloud, output, policy):
    cloud.client("s3").put_bucket_policy(Bucket=cloud.outputs[output], Policy=json.dumps(policy))


def opened(cloud):
    bucket = cloud.outputs["TasksBucketName"]
    # Otherwise S3 refuses such a policy.
    cloud.client("s3").delete_public_access_block(Bucket=bucket)
    changed = policy(cloud, "TasksBucketName")
    everybody = {"Sid": "Everybody", "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject"}
    changed["Statement"].append(everybody | {"Resource": f"arn:aws:s3:::{bucket}/*"})
    set_policy(cloud, "TasksBucketName", changed)


def closed(cloud):
    changed = policy(cloud, "TasksBucketName")
    changed["Statement"] = [statement for statement in changed["Statement"] if statement["Sid"] != "Everybody"]
    set_policy(cloud, "TasksBucketName", changed)
    for finding in examined(cloud):
        cloud.shell(finding["fix"])


GUARD = {}


def unguarded(cloud):
    changed = policy(cloud, "RegistryBucketName")
    GUARD["policy"] = json.loads(json.dumps(changed))
    changed["Statement"] = [s for s in changed["Statement"] if s["Sid"] != "OnlyThePublisherWrites"]
    set_policy(cloud, "RegistryBucketName", changed)


def guarded(cloud):
    set_policy(cloud, "RegistryBucketName", GUARD["policy"])


def artifacts_of_another_version(cloud):
    """As the publisher of another version would leave the live record."""
    s3, bucket = cloud.client("s3"), cloud.outputs["RegistryBucketName"]
    record = json.loads(s3.get_object(Bucket=bucket, Key="live/hello.json")["Body"].read())
    record["artifacts"] = {f"{fingerprint}-another": made for fingerprint, made in record["artifacts"].items()}
    s3.put_object(Bucket=bucket, Key="live/hello.json", Body=json.dumps(record))


def artifacts_as_they_were(cloud):
    s3, bucket = cloud.client("s3"), cloud.outputs["RegistryBucketName"]
    record = json.loads(s3.get_object(Bucket=bucket, Key="live/hello.json")["Body"].read())
    record["artifacts"] = {name.removesuffix("-another"): made for name, made in record["artifacts"].items()}
    s3.put_object(Bucket=bucket, Key="live/hello.json", Body=json.dumps(record))


def environment(function, **changed):
    def plant(cloud):
        api = cloud.client("lambda")
        variables = api.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        api.update_function_configuration(FunctionName=function, Environment={"Variables": variables | changed})

    return plant


# By name: a function that plants a fault, the expected finding (effect, resource, words), and a function that
# fixes the fault. Without the last one, the test fixes the fault by the command that the doctor names.
PLANTED = {
    "visibility that is not the lease": (
        set_queue("QueueUrl", VisibilityTimeout="30"),
        ("duplicates", "queue patient", "visibility timeout is 30s, but the worker's WASQ_LEASE says 2m"),
    ),
    "short retention": (
        set_queue("QueueUrl", MessageRetentionPeriod="86400"),
        ("loses", "queue patient", "keeps messages for 24h"),
    ),
    "no redrive": (set_queue("QueueUrl", RedrivePolicy=""), ("loses", "queue patient", "no redrive policy")),
    "eager redrive": (
        set_queue(
            "QueueUrl",
            RedrivePolicy=json.dumps(
                {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:patient-dead-letters", "maxReceiveCount": 3}
            ),
        ),
        ("loses", "queue patient", "moves a message after 3 receives"),
    ),
    "a delay for everything": (
        set_queue("QueueUrl", DelaySeconds="60"),
        ("stops", "queue patient", "every message waits 1m before it can be received"),
    ),
    "a smaller maximum size": (
        set_queue("DeadLetterUrl", MaximumMessageSize="262144"),
        ("stops", "queue patient-dead-letters", "takes messages of up to 262144 bytes"),
    ),
    "machine code that expires": (
        lifecycle("RegistryBucketName", {"ID": "company", "Filter": {"Prefix": "comp"}, "Expiration": {"Days": 90}}),
        ("loses", "registry bucket patient-registry", 'its lifecycle rule "company" deletes objects that are in use'),
        lifecycle("RegistryBucketName"),
    ),
    "tasks that expire": (
        lifecycle("TasksBucketName", {"ID": "company", "Filter": {"Prefix": ""}, "Expiration": {"Days": 90}}),
        ("loses", "tasks bucket patient-tasks", 'its lifecycle rule "company" deletes objects that are in use'),
        lifecycle("TasksBucketName"),
    ),
    "earlier versions that stay": (
        lambda cloud: cloud.client("s3").delete_bucket_lifecycle(Bucket=cloud.outputs["TasksBucketName"]),
        ("costs", "tasks bucket patient-tasks", "no lifecycle rule deletes earlier versions"),
    ),
    "a table that never forgets": (
        lambda cloud: cloud.client("dynamodb").update_time_to_live(
            TableName=cloud.outputs["RunsTableName"], TimeToLiveSpecification={"Enabled": False, "AttributeName": "expires"}
        ),
        ("costs", "table of runs patient-RunsTable", "it never deletes what is forgotten"),
    ),
    "a table that cannot be recovered": (
        lambda cloud: cloud.client("dynamodb").update_continuous_backups(
            TableName=cloud.outputs["RunsTableName"], PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": False}
        ),
        ("duplicates", "table of runs patient-RunsTable", "it has no point-in-time recovery"),
    ),
    "a worker without the table": (
        environment("patient-worker", WASQ_RUNS_TABLE=""),
        ("duplicates", "table of runs patient-RunsTable", "the worker patient-worker does not use it"),
        lambda cloud: environment("patient-worker", WASQ_RUNS_TABLE=cloud.outputs["RunsTableName"])(cloud),
    ),
    "short retention of dead letters": (
        set_queue("DeadLetterUrl", MessageRetentionPeriod="345600"),
        ("loses", "queue patient-dead-letters", "keeps dead letters for 96h"),
    ),
    "recursive loop detection": (
        lambda cloud: cloud.client("lambda").put_function_recursion_config(
            FunctionName="patient-worker", RecursiveLoop="Terminate"
        ),
        ("loses", "function patient-worker", "recursive loop detection is on"),
    ),
    "timeout of the worker": (
        lambda cloud: cloud.client("lambda").update_function_configuration(FunctionName="patient-worker", Timeout=60),
        ("duplicates", "function patient-worker", "its timeout is 1m, and tasks may take 5m"),
    ),
    "another lease": (
        environment("patient-consumer", WASQ_LEASE="60s"),
        ("duplicates", "function patient-consumer", "its WASQ_LEASE is 60s, the worker's is 2m"),
        environment("patient-consumer", WASQ_LEASE="120s"),
    ),
    "role too wide": (
        allow_worker("sqs:*", "arn:aws:sqs:us-east-1:000000000000:patient"),
        ("exposes", "role patient-WorkerRole", "too wide: it allows the action sqs:*"),
        allow_worker_no_more,
    ),
    "worker that may write machine code": (
        allow_worker("s3:PutObject", "arn:aws:s3:::patient-registry-000000000000-us-east-1-an/compiled/*"),
        ("exposes", "role patient-WorkerRole", "the worker may write the registry"),
        allow_worker_no_more,
    ),
    "managed policy": (
        lambda cloud: cloud.client("iam").attach_role_policy(
            RoleName=role(cloud, "ConsumerRole"), PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"
        ),
        ("exposes", "role patient-ConsumerRole", "has arn:aws:iam::aws:policy/AdministratorAccess"),
    ),
    "public bucket": (
        lambda cloud: cloud.client("s3").delete_public_access_block(Bucket=cloud.outputs["TasksBucketName"]),
        ("exposes", "tasks bucket patient-tasks", "not closed to the public"),
    ),
    "bucket for everybody": (
        opened,
        ("exposes", "tasks bucket patient-tasks", "its policy lets everybody use it"),
        closed,
    ),
    "registry that others may write": (
        unguarded,
        ("exposes", "registry bucket patient-registry", "somebody other than the publisher may write machine code"),
        guarded,
    ),
    "paused": (
        lambda cloud: cloud.shell(f"wasq pause --stack {STACK}"),
        ("stops", "schedule patient-consumer", "it is disabled"),
    ),
    "a schedule of a task is paused": (
        lambda cloud: cloud.shell(f"wasq schedule pause hello --stack {STACK}"),
        ("stops", "schedule patient/task.", "hello is paused, and sends no messages"),
    ),
    "a schedule without a task": (
        add_schedule,
        ("costs", "schedule patient/task.of-nobody", "no live task has this schedule"),
    ),
    "a schedule of a task is gone": (
        delete_schedule,
        ("stops", "schedule patient/task.", "hello is not set, and sends no messages"),
        sweep,
    ),
    "a schedule that sends elsewhere": (
        change_schedule(Arn="arn:aws:sqs:us-east-1:000000000000:elsewhere"),
        ("loses", "schedule patient/task.", "hello sends to arn:aws:sqs:us-east-1:000000000000:elsewhere"),
        sweep_without_it,
    ),
    "no concurrency": (
        lambda cloud: cloud.client("lambda").put_function_concurrency(
            FunctionName="patient-worker", ReservedConcurrentExecutions=0
        ),
        ("stops", "function patient-worker", "its reserved concurrency is 0"),
    ),
    "worker older than artifacts": (
        artifacts_of_another_version,
        ("stops", "function patient-worker", "another engine version than the one that compiled hello"),
        artifacts_as_they_were,
    ),
}

@pytest.mark.parametrize("name", PLANTED)
def test_what_is_planted_is_found_and_mended(patient, name):
    plant, (effect, resource, words), *fix = PLANTED[name]
    plant(patient)
    findings = examined(patient)
    found = [f for f in findings if f["effect"] == effect and f["resource"].startswith(resource) and words in f["problem"]]
    assert len(found) == 1, findings
    # A fault of a queue may also give a finding about the worker, because the worker's variables must match
    # the queue's settings. There is no other finding.
    assert all(f["resource"].startswith((resource, "function patient-worker")) for f in findings), findings
    if fix:
        fix[0](patient)
    else:
        command = found[0]["fix"]
        assert command.startswith(("aws --region us-east-1 ", "wasq ")), "it names a command"
        patient.shell(command)
    assert examined(patient) == [], "the command fixes the fault"


def test_its_answer_for_people_and_its_exit_code(patient):
    patient.client("sqs").set_queue_attributes(
        QueueUrl=patient.outputs["DeadLetterUrl"], Attributes={"MessageRetentionPeriod": "3600"}
    )
    told = patient.shell(f"wasq doctor --stack {STACK}", code=1)
    assert told.startswith("loses      queue patient-dead-letters\n") and "fix: aws --region us-east-1 sqs set-queue-attributes" in told
    patient.client("sqs").set_queue_attributes(
        QueueUrl=patient.outputs["DeadLetterUrl"], Attributes={"MessageRetentionPeriod": "1209600"}
    )
    assert patient.shell(f"wasq doctor --stack {STACK}") == f"{STACK} in us-east-1: no problem found\n"


def test_what_is_gone_is_found(patient):
    api = patient.client("scheduler")
    now = api.get_schedule(Name=f"{STACK}-consumer")
    api.delete_schedule(Name=f"{STACK}-consumer")
    [finding] = examined(patient)
    assert (finding["effect"], finding["resource"]) == ("stops", f"schedule {STACK}-consumer")
    keys = ("Name", "ScheduleExpression", "FlexibleTimeWindow", "Target")
    api.create_schedule(**{key: now[key] for key in keys})


def test_what_cannot_be_read_is_said_and_nothing_is_made_up_of_it(patient):
    """A worker that does not start cannot say what it runs."""
    environment("patient-worker", WASQ_CONCURRENCY="many")(patient)
    told = patient.shell(f"wasq doctor --stack {STACK}", code=1)
    assert told.startswith("not read   what patient-worker can run: it does not work") and told.count("\n") == 1
    environment("patient-worker", WASQ_CONCURRENCY="10")(patient)
    assert examined(patient) == []


def test_a_worker_that_cannot_reach_what_it_needs(patient):
    """As in subnets without a way to AWS's services."""
    nowhere = "http://127.0.0.1:9"
    environment("patient-worker", AWS_ENDPOINT_URL_SQS=nowhere, AWS_ENDPOINT_URL_LAMBDA=nowhere)(patient)
    [finding] = examined(patient)
    assert finding["effect"] == "stops" and finding["resource"] == "function patient-worker"
    assert finding["problem"].startswith("it cannot connect to SQS, Lambda: its subnets have no way to them")
    assert "a gateway endpoint for S3, interface endpoints for SQS, Lambda, EventBridge Scheduler" in finding["fix"]
    set_back = environment("patient-worker", AWS_ENDPOINT_URL_SQS=patient.url, AWS_ENDPOINT_URL_LAMBDA=patient.url)
    set_back(patient)
    assert examined(patient) == []


def test_an_event_source_mapping(patient, functions):
    patient.deploy(functions, STACK, "--mode event-source")
    assert examined(patient) == []
    api = patient.client("lambda")
    [mapping] = api.list_event_source_mappings(FunctionName=f"{STACK}-worker")["EventSourceMappings"]
    api.update_event_source_mapping(UUID=mapping["UUID"], FunctionResponseTypes=[])
    [finding] = examined(patient)
    assert finding["effect"] == "loses" and "does not look at which messages failed" in finding["problem"]
    patient.shell(finding["fix"])
    filters = {"Filters": [{"Pattern": json.dumps({"body": {"task": ["hello"]}})}]}
    api.update_event_source_mapping(UUID=mapping["UUID"], FilterCriteria=filters)
    [finding] = examined(patient)
    assert finding["effect"] == "loses" and "it has filters" in finding["problem"]
    patient.shell(finding["fix"])
    api.put_function_concurrency(FunctionName=f"{STACK}-worker", ReservedConcurrentExecutions=5)
    api.update_event_source_mapping(UUID=mapping["UUID"], ScalingConfig={"MaximumConcurrency": 50})
    [finding] = examined(patient)
    assert finding["effect"] == "loses" and "up to 50 workers at once, and 5 may run" in finding["problem"]
    patient.shell(finding["fix"])
    api.delete_function_concurrency(FunctionName=f"{STACK}-worker")
    patient.shell(f"wasq pause --stack {STACK}")
    [finding] = examined(patient)
    assert finding["effect"] == "stops" and "it is disabled" in finding["problem"]
    patient.shell(finding["fix"])
    set_queue("QueueUrl", VisibilityTimeout="30")(patient)
    [finding] = examined(patient)
    assert "visibility timeout is 30s, less than the worker's timeout of 5m 10s" in finding["problem"]
    patient.shell(finding["fix"])
    assert examined(patient) == []


def test_the_single_machine(dev):
    found = dev.wasq("doctor", "--json")
    assert (found["findings"], found["unread"]) == ([], [])
    machine = found["machine"]
    assert machine["wasq_dev"] == dev.url.removeprefix("http://") and machine["refused"] == []
    assert {"rust", "python", "go"} <= set(machine["toolchains"])
    assert machine["toolchains"]["rust"]["version"].startswith("rustc ")
    dev.sqs.set_queue_attributes(QueueUrl=dev.queue_url, Attributes={"MessageRetentionPeriod": "3600"})
    [finding] = dev.wasq("doctor", "--json", code=1)["findings"]
    assert finding["effect"] == "loses" and "keeps messages for 1h" in finding["problem"]
    assert finding["fix"].startswith(f"aws --endpoint-url {dev.url} sqs set-queue-attributes")
