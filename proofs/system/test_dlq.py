"""`wasq dlq` lists, shows, redrives and deletes dead letters."""

import json
import subprocess
import time
from datetime import datetime

import pytest

from conftest import BINARIES, receive_all, wait_for

ONCE = 'max_attempts = 1\n[env]\nWHO = "first"\n'


def message(verb, message_id=None, **params):
    body = {"task": "verbs", "params": {"verb": verb, **params}}
    return body | ({"id": message_id} if message_id else {})


@pytest.fixture
def letters(dev):
    """Five dead letters of four kinds. Returns `dev`, and the SQS id of the letter without its own id."""
    dev.publish("verbs", settings=ONCE)
    dev.send(message("reject", "a", reason="no such city"))
    dev.send(message("reject", "b", reason="no such street\nnor house"))
    dev.send(message("panic", "c", message="oh no"))
    unnamed = dev.send(message("retry", reason="try again"))
    dev.send("no message")
    wait_for(lambda: dev.counts() == (0, 0, 0) and dev.counts(dev.dead_letter_url) == (5, 0, 0), "five dead letters")
    return dev, unnamed


def ids(dev, *select):
    return [letter["id"] for letter in dev.wasq("dlq", "ls", *select, "--json")["dead_letters"]]


def test_ls_selects(letters):
    dev, unnamed = letters
    assert len(ids(dev)) == 5
    assert sorted(ids(dev, "--kind", "reject")) == ["a", "b"]
    assert sorted(ids(dev, "--kind", "reject", "--kind", "trap")) == ["a", "b", "c"]
    assert ids(dev, "--reason", "street") == ["b"]
    assert len(ids(dev, "--task", "verbs")) == 4 and ids(dev, "--task", "other") == []
    assert ids(dev, "--kind", "retry") == [unnamed] == ids(dev, unnamed)
    assert len(ids(dev, "--since", "1h")) == 5 and ids(dev, "--until", "1h") == []
    assert ids(dev, "--since", "2100-01-01T00:00:00Z") == []
    # `wasq dlq ls` removes nothing.
    assert dev.counts(dev.dead_letter_url) == (5, 0, 0)


def test_show_says_everything(letters):
    dev, _ = letters
    [letter] = dev.wasq("dlq", "show", "b", "--json")["dead_letters"]
    assert letter["reason"] == "no such street\nnor house" and letter["kind"] == "reject"
    assert (letter["task"], letter["attempts"], letter["history"]) == ("verbs", 1, None)
    assert json.loads(letter["body"]) == message("reject", "b", reason="no such street\nnor house")
    assert letter["digest"] == dev.listed("verbs")["live"]["digest"]
    first_received, failed = (datetime.fromisoformat(letter[name]) for name in ("first_received", "failed"))
    assert first_received <= failed


def test_redrive_keeps_the_id_and_the_history(letters):
    """Two redrives: a message without its own id keeps the id that its task saw first."""
    dev, unnamed = letters
    assert dev.wasq("dlq", "redrive", "--kind", "retry", "--json") == {"redriven": 1, "problems": []}
    wait_for(lambda: dev.counts(dev.dead_letter_url) == (5, 0, 0), "its second end")
    [letter] = dev.wasq("dlq", "show", unnamed, "--json")["dead_letters"]
    assert letter["message_id"] != unnamed, "the queue gave it another id"
    assert [(end["kind"], end["reason"], end["attempts"]) for end in letter["history"]] == [("retry", "try again", 1)]

    # Now its task is fixed.
    dev.publish("hello", "verbs")
    dev.wasq("dlq", "redrive", unnamed, "--json")
    wait_for(lambda: dev.logged("done", f'id="{unnamed}"'), "its success")
    assert dev.counts() == (0, 0, 0) and len(ids(dev)) == 4


def test_redrive_of_what_the_sender_sent(letters):
    """A redrive keeps the sender's attributes. A malformed message becomes the same dead letter again."""
    dev, _ = letters
    attributes = {"who": {"DataType": "String", "StringValue": "me"}}
    body = json.dumps(message("reject", "d", reason="no"))
    dev.sqs.send_message(QueueUrl=dev.queue_url, MessageBody=body, MessageAttributes=attributes)
    wait_for(lambda: ids(dev, "--reason", "no") and "d" in ids(dev), "dead letter")
    assert dev.wasq("dlq", "redrive", "--all", "--json") == {"redriven": 6, "problems": []}
    wait_for(lambda: dev.counts(dev.dead_letter_url)[0] == 6, "six dead letters again")
    got = []
    while len(got) < 6:
        got += dev.sqs.receive_message(
            QueueUrl=dev.dead_letter_url, MaxNumberOfMessages=10, MessageAttributeNames=["All"]
        ).get("Messages", [])
    [again] = [letter for letter in got if letter["Body"] == body]
    assert again["MessageAttributes"]["who"]["StringValue"] == "me"
    [malformed] = [letter for letter in got if letter["Body"] == "no message"]
    assert malformed["MessageAttributes"]["wasq.kind"]["StringValue"] == "malformed"


