"""The real Lambda binaries on a stand-in for AWS (MiniStack): schedule, consumer, worker, publisher, S3 and SQS."""

import contextlib
import hashlib
import http.client
import http.server
import json
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from conftest import (
    BINARIES,
    CORE_MODULE,
    GUESTS,
    REGION,
    SCRATCH,
    aws_client,
    function_zip,
    github_settings,
    reason,
    receive_all,
    wait_for,
)

LEASE_SECONDS = 20
ROLE = "arn:aws:iam::000000000000:role/any"


class Cloud:
    """wasq in an account, set up as the template does it."""

    def __init__(self, url):
        self.url = url
        self.s3, self.sqs, self.functions, self.logs = (aws_client(s, url) for s in ("s3", "sqs", "lambda", "logs"))
        for bucket in ("code", "tasks", "registry"):
            self.s3.create_bucket(Bucket=bucket)
        self.dead_letters = self.sqs.create_queue(QueueName="dead")["QueueUrl"]
        redrive = {"deadLetterTargetArn": self.arn(self.dead_letters), "maxReceiveCount": 1000}
        self.queue = self.sqs.create_queue(
            QueueName="wasq",
            Attributes={"VisibilityTimeout": str(LEASE_SECONDS), "RedrivePolicy": json.dumps(redrive)},
        )["QueueUrl"]
        queues = {
            "WASQ_QUEUE_URL": self.queue,
            "WASQ_DEAD_LETTER_URL": self.dead_letters,
            "WASQ_LEASE": f"{LEASE_SECONDS}s",
        }
        self.function("publisher", 120, {"WASQ_TASKS_BUCKET": "tasks", "WASQ_REGISTRY_BUCKET": "registry"})
        self.function(
            "worker",
            15,
            queues
            | {
                "WASQ_REGISTRY_BUCKET": "registry",
                "WASQ_PUBLISHER_FUNCTION": "publisher",
                "WASQ_LIVE_TTL": "100ms",
                "WASQ_SECRET_TTL": "200ms",
                "WASQ_ALLOW_ADDRESSES": "127.0.0.1",
                "WASQ_CACHE_DIR": tempfile.mkdtemp(prefix="cache-", dir=SCRATCH),
            },
        )
        self.function("consumer", 5, queues | {"WASQ_WORKER_FUNCTION": "worker", "WASQ_MODE": "window"})
        for name in ("worker", "consumer"):
            self.functions.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
        on_upload = [
            {
                "LambdaFunctionArn": self.function_arn("publisher"),
                "Events": ["s3:ObjectCreated:*"],
                "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": suffix}]}},
            }
            for suffix in (".wasm", ".toml")
        ]
        self.s3.put_bucket_notification_configuration(
            Bucket="tasks", NotificationConfiguration={"LambdaFunctionConfigurations": on_upload}
        )

    def arn(self, queue_url):
        return self.sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

    def function_arn(self, name):
        return f"arn:aws:lambda:{REGION}:000000000000:function:{name}"

    def function(self, name, timeout, variables):
        """Zips a binary as its bootstrap, and makes a function of it."""
        self.s3.put_object(Bucket="code", Key=f"{name}.zip", Body=function_zip(name))
        made = self.functions.create_function(
            FunctionName=name,
            Runtime="provided.al2023",
            Handler="bootstrap",
            Role=ROLE,
            Timeout=timeout,
            MemorySize=1769,
            Code={"S3Bucket": "code", "S3Key": f"{name}.zip"},
            Environment={"Variables": variables},
        )
        assert made["CodeSize"] > 0

    def schedule(self):
        aws_client("scheduler", self.url).create_schedule(
            Name="wasq",
            ScheduleExpression="rate(1 minute)",
            FlexibleTimeWindow={"Mode": "OFF"},
            Target={"Arn": self.function_arn("consumer"), "RoleArn": ROLE, "Input": "{}"},
        )

    def publish(self, guest, name=None, settings=""):
        name = name or guest
        self.s3.put_object(Bucket="tasks", Key=f"{name}.toml", Body=settings.encode())
        self.s3.put_object(Bucket="tasks", Key=f"{name}.wasm", Body=(GUESTS / f"{guest}.wasm").read_bytes())
        digest = subprocess.check_output(["sha256sum", GUESTS / f"{guest}.wasm"], text=True).split()[0]
        wait_for(lambda: self.registry(f"live/{name}.json").get("digest") == digest, f"live {name}", 60)

    def registry(self, key):
        try:
            return json.loads(self.s3.get_object(Bucket="registry", Key=key)["Body"].read())
        except self.s3.exceptions.NoSuchKey:
            return {}

    def send(self, message):
        return self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps(message))["MessageId"]

    def counts(self, queue=None):
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        got = self.sqs.get_queue_attributes(QueueUrl=queue or self.queue, AttributeNames=["All"])["Attributes"]
        return tuple(int(got[name]) for name in names)

    def log(self, name):
        """The JSON lines that a function has logged."""
        lines, page = [], {}
        while True:
            try:
                got = self.logs.filter_log_events(logGroupName=f"/aws/lambda/{name}", **page)
            except self.logs.exceptions.ResourceNotFoundException:
                return []
            for event in got["events"]:
                with contextlib.suppress(ValueError):
                    lines.append(json.loads(event["message"]))
            if not got.get("nextToken"):
                return [line for line in lines if isinstance(line, dict)]
            page = {"nextToken": got["nextToken"]}

    def done(self):
        """The ids of the messages that the worker says it has finished."""
        return [line["id"] for line in self.log("worker") if line.get("message") == "done"]


