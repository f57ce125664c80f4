"""`wasq logs` and `wasq status` on one machine: the runs, and the log lines of tasks."""

import fcntl
import json
import os
import struct
import subprocess
import termios

from conftest import BINARIES, wait_for


def lines(dev, *args):
    done = subprocess.run([BINARIES / "wasq", "logs", *args], cwd=dev.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ran(dev, message_id):
    records = [json.loads(line) for line in lines(dev, "--json", "--id", message_id)]
    return [record for record in records if "outcome" in record]


def test_one_line_for_each_run(dev):
    dev.publish("verbs", settings='max_attempts = 2\nbackoff = { base = "10ms", cap = "10ms" }')
    dev.send({"task": "verbs", "id": "good", "params": {"verb": "echo", "value": 1}})
    dev.send({"task": "verbs", "id": "bad", "params": {"verb": "retry", "reason": "not today"}})
    wait_for(lambda: len(ran(dev, "bad")) == 2, "both attempts")
    [good] = wait_for(lambda: ran(dev, "good"), "the run")
    assert (good["task"], good["attempt"], good["outcome"], good["then"]) == ("verbs", 1, "success", "done")
    assert good["run_ms"] > 0 and good["peak_memory_bytes"] > 0 and good["queued_ms"] >= 0 and "_aws" not in good
    first, second = ran(dev, "bad")
    assert (first["kind"], first["then"], second["then"]) == ("retry", "retry", "dead-letter")
    # The form for people: time, level, task, id, attempt and message.
    told = [line[24:] for line in lines(dev, "--id", "bad")]
    assert told[-1].startswith("WARN  verbs bad #2  not today; moved to the dead-letter queue  (retry, ")
    assert dev.wasq("status", "--json")["dead_letters"] == {"visible": 1, "in_flight": 0}


def test_begins_of_runs_and_children_with_their_parents(dev):
    dev.publish("verbs")
    dev.send({"task": "verbs", "id": "top", "params": {"verb": "enqueue", "task": "verbs", "count": 1, "fail": False}})
    wait_for(lambda: len(ran(dev, "top")) == 2, "the child's run")
    told = [line[24:] for line in lines(dev, "--id", "top")]
    [child] = [record["id"] for record in ran(dev, "top") if record["id"] != "top"]
    # The child can begin before the line that its parent is done.
    of_parent = [line for line in told if line.startswith("INFO  verbs top #1  ")]
    of_child = [line for line in told if line.startswith(f"INFO  verbs {child} #1  ")]
    assert told[0] == of_parent[0] and len(of_parent) + len(of_child) == len(told) == 4, told
    assert of_parent[0].endswith("  run begins") and "  done  (" in of_parent[1] and "child of" not in of_parent[1], told
    assert of_child[0].endswith('  run begins parent="top"'), told
    assert "  done  (" in of_child[1] and of_child[1].endswith(", child of top)"), told
    assert not any("verbs top " in line for line in lines(dev, "--id", child))


def test_only_one_task_and_only_what_is_recent(dev):
    for name in ("one", "two"):
        dev.publish("hello", name)
        dev.send({"task": name, "id": f"m-{name}"})
    wait_for(lambda: ran(dev, "m-one") and ran(dev, "m-two"), "both runs")
    assert {json.loads(line)["task"] for line in lines(dev, "--task", "one", "--json")} == {"one"}
    assert lines(dev, "--task", "one", "--since", "0s") == []
    assert lines(dev, "--task", "three") == []


def test_failures_the_last_ones_and_days(dev):
    dev.publish("verbs", settings="max_attempts = 1")
    own_ids = {}
    for number in range(3):
        own_ids[number] = dev.send({"task": "verbs", "id": f"good-{number}", "params": {"verb": "echo", "value": 1}})
        dev.send({"task": "verbs", "id": f"bad-{number}", "params": {"verb": "retry", "reason": "no"}})
    seen = lambda *args: [record["id"] for record in map(json.loads, lines(dev, "--json", *args)) if "outcome" in record]
    wait_for(lambda: len(seen()) == 6, "all runs")
    assert sorted(seen("--failed")) == ["bad-0", "bad-1", "bad-2"]
    assert seen("--failed", "--last", "2") == seen("--failed")[-2:]
    assert lines(dev, "--since", "2d") == lines(dev) and lines(dev, "--since", "2d", "--last", "3") == lines(dev)[-3:]
    # The queue's id finds a message that has its own.
    assert seen("--id", own_ids[1]) == seen("--id", "good-1") == ["good-1"]
    told = subprocess.run([BINARIES / "wasq", "runs", "show", "good-1"], cwd=dev.folder, capture_output=True, text=True, timeout=60)
    [log] = [line.removeprefix("log").strip() for line in told.stdout.splitlines() if line.startswith("log ")]
    assert log == "wasq logs --id=good-1"


def test_following(dev):
    dev.publish("hello")
    # If no line comes, the command ends after 60 s.
    command = ["timeout", "60", BINARIES / "wasq", "logs", "--follow", "--task", "hello"]
    follow = subprocess.Popen(command, cwd=dev.folder, stdout=subprocess.PIPE, text=True)
    try:
        for number in range(3):
            dev.send({"task": "hello", "id": f"f-{number}"})
            assert any(f"f-{number} #1  done" in line for line in follow.stdout), number
    finally:
        follow.terminate()
        follow.wait()


def test_without_a_log(tmp_path):
    done = subprocess.run([BINARIES / "wasq", "logs"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "there is no log in .wasq: start `wasq dev` here" in done.stderr


def test_top(dev):
    """Once as text and as JSON, and in a terminal until q."""
    dev.publish("hello")
    dev.send({"task": "hello", "id": "seen"})
    wait_for(lambda: ran(dev, "seen"), "the run")
    told = subprocess.run([BINARIES / "wasq", "top"], cwd=dev.folder, capture_output=True, text=True, timeout=30)
    assert told.returncode == 0 and "1 succeeded" in told.stdout and "0 dead letters" in told.stdout, told
    assert dev.wasq("top", "--span", "day", "--json")["tasks"][0]["succeeded"] == 1
    assert "expected hour or day" in subprocess.run([BINARIES / "wasq", "top", "--span", "week"], capture_output=True, text=True).stderr
    controller, terminal = os.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    process = subprocess.Popen([BINARIES / "wasq", "top"], cwd=dev.folder, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    seen = b""
    try:
        # The state, and then the news.
        while b"hello" not in seen:
            seen += os.read(controller, 4096)
        dev.publish("hello", "another")
        while b"another" not in seen:
            seen += os.read(controller, 4096)
        os.write(controller, b"dq")
        assert process.wait(20) == 0
    finally:
        process.kill()
        os.close(controller)


def test_top_without_a_stack(tmp_path):
    done = subprocess.run([BINARIES / "wasq", "top"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "no `wasq dev` has run" in done.stderr
