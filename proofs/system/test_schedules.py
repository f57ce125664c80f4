"""Messages at their times: schedules of tasks, and messages that wait outside of the queue."""

import datetime
import json
import os
import sqlite3
import subprocess
import time

import pytest

import debian
from conftest import BINARIES, GUESTS, wait_for

DAY = 24 * 3600
ECHO = {"verb": "echo", "value": 1}


@pytest.fixture(scope="module")
def clock():
    """Sets the clock of a `wasq dev`: a function from seconds ahead to variables of its environment."""
    folder = debian.unpacked("faketime", "libfaketime")
    [library] = folder.rglob("libfaketimeMT.so.1")

    def ahead(seconds):
        # Only the wall clock: the timers of a process go on as before.
        variables = {"LD_PRELOAD": library, "FAKETIME": f"+{seconds}", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        return {name: str(value) for name, value in variables.items()}

    return ahead


def restart(dev, variables):
    """Starts a `wasq dev` again, with a clock of its own."""
    if dev.process:
        assert dev.stop() == 0
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        return dev.start()
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def run_of(dev, id):
    runs = dev.wasq("runs", "ls", "--max", "1000", "--json")["runs"]
    return next((run for run in runs if run["id"] == id), None)


def run_another(dev):
    """Runs a message that does not wait: a message whose time has come would have run before it."""
    dev.wasq("enqueue", "verbs", "--params", json.dumps(ECHO), "--wait", "--json")
    wait_for(lambda: dev.counts()[:2] == (0, 0), "only messages that wait")


def test_a_message_waits_for_a_day_and_costs_nothing(dev, clock):
    dev.publish("verbs")
    params = json.dumps(ECHO)
    sent = dev.wasq("enqueue", "verbs", "--params", params, "--delay", "1d", "--id", "late", "--json")
    assert sent["queue_url"] == dev.queue_url
    dev.wasq("enqueue", "verbs", "--params", params, "--delay", "1d", "--id", "unwanted", "--json")
    dev.wasq("enqueue", "verbs", "--params", params, "--at", "2030-01-01T09:00+01:00", "--json", code=2)
    wait_for(lambda: dev.counts() == (0, 0, 2), "messages outside of the queue")
    assert dev.wasq("status", "--json")["queue"]["delayed"] == 2
    late = run_of(dev, "late")
    assert late["state"] == "waiting" and late["attempts"] == 0
    sent_at, comes_at = (datetime.datetime.fromisoformat(late[name]) for name in ("sent", "next"))
    assert datetime.timedelta(hours=23) < comes_at - sent_at <= datetime.timedelta(days=1)
    assert dev.wasq("runs", "cancel", "unwanted", "--json")["cancelled"] == ["unwanted"]
    assert dev.counts() == (0, 0, 1)

    # It survives a restart, and does not come before its time.
    restart(dev, clock(DAY - 3600))
    run_another(dev)
    assert dev.counts() == (0, 0, 1)
    restart(dev, clock(DAY + 1))
    wait_for(lambda: run_of(dev, "late")["state"] == "done", "run of the message")
    wait_for(lambda: dev.counts() == (0, 0, 0), "empty queue")
    assert run_of(dev, "unwanted")["state"] == "cancelled"
    assert len(dev.logged("it left the queue, and is sent again then", "late")) == 1


def parent_of_a_late_child(days):
    return json.dumps({"verb": "enqueue", "task": "verbs", "count": 1, "fail": False, "delay": days * DAY})


def test_a_child_waits_for_a_month(dev, clock):
    dev.publish("verbs")
    dev.wasq("enqueue", "verbs", "--params", parent_of_a_late_child(30), "--id", "parent", "--json")
    wait_for(lambda: dev.counts() == (0, 0, 1), "the child outside of the queue")
    [child] = dev.wasq("runs", "ls", "--parent", "parent", "--json")["runs"]
    assert child["state"] == "waiting"
    restart(dev, clock(30 * DAY - 3600))
    run_another(dev)
    assert dev.counts() == (0, 0, 1)
    restart(dev, clock(30 * DAY + 60))
    wait_for(lambda: (run_of(dev, child["id"]) or {}).get("state") == "done", "run of the child")

    dev.wasq("enqueue", "verbs", "--params", parent_of_a_late_child(367), "--id", "never", "--json")
    wait_for(lambda: (run_of(dev, "never") or {}).get("state") == "dead", "its end")
    assert "is more than 31622400 (366 days), the most" in run_of(dev, "never")["reason"]


def test_many_messages_come_together(dev, clock):
    dev.publish("hello")
    lines = "\n".join(json.dumps(ECHO) for _ in range(2000))
    sending = [BINARIES / "wasq", "enqueue", "hello", "--params", "-", "--delay", "2h", "--json"]
    sent = subprocess.run(sending, cwd=dev.folder, input=lines, capture_output=True, text=True)
    assert json.loads(sent.stdout)["sent"] == 2000, sent
    wait_for(lambda: dev.counts() == (0, 0, 2000), "messages outside of the queue", 60)
    restart(dev, clock(2 * 3600 + 60))
    wait_for(lambda: dev.counts() == (0, 0, 0), "run of every message", 60)
    done = dev.wasq("runs", "ls", "--max", "1000", "--state", "done", "--json")
    assert len(done["runs"]) == 1000 and done["next"]
    waiting = dev.wasq("runs", "ls", "--state", "waiting", "--json")
    assert waiting["runs"] == []


SCHEDULES = """
[[schedule]]
cron = "* * * * *"
params = { verb = "echo", value = 1 }

[[schedule]]
name = "nightly"
cron = "0 3 * * *"
timezone = "Europe/Berlin"
params = { verb = "context" }
missed = "run"

[[schedule]]
name = "often"
cron = "MINUTE * * * *"
"""


def test_a_schedule_fires_survives_and_is_paused(new_dev, clock):
    dev = new_dev
    # 5 s before a full minute. On a slow machine, the next one may be the first.
    restart(dev, clock(115 - time.time() % 60))
    # Half an hour away, before and after the jump of the clock.
    settings = SCHEDULES.replace("MINUTE", str((int(time.time() / 60) + 30) % 60))
    dev.publish("verbs", settings=settings)
    listed = dev.wasq("schedule", "ls", "--json")["schedules"]
    assert [schedule["name"] for schedule in listed] == ["verbs", "verbs/nightly", "verbs/often"]
    told = subprocess.run([BINARIES / "wasq", "tasks", "verbs"], cwd=dev.folder, capture_output=True, text=True).stdout
    assert f"next {listed[1]['next']}, " in told, told
    minute = listed[0]["next"]
    first = wait_for(lambda: run_of(dev, f"verbs@{minute}"), "the firing", 90)
    wait_for(lambda: run_of(dev, first["id"])["state"] == "done", "its run")

    # A firing that was missed is made up for once, if the schedule says so.
    assert run_of(dev, f"verbs/nightly@{listed[1]['next']}") is None
    dev.wasq("schedule", "pause", "verbs", "--json")
    restart(dev, clock(2 * DAY))
    missed = wait_for(lambda: [r for r in runs(dev) if r["id"].startswith("verbs/nightly@")], "the firing that was missed")
    assert len(missed) == 1
    wait_for(lambda: run_of(dev, missed[0]["id"])["state"] == "done", "its run")
    assert dev.wasq("runs", "result", missed[0]["id"])["id"] == missed[0]["id"]
    # Otherwise it is skipped.
    assert [run["id"] for run in runs(dev) if run["id"].startswith("verbs/often@")] == []

    # One that is paused stays so, also when its task is published again.
    before = len(runs(dev))
    dev.publish("verbs", settings=settings + "\n# Changed.\n[env]\nA = 'b'\n")
    states = {s["name"]: s["paused"] for s in dev.wasq("schedule", "ls", "--json")["schedules"]}
    assert states == {"verbs": True, "verbs/nightly": False, "verbs/often": False}
    assert len(runs(dev)) == before
    dev.wasq("schedule", "resume", "verbs", "--json")
    fired = dev.wasq("schedule", "fire", "verbs", "--json")["id"]
    wait_for(lambda: (run_of(dev, fired) or {}).get("state") == "done", "the run")

    # They go with the task.
    dev.wasq("rm", "verbs", "--json", "--wait")
    wait_for(lambda: dev.wasq("schedule", "ls", "--json")["schedules"] == [], "removed schedules")


def runs(dev):
    return dev.wasq("runs", "ls", "--max", "1000", "--json")["runs"]


def test_firings_that_would_overlap(dev):
    dev.publish("verbs", settings='[[schedule]]\ncron = "0 3 * * *"\noverlap = "skip"\nparams = { verb = "sleep", ms = 3000 }\n')
    first = dev.wasq("schedule", "fire", "verbs", "--json")["id"]
    wait_for(lambda: (run_of(dev, first) or {}).get("state") == "running", "the first firing")
    second = dev.wasq("schedule", "fire", "verbs", "--json")["id"]
    wait_for(lambda: (run_of(dev, second) or {}).get("state") == "cancelled", "the second firing")
    assert run_of(dev, second)["kind"] == "skipped" and run_of(dev, first)["state"] == "running"
    wait_for(lambda: run_of(dev, first)["state"] == "done", "the end of the first firing")
    third = dev.wasq("schedule", "fire", "verbs", "--json")["id"]
    wait_for(lambda: (run_of(dev, third) or {}).get("state") == "done", "the third firing")
    # The item that says whose turn it is is no run.
    assert {run["id"] for run in runs(dev)} == {first, second, third}


def test_schedules_that_cannot_be_are_refused(dev):
    (dev.tasks / "verbs.toml").write_text('[[schedule]]\ncron = "0 7 * * *"\ntimezone = "Europe/Berln"\n')
    (dev.tasks / "verbs.wasm").write_bytes((GUESTS / "verbs.wasm").read_bytes())
    rejected = wait_for(lambda: dev.listed("verbs")["rejected"], "refusal")
    assert 'timezone = "Europe/Berln": there is no such time zone' in rejected["reason"]
    (dev.tasks / "verbs.toml").write_text('[[schedule]]\ncron = "0 25 * * *"\n')
    wait_for(lambda: '"25" is not a number from 0 to 23' in (dev.listed("verbs")["rejected"] or {}).get("reason", ""), "refusal")
    said = dev.wasq("schedule", "fire", "verbs", "--json", code=2)
    assert said["error"] == "there is no schedule verbs (known schedules: there are none)"
    [count] = sqlite3.connect(dev.folder / ".wasq" / "queue.sqlite").execute("SELECT count(*) FROM schedules").fetchone()
    assert count == 0


STACK = "timely"
QUEUE_ARN = f"arn:aws:sqs:us-east-1:000000000000:{STACK}"


def test_schedules_of_a_deployment(cloud, functions, tmp_path):
    outputs = cloud.deploy(functions, STACK, "--longest-task 1m")
    api = cloud.client("scheduler")

    def wasq(command, code=0):
        return json.loads(cloud.shell(f"wasq {command} --stack {STACK} --json", code))

    def publish(settings):
        (tmp_path / "verbs.toml").write_text(settings)
        (tmp_path / "verbs.wasm").write_bytes((GUESTS / "verbs.wasm").read_bytes())
        return wasq(f"push {tmp_path}/verbs.wasm --wait")

    def named(prefix):
        listed = api.list_schedules(GroupName=STACK, NamePrefix=prefix)["Schedules"]
        return [api.get_schedule(GroupName=STACK, Name=schedule["Name"]) for schedule in listed]

    def run_of(id):
        return next((run for run in wasq("runs ls --max 1000")["runs"] if run["id"] == id), None)

    # An expression that EventBridge Scheduler cannot express is refused, and the version before stays live.
    publish("")
    cloud.shell(f"echo '[[schedule]]\ncron = \"0 7 13 * FRI\"' > {tmp_path}/verbs.toml")
    refused = cloud.shell(f"wasq push {tmp_path}/verbs.wasm --wait --stack {STACK}", code=1)
    said = refused + cloud.said
    assert "EventBridge Scheduler cannot combine a day of the month with a day of the week" in said, said

    publish("[[schedule]]\ncron = '0 7 * * MON-FRI'\ntimezone = 'Europe/Berlin'\nmissed = 'run'\nparams = {verb = 'echo', value = 1}\n")
    [schedule] = wait_for(lambda: named("task."), "a schedule")
    assert schedule["ScheduleExpression"] == "cron(0 7 ? * 2-6 *)"
    assert schedule["ScheduleExpressionTimezone"] == "Europe/Berlin"
    target = schedule["Target"]
    assert (target["Arn"], target["RetryPolicy"]["MaximumEventAgeInSeconds"]) == (QUEUE_ARN, 86_400)
    assert target["DeadLetterConfig"]["Arn"] == f"{QUEUE_ARN}-dead-letters"
    body = {"task": "verbs", "params": {"value": 1, "verb": "echo"}, "id": "verbs@<aws.scheduler.scheduled-time>"}
    assert json.loads(target["Input"]) == body
    [listed] = wasq("schedule ls")["schedules"]
    assert listed["name"] == "verbs" and listed["next"] and not listed["paused"]

    # One that is paused stays so, and another expression takes its place.
    wasq("schedule pause verbs")
    publish("[[schedule]]\ncron = '0 8 * * *'\n[[schedule]]\nname = 'often'\nevery = '1m'\nparams = {verb = 'echo', value = 1}\n")
    wait_for(lambda: len(named("task.")) == 2, "two schedules")
    states = {schedule["ScheduleExpression"]: schedule["State"] for schedule in named("task.")}
    assert states == {"cron(0 8 * * ? *)": "DISABLED", "rate(1 minute)": "ENABLED"}
    assert [schedule["paused"] for schedule in wasq("schedule ls")["schedules"]] == [True, False]
    # A minute lasts 3 s here. Each firing is a run of its own.
    fired = lambda: [run for run in wasq("runs ls --max 1000")["runs"] if run["id"].startswith("verbs/often@")]
    wait_for(lambda: sum(run["state"] == "done" for run in fired()) >= 2, "two firings", 60)

    # A message that waits for its time is a schedule, and not in flight.
    sent = wasq("enqueue verbs --params '{\"verb\": \"context\"}' --delay 2d --id later")
    assert sent["message_id"]
    wait_for(lambda: (run_of("later") or {}).get("state") == "waiting", "the message", 60)
    [message] = wait_for(lambda: named("message."), "its schedule")
    assert message["ScheduleExpression"].startswith("at(20") and message["ActionAfterCompletion"] == "DELETE"
    assert wasq("status")["queue"]["delayed"] == 1
    wasq("schedule pause verbs/often")
    said = cloud.shell(f"wasq destroy --stack {STACK} --yes", code=2) + cloud.said
    assert "messages that wait for their time would be deleted with the stack: 1." in said, said
    # Its time has come.
    body = json.loads(message["Target"]["Input"])
    assert (body["id"], body["params"]) == ("later", {"verb": "context"})
    api.delete_schedule(GroupName=STACK, Name=message["Name"])
    body["not_before"] = "2026-01-01T00:00:00Z"
    cloud.client("sqs").send_message(QueueUrl=outputs["QueueUrl"], MessageBody=json.dumps(body))
    wait_for(lambda: run_of("later")["state"] == "done", "its run", 60)

    # Another is cancelled while it waits.
    wasq("enqueue verbs --params '{\"verb\": \"echo\"}' --delay 2d --id never")
    [message] = wait_for(lambda: named("message."), "its schedule", 60)
    assert wasq("runs cancel --kind delayed")["cancelled"] == ["never"]
    assert named("message.") == [] and wasq("status")["queue"]["delayed"] == 0
    # Scheduler had sent it already.
    cloud.client("sqs").send_message(QueueUrl=outputs["QueueUrl"], MessageBody=message["Target"]["Input"])
    wait_for(lambda: any(line["id"] == "never" and line["then"] == "cancelled" for line in cloud.ran(f"{STACK}-worker")), "its end", 60)

    # The child of a task waits in the same way.
    wasq(f"enqueue verbs --params '{parent_of_a_late_child(30)}' --id parent")
    [message] = wait_for(lambda: named("message."), "the schedule of the child", 60)
    at = datetime.datetime.fromisoformat(message["ScheduleExpression"].removeprefix("at(").removesuffix(")"))
    assert abs(at - datetime.datetime.now(datetime.UTC).replace(tzinfo=None) - datetime.timedelta(days=30)) < datetime.timedelta(minutes=5)
    assert len(wasq("runs cancel --kind delayed")["cancelled"]) == 1

    # Schedules go with the task, and come back with a deployment that takes over its data.
    cloud.shell(f"wasq destroy --stack {STACK} --yes")
    cloud.deploy(functions, STACK, "--longest-task 1m")
    wait_for(lambda: len(named("task.")) == 2, "the schedules", 60)
    wasq("rm verbs --wait")
    wait_for(lambda: named("task.") == [], "no schedule", 60)
    cloud.shell(f"wasq destroy --stack {STACK} --data --yes")