@pytest.fixture(scope="module")
def cloud(stand_in):
    cloud = Cloud(stand_in)
    cloud.schedule()
    return cloud


def test_the_schedule_drains_the_queue(cloud, github):
    """schedule -> consumer -> synchronous invoke -> worker -> S3 registry -> run -> delete."""
    cloud.publish("github_repositories", settings=github_settings("github_repositories", github))
    message_id = cloud.send({"task": "github_repositories", "params": {"user": "javimb"}})
    wait_for(lambda: message_id in cloud.done(), "run of the message", 60)
    said = [line for line in cloud.log("worker") if line.get("id") == message_id]
    assert [line["message"] for line in said] == ["run begins", "javimb has 5 public repositories", "done"], said
    wait_for(lambda: cloud.counts() == (0, 0), "deleted message")
    assert cloud.counts(cloud.dead_letters) == (0, 0)


def test_uploads_change_what_runs_next(cloud):
    """A new version and a broken one arrive while messages come: none is lost, none runs half a module."""
    cloud.publish("hello", "changing")
    ids = [cloud.send({"task": "changing", "params": {"verb": "echo", "value": i}}) for i in range(20)]
    cloud.publish("verbs", "changing")
    cloud.s3.put_object(Bucket="tasks", Key="changing.wasm", Body=CORE_MODULE)
    rejected = wait_for(lambda: cloud.registry("rejected/changing.json"), "rejection")
    assert "changing.wasm: a core WebAssembly module, not a component" in rejected["reason"]
    ids += [cloud.send({"task": "changing", "params": {"verb": "echo", "value": i}}) for i in range(20)]
    wait_for(lambda: set(ids) <= set(cloud.done()), "run of every message", 90)
    wait_for(lambda: cloud.counts() == (0, 0), "empty queue")
    assert cloud.counts(cloud.dead_letters) == (0, 0)
    assert cloud.registry("live/changing.json")["version"] == 2


def test_retries_and_dead_letters(cloud):
    cloud.publish("verbs", settings='max_attempts = 2\nbackoff = { base = "0s", cap = "0s" }')
    ids = [cloud.send({"task": "verbs", "params": {"verb": "flaky", "succeeds_in": 2}})]
    cloud.sqs.send_message(QueueUrl=cloud.queue, MessageBody="not JSON")
    cloud.send({"task": "verbs", "params": {"verb": "reject", "reason": "no"}})
    cloud.send({"task": "verbs", "params": {"verb": "retry", "reason": "later"}})
    letters = receive_all(cloud.sqs, cloud.dead_letters, 3, 60)
    assert sorted(reason(letter)[0] for letter in letters) == ["malformed", "reject", "retry"]
    [retried] = [letter for letter in letters if reason(letter)[0] == "retry"]
    assert json.loads(retried["MessageAttributes"]["wasq.attempts"]["StringValue"])["attempts"] == 2
    wait_for(lambda: ids[0] in cloud.done(), "end of the flaky message", 60)
    assert wait_for(lambda: cloud.counts() == (0, 0), "empty queue", 30)


