"""The template and `wasq deploy` on an empty stand-in, in every mode, with the commands that people type."""

import fnmatch
import http.server
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

from conftest import ARCHITECTURE, BINARIES, GUESTS, ROOT, Cloud, function_zip, mini_stack, wait_for
from test_roles import granted, many

TEMPLATE = ROOT / "deploy" / "template.yaml"


def test_the_template_is_what_cloudformation_takes():
    linted = subprocess.run([Path(sys.executable).with_name("cfn-lint"), TEMPLATE], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


def test_the_template_alone_is_enough(cloud):
    """As deploy/README.md says it, without `wasq`."""
    cloud.shell("aws s3 mb s3://own-code")
    for name in ("consumer", "worker", "publisher"):
        cloud.client("s3").put_object(Bucket="own-code", Key=f"wasq-{name}.zip", Body=function_zip(name))
    cloud.shell(
        f"aws cloudformation deploy --stack-name plain --template-file {TEMPLATE} --capabilities CAPABILITY_IAM"
        f" --parameter-overrides CodeBucket=own-code Architecture={ARCHITECTURE}"
    )
    described = cloud.shell("aws cloudformation describe-stacks --stack-name plain --query 'Stacks[0].Outputs'")
    outputs = {output["OutputKey"]: output["OutputValue"] for output in json.loads(described)}
    run_hello(cloud, outputs)
    cloud.shell("wasq destroy --stack plain --data --yes")


# Seconds until a message has surely run. The consumer of a stack that is destroyed may receive the message and end before it hands it over:
# then the message comes again after its lease of 120 s, and the next consumer starts within a minute.
RUN_WITHIN = 300


def run_hello(cloud, outputs):
    """Publishes a task and sends a message, as people do. Returns the record of its run."""
    cloud.shell(f"aws s3 cp {GUESTS}/hello.wasm s3://{outputs['TasksBucketName']}/hello.wasm")
    body = '{"task": "hello", "params": {"to": "AWS"}}'
    sent = cloud.shell(f"aws sqs send-message --queue-url {outputs['QueueUrl']} --message-body '{body}'")
    message_id = json.loads(sent)["MessageId"]

    def record():
        ran = cloud.ran(outputs["WorkerFunction"])
        return next((line for line in ran if line["id"] == message_id and line["then"] == "done"), None)

    record = wait_for(record, "run of the message", RUN_WITHIN)
    wait_for(lambda: cloud.counts(outputs["QueueUrl"]) == (0, 0), "empty queue", 60)
    assert cloud.counts(outputs["DeadLetterUrl"]) == (0, 0)
    return record


def test_in_subnets_and_within_a_boundary(cloud, functions):
    ec2, iam = cloud.client("ec2"), cloud.client("iam")
    vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    subnets = [ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.1.{i}.0/24")["Subnet"]["SubnetId"] for i in range(2)]
    group = ec2.create_security_group(GroupName="tasks", Description="of tasks", VpcId=vpc)["GroupId"]
    document = (ROOT / "deploy" / "boundary-policy.json").read_text()
    boundary = iam.create_policy(PolicyName="company-boundary", PolicyDocument=document)["Policy"]["Arn"]
    options = f"--subnets {','.join(subnets)} --security-groups {group} --permissions-boundary {boundary}"
    outputs = cloud.deploy(functions, "wasq-private", options)
    # MiniStack's CloudFormation leaves VpcConfig and PermissionsBoundary out; cfn-lint has checked them against their schemas.
    resources = cloud.client("cloudformation").describe_stack_resources(StackName="wasq-private")["StackResources"]
    roles = [r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::IAM::Role"]
    assert len(roles) == 6
    [worker] = [role for role in roles if "WorkerRole" in role]
    assert ("ec2:CreateNetworkInterface", "*") in granted(cloud, worker)
    # No permission of a role lies outside the boundary.
    allowed = [(a, r) for s in json.loads(document)["Statement"] for a in many(s["Action"]) for r in many(s["Resource"])]
    for role in roles:
        for action, resource in granted(cloud, role):
            covered = any(fnmatch.fnmatchcase(action, a) and fnmatch.fnmatchcase(resource, r) for a, r in allowed)
            assert covered, f"{role}: {action} on {resource}"
    run_hello(cloud, outputs)
    assert cloud.shell("wasq doctor --stack wasq-private") == "wasq-private in us-east-1: no problem found\n"
    cloud.shell("wasq destroy --stack wasq-private --data --yes")
    iam.delete_policy(PolicyArn=boundary)


def test_a_key_and_tags(cloud, functions):
    key = cloud.client("kms").create_key()["KeyMetadata"]["Arn"]
    outputs = cloud.deploy(functions, "keyed", f"--key {key} --tag team=data --tag cost=12=3")
    stacks = cloud.client("cloudformation").describe_stacks
    [stack] = stacks(StackName="keyed")["Stacks"]
    assert {tag["Key"]: tag["Value"] for tag in stack["Tags"]} == {"team": "data", "cost": "12=3"}
    for queue in ("QueueUrl", "DeadLetterUrl"):
        attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=outputs[queue], AttributeNames=["All"])["Attributes"]
        assert attributes["KmsMasterKeyId"] == key and attributes.get("SqsManagedSseEnabled") != "true"
    # MiniStack's CloudFormation leaves a bucket's encryption out, and reserved concurrency; cfn-lint has checked both.
    # Each function may use the key, and no other.
    resources = cloud.client("cloudformation").describe_stack_resources(StackName="keyed")["StackResources"]
    roles = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in resources if r["ResourceType"] == "AWS::IAM::Role"}
    allowed = {name: {p for p in granted(cloud, role) if p[0].startswith("kms:")} for name, role in roles.items()}
    both = {("kms:Decrypt", key), ("kms:GenerateDataKey", key)}
    assert allowed["WorkerRole"] == allowed["PublisherRole"] == both and allowed["ConsumerRole"] == {("kms:Decrypt", key)}
    run_hello(cloud, outputs)
    assert cloud.shell("wasq doctor --stack keyed") == "keyed in us-east-1: no problem found\n"
    # Without tags, they stay.
    cloud.deploy(functions, "keyed", "--log-retention 7")
    assert len(stacks(StackName="keyed")["Stacks"][0]["Tags"]) == 2
    cloud.shell("wasq deploy --stack keyed --tag team", code=2)
    assert "expected KEY=VALUE, such as team=data" in cloud.said
    cloud.shell("wasq destroy --stack keyed --data --yes")


def test_an_account_with_little_concurrency(functions, tmp_path):
    with mini_stack(functions_reach_it=True, LAMBDA_ACCOUNT_CONCURRENCY="10") as url:
        small = Cloud(url, tmp_path)
        small.deploy(functions, "small")
        assert "nothing is reserved for the consumer: of the account's 10 concurrent executions" in small.said
        small.shell(f"wasq deploy --stack small --functions {functions} --concurrency 5", code=2)
        assert "Lambda keeps 100 of the account's 10 concurrent executions unreserved, so 0 can be reserved" in small.said
        found = json.loads(small.shell("wasq doctor --stack small --json", code=1))
        [finding] = found["findings"]
        assert finding["effect"] == "stops" and "runs 10 functions at once in this account" in finding["problem"]


@pytest.mark.parametrize("mode", ["window", "until-empty", "event-source"])
def test_from_nothing_to_a_task_that_ran(cloud, functions, mode):
    stack = f"wasq-{mode}"
    outputs = cloud.deploy(functions, stack, f"--mode {mode} --longest-task 1m --metrics task")
    record = run_hello(cloud, outputs)
    # The whole line that operators read, and CloudWatch's metrics in it.
    assert record["task"] == "hello" and record["outcome"] == "success" and record["request_id"]
    assert record["run_ms"] > 0 and record["queued_ms"] > 0 and record["peak_memory_bytes"] > 0 and record["digest"]
    [metrics] = record["_aws"]["CloudWatchMetrics"]
    assert metrics["Dimensions"] == [["function"], ["function", "task"]] and record["function"] == f"{stack}-worker"
    # The check that an operator makes.
    assert cloud.shell(f"wasq doctor --stack {stack}") == f"{stack} in us-east-1: no problem found\n"
    sqs, functions_api = cloud.client("sqs"), cloud.client("lambda")
    attributes = sqs.get_queue_attributes(QueueUrl=outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
    assert attributes["VisibilityTimeout"] == {"event-source": "420"}.get(mode, "120")
    worker = functions_api.get_function_configuration(FunctionName=outputs["WorkerFunction"])
    assert worker["Timeout"] == 70 and worker["Environment"]["Variables"]["WASQ_MAX_TIMEOUT"] == "1m"
    status = json.loads(cloud.shell(f"wasq status --stack {stack} --json"))
    # Busy workers cannot keep the consumer from starting.
    assert status["parameters"]["ConsumerConcurrency"] == ("0" if mode == "event-source" else "2")
    assert status["tasks"] == {"live": 1, "refused": []} and status["parameters"]["Mode"] == mode
    cloud.shell(f"wasq destroy --stack {stack} --data --yes")
    buckets = [bucket["Name"] for bucket in cloud.client("s3").list_buckets()["Buckets"]]
    assert not [name for name in buckets if name.startswith(f"{stack}-")], "nothing of it is left"


def test_deploying_again_changes_nothing_and_keeps_what_was_set(cloud, functions):
    cloud.deploy(functions, "again", "--mode until-empty --log-retention 7")
    deployed = json.loads(cloud.shell(f"wasq deploy --stack again --functions {functions} --json"))
    assert deployed["changed"] is False
    assert deployed["parameters"]["Mode"] == "until-empty" and deployed["parameters"]["LogRetention"] == "7"
    cloud.deploy(functions, "again", "--mode window")
    parameters = json.loads(cloud.shell("wasq status --stack again --json"))["parameters"]
    assert (parameters["Mode"], parameters["LogRetention"]) == ("window", "7")
    cloud.shell("wasq destroy --stack again --data --yes")


def test_what_was_destroyed_is_taken_over_with_its_data(cloud, functions):
    """A message that is sent to the queue of a destroyed stack runs after the stack is deployed again."""
    outputs = cloud.deploy(functions, "kept")
    cloud.shell(f"aws s3 cp {GUESTS}/hello.wasm s3://{outputs['TasksBucketName']}/hello.wasm")
    wait_for(lambda: json.loads(cloud.shell("wasq tasks --stack kept --json"))["tasks"], "live task")
    cloud.shell("wasq destroy --stack kept", code=2)
    assert "--yes" in cloud.said
    code, told, asked = answer(cloud, "n", "wasq", "destroy", "--stack", "kept")
    assert code == 2 and "Delete kept in us-east-1 (account 000000000000)? Queues and buckets stay. [y/N]" in asked
    assert "nothing was deleted" in asked and json.loads(cloud.shell("wasq status --stack kept --json"))
    code, told, asked = answer(cloud, "y", "wasq", "destroy", "--stack", "kept", "--data")
    assert code == 2 and "with all tasks and messages? Type kept to do so" in asked, "a mere yes is not enough"
    code, told, asked = answer(cloud, "y", "wasq", "destroy", "--stack", "kept")
    assert code == 0 and "kept-dead-letters" in told and "kept-registry-000000000000-us-east-1-an" in told
    cloud.shell("wasq status --stack kept", code=2)
    assert "there is no stack kept in us-east-1: `wasq deploy` makes one" in cloud.said
    sent = cloud.shell(f"wasq enqueue hello --queue-url {outputs['QueueUrl']} --json")
    message_id = json.loads(sent)["message_id"]
    outputs = cloud.deploy(functions, "kept")
    assert "taking them over with their contents" in cloud.said
    wait_for(lambda: [r for r in cloud.ran(outputs["WorkerFunction"]) if r["id"] == message_id], "run", RUN_WITHIN)
    assert cloud.shell("wasq doctor --stack kept") == "kept in us-east-1: no problem found\n"
    cloud.shell("wasq destroy --stack kept --data --yes")


def test_a_deployment_that_was_killed_when_it_had_taken_over_what_was_kept(cloud, functions):
    before = cloud.deploy(functions, "halfway")
    cloud.shell(f"aws s3 cp {GUESTS}/hello.wasm s3://{before['TasksBucketName']}/hello.wasm")
    wait_for(lambda: json.loads(cloud.shell("wasq tasks --stack halfway --json"))["tasks"], "live task")
    cloud.shell("wasq destroy --stack halfway --yes")
    # The change set that `wasq deploy` makes, and nothing after it.
    kept = [
        ("DeadLetterQueue", "AWS::SQS::Queue", "QueueUrl", before["DeadLetterUrl"]),
        ("Queue", "AWS::SQS::Queue", "QueueUrl", before["QueueUrl"]),
        ("TasksBucket", "AWS::S3::Bucket", "BucketName", before["TasksBucketName"]),
        ("RegistryBucket", "AWS::S3::Bucket", "BucketName", before["RegistryBucketName"]),
    ]
    resources, imports = {}, []
    for logical_id, kind, key, value in kept:
        name = {"QueueUrl": "QueueName"}.get(key, key)
        properties = {name: value.rsplit("/")[-1]}
        resources[logical_id] = {"Type": kind, "DeletionPolicy": "Retain", "Properties": properties}
        identifier = {"ResourceType": kind, "LogicalResourceId": logical_id, "ResourceIdentifier": {key: value}}
        imports.append(identifier)
    cloudformation = cloud.client("cloudformation")
    change_set = {"StackName": "halfway", "ChangeSetName": "wasq-adopts"}
    description = "wasq: taking over what an earlier stack has kept."
    template = json.dumps({"Description": description, "Resources": resources})
    cloudformation.create_change_set(
        **change_set, ChangeSetType="IMPORT", ResourcesToImport=imports, TemplateBody=template
    )
    wait_for(lambda: cloudformation.describe_change_set(**change_set)["Status"] == "CREATE_COMPLETE", "change set")
    cloudformation.execute_change_set(**change_set)

    def status():
        return cloudformation.describe_stacks(StackName="halfway")["Stacks"][0]["StackStatus"]

    wait_for(lambda: status() == "IMPORT_COMPLETE", "import")
    outputs = cloud.deploy(functions, "halfway")
    # The table is a new one.
    before.pop("RunsTableName")
    assert {name: outputs[name] for name in before} == before, "the buckets keep their names"
    run_hello(cloud, outputs)
    cloud.shell("wasq destroy --stack halfway --data --yes")


class Visits(http.server.BaseHTTPRequestHandler):
    """Records the runs that have ended. The worker's own log is lost when the worker is replaced."""

    seen = set()

    def do_GET(self):
        self.seen.add(self.path)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    # The end of a visit is a POST.
    do_POST = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def visits():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Visits)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def answer(cloud, typed, *command):
    """Runs a command at a terminal, and types an answer. Returns its exit code, and what it printed to stdout and stderr."""
    terminal, side = os.openpty()
    process = subprocess.Popen(
        command,
        executable=BINARIES / "wasq",
        env=cloud.environment,
        stdin=side,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.write(terminal, f"{typed}\n".encode())
    stdout, stderr = process.communicate(timeout=60)
    os.close(terminal)
    os.close(side)
    return process.returncode, stdout, stderr


def other_zips(functions, folder):
    """The same binaries in other zips: another version to CloudFormation."""
    folder = folder / ARCHITECTURE
    folder.mkdir(parents=True)
    for zipped in (functions / ARCHITECTURE).iterdir():
        path = folder / zipped.name
        path.write_bytes(zipped.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            archive.comment = b"another version"
    return folder.parent


def test_a_newer_engine_has_its_tasks_compiled_before_its_workers_start(cloud, functions, tmp_path):
    # The stack has no consumer. MiniStack ends a polling consumer when its code changes, but still gives the
    # next message to that poll. This hides the message for as long as the longest task may take.
    outputs = cloud.deploy(functions, "engine", "--mode event-source")
    run_hello(cloud, outputs)
    s3, worker, key = cloud.client("s3"), outputs["WorkerFunction"], "live/hello.json"
    registry = outputs["RegistryBucketName"]

    def code():
        names = [worker, "engine-publisher"]
        return [cloud.client("lambda").get_function_configuration(FunctionName=name)["CodeSha256"] for name in names]

    def record():
        return json.loads(s3.get_object(Bucket=registry, Key=key)["Body"].read())

    # The live record as a release with another engine has left it.
    older = record()
    [(fingerprint, artifact)] = older["artifacts"].items()
    older["artifacts"] = {"47.0.0-older": artifact}
    s3.put_object(Bucket=registry, Key=key, Body=json.dumps(older))
    module = f"modules/{older['digest']}.wasm"
    kept = s3.get_object(Bucket=registry, Key=module)["Body"].read()

    # A module that the newer engine does not take stops the upgrade before it can do harm.
    s3.put_object(Bucket=registry, Key=module, Body=b"\0asm nonsense")
    newer, before = other_zips(functions, tmp_path / "newer"), code()
    cloud.shell(f"wasq deploy --stack engine --functions {newer}", code=2)
    assert "the older workers go on, because the newer engine does not take all tasks" in cloud.said
    assert "hello: " in cloud.said and "wasq rm" in cloud.said
    assert code() == before and list(record()["artifacts"]) == ["47.0.0-older"]

    s3.put_object(Bucket=registry, Key=module, Body=kept)
    cloud.shell(f"wasq deploy --stack engine --functions {newer}")
    assert "tasks are compiled for it before its workers start" in cloud.said and "hello is compiled" in cloud.said
    assert code()[0] != before[0] and code()[1] != before[1]
    # The older artifact stays: its workers may still be running.
    assert set(record()["artifacts"]) == {fingerprint, "47.0.0-older"}
    parameters = json.loads(cloud.shell("wasq status --stack engine --json"))["parameters"]
    assert parameters["PublisherCodePrefix"] == ""
    run_hello(cloud, outputs)
    assert not [line for line in cloud.ran(worker) if line.get("kind") == "artifact-missing"]
    cloud.shell("wasq destroy --stack engine --data --yes")


def test_an_upgrade_under_load_loses_nothing(cloud, functions, visits, tmp_path):
    """Messages are sent while the stack gets other code, settings and mode, and then the first ones again."""
    outputs = cloud.deploy(functions, "upgrade", "--longest-task 1m --allow-addresses 127.0.0.1")
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    s3.put_object(Bucket=outputs["TasksBucketName"], Key="verbs.toml", Body=f'allow_hosts = ["{visits}"]')
    s3.put_object(Bucket=outputs["TasksBucketName"], Key="verbs.wasm", Body=(GUESTS / "verbs.wasm").read_bytes())
    wait_for(lambda: json.loads(cloud.shell("wasq tasks --stack upgrade --json"))["tasks"], "live task")
    sent, stop = [], threading.Event()

    def send():
        for first in itertools.count(step=10):
            if stop.is_set():
                return
            entries = []
            for number in range(first, first + 10):
                params = {"verb": "visit", "url": f"{visits}/{number}"}
                entries.append({"Id": str(number), "MessageBody": json.dumps({"task": "verbs", "params": params})})
            answer = sqs.send_message_batch(QueueUrl=outputs["QueueUrl"], Entries=entries)
            sent.extend(f"/{entry['Id']}/done" for entry in answer["Successful"])
            time.sleep(0.1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        newer = other_zips(functions, tmp_path / "newer")
        for folder, options in [
            (newer, ""),
            (functions, "--tasks-per-worker 5"),
            (newer, "--mode until-empty"),
            (functions, "--mode window"),
        ]:
            before = len(sent)
            wait_for(lambda: len(sent) > before + 100, "messages before the upgrade")
            cloud.deploy(folder, "upgrade", options)
        wait_for(lambda: len(sent) > before + 200, "messages after the last upgrade")
    finally:
        stop.set()
        sender.join()
    # A message that was running in a replaced worker comes again when its lease ends, after two minutes.
    wait_for(lambda: not set(sent) - Visits.seen, f"end of {len(sent)} messages", 300)
    wait_for(lambda: cloud.counts(outputs["QueueUrl"]) == (0, 0), "empty queue", 150)
    assert cloud.counts(outputs["DeadLetterUrl"]) == (0, 0)
    cloud.shell("wasq destroy --stack upgrade --data --yes")


class TestBadInput:
    def test_no_credentials(self, cloud, functions):
        nothing = {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None, "AWS_EC2_METADATA_DISABLED": "true"}
        cloud.shell(f"wasq deploy --functions {functions}", code=2, **nothing)
        assert cloud.said.startswith("wasq: no AWS credentials: set AWS_PROFILE, or")

    def test_no_region(self, cloud):
        nowhere = {"AWS_REGION": None, "AWS_DEFAULT_REGION": None, "AWS_EC2_METADATA_DISABLED": "true"}
        cloud.shell("wasq status --stack wasq", code=2, **nowhere)
        assert "no AWS region is set: name it by --region, by AWS_REGION" in cloud.said

    def test_a_region_that_does_not_exist(self, cloud):
        cloud.shell("wasq deploy --region eu-wst-1", code=2, AWS_ENDPOINT_URL=None, AWS_MAX_ATTEMPTS="1")
        assert "in the region eu-wst-1" in cloud.said and "is the region's name right" in cloud.said

    def test_the_wrong_region(self, cloud):
        cloud.shell("wasq status --stack elsewhere --region eu-west-1", code=2)
        assert "there is no stack elsewhere in eu-west-1" in cloud.said

    def test_functions_that_are_not_there(self, cloud, tmp_path):
        cloud.shell(f"wasq deploy --stack nothing --functions {tmp_path}", code=2)
        assert f"read {tmp_path}/arm64/wasq-consumer.zip" in cloud.said and "cargo xtask dist" in cloud.said
        assert not [b for b in cloud.client("s3").list_buckets()["Buckets"] if b["Name"].startswith("nothing-")]

    def test_a_name_that_no_bucket_could_have(self, cloud):
        cloud.shell("wasq deploy --stack My_Stack", code=2)
        assert "1 to 26 of a-z, 0-9 and -" in cloud.said

    def test_a_bucket_name_that_is_taken(self, cloud, functions):
        # MiniStack uses an access key of twelve digits as the account's number.
        cloud.shell("aws s3 mb s3://taken-code-000000000000-us-east-1", AWS_ACCESS_KEY_ID="111111111111")
        cloud.shell(f"wasq deploy --stack taken --functions {functions} --arch {ARCHITECTURE}", code=2)
        assert "the bucket taken-code-000000000000-us-east-1 is somebody else's" in cloud.said
        assert "name another by --code-bucket" in cloud.said
        cloud.deploy(functions, "taken", "--code-bucket taken-by-nobody")
        cloud.shell("wasq destroy --stack taken --data --yes")
        cloud.shell("aws s3 mb s3://owned-tasks-000000000000-us-east-1", AWS_ACCESS_KEY_ID="111111111111")
        command = f"wasq deploy --stack owned --functions {functions} --arch {ARCHITECTURE}"
        cloud.shell(f"{command} --bucket-namespace global", code=2)
        assert "owned-tasks-000000000000-us-east-1 is taken by another account" in cloud.said
        assert "take another name, by --stack" in cloud.said
        # Nobody can take a name of the account's own namespace.
        outputs = cloud.deploy(functions, "owned")
        assert outputs["TasksBucketName"] == "owned-tasks-000000000000-us-east-1-an"
        cloud.shell(f"{command} --bucket-namespace global", code=2)
        assert "--bucket-namespace is for new stacks" in cloud.said and "keep their names" in cloud.said
        cloud.shell("wasq destroy --stack owned --data --yes")
        outputs = cloud.deploy(functions, "a-name-of-twenty-six-signs")
        assert outputs["TasksBucketName"] == "a-name-of-twenty-six-signs-tasks-000000000000-us-east-1"
        cloud.shell("wasq destroy --stack a-name-of-twenty-six-signs --data --yes")

    def test_a_value_that_the_template_does_not_take(self, cloud, functions):
        options = f"--functions {functions} --arch {ARCHITECTURE}"
        cloud.shell(f"wasq deploy --stack values {options} --largest-task much", code=2)
        assert "create the stack values: ValidationError" in cloud.said and "LargestTask" in cloud.said
        cloud.shell(f"wasq deploy --stack values {options} --mode now", code=2)
        assert "[possible values: window, until-empty, event-source]" in cloud.said

    def test_a_stack_that_failed_is_finished_by_the_next_run(self, cloud, functions):
        """A bucket of ours already has the name. CloudFormation does not take the bucket over by itself."""
        bucket = "failed-tasks-000000000000-us-east-1"
        cloud.shell(f"aws s3 mb s3://{bucket}")
        cloud.shell(
            f"aws cloudformation create-stack --stack-name failed --template-body file://{TEMPLATE}"
            " --capabilities CAPABILITY_IAM"
            " --parameters ParameterKey=CodeBucket,ParameterValue=nowhere ParameterKey=Mode,ParameterValue=until-empty"
        )

        def status():
            [stack] = cloud.client("cloudformation").describe_stacks(StackName="failed")["Stacks"]
            return stack["StackStatus"]

        wait_for(lambda: not status().endswith("_IN_PROGRESS"), "end of the creation")
        assert status() == "ROLLBACK_COMPLETE"
        outputs = cloud.deploy(functions, "failed", "--code-bucket failed-code")
        assert "is in ROLLBACK_COMPLETE; removing what is left of it" in cloud.said
        assert f"an earlier stack has kept {bucket}" in cloud.said
        parameters = json.loads(cloud.shell("wasq status --stack failed --json"))["parameters"]
        assert parameters["Mode"] == "until-empty", "the mode of the run that failed"
        run_hello(cloud, outputs)
        cloud.shell("wasq destroy --stack failed --data --yes")

    def test_a_change_set_that_was_never_carried_out(self, cloud, functions):
        def change_set(name):
            return (
                f"aws cloudformation create-change-set --stack-name review --change-set-name {name}"
                f" --change-set-type CREATE --template-body file://{TEMPLATE} --capabilities CAPABILITY_IAM"
                " --parameters ParameterKey=CodeBucket,ParameterValue=nowhere"
            )

        cloud.shell(change_set("mine"))
        cloud.shell(f"wasq deploy --stack review --functions {functions} --arch {ARCHITECTURE}", code=2)
        assert "waits for somebody to carry out the change set mine" in cloud.said
        cloud.shell("wasq destroy --stack review --yes", code=2)
        assert "waits for somebody to carry out the change set mine" in cloud.said
        cloud.shell("aws cloudformation delete-stack --stack-name review")
        cloud.shell(change_set("wasq-adopts"))
        cloud.deploy(functions, "review")
        assert "was never carried out; starting again" in cloud.said
        cloud.shell("wasq destroy --stack review --data --yes")

    def test_what_is_not_ours_is_left_alone(self, cloud, functions):
        orders = cloud.folder / "orders.yaml"
        orders.write_text("Resources: {Orders: {Type: AWS::SQS::Queue, Properties: {QueueName: orders-in}}}")
        cloud.shell(f"aws cloudformation create-stack --stack-name orders --template-body file://{orders}")
        for command in (f"deploy --functions {functions} --arch {ARCHITECTURE}", "destroy --yes", "status", "doctor"):
            cloud.shell(f"wasq {command} --stack orders", code=2)
            assert "the stack orders in us-east-1 is not one of wasq's: name another by --stack" in cloud.said
        cloud.shell("aws sqs create-queue --queue-name invoices")
        for command in (f"deploy --functions {functions} --arch {ARCHITECTURE}", "destroy --data --yes"):
            cloud.shell(f"wasq {command} --stack invoices", code=2)
            assert "there is a queue invoices that wasq did not make: take another name, by --stack" in cloud.said
        left = cloud.shell("aws sqs list-queues")
        assert "/orders-in" in left and "/invoices" in left

    def test_two_queues_at_once(self, cloud):
        cloud.shell("wasq dlq ls --stack wasq", code=2, WASQ_QUEUE_URL="http://127.0.0.1:1/0/q")
        assert "both a queue (--queue-url or WASQ_QUEUE_URL) and a deployment" in cloud.said

    def test_an_interrupted_deploy_is_finished_by_the_next_run(self, cloud, functions):
        command = [BINARIES / "wasq", "deploy", "--stack", "cut", "--functions", functions, "--arch", ARCHITECTURE]
        # The command is killed at three moments: before, during and after the creation of the stack.
        for moment in ("create the bucket", "upload wasq-worker", "CREATE_COMPLETE"):
            process = subprocess.Popen(
                command,
                cwd=cloud.folder,
                env=cloud.environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for line in process.stderr:
                if moment in line:
                    break
            process.kill()
            process.wait()
        outputs = cloud.deploy(functions, "cut")
        run_hello(cloud, outputs)
        cloud.shell("wasq destroy --stack cut --data --yes")


def test_missing_permissions(functions, tmp_path):
    """On a stand-in that asks IAM about each call.

    It does not decide about the functions' calls as AWS does: see test_roles.py."""
    with mini_stack(functions_reach_it=True, AUTH="true") as url:
        cloud = Cloud(url, tmp_path)
        iam = cloud.client("iam")
        iam.create_user(UserName="dora")
        key = iam.create_access_key(UserName="dora")["AccessKey"]
        dora = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        command = f"wasq deploy --stack dora --functions {functions} --arch {ARCHITECTURE}"
        cloud.shell(command, code=2, **dora)
        assert "look for the stack dora: AccessDenied" in cloud.said and "docs/operating.md lists" in cloud.said
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        for denied, said in [
            (["s3:PutObject"], "upload wasq-consumer.zip"),
            (["cloudformation:CreateStack"], "create the stack dora"),
            ([], None),
        ]:
            deny = [{"Effect": "Deny", "Action": denied, "Resource": "*"}] if denied else []
            policy = json.dumps({"Version": "2012-10-17", "Statement": [everything, *deny]})
            iam.put_user_policy(UserName="dora", PolicyName="most", PolicyDocument=policy)
            if said:
                cloud.shell(command, code=2, **dora)
                assert said in cloud.said and "AccessDenied" in cloud.said
        outputs = cloud.deploy(functions, "dora", **dora)
        assert "dora" in outputs["QueueUrl"]
