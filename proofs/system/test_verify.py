"""`wasq verify` on a stand-in for AWS: green on a deployment in each mode, and red for each planted fault."""

import concurrent.futures
import io
import json
import signal
import subprocess
import time
import zipfile

import pytest

from conftest import ARCHITECTURE, BINARIES, Cloud, wait_for


def verify(cloud, stack, options="", code=0, seconds=400):
    """The rows of `wasq verify` by their promises, and the rest of its answer."""
    command = f"wasq verify --stack {stack} --yes --json {options}"
    answer = json.loads(cloud.shell(command, code=code, seconds=seconds))
    return {row["promise"]: row for row in answer.pop("rows")}, answer


def left(cloud, outputs):
    """What a check has left behind."""
    objects = cloud.client("s3").list_objects_v2(Bucket=outputs["TasksBucketName"]).get("Contents", [])
    parameters = cloud.client("ssm").describe_parameters()["Parameters"]
    secrets = [p["Name"] for p in parameters if "wasq-verify" in p["Name"] and outputs["WorkerFunction"][:-7] in p["Name"]]
    return [o["Key"] for o in objects], secrets, cloud.counts(outputs["QueueUrl"]), cloud.counts(outputs["DeadLetterUrl"])


def test_every_promise_holds_in_each_mode(stand_in, functions, tmp_path):
    def in_mode(mode):
        stack, folder = f"verified-{mode}", tmp_path / mode
        folder.mkdir()
        cloud = Cloud(stand_in, folder)
        outputs = cloud.deploy(functions, stack, f"--mode {mode} --longest-task 1m")
        cloud.client("sqs").send_message(QueueUrl=outputs["DeadLetterUrl"], MessageBody="of somebody else")
        rows, answer = verify(cloud, stack)
        assert cloud.said.startswith(f"wasq: about to check {stack} in us-east-1 (account 000000000000)\n")
        assert left(cloud, outputs) == ([], [], (0, 0), (1, 0)), "only the dead letter of somebody else"
        cloud.shell(f"wasq destroy --stack {stack} --data --yes")
        return rows, answer

    with concurrent.futures.ThreadPoolExecutor() as pool:
        for rows, answer in pool.map(in_mode, ["window", "until-empty", "event-source"]):
            assert {promise: row for promise, row in rows.items() if row["seen"] != "held"} == {}
            assert answer["held"] == len(rows) > 30 and answer["broken"] == answer["not_tried"] == 0
            assert rows["unknown-task: a dead letter after a minute, without a run"]["seconds"] > 50
            assert "ms to run" in rows["A message runs"]["detail"]


@pytest.fixture(scope="module")
def faulty(stand_in, functions, tmp_path_factory):
    """A deployment for planted faults, with its outputs and the id of its event source mapping."""
    cloud = Cloud(stand_in, tmp_path_factory.mktemp("faulty"))
    cloud.outputs = cloud.deploy(functions, "faulty", "--mode event-source --longest-task 1m")
    [mapping] = cloud.client("lambda").list_event_source_mappings(FunctionName="faulty-worker")["EventSourceMappings"]
    cloud.mapping = mapping["UUID"]
    yield cloud
    cloud.shell("wasq destroy --stack faulty --data --yes")


def queue(output, **attributes):
    return lambda cloud: cloud.client("sqs").set_queue_attributes(QueueUrl=cloud.outputs[output], Attributes=attributes)


def redrive_at(receives):
    letters = "arn:aws:sqs:us-east-1:000000000000:faulty-dead-letters"
    return queue("QueueUrl", RedrivePolicy=json.dumps({"deadLetterTargetArn": letters, "maxReceiveCount": receives}))


def mapping(**changed):
    return lambda cloud: cloud.client("lambda").update_event_source_mapping(UUID=cloud.mapping, **changed)


def function(name, **changed):
    return lambda cloud: cloud.client("lambda").update_function_configuration(FunctionName=f"faulty-{name}", **changed)


def concurrency(name, reserved):
    def plant(cloud):
        api = cloud.client("lambda")
        if reserved is None:
            api.delete_function_concurrency(FunctionName=f"faulty-{name}")
        else:
            api.put_function_concurrency(FunctionName=f"faulty-{name}", ReservedConcurrentExecutions=reserved)

    return plant


BEFORE = {}


def environment(name, **changed):
    """Changes variables of a function, or sets all back."""

    def plant(cloud):
        api = cloud.client("lambda")
        variables = api.get_function_configuration(FunctionName=f"faulty-{name}")["Environment"]["Variables"]
        kept = BEFORE.setdefault(name, variables)
        function(name, Environment={"Variables": kept | changed})(cloud)

    return plant


