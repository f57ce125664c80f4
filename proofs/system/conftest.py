"""Shared by the tests: the wasq binaries, a running `wasq dev`, and AWS's own clients."""

import atexit
import contextlib
import http.server
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile
from pathlib import Path

import boto3
import pytest
from botocore.config import Config

import github_stand_in

# Files that no single test owns. They go when the tests end.
SCRATCH = Path(tempfile.mkdtemp(prefix="wasq-tests-"))
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
# Not the state of the person who runs the tests: a `wasq dev` of theirs would be found.
os.environ["XDG_STATE_HOME"] = str(SCRATCH / "state")
ROOT = Path(__file__).resolve().parent.parent.parent
BINARIES = ROOT / "target" / "debug"
GUESTS = ROOT / "target" / "guests" / "wasm32-wasip2" / "release"
AWS_CLI = Path(sys.executable).with_name("aws")
REGION = "us-east-1"
# Stand-ins need some credentials, and the machine's own must not be used.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
# A valid WebAssembly file that is not a component.
CORE_MODULE = b"\0asm\1\0\0\0"


def pytest_collection_modifyitems(items):
    """Marks the tests on a stand-in for AWS. They can run beside those that build, and beside the others: two stand-ins at once are too
    slow for leases and schedules."""
    for item in items:
        has_its_own = any(hasattr(item.module, name) for name in ("mini_stack", "chaos"))
        if has_its_own or {"stand_in", "functions"} & set(item.fixturenames):
            item.add_marker(pytest.mark.aws)


def aws_client(service, url, region_name=REGION):
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=region_name,
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(s3={"addressing_style": "path"}, read_timeout=60, retries={"total_max_attempts": 1}),
    )


def with_schema(wasm, schema):
    """A component with the section, as any tool may write it."""
    content = b"\x0bwasq:schema" + json.dumps(schema).encode()
    length, number = len(content), bytearray()
    while True:
        number.append(length & 0x7F | (0x80 if length > 0x7F else 0))
        length >>= 7
        if not length:
            return wasm + b"\0" + bytes(number) + content


def wait_for(condition, what, seconds=30):
    """Asks until the answer is true, and returns it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.05)
    return answer


def receive_all(sqs, queue_url, count, seconds=30):
    """Receives and deletes until `count` messages came."""
    messages = []

    def receive():
        got = sqs.receive_message(
            QueueUrl=queue_url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=1,
            MessageAttributeNames=["All"],
            MessageSystemAttributeNames=["All"],
        ).get("Messages", [])
        for message in got:
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
        messages.extend(got)
        return len(messages) >= count

    wait_for(receive, f"{count} messages in {queue_url}", seconds)
    return messages


def reason(message):
    """The kind and the reason in a dead letter's attributes."""
    attributes = message["MessageAttributes"]
    return attributes["wasq.kind"]["StringValue"], attributes["wasq.reason"]["StringValue"]


class Dev:
    """A `wasq dev` in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.tasks = folder / "tasks"
        self.log = folder / "dev.log"
        self.tasks.mkdir()
        self.process = None

    def start(self, *args):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [BINARIES / "wasq", "dev", "--json", "--listen", "127.0.0.1:0", "--log", "debug", *args],
                cwd=self.folder,
                # The address of the tests' own servers.
                env=os.environ | {"WASQ_ALLOW_ADDRESSES": "127.0.0.1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                # A write beyond a limit of the system is an error then, and no signal.
                restore_signals=False,
            )
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        ready = json.loads(line)
        self.url, self.page = ready["endpoint"], ready["page"]
        self.queue_url = ready["queue_url"]
        self.dead_letter_url = ready["dead_letter_queue_url"]
        self.sqs = aws_client("sqs", self.url)
        return self

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """Stops it by SIGTERM; returns its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def publish(self, guest, name=None, settings=""):
        """Puts a task into the folder the way people do, and waits until it is live."""
        name = name or guest
        (self.tasks / f"{name}.toml").write_text(settings)
        shutil.copy(GUESTS / f"{guest}.wasm", self.tasks / f"{name}.wasm")
        digest = subprocess.check_output(["sha256sum", self.tasks / f"{name}.wasm"], text=True).split()[0]
        wait_for(lambda: (self.listed(name)["live"] or {}).get("digest") == digest, f"live {name}")

    def listed(self, name):
        tasks = self.wasq("tasks", "--json")["tasks"]
        for task in tasks:
            if name == (task["live"] or task["removed"] or task["rejected"])["task"]:
                return task
        return {"live": None, "rejected": None}

    def wasq(self, *args, code=0):
        """Runs another `wasq` command in its folder, and returns the JSON that the command prints.

        `code` is the expected exit code; None for any."""
        done = subprocess.run([BINARIES / "wasq", *args], cwd=self.folder, capture_output=True, text=True, timeout=60)
        assert code in (None, done.returncode), f"code {done.returncode}: {done.stdout}\n{done.stderr}"
        return json.loads(done.stdout)

    def send(self, body):
        body = body if isinstance(body, str) else json.dumps(body)
        return self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body)["MessageId"]

    def counts(self, queue_url=None):
        attributes = self.sqs.get_queue_attributes(QueueUrl=queue_url or self.queue_url, AttributeNames=["All"])
        names = ("", "NotVisible", "Delayed")
        return tuple(int(attributes["Attributes"][f"ApproximateNumberOfMessages{name}"]) for name in names)

    def logged(self, *words):
        lines = self.log.read_text().splitlines()
        return [line for line in lines if all(word in line for word in words)]


