"""The memory of runs, on one machine and in a deployment: the same commands, with the same answers."""

import json
import subprocess
import time

import boto3
import pytest

from conftest import ARCHITECTURE, BINARIES, GUESTS, ROOT, Cloud, wait_for

STACK = "remembering"
SETTINGS = 'max_attempts = 2\nbackoff = { base = "100ms", cap = "100ms" }\n'
ONCE = "once = true\n" + SETTINGS


class Here:
    """`wasq dev`."""

    def __init__(self, dev):
        self.dev = dev
        self.sqs, self.queue_url, self.dead_letter_url = dev.sqs, dev.queue_url, dev.dead_letter_url
        dev.publish("verbs", settings=SETTINGS)
        dev.publish("verbs", "once", settings=ONCE)

    def wasq(self, *args, code=0):
        return self.dev.wasq(*args, "--json", code=code)

    def text(self, *args, code=0):
        done = subprocess.run([BINARIES / "wasq", *args], cwd=self.dev.folder, capture_output=True, text=True, timeout=60)
        assert code in (None, done.returncode), (args, done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr


class There:
    """A deployment, on a stand-in for AWS."""

    def __init__(self, cloud, outputs):
        self.cloud, self.outputs = cloud, outputs
        self.sqs = cloud.client("sqs")
        self.queue_url, self.dead_letter_url = outputs["QueueUrl"], outputs["DeadLetterUrl"]
        for name, settings in [("verbs", SETTINGS), ("once", ONCE)]:
            (cloud.folder / f"{name}.toml").write_text(settings)
            bucket = outputs["TasksBucketName"]
            cloud.shell(f"aws s3 cp {name}.toml s3://{bucket}/ && aws s3 cp {GUESTS}/verbs.wasm s3://{bucket}/{name}.wasm")
        live = lambda: len(json.loads(cloud.shell(f"wasq tasks --stack {STACK} --json"))["tasks"]) == 2
        wait_for(live, "live tasks", 120)

    def wasq(self, *args, code=0):
        return json.loads(self.text(*args, "--json", code=code)[0])

    def text(self, *args, code=0):
        command = [BINARIES / "wasq", *args, "--stack", STACK]
        done = subprocess.run(
            command, cwd=self.cloud.folder, env=self.cloud.environment, capture_output=True, text=True, timeout=120
        )
        assert code in (None, done.returncode), (args, done.returncode, done.stdout, done.stderr)
        return done.stdout, done.stderr


@pytest.fixture(scope="module")
def deployment(stand_in, functions, tmp_path_factory):
    cloud = Cloud(stand_in, tmp_path_factory.mktemp("cloud"))
    outputs = cloud.deploy(functions, STACK)
    yield There(cloud, outputs)
    cloud.shell(f"wasq destroy --stack {STACK} --data --yes")


@pytest.fixture(params=["here", "there"])
def place(request):
    if request.param == "here":
        return Here(request.getfixturevalue("dev"))
    return request.getfixturevalue("deployment")


def send(place, body):
    return place.sqs.send_message(QueueUrl=place.queue_url, MessageBody=json.dumps(body))["MessageId"]


def state(place, name):
    """The state of a run; None if it is not remembered yet."""
    return place.wasq("runs", "show", name, code=None).get("run", {}).get("state")


def test_an_id_has_one_result(place):
    params = json.dumps({"verb": "raw", "text": '{"number": 12345678901234567890123, "text": "\u00e9"}'})
    enqueue = ("enqueue", "verbs", "--params", params, "--id", "order/7?&%", "--wait")
    first = place.wasq(*enqueue)
    assert first["end"] == "done" and first["attempt"] == 1
    again = place.wasq(*enqueue)
    assert again["message_id"] == first["message_id"], "the second message did not run"
    assert "12345678901234567890123" in place.text("runs", "result", "order/7?&%")[0]
    shown = place.wasq("runs", "show", "order/7?&%")["run"]
    assert (shown["state"], shown["attempts"], len(shown["history"])) == ("done", 1, 1)
    assert "success" in place.text("runs", "show", "order/7?&%")[0]
    # Another message with this id.
    place.wasq("enqueue", "verbs", "--params", '{"verb": "echo", "value": 2}', "--id", "order/7?&%")
    reused = lambda: [letter for letter in place.wasq("dlq", "ls")["dead_letters"] if letter["kind"] == "id-reused"]
    [letter] = wait_for(reused, "dead letter", 90)
    assert letter["id"] == "order/7?&%"
    assert place.wasq("runs", "show", "order/7?&%")["run"]["state"] == "done"


def test_attempts_are_told_while_one_waits(place):
    send(place, {"task": "verbs", "id": "fails", "params": {"verb": "retry", "reason": "not today"}})
    wait_for(lambda: state(place, "fails") == "dead", "end", 90)
    _, said = place.text("wait", "fails", code=1)
    assert "retry: not today" in said
    shown = place.wasq("runs", "show", "fails")["run"]
    assert [(end["attempt"], end["kind"]) for end in shown["history"]] == [(1, "retry"), (2, "retry")]
    assert place.wasq("wait", "fails", code=1)["end"] == "dead-letter"
    listed = place.wasq("runs", "ls", "--state", "dead", "--kind", "retry", "--task", "verbs")["runs"]
    assert "fails" in [run["id"] for run in listed]
    when = lambda *times: "fails" in [run["id"] for run in place.wasq("runs", "ls", "--task", "verbs", "--max", "500", *times)["runs"]]
    begun = shown["started"]
    assert when("--since", begun) and when("--since", "1h") and not when("--until", begun) and not when("--until", "1h")
    # A redriven message runs again, from attempt 1.
    place.wasq("dlq", "redrive", "fails")
    again = lambda: place.wasq("runs", "show", "fails")["run"]
    wait_for(lambda: again()["state"] == "dead" and len(again()["history"]) == 4, "second end", 90)
    assert again()["attempts"] == 2


def test_a_wait_that_is_too_short(place):
    _, said = place.text("wait", "never-sent", "--timeout", "1s", code=2)
    assert "never-sent has not ended after 1 s" in said


def test_cancel(place):
    # Before it is sent, while it waits for another attempt, and after its end.
    assert place.text("runs", "cancel", "early")[0] == "early: cancelled\n"
    send(place, {"task": "verbs", "id": "early", "params": {"verb": "echo", "value": 1}})
    assert place.wasq("enqueue", "verbs", "--params", '{"verb": "echo", "value": 1}', "--id", "late", "--wait")["end"] == "done"
    _, said = place.text("runs", "cancel", "late", code=1)
    assert "late has ended before: it is done" in said
    assert place.wasq("runs", "cancel", "late", "early", code=1) == {"cancelled": ["early"], "ended": [{"id": "late", "state": "done"}]}
    send(place, {"task": "verbs", "id": "patient", "params": {"verb": "retry-after", "seconds": 600, "reason": "later"}})
    wait_for(lambda: state(place, "patient") == "retrying", "first attempt", 90)
    cancelled = place.wasq("runs", "cancel", "--state", "retrying")
    assert "patient" in cancelled["cancelled"] and cancelled["ended"] == []
    assert place.wasq("runs", "show", "early")["run"]["attempts"] == 0, "it did not run"
    assert place.wasq("wait", "patient", code=1)["end"] == "cancelled"


def test_a_run_is_cancelled_at_once_on_one_machine(dev):
    here = Here(dev)
    send(here, {"task": "verbs", "id": "long", "params": {"verb": "sleep", "ms": 20_000}})
    wait_for(lambda: state(here, "long") == "running", "run")
    here.text("runs", "cancel", "long")
    began = time.monotonic()
    assert here.wasq("wait", "long", code=1)["end"] == "cancelled"
    assert time.monotonic() - began < 10
    assert dev.counts() == dev.counts(dev.dead_letter_url) == (0, 0, 0)


def test_children_are_a_tree(place):
    place.wasq("enqueue", "verbs", "--params", '{"verb": "enqueue", "task": "verbs", "count": 2, "fail": false}', "--id", "parent", "--wait")
    shown = place.wasq("runs", "show", "parent")
    assert shown["run"]["children_count"] == 2 and len(shown["children"]) == 2
    done = lambda: [child["state"] for child in place.wasq("runs", "show", "parent")["children"]] == ["done", "done"]
    wait_for(done, "ends of the children", 90)
    listed = place.wasq("runs", "ls", "--parent", "parent")["runs"]
    assert sorted(run["id"] for run in listed) == sorted(child["id"] for child in shown["children"])
    assert "done       verbs" in place.text("runs", "show", "parent")[0]


def test_a_deep_result_is_shown_as_it_is(dev):
    here = Here(dev)
    deep = "[" * 400 + "12345678901234567890123" + "]" * 400
    here.wasq("enqueue", "verbs", "--params", json.dumps({"verb": "raw", "text": deep}), "--id", "deep", "--wait")
    assert deep in here.text("runs", "show", "deep", "--json")[0]
    assert '"id":"deep"' in here.text("runs", "ls", "--json")[0]


def test_a_step_is_not_executed_again(place):
    receipt = '{"receipt":12345678901234567890123}'
    calls = [{"load": "charge"}, {"save": ["charge", receipt]}, {"retry-before": 2}, {"load": "mail"}, {"save": ["mail", "true"]}]
    params = json.dumps({"verb": "steps", "calls": calls})
    ended = place.wasq("enqueue", "verbs", "--params", params, "--id", "payment", "--wait")
    assert ended["end"] == "done" and ended["attempt"] == 2
    # The second attempt got the value, and could not save the step again.
    assert ended["result"]["output"][0] == receipt and "has not begun" in ended["result"]["output"][1]["error"]
    steps = place.wasq("runs", "show", "payment")["run"]["steps"]
    assert [(step["name"], step["attempt"]) for step in steps] == [("charge", 1), ("mail", 2)]
    shown = place.text("runs", "show", "payment")[0]
    assert "steps      2\n  charge  attempt 1  20" in shown and receipt in shown


def test_a_list_has_pages(place):
    for number in range(5):
        place.wasq("enqueue", "once", "--params", f'{{"verb": "echo", "value": {number}}}', "--id", f"page{number}", "--wait")
    first = place.wasq("runs", "ls", "--task", "once", "--max", "3")
    second = place.wasq("runs", "ls", "--task", "once", "--max", "3", "--before", first["next"])
    assert [run["id"] for run in first["runs"] + second["runs"]] == [f"page{number}" for number in (4, 3, 2, 1, 0)]
    assert second["next"] is None


@pytest.mark.parametrize("name", ["x" * 10_000, "with a blank", "\u00e9", ""])
def test_ids_that_are_none(place, name):
    message_id = send(place, {"task": "verbs", "id": name, "params": {}})
    # The message has no id of its own: it is found by the queue's.
    wait_for(lambda: state(place, message_id) == "dead", "end", 90)
    shown = place.wasq("runs", "show", message_id)["run"]
    assert shown["kind"] == "malformed" and "printable ASCII" in shown["reason"] and shown["attempts"] == 0


def test_a_large_result(place):
    ended = place.wasq("enqueue", "verbs", "--params", '{"verb": "output", "bytes": 400000}', "--id", "large", "--wait")
    assert len(ended["result"]["output"]) == 400_000
    # Another delivery gets it as well.
    again = place.wasq("enqueue", "verbs", "--params", '{"verb": "output", "bytes": 400000}', "--id", "large", "--wait")
    assert len(again["result"]["output"]) == 400_000


def test_a_result_is_read_without_wasq(deployment):
    """As docs/runs.md says it."""
    place = deployment
    place.wasq("enqueue", "verbs", "--params", '{"verb": "echo", "value": [1, null]}', "--id", "boto", "--wait")
    code = (ROOT / "docs" / "runs.md").read_text().split("```python\n")[1].split("```")[0]
    code = code.replace("wasq-RunsTable-1ABCDEF", place.outputs["RunsTableName"]).replace("order-7", "boto")
    printed = []
    session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1")
    code = code.replace('boto3.resource("dynamodb")', "resource").replace("boto3", "time")
    resource = session.resource("dynamodb", endpoint_url=place.cloud.url)
    exec(code, {"resource": resource, "print": printed.append})
    assert printed == [[1, None]]


def test_an_item_that_cannot_be_read(deployment):
    """It was written by somebody else. The others are listed, and its message waits."""
    there = deployment
    table = there.outputs["RunsTableName"]
    dynamodb = there.cloud.client("dynamodb")
    dynamodb.put_item(TableName=table, Item={"id": {"S": "odd"}, "state": {"S": "dreaming"}, "expires": {"N": "9999999999"}})
    there.wasq("enqueue", "verbs", "--params", '{"verb": "echo", "value": 1}', "--id", "even", "--wait")
    listed, said = there.text("runs", "ls", "--max", "500", "--json")
    assert "even" in [run["id"] for run in json.loads(listed)["runs"]]
    assert "1 item of the table" in said and "cannot be read" in said
    assert "odd" in there.wasq("runs", "show", "odd", code=2)["error"]
    send(there, {"task": "verbs", "id": "odd", "params": {"verb": "echo", "value": 1}})
    waits = lambda: [line for line in there.cloud.ran(there.outputs["WorkerFunction"]) if line["id"] == "odd"]
    [first, *_] = wait_for(waits, "delivery", 120)
    assert (first["kind"], first["then"]) == ("unavailable", "give-back"), first
    dynamodb.delete_item(TableName=table, Key={"id": {"S": "odd"}})
    wait_for(lambda: state(there, "odd") == "done", "run of the message", 120)


def test_without_the_table_a_task_that_says_once_waits(cloud, functions):
    outputs = cloud.deploy(functions, "forgetful")
    place = There.__new__(There)
    for name, settings in [("verbs", SETTINGS), ("once", ONCE)]:
        (cloud.folder / f"{name}.toml").write_text(settings)
        bucket = outputs["TasksBucketName"]
        cloud.shell(f"aws s3 cp {name}.toml s3://{bucket}/ && aws s3 cp {GUESTS}/verbs.wasm s3://{bucket}/{name}.wasm")
    live = lambda: len(json.loads(cloud.shell("wasq tasks --stack forgetful --json"))["tasks"]) == 2
    wait_for(live, "live tasks", 120)
    cloud.client("dynamodb").delete_table(TableName=outputs["RunsTableName"])
    sqs = cloud.client("sqs")
    for task in ("verbs", "once"):
        body = {"task": task, "id": task, "params": {"verb": "echo", "value": 1}}
        sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody=json.dumps(body))
    ran = lambda name, word: [line for line in cloud.ran(outputs["WorkerFunction"]) if line["id"] == name and line["then"] == word]
    wait_for(lambda: ran("verbs", "done"), "run without the table", 120)
    [first, *_] = wait_for(lambda: ran("once", "give-back"), "message that waits", 120)
    assert "the task says once" in first["message"] and not ran("once", "done")
    assert "table of runs" in cloud.shell("wasq doctor --stack forgetful", code=1)
    # Without any table it goes on waiting. When there is one again, it runs.
    cloud.shell(f"wasq deploy --stack forgetful --functions {functions} --arch {ARCHITECTURE} --runs off")
    cloud.shell("wasq runs ls --stack forgetful", code=2)
    assert "--runs on" in cloud.said
    told = cloud.shell("wasq doctor --stack forgetful", code=1)
    assert told.startswith("stops      table of runs\n") and "the settings of once say once: their messages wait" in told, told
    cloud.shell(f"wasq deploy --stack forgetful --functions {functions} --arch {ARCHITECTURE} --runs on")
    wait_for(lambda: ran("once", "done"), "run of the message", 240)
    enqueue = """wasq enqueue once --params '{"verb": "echo", "value": 1}' --id once --wait --stack forgetful --json"""
    assert json.loads(cloud.shell(enqueue))["end"] == "done"
    cloud.shell("wasq destroy --stack forgetful --data --yes")