# By name: a function that plants the fault, one that mends it, options of the command, and the promise that is broken, with
# words of the row.
PLANTED = {
    "visibility too short": (
        queue("QueueUrl", VisibilityTimeout="30"),
        queue("QueueUrl", VisibilityTimeout="420"),
        "--only configuration",
        ("No setting makes tasks run twice", "visibility timeout is 30s"),
    ),
    "redrive at 2": (
        redrive_at(2),
        redrive_at(1000),
        "--only configuration",
        ("No setting loses messages", "after 2 receives"),
    ),
    "a filter": (
        mapping(FilterCriteria={"Filters": [{"Pattern": json.dumps({"body": {"task": ["other"]}})}]}),
        mapping(FilterCriteria={}),
        "--only configuration",
        ("No setting loses messages", "filter"),
    ),
    "worker timeout too low": (
        function("worker", Timeout=10),
        function("worker", Timeout=70),
        "--only configuration",
        ("No setting makes tasks run twice", "timeout"),
    ),
    "dead letters expire early": (
        queue("DeadLetterUrl", MessageRetentionPeriod="3600"),
        queue("DeadLetterUrl", MessageRetentionPeriod="1209600"),
        "--only configuration",
        ("No setting loses messages", "keeps dead letters for 1h"),
    ),
    "publisher disabled": (
        concurrency("publisher", 0),
        concurrency("publisher", None),
        "--only uploads --timeout 8s",
        ("An upload goes live", "nothing is live 8 s after the upload of wasq-verify"),
    ),
    "registry not writable": (
        environment("publisher", WASQ_REGISTRY_BUCKET="no-such-bucket"),
        environment("publisher"),
        "--only uploads --timeout 8s",
        ("An upload goes live", "nothing is live"),
    ),
    "nobody receives": (
        mapping(Enabled=False),
        mapping(Enabled=True),
        "--only runs --timeout 8s",
        ("A message runs", "1 of 1 messages have not ended: no run was seen after 8 s"),
    ),
    "tasks reach the network of the worker": (
        environment("worker", WASQ_ALLOW_ADDRESSES="127.0.0.0/8,::1/128,169.254.0.0/16"),
        environment("worker"),
        "--only runs --timeout 12s",
        ("Addresses of AWS and of the worker itself are denied", "an address answered that no task may reach"),
    ),
    "dead letters go elsewhere": (
        environment("worker", WASQ_DEAD_LETTER_URL="http://elsewhere.invalid/000000000000/elsewhere"),
        environment("worker"),
        "--only runs --timeout 12s",
        ("reject: a dead letter after one run", "not ended as promised after 12 s"),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_breaks_its_promise(faulty, fault):
    plant, mend, options, (promise, words) = PLANTED[fault]
    plant(faulty)
    try:
        rows, answer = verify(faulty, "faulty", options, code=1)
    finally:
        mend(faulty)
    assert rows[promise]["seen"] == "broken" and words in rows[promise]["detail"], rows
    assert answer["broken"] > 0


# MiniStack does not limit the memory of a function. Lambda ends the process that needs more than its function has. The pages of
# the binary do not count: the system can drop them. The records of two runs are lost, as if their workers had died just
# before them.
LIMITED = """#!/bin/bash
"${0%/*}/worker" > >(grep --line-buffered -v 'neighbour-[13]') &
worker=$!
trap 'kill $worker' TERM INT
while kill -0 $worker 2>/dev/null; do
    held=$(sed -n 's/^RssAnon:[^0-9]*\\([0-9]*\\) kB/\\1/p' /proc/$worker/status)
    [ "${held:-0}" -gt $((AWS_LAMBDA_FUNCTION_MEMORY_SIZE * 1024)) ] && kill -9 $worker
    sleep 0.05
done
"""


@pytest.fixture
def limited_functions(functions, tmp_path):
    """The functions, with a worker whose memory is limited to that of its function."""
    folder = tmp_path / "limited" / ARCHITECTURE
    folder.mkdir(parents=True)
    for name in ("consumer", "publisher"):
        (folder / f"wasq-{name}.zip").symlink_to(functions / ARCHITECTURE / f"wasq-{name}.zip")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for name, content in (("bootstrap", LIMITED), ("worker", (BINARIES / "wasq-worker").read_bytes())):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o100755 << 16
            zipped.writestr(entry, content)
    (folder / "wasq-worker.zip").write_bytes(archive.getvalue())
    return folder.parent


def test_a_busy_worker_and_one_that_dies(cloud, limited_functions):
    cloud.deploy(limited_functions, "disturbed", "--longest-task 1m")
    rows, answer = verify(cloud, "disturbed", "--only disturbances --timeout 200s")
    assert rows["A busy worker costs no message an attempt"]["seen"] == "held"
    killed = rows["A message that kills its workers is a dead letter, its neighbours run"]
    assert killed["seen"] == "held" and killed["detail"] == "3 workers died; 4 neighbours ran"
    worker = cloud.client("lambda").get_function(FunctionName="disturbed-worker")
    assert worker["Configuration"]["MemorySize"] == 1769, "as it was"
    assert "ReservedConcurrentExecutions" not in worker.get("Concurrency", {}), "as it was"
    cloud.shell("wasq destroy --stack disturbed --data --yes")


def test_it_asks_and_removes_everything_after_ctrl_c(cloud, functions):
    outputs = cloud.deploy(functions, "asked")
    cloud.shell("wasq verify", code=2)
    assert "name a deployment by --stack" in cloud.said
    cloud.shell("wasq verify --stack asked", code=2)
    assert "nobody to ask: add --yes if you mean it" in cloud.said
    assert left(cloud, outputs) == ([], [], (0, 0), (0, 0))
    api = cloud.client("lambda")

    def reserved():
        answer = api.get_function_concurrency(FunctionName="asked-worker")
        return answer.get("ReservedConcurrentExecutions")

    def interrupted(part, when):
        command = ["wasq", "verify", "--stack", "asked", "--only", part, "--yes"]
        process = subprocess.Popen(
            command, executable=BINARIES / "wasq", env=cloud.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(when, "the moment to interrupt")
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        told, said = process.communicate(timeout=60)
        assert process.returncode == 2 and "interrupted; removing what was made" in said, (told, said)
        assert left(cloud, outputs)[:2] == ([], [])
        assert not any(task["live"] for task in json.loads(cloud.shell("wasq tasks --stack asked --json"))["tasks"])

    interrupted("runs", lambda: left(cloud, outputs)[0])
    interrupted("disturbances", lambda: reserved() == 1)
    assert reserved() is None, "as it was"
    cloud.shell("wasq destroy --stack asked --data --yes")