@pytest.fixture
def new_dev(tmp_path):
    dev = Dev(tmp_path)
    yield dev
    if dev.process and dev.process.poll() is None:
        dev.kill()


@pytest.fixture
def dev(new_dev):
    return new_dev.start()


LANGUAGES = ["rust", "python", "javascript", "typescript", "go", "c", "cpp", "zig"]


class Author:
    """A task author: a folder, `wasq`, and the toolchains of `example-tasks`."""

    def __init__(self, folder):
        self.folder = folder
        self.said = ""
        self.process = None
        programs = [BINARIES, ROOT / "target" / "toolchains" / "bin", *os.environ["PATH"].split(":")]
        # Rust's libraries are built once for all authors. They are apart from the guests, because tasks of
        # the same name would replace the guests.
        self.environment = os.environ | {
            "PATH": ":".join(map(str, programs)),
            "CARGO_TARGET_DIR": str(ROOT / "target" / "authors"),
        }

    def shell(self, command, code=0):
        """Types a command; returns its stdout, and keeps its stderr in `said`."""
        done = subprocess.run(
            ["/bin/bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        self.said = done.stderr
        assert done.returncode == code, f"{command}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def new(self, name, language):
        """Makes a project, with its npm packages already installed."""
        self.shell(f"wasq new {name} --lang {language}")
        project = self.folder / name
        if (project / "package.json").exists():
            (project / "node_modules").symlink_to(ROOT / "example-tasks" / "node_modules")
        return project

    def start_dev(self, project):
        """Starts `wasq dev` on a project, on any free port. It keeps running."""
        with open(self.folder / "dev.log", "wb") as log:
            self.process = subprocess.Popen(
                [BINARIES / "wasq", "dev", project, "--listen", "127.0.0.1:0", "--json"],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout.readline(), self.log()

    def dev(self, project, name=None):
        """Starts `wasq dev` on a project, and waits for its task."""
        self.start_dev(project)
        wait_for(lambda: self.live(name or project), f"live {project}", 120)

    def live(self, name):
        """The live version of a task, or None."""
        tasks = json.loads(self.shell("wasq tasks --json"))["tasks"]
        return next((task["live"] for task in tasks if task["live"] and task["live"]["task"] == name), None)

    def log(self):
        return (self.folder / "dev.log").read_text()

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()


@pytest.fixture
def author(tmp_path):
    author = Author(tmp_path)
    yield author
    author.stop()


@pytest.fixture(scope="session")
def github():
    """The address of a stand-in for GitHub."""
    server = github_stand_in.server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield github_stand_in.address(server)
    server.shutdown()


@pytest.fixture
def echo():
    """A server that answers with the header `authorization` that it got; `echo.got` has all of them."""

    class Echo(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            header = self.headers.get("authorization", "")
            self.server.got.append(header)
            self.send_response(200)
            self.send_header("Content-Length", str(len(header)))
            self.end_headers()
            self.wfile.write(header.encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    server.got, server.authority = [], f"127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def github_settings(task, address):
    settings = (ROOT / "example-tasks" / "rust" / task / f"{task}.toml").read_text()
    return settings.replace("https://api.github.com", address)


def client_environment():
    """The environment of an AWS client: dummy credentials, and nothing of the machine's own."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **CREDENTIALS}


def function_zip(name):
    """A zip with one of the wasq binaries, as Lambda takes it."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        entry = zipfile.ZipInfo("bootstrap")
        entry.external_attr = 0o100755 << 16
        zipped.writestr(entry, (BINARIES / f"wasq-{name}").read_bytes())
    return archive.getvalue()


# Lambda's name for this machine's processor.
ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())


@pytest.fixture(scope="session")
def functions(tmp_path_factory):
    """The folder of functions as in a release of wasq, with the binaries that were built for the tests."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / ARCHITECTURE).mkdir()
    for name in ("consumer", "worker", "publisher"):
        (folder / ARCHITECTURE / f"wasq-{name}.zip").write_bytes(function_zip(name))
    return folder


class Cloud:
    """An account on a stand-in for AWS, and a user's shell for it, with the commands `wasq` and `aws`."""

    def __init__(self, url, folder):
        self.url = url
        self.folder = folder
        # The AWS CLI does not look at AWS_ENDPOINT_URL for every service.
        script = folder / "aws"
        script.write_text(f'#!/bin/sh\nexec "{AWS_CLI}" --endpoint-url "{url}" "$@"\n')
        script.chmod(0o755)
        self.environment = client_environment() | {
            "PATH": f"{folder}:{BINARIES}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": REGION,
        }

    def shell(self, command, code=0, seconds=180, **environment):
        """Runs a command line, and returns what it printed to stdout. A variable that is None is not set."""
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={name: value for name, value in (self.environment | environment).items() if value is not None},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
        )
        assert done.returncode == code, f"{command}: code {done.returncode}\n{done.stdout}\n{done.stderr}"
        self.said = done.stderr
        return done.stdout

    def deploy(self, functions, stack, options="", **environment):
        """Deploys as the guide says, and returns the stack's outputs."""
        command = f"wasq deploy --stack {stack} --functions {functions} --arch {ARCHITECTURE} --json {options}"
        deployed = json.loads(self.shell(command, **environment))
        # The template allows recursion by a property that MiniStack's CloudFormation does not know.
        worker = deployed["outputs"]["WorkerFunction"]
        self.client("lambda").put_function_recursion_config(FunctionName=worker, RecursiveLoop="Allow")
        self.complete(stack)
        return deployed["outputs"]

    def complete(self, stack, **region):
        """Sets what the template says and MiniStack's CloudFormation leaves out: lifecycle rules, and two properties of the table."""
        dynamodb = aws_client("dynamodb", self.url, **region)
        for table in dynamodb.list_tables()["TableNames"]:
            if table.startswith(f"{stack}-RunsTable-"):
                live = {"Enabled": True, "AttributeName": "expires"}
                recovery = {"PointInTimeRecoveryEnabled": True}
                dynamodb.update_time_to_live(TableName=table, TimeToLiveSpecification=live)
                dynamodb.update_continuous_backups(TableName=table, PointInTimeRecoverySpecification=recovery)
        s3 = self.client("s3")
        rule = {"ID": "earlier-versions", "Status": "Enabled", "Filter": {"Prefix": ""}}
        rule |= {"NoncurrentVersionExpiration": {"NoncurrentDays": 30}}
        for bucket in s3.list_buckets()["Buckets"]:
            if bucket["Name"].startswith((f"{stack}-tasks-", f"{stack}-registry-")):
                s3.put_bucket_lifecycle_configuration(Bucket=bucket["Name"], LifecycleConfiguration={"Rules": [rule]})

    def client(self, service):
        return aws_client(service, self.url)

    def ran(self, function):
        """The log records of a worker's runs, in order."""
        return [line for line in self.log(function) if "outcome" in line]

    def log(self, function):
        """The JSON lines of a function's log."""
        logs = self.client("logs")
        try:
            pages = list(logs.get_paginator("filter_log_events").paginate(logGroupName=f"/aws/lambda/{function}"))
        except logs.exceptions.ResourceNotFoundException:
            return []
        messages = [event["message"] for page in pages for event in page["events"]]
        return [json.loads(message) for message in messages if message.startswith("{")]

    def counts(self, queue_url):
        got = self.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
        return tuple(int(got[f"ApproximateNumberOfMessages{name}"]) for name in ("", "NotVisible"))


@pytest.fixture
def cloud(stand_in, tmp_path):
    return Cloud(stand_in, tmp_path)


# MiniStack, with four changes.
#
# It looks at schedules every 10 s, and a minute of a schedule lasts a minute. The tests do not need that: here it looks
# every 0.25 s, and a minute lasts 3 s.
#
# It does not know the words that EventBridge Scheduler replaces in the input of a target: here the time of the firing is
# put in. It fires a rate first after its start: here the start has been.
#
# After an invoke, it takes the lines that the function has logged until there are none for 5 ms. On a busy machine, its
# thread that reads them is later than that, and if the function is not invoked again, nobody ever sees them. Here it reads
# on until the pipe is empty and there were none for 50 ms.
STAND_IN = """
import array, fcntl, queue, termios, time
import ministack.core.lambda_runtime as runtime
import ministack.services.eventbridge as events, ministack.services.scheduler as scheduler
events._SCHEDULER_TICK_INTERVAL = scheduler._SCHEDULE_TICK_INTERVAL = 0.25
rate = events._parse_rate_seconds
events._parse_rate_seconds = lambda text: (lambda seconds: seconds and seconds / 20)(rate(text))

invoke_target = events._invoke_target
scheduler._to_epoch = lambda value: None

def invoke(target, event, *rest):
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if "Input" in target:
        target = target | {"Input": target["Input"].replace("<aws.scheduler.scheduled-time>", now)}
    invoke_target(target, event, *rest)

events._invoke_target = invoke

def unread(process):
    count = array.array("i", [0])
    try:
        fcntl.ioctl(process.stdout, termios.FIONREAD, count)
    except (AttributeError, OSError, ValueError):
        return 0
    return count[0]

def drain(self, **_):
    lines, quiet = [], time.monotonic()
    while time.monotonic() - quiet < 0.05:
        if unread(self._proc):
            quiet = time.monotonic()
        try:
            lines.append(self._stderr_queue.get(timeout=0.01))
            quiet = time.monotonic()
        except queue.Empty:
            pass
    return "\\n".join(lines)

runtime.ProvidedWorker._drain_stderr_bounded = runtime.ProvidedWorker._drain_stderr = drain
from ministack.app import main
main()
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mini_stack_environment(folder, port):
    """A minimal environment, because functions inherit it."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "GATEWAY_PORT": str(port),
        # Without this it would listen on every address.
        "BIND_HOST": "127.0.0.1",
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "LOG_LEVEL": "WARNING",
        # As most accounts have. By default, it depends on the memory of this machine.
        "LAMBDA_ACCOUNT_CONCURRENCY": "1000",
    }


@contextlib.contextmanager
def mini_stack(functions_reach_it=False, **variables):
    """The address of a MiniStack on loopback, with these variables.

    The MiniStack and the functions that it starts end with the context. `functions_reach_it`: the SDKs in
    functions call this MiniStack, even if their environment names another endpoint."""
    port, folder = free_port(), tempfile.mkdtemp(prefix="ministack-", dir=SCRATCH)
    url = f"http://127.0.0.1:{port}"
    environment = mini_stack_environment(folder, port) | variables
    if functions_reach_it:
        environment["AWS_ENDPOINT_URL"] = url
    with open(Path(folder) / "ministack.log", "w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", STAND_IN], env=environment, stdout=log, stderr=log, start_new_session=True
        )

    def healthy():
        assert process.poll() is None, Path(log.name).read_text()
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{url}/_ministack/health", timeout=1).read()

    try:
        wait_for(healthy, "MiniStack")
        listening = subprocess.run(["ss", "-Hltn"], capture_output=True, text=True).stdout
        assert f"0.0.0.0:{port}" not in listening, "MiniStack listens beyond loopback"
        yield url
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, end)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(3)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def stand_in():
    """The address of a MiniStack that the tests share."""
    with mini_stack(functions_reach_it=True) as url:
        yield url
