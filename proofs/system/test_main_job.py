"""The main job on one machine: `wasq dev`, used as people use it, through boto3 and the AWS CLI."""

import json
import shutil
import sqlite3
import subprocess
import time

import pytest

from conftest import AWS_CLI, BINARIES, CORE_MODULE, GUESTS, github_settings, reason, receive_all, wait_for


def test_github_repositories(dev, github):
    dev.publish("github_repositories", settings=github_settings("github_repositories", github))
    ended = dev.wasq("enqueue", "github_repositories", "--params", '{"user": "javimb"}', "--wait", "--json")
    assert ended["result"] == {"outcome": "success", "output": {"user": "javimb", "repositories": 5}}
    assert ended["attempt"] == 1
    assert dev.logged("INFO task:", "javimb has 5 public repositories")


def test_github_users(dev, github):
    dev.publish("github_users", settings=github_settings("github_users", github))
    ended = dev.wasq("enqueue", "github_users", "--params", '{"city": "Madrid"}', "--wait", "--json")
    assert ended["result"] == {"outcome": "success", "output": {"city": "Madrid", "users": 1493}}


def test_a_message_of_the_aws_cli(dev):
    dev.publish("hello")
    # As the README says it, in a shell that has nothing of AWS.
    body = '{"task": "hello", "params": {"from": "the CLI"}}'
    commands = f"""eval "$(wasq env)" && aws sqs send-message --endpoint-url "$AWS_ENDPOINT_URL_SQS" --queue-url "$QUEUE_URL" --message-body '{body}'"""
    sent = subprocess.run(
        ["/bin/bash", "-c", commands],
        env={"PATH": f"{BINARIES}:{AWS_CLI.parent}:/usr/bin:/bin", "HOME": str(dev.folder)},
        cwd=dev.folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    message_id = json.loads(sent.stdout)["MessageId"]
    wait_for(lambda: dev.logged("done", f'id="{message_id}"'), "run of the message")
    assert dev.counts() == (0, 0, 0)


def test_a_new_version_changes_what_runs_next(dev):
    """One name gets a second module while messages come. Each runs one whole module, and none is lost."""
    dev.publish("hello", "task")
    sent = []

    def send_some():
        for i in range(len(sent), len(sent) + 15):
            sent.append(dev.send({"task": "task", "id": f"m{i}", "params": {"verb": "echo", "value": i}}))
            time.sleep(0.02)

    def is_live():
        send_some()
        return dev.listed("task")["live"]["version"] == 2

    send_some()
    shutil.copy(GUESTS / "verbs.wasm", dev.tasks / "task.wasm")
    wait_for(is_live, "second version")
    send_some()
    assert dev.wasq("enqueue", "task", "--params", '{"verb": "echo", "value": "new"}', "--wait", "--json")["result"][
        "output"
    ] == "new"
    wait_for(lambda: len(dev.logged("done", 'task="task"')) == len(sent) + 1, "end of all messages")
    assert dev.counts() == dev.counts(dev.dead_letter_url) == (0, 0, 0)
    outputs = [result(dev, f"m{i}") for i in range(len(sent))]
    old = [i for i, output in enumerate(outputs) if output == {"hello": {"verb": "echo", "value": i}}]
    new = [i for i, output in enumerate(outputs) if output == i]
    assert sorted(old + new) == list(range(len(sent))) and old and new, outputs


def result(dev, message_id):
    """The output of a message's run, read as `wasq enqueue --wait` reads it."""
    import urllib.request

    with urllib.request.urlopen(f"{dev.url}/wasq/results?message_id={message_id}&wait=10") as answer:
        return json.loads(answer.read())["result"]["output"]


def test_a_second_task_while_the_first_runs(dev):
    dev.publish("verbs")
    slow = dev.send({"task": "verbs", "params": {"verb": "sleep", "ms": 1500}})
    wait_for(lambda: dev.counts()[1] == 1, "running task")
    dev.publish("hello")
    assert dev.wasq("enqueue", "hello", "--wait", "--json")["result"]["output"] == {"hello": {}}
    wait_for(lambda: dev.logged("done", slow), "end of the first task")


def test_killed_in_the_middle_it_finishes_every_message(new_dev):
    dev = new_dev.start()
    dev.publish("verbs")
    ids = [dev.send({"task": "verbs", "params": {"verb": "sleep", "ms": 300}}) for _ in range(100)]
    wait_for(lambda: len(dev.logged("done", "verbs")) >= 5, "first ends")
    dev.kill()
    ended = len(dev.logged("done", "verbs"))
    assert ended < 100, "all had ended before the kill: nothing was tested"
    dev.start()
    wait_for(lambda: dev.counts() == (0, 0, 0), "empty queue")
    # The test looks for the task's own last log line: the kill may come between a message's end and the
    # worker's line about it.
    unfinished = [i for i in ids if not dev.logged("slept", i)]
    assert unfinished == [] and dev.counts(dev.dead_letter_url) == (0, 0, 0)


def test_a_message_that_kills_its_process_runs_alone_and_ends(new_dev):
    """The test kills the process whenever this message runs. Its neighbours run as if nothing had happened."""
    dev = new_dev.start("--concurrency", "4")
    dev.publish("verbs")

    def send(name, ms):
        dev.send({"task": "verbs", "id": name, "params": {"verb": "sleep", "ms": ms}})

    def begun(name):
        return len(dev.logged("run begins", f'id="{name}"'))

    send("killer", 60_000)
    [send(f"before-{i}", 1500) for i in range(3)]
    wait_for(lambda: all(begun(name) for name in ("killer", "before-0", "before-1", "before-2")), "runs")
    dev.kill()
    dev.start("--concurrency", "4")
    wait_for(lambda: begun("killer") == 2, "second run")
    send("after", 1)
    time.sleep(0.5)
    assert begun("after") == 0, "it waits until the suspect has ended"
    dev.kill()
    dev.start("--concurrency", "4")
    wait_for(lambda: begun("killer") == 3, "third run")
    dev.kill()
    dev.start("--concurrency", "4")
    [letter] = receive_all(dev.sqs, dev.dead_letter_url, 1)
    kind, why = reason(letter)
    assert kind == "killed-worker" and "3 workers died" in why
    wait_for(lambda: dev.counts() == (0, 0, 0), "empty queue")
    assert begun("killer") == 3 and dev.counts(dev.dead_letter_url) == (0, 0, 0), "nobody else is dead"
    ends = {name: dev.logged("done", f'id="{name}"') for name in ("before-0", "before-1", "before-2", "after")}
    assert all(len(lines) == 1 and "attempt=1" in lines[0] for lines in ends.values()), ends


def test_a_task_with_a_backlog_does_not_keep_another_one_waiting(new_dev):
    """400 messages of one task take 100 s on 4 slots. A message of another task does not wait for them."""
    dev = new_dev.start("--concurrency", "4")
    dev.publish("verbs", "noisy")
    dev.publish("verbs", "quiet")

    def noisy(first, count):
        body = {"task": "noisy", "params": {"verb": "sleep", "ms": 1000}}
        entries = [{"Id": str(i), "MessageBody": json.dumps(body | {"id": f"noisy-{i}"})} for i in range(first, first + count)]
        for at in range(0, count, 10):
            dev.sqs.send_message_batch(QueueUrl=dev.queue_url, Entries=entries[at : at + 10])

    noisy(0, 400)
    wait_for(lambda: dev.counts()[1] >= 100, "messages in flight")
    [dev.send({"task": "quiet", "id": f"quiet-{i}", "params": {"verb": "echo", "value": i}}) for i in range(20)]
    wait_for(lambda: all(dev.logged("done", f'id="quiet-{i}"') for i in range(20)), "runs of the other task", 60)
    # A message of the other task waits until a quarter of those in flight has ended, and then for one slot.
    ended = len(dev.logged("done", 'id="noisy-'))
    assert ended < 60, "the backlog is still there"
    assert dev.counts()[0] > 200


def test_a_restart_ends_no_wait(new_dev):
    """The next process releases the messages that were running, and not those that wait for a retry."""
    dev = new_dev.start()
    dev.publish("verbs")
    dev.send({"task": "verbs", "params": {"verb": "retry-after", "seconds": 600, "reason": "limit"}})
    wait_for(lambda: dev.logged("next attempt in 600"), "first attempt")
    dev.kill()
    dev.start()
    assert dev.wasq("enqueue", "verbs", "--params", '{"verb": "echo", "value": 1}', "--wait", "--json")
    assert dev.counts() == (0, 1, 0)


def test_a_large_message_is_rejected_once(dev):
    """The body, the sender's attributes and wasq's attributes together are larger than a message may be."""
    dev.publish("verbs")
    why = "no" * 2000
    body = json.dumps({"task": "verbs", "params": {"verb": "reject", "reason": why}})
    attributes = {"large": {"DataType": "String", "StringValue": "x" * (1_047_000 - len(body))}}
    dev.sqs.send_message(QueueUrl=dev.queue_url, MessageBody=body, MessageAttributes=attributes)
    [letter] = receive_all(dev.sqs, dev.dead_letter_url, 1)
    assert reason(letter) == ("reject", why) and "large" not in letter["MessageAttributes"]
    assert len(dev.logged("moved to the dead-letter queue")) == 1


def test_sigterm_gives_back_what_does_not_end(new_dev):
    dev = new_dev.start("--grace", "200ms")
    dev.publish("verbs")
    dev.send({"task": "verbs", "params": {"verb": "sleep", "ms": 20000}})
    wait_for(lambda: dev.counts()[1] == 1, "running task")
    assert dev.stop() == 0
    dev.start()
    # Released, not lost: the message runs again, as in its first attempt.
    wait_for(lambda: dev.counts()[1] == 1, "task that runs again")


def test_a_lease_is_extended_while_a_task_runs(new_dev):
    """The task takes longer than its lease: unless that is extended, a second run starts."""
    dev = new_dev.start("--lease", "5s")
    dev.publish("verbs")
    ended = dev.wasq("enqueue", "verbs", "--params", '{"verb": "sleep", "ms": 7000}', "--wait", "--json")
    assert ended["attempt"] == 1
    assert dev.counts() == (0, 0, 0) and len(dev.logged("handed to the worker")) == 1


def test_retries_until_it_succeeds(dev):
    dev.publish("verbs", settings='backoff = { base = "100ms", cap = "100ms" }')
    ended = dev.wasq("enqueue", "verbs", "--params", '{"verb": "flaky", "succeeds_in": 3}', "--wait", "--json")
    assert (ended["attempt"], ended["result"]["output"]) == (3, 3)


def test_children_run_when_their_parent_succeeded(dev):
    dev.publish("verbs", settings="max_attempts = 1")
    enqueue = {"verb": "enqueue", "task": "verbs", "count": 3, "fail": False}
    ended = dev.wasq("enqueue", "verbs", "--params", json.dumps(enqueue), "--id", "parent", "--wait", "--json")
    children = ended["result"]["output"]
    assert [result(dev, child) for child in children] == [0, 1, 2]

    enqueue["fail"] = True
    failed = dev.wasq("enqueue", "verbs", "--params", json.dumps(enqueue), "--wait", "--json", code=1)
    assert failed["result"]["kind"] == "retry"
    assert len(dev.logged("done", 'task="verbs"')) == 4, "a child of a failed parent ran"


# Bad messages, with the kind and a text of each dead letter.
BAD_MESSAGES = [
    ("not JSON", "malformed", "at $: not JSON: expected ident at line 1 column 2"),
    ("[1]", "malformed", "at $: expected an object"),
    ('{"params": {}}', "malformed", "at $.task: missing"),
    ('{"task": "../etc"}', "malformed", "at $.task: a task name consists of"),
    ('{"task": "verbs", "params": {"verb": "reject", "reason": "not mine"}}', "reject", "not mine"),
    ('{"task": "verbs", "params": {"verb": "nonsense"}}', "reject", "params: unknown variant `nonsense`"),
    ('{"task": "verbs", "params": {"verb": "panic", "message": "oh no"}}', "trap", "oh no"),
    ('{"task": "verbs", "params": {"verb": "spin"}}', "out-of-time", "not done after"),
    ('{"task": "verbs", "params": {"verb": "alloc", "mib": 500}}', "out-of-memory", "the limit is 128MiB"),
    ('{"task": "verbs", "params": {"verb": "raw", "text": "{"}}', "output-not-json", "the result is not JSON"),
    ('{"task": "verbs", "params": {"verb": "output", "bytes": 2000000}}', "output-too-large", "the most is 1048576"),
]


def test_bad_messages_go_to_the_dead_letter_queue(dev):
    dev.publish("verbs", settings='max_attempts = 1\ntimeout = "500ms"')
    for body, _, _ in BAD_MESSAGES:
        dev.send(body)
    letters = {letter["Body"]: letter for letter in receive_all(dev.sqs, dev.dead_letter_url, len(BAD_MESSAGES))}
    for body, kind, text in BAD_MESSAGES:
        got_kind, got_text = reason(letters[body])
        assert got_kind == kind and text in got_text, (body, got_kind, got_text)
    wait_for(lambda: dev.counts() == (0, 0, 0), "empty queue")


def test_a_dead_letter_keeps_the_senders_attributes_and_id(dev):
    attributes = {
        "origin": {"DataType": "String", "StringValue": "web"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\0\1"},
    }
    dev.sqs.send_message(
        QueueUrl=dev.queue_url, MessageBody='{"task": 5, "id": "mine"}', MessageAttributes=attributes, MessageGroupId="g"
    )
    [letter] = receive_all(dev.sqs, dev.dead_letter_url, 1)
    assert {name: letter["MessageAttributes"][name] for name in attributes} == attributes
    assert letter["Attributes"]["MessageGroupId"] == "g"


def test_a_message_that_waits_for_its_task(dev):
    """A message that is sent before its task is published waits a little. That costs none of its attempts."""
    message_id = dev.send({"task": "late", "params": {"verb": "context"}})
    wait_for(lambda: dev.logged("no task named late is live", "released"), "first look")
    dev.publish("verbs", "late")
    output = result(dev, message_id)
    assert (output["attempt"], output["id"]) == (1, message_id)


def test_not_before(dev):
    dev.publish("verbs")
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    message_id = dev.send({"task": "verbs", "params": {"verb": "context"}, "not_before": soon})
    output = result(dev, message_id)
    assert time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()) >= soon
    assert output["attempt"] == 1


BAD_UPLOADS = [
    (b"", "the file is empty"),
    (b"hello", "not WebAssembly: the file starts with [68, 65, 6c, 6c]"),
    (CORE_MODULE, "a core WebAssembly module, not a component"),
    (lambda wasm: wasm[: len(wasm) // 2], "was it uploaded whole?"),
    (lambda wasm: wasm[:6], "within a WebAssembly header: was it uploaded whole?"),
]


@pytest.mark.parametrize("upload, text", BAD_UPLOADS, ids=["empty", "text", "core-module", "half", "header"])
def test_a_bad_upload_leaves_the_last_version_live(dev, upload, text):
    dev.publish("hello")
    live = dev.listed("hello")["live"]
    if callable(upload):
        upload = upload((GUESTS / "hello.wasm").read_bytes())
    (dev.tasks / "hello.wasm").write_bytes(upload)
    rejected = wait_for(lambda: dev.listed("hello")["rejected"], "rejection")
    assert rejected["reason"].startswith("hello.wasm: ") and text in rejected["reason"], rejected["reason"]
    assert dev.listed("hello")["live"] == live
    assert dev.wasq("enqueue", "hello", "--wait", "--json")["result"]["output"] == {"hello": {}}
    # A good upload clears the rejection.
    dev.publish("verbs", "hello")
    assert dev.listed("hello")["rejected"] is None


def test_settings_with_a_typo(dev):
    dev.publish("hello", settings='timeout = "10s"')
    (dev.tasks / "hello.toml").write_text('timeout = "10s"\nmemroy = "1GiB"\n')
    rejected = wait_for(lambda: dev.listed("hello")["rejected"], "rejection")
    assert "hello.toml: TOML parse error at line 2" in rejected["reason"] and "memroy" in rejected["reason"]
    assert dev.listed("hello")["live"]["settings"]["timeout"] == "10s"
    # Settings alone are a new version as well.
    (dev.tasks / "hello.toml").write_text('timeout = "20s"\n')
    wait_for(lambda: dev.listed("hello")["live"]["settings"]["timeout"] == "20s", "new settings")
    assert dev.listed("hello")["live"]["version"] == 2


def test_two_on_one_data_folder(dev):
    error = dev.wasq("dev", "--json", "--listen", "127.0.0.1:0", code=2)["error"]
    assert "in use by another `wasq dev`" in error


def test_secrets_of_one_machine(new_dev, echo, monkeypatch):
    """A secret's value reaches the server that the task sends it to, and stays in no file afterwards."""
    file = new_dev.folder / "secrets.toml"
    file.write_text('FROM_FILE = "the-value-in-the-file"\n')
    file.chmod(0o600)
    monkeypatch.setenv("WASQ_SECRET_FROM_ENV", "the-value-in-the-environment")
    dev = new_dev.start("--secrets", str(file))
    settings = f"""
max_attempts = 1
allow_hosts = ["http://{echo.authority}"]
[secrets]
FROM_FILE = "ssm:/wasq/a"
FROM_ENV = {{ from = "secretsmanager:wasq/b#c", expose = true }}
"""
    dev.publish("verbs", settings=settings)

    def verb(verb, code=0, **params):
        params = json.dumps({"verb": verb, **params})
        return dev.wasq("enqueue", "verbs", "--params", params, "--wait", "--json", code=code)["result"]

    sent = {"authority": echo.authority, "authorization": "{FROM_FILE} {FROM_ENV}"}
    assert verb("authorize", **sent)["output"]["body"] == "[secret FROM_FILE] [secret FROM_ENV]"
    assert echo.got == ["the-value-in-the-file the-value-in-the-environment"]
    assert verb("say", text="{FROM_ENV}", end="success")["output"]["said"] == "[secret FROM_ENV]"
    for end in ("retry", "panic"):
        verb("say", text="{FROM_ENV}", end=end, code=1)
    letters = receive_all(dev.sqs, dev.dead_letter_url, 2)
    assert all("[secret FROM_ENV]" in reason(letter)[1] for letter in letters)
    # A changed value is used at once.
    file.write_text('FROM_FILE = "another-value-in-the-file"\n')
    verb("authorize", **sent)
    assert echo.got[1] == "another-value-in-the-file the-value-in-the-environment"
    dev.stop()
    for path in [*new_dev.folder.rglob("*")]:
        if path.is_file() and path != file:
            content = path.read_bytes()
            assert b"value-in-the" not in content, path


def test_a_secret_that_is_not_there(dev):
    dev.publish("verbs")
    (dev.tasks / "verbs.toml").write_text('[secrets]\nTOKEN = "ssm:/wasq/token"')
    rejected = wait_for(lambda: dev.listed("verbs")["rejected"], "refusal")
    assert "the secret TOKEN (ssm:/wasq/token)" in rejected["reason"] and "WASQ_SECRET_TOKEN" in rejected["reason"]
    assert dev.wasq("enqueue", "verbs", "--params", '{"verb": "echo", "value": 1}', "--wait", "--json")["attempt"] == 1


def test_nothing_expires_while_nothing_runs(new_dev):
    """A stack that was off for 15 days has the messages and dead letters that it had before."""
    dev = new_dev.start()
    dev.publish("verbs", settings="max_attempts = 1\n")
    dev.send({"task": "verbs", "params": {"verb": "retry", "reason": "no"}})
    wait_for(lambda: dev.counts(dev.dead_letter_url)[0] == 1, "a dead letter")
    dev.stop()
    (dev.tasks / "verbs.wasm").unlink()
    dev.start()
    dev.send({"task": "later", "id": "kept"})
    dev.stop()
    days = 15 * 24 * 3600 * 1000
    with sqlite3.connect(dev.folder / ".wasq" / "queue.sqlite") as database:
        database.execute("UPDATE messages SET sent_ms = sent_ms - ?, visible_ms = visible_ms - ?", (days, days))
        database.execute("UPDATE messages SET first_received_ms = first_received_ms - ? WHERE first_received_ms > 0", (days,))
        database.execute("UPDATE stack SET alive_ms = alive_ms - ?", (days,))
    shutil.copy(GUESTS / "hello.wasm", dev.tasks / "later.wasm")
    dev.start()
    wait_for(lambda: dev.logged("done", 'id="kept"'), "the run of the message")
    assert dev.counts(dev.dead_letter_url)[0] == 1
    assert dev.logged("that time counts towards no message")


def test_what_was_damaged_or_deleted_stops_nothing(new_dev):
    dev = new_dev.start()
    dev.publish("hello")
    dev.publish("verbs")
    dev.sqs.delete_queue(QueueUrl=dev.dead_letter_url)
    dev.stop()
    record = dev.folder / ".wasq" / "registry" / "live" / "verbs.json"
    record.write_text(record.read_text()[:100])
    dev.start()
    assert dev.counts(dev.dead_letter_url) == (0, 0, 0)
    # The upload in the folder replaces the damaged record.
    wait_for(lambda: dev.listed("verbs")["live"], "live verbs")
    assert dev.wasq("enqueue", "hello", "--wait", "--json")["result"]["outcome"] == "success"
    dev.stop()
    # Others could replace the machine code.
    (dev.folder / ".wasq").chmod(0o777)
    done = subprocess.run([BINARIES / "wasq", "dev"], cwd=dev.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and "run `chmod 700 .wasq`" in done.stderr, done.stderr