def test_purge(letters):
    dev, _ = letters
    error = dev.wasq("dlq", "purge", "--kind", "reject", "--json", code=2)["error"]
    assert "say so by --yes" in error and len(ids(dev)) == 5
    assert dev.wasq("dlq", "purge", "--kind", "reject", "--yes", "--json") == {"deleted": 2, "problems": []}
    assert len(ids(dev)) == 3 and ids(dev, "--kind", "reject") == []
    assert dev.wasq("dlq", "purge", "--all", "--yes", "--json") == {"deleted": 3, "problems": []}
    assert dev.counts(dev.dead_letter_url) == (0, 0, 0)


def test_what_the_queue_itself_moved(dev):
    """A dead letter without wasq's attributes: the redrive policy of SQS, or a person, put it there."""
    dev.publish("hello")
    dev.sqs.send_message(QueueUrl=dev.dead_letter_url, MessageBody='{"task": "hello", "params": 1}')
    [letter] = dev.wasq("dlq", "ls", "--kind", "redrive-policy", "--json")["dead_letters"]
    assert (letter["task"], letter["attempts"], letter["failed"]) == ("hello", None, None)
    dev.wasq("dlq", "redrive", "--task", "hello", "--json")
    wait_for(lambda: dev.logged("done", letter["id"]), "its success")


def test_a_large_dead_letter_queue(dev):
    bodies = [{"Id": str(i), "MessageBody": f"letter {i}"} for i in range(10)]
    for _ in range(60):
        dev.sqs.send_message_batch(QueueUrl=dev.dead_letter_url, Entries=bodies)
    started = time.monotonic()
    assert len(ids(dev)) == 600 and time.monotonic() - started < 30
    assert dev.counts(dev.dead_letter_url) == (600, 0, 0)
    assert dev.wasq("dlq", "purge", "--all", "--yes", "--json") == {"deleted": 600, "problems": []}


def test_a_fifo_queue(dev):
    """Only ten messages of a group are handed out at once: the rest come when those are gone."""
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    dead = dev.sqs.create_queue(QueueName="dead.fifo", Attributes=fifo)["QueueUrl"]
    arn = dev.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    queue = dev.sqs.create_queue(QueueName="q.fifo", Attributes=fifo | {"RedrivePolicy": redrive})["QueueUrl"]
    for i in range(25):
        dev.sqs.send_message(QueueUrl=dead, MessageBody=f"letter {i}", MessageGroupId="one")
    listed = dlq(dev, "ls", "--json", "--queue-url", queue)
    assert len(json.loads(listed.stdout)["dead_letters"]) == 10
    assert "about 15 more dead letters were not looked at" in listed.stderr
    assert dev.wasq("dlq", "redrive", "--all", "--json", "--queue-url", queue) == {"redriven": 25, "problems": []}
    assert (dev.counts(queue)[0], dev.counts(dead)[0]) == (25, 0)
    bodies = [message["Body"] for message in receive_all(dev.sqs, queue, 25)]
    assert bodies == [f"letter {i}" for i in range(25)], "a group keeps its order"


def test_what_another_command_holds(letters):
    dev, _ = letters
    held = dev.sqs.receive_message(QueueUrl=dev.dead_letter_url, MaxNumberOfMessages=2)["Messages"]
    listed = dlq(dev, "ls", "--json")
    assert len(json.loads(listed.stdout)["dead_letters"]) == 5 - len(held)
    assert f"about {len(held)} more dead letters were not looked at" in listed.stderr


def test_the_dead_letter_queue_alone(letters):
    dev, _ = letters
    assert len(ids(dev, "--dead-letter-url", dev.dead_letter_url, "--queue-url", "http://127.0.0.1:1/0/none")) == 5
    elsewhere = dlq(dev, "redrive", "--all", "--dead-letter-url", "https://sqs.us-east-1.amazonaws.com/0/dead")
    assert elsewhere.returncode == 2 and "are not at the same endpoint" in elsewhere.stderr


WRONG = [
    (["redrive"], "redrive which?"),
    (["purge", "--yes"], "delete which?"),
    (["ls", "--kind", "retri"], "one of retry, reject"),
    (["ls", "--since", "yesterday"], "'yesterday' for '--since <TIME>': neither a time such as"),
    (["show", "missing"], 'no dead letter with the id "missing"'),
    (["redrive", "a", "missing"], 'no dead letter with the id "missing"'),
]


def dlq(dev, *args):
    """The command as people use it."""
    return subprocess.run([BINARIES / "wasq", "dlq", *args], cwd=dev.folder, capture_output=True, text=True, timeout=60)


def test_wrong_use(letters):
    dev, _ = letters
    for args, text in WRONG:
        done = dlq(dev, *args)
        assert done.returncode == 2 and text in done.stderr, (args, done.stderr)
        assert text in json.loads(dlq(dev, *args, "--json").stdout)["error"], args
    assert dev.counts(dev.dead_letter_url) == (5, 0, 0), "nothing was moved"


def test_in_words(letters):
    dev, _ = letters
    lines = dlq(dev, "ls").stdout.splitlines()
    assert lines[0].split() == ["FAILED", "KIND", "TASK", "ID", "ATTEMPTS", "REASON"] and len(lines) == 6
    [line] = [line for line in lines if " b " in line]
    assert line.endswith("no such street") and "reject" in line and "verbs" in line
    assert "nor house" in dlq(dev, "show", "b").stdout
    assert dlq(dev, "redrive", "a").stderr.endswith("redriven: 1\n")
    assert dlq(dev, "ls", "--task", "other").stderr.endswith("no dead letters that match\n")
