"""The template's roles against the functions' real calls: every call is allowed, every permission is used.

Each function talks to a stand-in for AWS through its own recorder. The recorder does not see the calls that
Lambda and the scheduler make themselves with a role; this file lists them.
"""

import fnmatch
import http.client
import http.server
import json
import re
import threading
import time
import urllib.parse

import pytest

from conftest import CORE_MODULE, GUESTS, Cloud, mini_stack, wait_for

ACCOUNT, REGION = "000000000000", "us-east-1"
# The calls that Lambda and the scheduler make for a function, by role.
BY_THE_PLATFORM = {
    "ConsumerRole": {("logs:CreateLogStream", "consumer"), ("logs:PutLogEvents", "consumer")},
    "WorkerRole": {("logs:CreateLogStream", "worker"), ("logs:PutLogEvents", "worker")},
    "PublisherRole": {("logs:CreateLogStream", "publisher"), ("logs:PutLogEvents", "publisher")},
    "ScheduleRole": {("lambda:InvokeFunction", "consumer")},
    "SweepRole": {("lambda:InvokeFunction", "publisher")},
    # Both queues: their names begin with the stack's.
    "SenderRole": {("sqs:SendMessage", "")},
}


class Recorder:
    """Passes a function's calls on, and records the permissions that each call needs."""

    def __init__(self, target):
        recorder = self
        self.calls, self.refuse_invokes = set(), 0
        # Why calls could not be understood.
        self.unknown = []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if "/invocations" in self.path and recorder.refuse_invokes > 0:
                    recorder.refuse_invokes -= 1
                    recorder.calls.update(needed(self, body, 400))
                    return self.answer(400, {}, b'{"message": "refused, as the test wants it"}')
                there = http.client.HTTPConnection(target, timeout=90)
                there.request(self.command, self.path, body, dict(self.headers))
                response = there.getresponse()
                answer = response.read()
                try:
                    recorder.calls.update(needed(self, body, response.status))
                except Exception as unknown:
                    recorder.unknown.append(unknown)
                    raise
                self.answer(response.status, dict(response.getheaders()), answer)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

            def answer(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, *_):
                """Ignores the error of a function that was ended in the middle of a call."""

        self.server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def needed(request, body, status):
    """The permissions that IAM asks for a call: pairs of action and resource."""
    if target := request.headers.get("X-Amz-Target"):
        service, operation = target.split(".")
        if service == "AmazonSSM":
            name = json.loads(body)["Name"]
            return {(f"ssm:{operation}", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter{name}")}
        if service == "secretsmanager":
            # AWS appends six characters to a secret's name.
            secret = json.loads(body)["SecretId"]
            return {(f"secretsmanager:{operation}", f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{secret}-AbCdEf")}
        if service == "DynamoDB_20120810":
            table = json.loads(body)["TableName"]
            return {(f"dynamodb:{operation}", f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{table}")}
        assert service == "AmazonSQS", target
        queue = json.loads(body)["QueueUrl"].rsplit("/", 1)[1]
        return {(f"sqs:{operation.removesuffix('Batch')}", f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}")}
    path = urllib.parse.urlsplit(request.path).path
    if invoked := re.fullmatch(r"/2015-03-31/functions/([^/]+)/invocations", path):
        name = urllib.parse.unquote(invoked[1])
        return {("lambda:InvokeFunction", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}")}
    if schedule := re.fullmatch(r"/schedules/([^/]+)", path):
        group = json.loads(body)["GroupName"] if body else urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)["groupName"][0]
        operation = {"GET": "Get", "POST": "Create", "PUT": "Update", "DELETE": "Delete"}[request.command]
        resource = f"arn:aws:scheduler:{REGION}:{ACCOUNT}:schedule/{group}/{urllib.parse.unquote(schedule[1])}"
        calls = {(f"scheduler:{operation}Schedule", resource)}
        if operation in ("Create", "Update"):
            calls.add(("iam:PassRole", json.loads(body)["Target"]["RoleArn"]))
        return calls
    if path == "/schedules":
        return {("scheduler:ListSchedules", "*")}
    bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
    if not key and "list-type=2" in request.path:
        return {("s3:ListBucket", f"arn:aws:s3:::{bucket}")}
    assert key, f"an unknown call: {request.command} {request.path}"
    operation = {"GET": "GetObject", "HEAD": "GetObject", "PUT": "PutObject", "DELETE": "DeleteObject"}[request.command]
    calls = {(f"s3:{operation}", f"arn:aws:s3:::{bucket}/{key}")}
    if status == 404:
        # Without the permission to list the bucket, S3 answers "access denied" instead of 404.
        calls.add(("s3:ListBucket", f"arn:aws:s3:::{bucket}"))
    return calls


def many(value):
    return value if isinstance(value, list) else [value]


def granted(cloud, role):
    """Pairs of action and resource pattern that a role allows."""
    iam, pairs = cloud.client("iam"), set()
    assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
    for name in iam.list_role_policies(RoleName=role)["PolicyNames"]:
        document = iam.get_role_policy(RoleName=role, PolicyName=name)["PolicyDocument"]
        for statement in document["Statement"]:
            # Only what connects the worker to subnets is denied to the function itself.
            if statement["Effect"] == "Deny":
                assert "lambda:SourceFunctionArn" in json.dumps(statement["Condition"])
                continue
            for action in many(statement["Action"]):
                pairs.update((action, resource) for resource in many(statement["Resource"]))
    return pairs


@pytest.fixture(scope="module")
def recorded(functions, tmp_path_factory):
    """A deployment whose functions are recorded."""
    with mini_stack() as url:
        cloud = Cloud(url, tmp_path_factory.mktemp("roles"))
        outputs = cloud.deploy(functions, "roles", "--longest-task 1m")
        api, recorders = cloud.client("lambda"), {}
        for name in ("consumer", "worker", "publisher"):
            recorders[name] = Recorder(url.removeprefix("http://"))
            function = f"roles-{name}"
            variables = api.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
            variables["AWS_ENDPOINT_URL"] = recorders[name].url
            # A folder without the files of other workers on this machine.
            variables["WASQ_CACHE_DIR"] = str(cloud.folder / "cache")
            if name == "worker":
                # A run of some seconds looks whether somebody has cancelled it.
                variables["WASQ_LEASE"] = "4s"
            api.update_function_configuration(FunctionName=function, Environment={"Variables": variables})
        yield cloud, outputs, recorders
        for recorder in recorders.values():
            recorder.server.shutdown()


def test_every_call_is_allowed_and_every_permission_is_used(recorded):
    cloud, outputs, recorders = recorded
    exercise(cloud, outputs, recorders)
    [stack] = [cloud.client("cloudformation").describe_stack_resources(StackName="roles")["StackResources"]]
    roles = {r["LogicalResourceId"]: r["PhysicalResourceId"] for r in stack if r["ResourceType"] == "AWS::IAM::Role"}
    assert set(roles) == set(BY_THE_PLATFORM)
    for logical_id, name in roles.items():
        pairs = granted(cloud, name)
        recorder = recorders.get(logical_id.removesuffix("Role").lower())
        calls = recorder.calls if recorder else set()
        assert not (recorder and recorder.unknown), recorder.unknown
        for action, resource in calls:
            allowed = any(action == a and fnmatch.fnmatchcase(resource, pattern) for a, pattern in pairs)
            assert allowed, f"{logical_id} may not {action} on {resource}"
        for action, pattern in pairs:
            used = any(action == a and fnmatch.fnmatchcase(resource, pattern) for a, resource in calls)
            platform = any(action == a and f"roles-{function}".rstrip("-") in pattern for a, function in BY_THE_PLATFORM[logical_id])
            assert used or platform, f"{logical_id} may {action} on {pattern}, and never does"


def exercise(cloud, outputs, recorders):
    """Makes the functions do everything: each kind of upload, end of a message, and fault outside wasq."""
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    tasks, registry = outputs["TasksBucketName"], outputs["RegistryBucketName"]

    def listed(name):
        for task in json.loads(cloud.shell("wasq tasks --stack roles --json"))["tasks"]:
            if name == (task["live"] or task["rejected"])["task"]:
                return task
        return {"live": None, "rejected": None}

    def send(body):
        body = body if isinstance(body, str) else json.dumps(body)
        return sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody=body)["MessageId"]

    def ended(message_id, *ends):
        def record():
            ran = cloud.ran(outputs["WorkerFunction"])
            return next((r for r in ran if r["message_id"] == message_id and r["then"] in ends), None)

        return wait_for(record, f"{ends} of {message_id}", 60)

    # A module that is refused, then one that is not, with and without settings.
    s3.put_object(Bucket=tasks, Key="verbs.wasm", Body=CORE_MODULE)
    wait_for(lambda: listed("verbs")["rejected"], "refusal")
    s3.put_object(Bucket=tasks, Key="verbs.wasm", Body=(GUESTS / "verbs.wasm").read_bytes())
    wait_for(lambda: listed("verbs")["live"], "live task")
    cloud.client("ssm").put_parameter(Name="/roles/token", Type="SecureString", Value="a value of the parameter")
    cloud.client("secretsmanager").create_secret(Name="roles/api", SecretString='{"key": "a value of the secret"}')
    secrets = '[secrets]\nTOKEN = "ssm:/roles/token"\nKEY = "secretsmanager:roles/api#key"\n'
    s3.put_object(Bucket=tasks, Key="verbs.toml", Body=f"max_attempts = 2\n{secrets}")
    wait_for(lambda: listed("verbs")["live"]["settings"]["max_attempts"] == 2, "new settings")

    def verb(verb, **params):
        return {"task": "verbs", "params": {"verb": verb, **params}}

    ended(send(verb("enqueue", task="verbs", count=1, fail=False)), "done")
    ended(send(verb("sleep", ms=5000)), "done")
    # A result that is too large for the table of runs, written and then read.
    for _ in range(2):
        ended(send(verb("output", bytes=400_000) | {"id": "large"}), "done")
    ended(send(verb("retry", reason="once more")), "retry")
    ended(send(verb("reject", reason="never")), "dead-letter")
    ended(send({"task": "unknown"}), "give-back")
    # A message whose time is tomorrow, and schedules: one is made, changed, and deleted.
    tomorrow = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 86_400))
    ended(send(verb("echo", value=1) | {"not_before": tomorrow}), "delayed")
    for number, schedule in enumerate(("cron = '0 7 * * *'", "cron = '0 8 * * *'", None)):
        table = f"[[schedule]]\n{schedule}\n" if schedule else ""
        s3.put_object(Bucket=tasks, Key="verbs.toml", Body=f"max_attempts = 2\n{secrets}\n{table}")
        names = lambda: cloud.client("scheduler").list_schedules(GroupName="roles", NamePrefix="task.")["Schedules"]
        wait_for(lambda: len(listed("verbs")["live"]["settings"].get("schedule", [])) == len(names()) == bool(schedule), "schedules")
        wait_for(lambda: listed("verbs")["live"]["version"] >= 3 + number, "a version")
    # An artifact for another version of the worker: this worker asks the publisher for its own.
    record = json.loads(s3.get_object(Bucket=registry, Key="live/verbs.json")["Body"].read())
    record["artifacts"] = {f"{fingerprint}-another": made for fingerprint, made in record["artifacts"].items()}
    s3.put_object(Bucket=registry, Key="live/verbs.json", Body=json.dumps(record))
    time.sleep(1.5)
    ended(send(verb("echo", value=1)), "done")
    # The sweep, and another worker that asks for the same artifact: the publisher looks first.
    for event in (b'{"sweep": {}}', b'{"recompile": "verbs"}'):
        answer = cloud.client("lambda").invoke(FunctionName="roles-publisher", Payload=event)
        assert "FunctionError" not in answer, answer["Payload"].read()
    # An invoke that is refused.
    recorders["consumer"].refuse_invokes = 2
    ended(send(verb("echo", value=2)), "done")