def test_dead_letters_are_redriven(cloud):
    """`wasq dlq` with the SDK on MiniStack's queue: the copy keeps the id that its task saw."""
    cloud.publish("verbs")
    refused = cloud.send({"task": "verbs", "params": {"verb": "reject", "reason": "no"}})
    wait_for(lambda: cloud.counts(cloud.dead_letters)[0] == 1, "dead letter", 60)

    def dlq(*args):
        command = [BINARIES / "wasq", "dlq", *args, "--queue-url", cloud.queue, "--json"]
        return json.loads(subprocess.check_output(command, timeout=60))

    [letter] = dlq("ls", "--kind", "reject")["dead_letters"]
    assert (letter["id"], letter["reason"]) == (refused, "no")
    cloud.publish("hello", "verbs")
    assert dlq("redrive", refused) == {"redriven": 1, "problems": []}
    wait_for(lambda: refused in cloud.done(), "run of the redriven message", 60)
    assert dlq("ls")["dead_letters"] == [] and cloud.counts(cloud.dead_letters) == (0, 0)


def test_children(cloud):
    cloud.publish("verbs")
    params = {"verb": "enqueue", "task": "verbs", "count": 3, "fail": False}
    cloud.send({"task": "verbs", "params": params, "id": "parent"})
    wait_for(lambda: "parent" in cloud.done(), "end of the parent", 60)
    # The children's ids are derived from the parent's id, so they are the same in every run of the parent.
    children = [hashlib.sha256(f"parent\0{i}".encode()).hexdigest()[:32] for i in range(3)]
    wait_for(lambda: set(children) <= set(cloud.done()), "end of the children", 60)
    assert cloud.counts(cloud.dead_letters) == (0, 0)


def test_a_direct_invoke_answers_with_the_outcome(cloud):
    cloud.publish("verbs")

    def invoke(message):
        answer = cloud.functions.invoke(FunctionName="worker", Payload=json.dumps(message))
        return answer.get("FunctionError"), json.loads(answer["Payload"].read())

    echo = {"task": "verbs", "params": {"verb": "echo", "value": [1, 2]}}
    assert invoke(echo) == (None, {"outcome": "success", "output": [1, 2]})
    reject = {"task": "verbs", "params": {"verb": "reject", "reason": "no"}}
    assert invoke(reject) == (None, {"outcome": "failure", "kind": "reject", "message": "no"})
    error, answer = invoke({"tsak": "verbs"})
    assert error and 'its keys are [\\"tsak\\"]' in json.dumps(answer)


def test_what_was_missed_is_published_by_the_sweep(cloud):
    """The events of an upload and of a removal are lost."""
    cloud.publish("hello", "stays")
    cloud.publish("hello", "goes")
    events = cloud.s3.get_bucket_notification_configuration(Bucket="tasks")["LambdaFunctionConfigurations"]
    cloud.s3.put_bucket_notification_configuration(Bucket="tasks", NotificationConfiguration={})
    cloud.s3.put_object(Bucket="tasks", Key="missed.wasm", Body=(GUESTS / "hello.wasm").read_bytes())
    cloud.s3.put_object(Bucket="tasks", Key="broken.wasm", Body=CORE_MODULE)
    cloud.s3.delete_object(Bucket="tasks", Key="goes.wasm")
    cloud.s3.put_bucket_notification_configuration(
        Bucket="tasks", NotificationConfiguration={"LambdaFunctionConfigurations": events}
    )
    before = cloud.registry("live/stays.json")
    for _ in range(2):
        answer = cloud.functions.invoke(FunctionName="publisher", Payload=b'{"sweep": {}}')
        assert "FunctionError" not in answer, answer["Payload"].read()
        assert cloud.registry("live/missed.json")["version"] == 1
        assert "a core WebAssembly module" in cloud.registry("rejected/broken.json")["reason"]
        assert cloud.registry("live/goes.json")["removed"] and cloud.registry("live/stays.json") == before


def test_secrets(cloud, echo):
    ssm, manager = aws_client("ssm", cloud.url), aws_client("secretsmanager", cloud.url)
    ssm.put_parameter(Name="/wasq/token", Type="SecureString", Value="the-first-token")
    manager.create_secret(Name="wasq/api", SecretString=json.dumps({"user": "of-the-api", "key": "the-key-of-the-api"}))
    settings = f"""
max_attempts = 1
allow_hosts = ["http://{echo.authority}"]
[secrets]
TOKEN = "ssm:/wasq/token"
KEY = "secretsmanager:wasq/api#key"
EXPOSED = {{ from = "secretsmanager:wasq/api#user", expose = true }}
"""
    cloud.publish("verbs", "secretive", settings)

    def send(verb, **params):
        return cloud.send({"task": "secretive", "params": {"verb": verb, **params}})

    def authorize(authorization):
        return send("authorize", authority=echo.authority, authorization=authorization)

    sent = [authorize("Bearer {TOKEN}"), authorize("{KEY}")]
    wait_for(lambda: set(sent) <= set(cloud.done()), "end of the requests", 60)
    assert sorted(echo.got) == ["Bearer the-first-token", "the-key-of-the-api"]
    # A task that tells an exposed secret, in its log and in a dead letter.
    send("say", text="it is {EXPOSED}", end="retry")
    [letter] = receive_all(cloud.sqs, cloud.dead_letters, 1, 60)
    assert reason(letter) == ("retry", "it is [secret EXPOSED]")

    # Uploads that name a secret or a key that does not exist. The live version stays.
    for name, why in [("ssm:/wasq/gone", "ParameterNotFound"), ("secretsmanager:wasq/api#password", "no key password")]:
        rejected = f'[secrets]\nTOKEN = "{name}"'
        cloud.s3.put_object(Bucket="tasks", Key="secretive.toml", Body=rejected.encode())
        refused = lambda: why in cloud.registry("rejected/secretive.json").get("reason", "")  # noqa: B023, E731
        wait_for(refused, f"refusal of {name}", 60)
    live = cloud.registry("live/secretive.json")
    assert live["settings"]["secrets"]["KEY"] == {"from": "secretsmanager:wasq/api#key"}

    # The secret of a live task is deleted: the task's messages wait for it. The worker caches it for 200 ms.
    ssm.delete_parameter(Name="/wasq/token")
    time.sleep(0.5)
    waiting = authorize("Bearer {TOKEN}")
    unavailable = lambda: [r for r in cloud.log("worker") if r.get("id") == waiting and r.get("kind") == "unavailable"]  # noqa: E731
    assert "the secret TOKEN (ssm:/wasq/token)" in wait_for(unavailable, "delivery without a secret", 60)[0]["message"]
    ssm.put_parameter(Name="/wasq/token", Type="SecureString", Value="the-second-token")
    wait_for(lambda: waiting in cloud.done(), "end of the message", 60)
    assert echo.got[2:] == ["Bearer the-second-token"]

    logs = json.dumps([cloud.log(name) for name in ("worker", "consumer", "publisher")])
    registry = cloud.s3.list_objects_v2(Bucket="registry", Prefix="live/")["Contents"]
    records = json.dumps([cloud.registry(found["Key"]) for found in registry])
    for value in ("the-first-token", "the-second-token", "the-key-of-the-api", "of-the-api"):
        assert value not in logs and value not in records, value


@pytest.mark.parametrize("damage", ["damaged", "foreign"])
def test_an_artifact_that_cannot_be_used_is_made_again(cloud, damage):
    """The worker asks the publisher for it, and the message waits."""
    # The module is new, because a worker does not fetch a loaded module again. There is only one upload,
    # because the publisher's answer to a second one would fix the damage.
    component = (GUESTS / "github_users.wasm").read_bytes() + b"\0" + bytes([1 + len(damage), len(damage)]) + damage.encode()
    cloud.s3.put_object(Bucket="tasks", Key=f"{damage}.wasm", Body=component)
    live = f"live/{damage}.json"
    wait_for(lambda: cloud.registry(live), "live task", 60)
    record = cloud.registry(live)
    [(fingerprint, artifact)] = record["artifacts"].items()
    key = f"compiled/{fingerprint}/{record['digest']}.cwasm"
    if damage == "damaged":
        cloud.s3.put_object(Bucket="registry", Key=key, Body=b"damaged")
    else:
        # The artifact is whole, but another wasmtime made it, although its fingerprint says otherwise.
        made = cloud.s3.get_object(Bucket="registry", Key=key)["Body"].read()
        foreign = made.replace(b"\x0248", b"\x0247", 1)
        assert foreign != made
        artifact["sha256"] = hashlib.sha256(foreign).hexdigest()
        cloud.s3.put_object(Bucket="registry", Key=key, Body=foreign)
        cloud.s3.put_object(Bucket="registry", Key=live, Body=json.dumps(record))
    cloud.send({"task": damage, "params": {"town": "Madrid"}, "id": damage})
    # The message runs in the end: the reason in its dead letter is the task's own message about the params.
    [letter] = receive_all(cloud.sqs, cloud.dead_letters, 1, 60)
    assert reason(letter)[0] == "reject" and "missing field `city`" in reason(letter)[1]
    # The log record comes after the dead letter.
    lines = lambda: [line for line in cloud.log("worker") if line.get("id") == damage and "kind" in line]  # noqa: E731
    wait_for(lambda: [line["kind"] for line in lines()][-1:] == ["reject"], "the record of its end")
    assert "artifact-missing" in [line["kind"] for line in lines()], lines()
    said = [line for line in cloud.log("worker") if "asking the publisher" in line.get("message", "")]
    assert any(line.get("task") == damage for line in said), said


class Between(http.server.BaseHTTPRequestHandler):
    """Passes requests on to MiniStack, unless the server's `fault` says otherwise."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen += 1
        if self.server.fault == "down":
            self.close_connection = True
            return
        if self.server.fault == "throttled":
            return self.answer(503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
        time.sleep(1.5 if self.server.fault == "slow" else 0)
        there = http.client.HTTPConnection(self.server.target, timeout=30)
        there.request("GET", self.path, headers=dict(self.headers))
        response = there.getresponse()
        self.answer(response.status, response.read(), {"ETag": response.headers.get("ETag", "")})

    def do_POST(self):
        """A call of DynamoDB."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.seen += 1
        if self.server.fault == "down":
            self.close_connection = True
            return
        if self.server.fault == "throttled":
            kind = "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"
            return self.answer(400, json.dumps({"__type": kind, "message": "The level of throughput was exceeded."}).encode())
        if self.server.fault == "denied":
            kind = "com.amazon.coral.service#AccessDeniedException"
            return self.answer(400, json.dumps({"__type": kind, "Message": "not authorized to perform: dynamodb:PutItem"}).encode())
        time.sleep(3 if self.server.fault == "slow" else 0)
        there = http.client.HTTPConnection(self.server.target, timeout=30)
        there.request("POST", self.path, body, dict(self.headers))
        response = there.getresponse()
        self.answer(response.status, response.read())

    def answer(self, status, body, headers={}):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def standing_between(cloud, service, **more):
    """A server between the worker and a service of AWS; its faults are `throttled`, `down`, `slow` and, for DynamoDB, `denied`."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Between)
    server.target, server.fault, server.seen = cloud.url.removeprefix("http://"), None, 0
    threading.Thread(target=server.serve_forever, daemon=True).start()
    variables = cloud.functions.get_function_configuration(FunctionName="worker")["Environment"]["Variables"]
    through = variables | more | {f"AWS_ENDPOINT_URL_{service}": f"http://127.0.0.1:{server.server_port}"}
    cloud.functions.update_function_configuration(FunctionName="worker", Environment={"Variables": through})
    yield server
    cloud.functions.update_function_configuration(FunctionName="worker", Environment={"Variables": variables})
    server.shutdown()


@pytest.fixture
def between(cloud):
    """Between the worker and the registry."""
    with standing_between(cloud, "S3") as server:
        yield server


@pytest.fixture
def table_behind(cloud):
    """Between the worker and a table of runs."""
    dynamodb = aws_client("dynamodb", cloud.url)
    dynamodb.create_table(
        TableName="runs-behind",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    with standing_between(cloud, "DYNAMODB", WASQ_RUNS_TABLE="runs-behind") as server:
        yield server
    dynamodb.delete_table(TableName="runs-behind")


@pytest.mark.parametrize("fault", ["throttled", "down", "slow", "denied"])
def test_a_table_of_runs_that_does_not_answer_costs_no_message(cloud, table_behind, fault):
    """A task that says `once`, and one with steps, wait for it; another one runs without it."""
    for name, settings in [("plain", ""), ("steps", ""), ("once", "once = true")]:
        # One attempt: if it was spent, the message would be a dead letter.
        cloud.publish("verbs", f"{fault}-{name}", settings=f"max_attempts = 1\n{settings}")
    table_behind.fault = fault
    echo = {"verb": "echo", "value": 1}
    steps = {"verb": "steps", "calls": [{"load": "a"}, {"save": ["a", "1"]}, {"retry-before": 1}]}
    refuses = {"verb": "steps", "calls": [{"step": ["a", "http://127.0.0.1:1/"]}]}
    sent = {name: cloud.send({"task": f"{fault}-{name}", "params": params}) for name, params in [("plain", echo), ("once", echo), ("steps", refuses)]}
    records = lambda name: [line for line in cloud.log("worker") if line.get("id") == sent[name] and "outcome" in line]  # noqa: E731
    wait_for(lambda: sent["plain"] in cloud.done(), "run without a table", 60)
    for name, why in [("once", "the task says once"), ("steps", "steps need the table of runs")]:
        first = wait_for(lambda name=name: records(name), "a delivery that waits", 60)[0]
        assert (first["kind"], first["then"]) == ("unavailable", "give-back") and why in first["message"], first
    assert table_behind.seen > 0
    table_behind.fault = None
    late = cloud.send({"task": f"{fault}-steps", "params": steps})
    wait_for(lambda: {sent["once"], late} <= set(cloud.done()), "end of the messages", 90)
    # The step could begin now, and its request was denied: that is the task's own failure.
    wait_for(lambda: records("steps")[-1]["then"] == "dead-letter", "own failure of the task", 90)
    assert records("steps")[-1]["kind"] == "retry" and "Denied" in records("steps")[-1]["message"]
    items = {item["id"]["S"]: item for item in aws_client("dynamodb", cloud.url).scan(TableName="runs-behind")["Items"]}
    assert items[sent["once"]]["state"]["S"] == items[late]["state"]["S"] == "done"
    assert json.loads(items[late]["steps"]["S"])[0]["value"] == 1
    receive_all(cloud.sqs, cloud.dead_letters, 1, 60)


@pytest.mark.parametrize("fault", ["throttled", "down", "slow"])
def test_a_registry_that_does_not_answer_costs_no_message(cloud, between, fault):
    # One attempt: if it was spent, the message would be a dead letter.
    cloud.publish("hello", "steady", settings=f'max_attempts = 1\n[env]\nFAULT = "{fault}"')
    between.fault = fault
    sent = cloud.send({"task": "steady", "params": {"fault": fault}})
    records = lambda: [line for line in cloud.log("worker") if line.get("id") == sent and "outcome" in line]  # noqa: E731
    if fault != "slow":
        first = wait_for(records, "a delivery without a registry", 60)[0]
        assert (first["kind"], first["then"]) == ("unavailable", "give-back")
        assert "read s3://registry/live/steady.json" in first["message"], first["message"]
        between.fault = None
    wait_for(lambda: sent in cloud.done(), "end of the message", 90)
    assert between.seen > 0
    if fault == "slow":
        assert records()[-1]["load_ms"] > 1400
    assert cloud.counts(cloud.dead_letters) == (0, 0)


def test_an_event_source_mapping_needs_no_consumer(cloud):
    cloud.publish("verbs", settings='backoff = { base = "0s", cap = "0s" }')
    # The schedule is still there, but the consumer does not get the messages that the mapping takes.
    mapping = cloud.functions.create_event_source_mapping(
        FunctionName="worker",
        EventSourceArn=cloud.arn(cloud.queue),
        BatchSize=10,
        FunctionResponseTypes=["ReportBatchItemFailures"],
    )
    try:
        ids = [cloud.send({"task": "verbs", "params": {"verb": "flaky", "succeeds_in": 2}}) for _ in range(3)]
        wait_for(lambda: set(ids) <= set(cloud.done()), "run of every message", 60)
        wait_for(lambda: cloud.counts() == (0, 0), "empty queue")
        assert cloud.counts(cloud.dead_letters) == (0, 0)
    finally:
        cloud.functions.update_event_source_mapping(UUID=mapping["UUID"], Enabled=False)
