"""Checks the SQS-compatible endpoint with boto3 against AWS's documentation and observed behaviour."""

import contextlib
import http.client
import json
import re
import socket
import threading
import time

import boto3
import pytest
from botocore.exceptions import ClientError

from conftest import wait_for

MIB = 1 << 20
# Clients of the older protocol have another name for it.
OLDER = boto3.__version__.startswith("1.26.")
SYSTEM_ATTRIBUTES = "AttributeNames" if OLDER else "MessageSystemAttributeNames"


@pytest.fixture(scope="module")
def sqs(tmp_path_factory):
    from conftest import Dev

    dev = Dev(tmp_path_factory.mktemp("sqs")).start()
    yield dev.sqs
    assert dev.stop() == 0


@pytest.fixture
def queue(sqs, request):
    """A new queue, named after the test."""
    return sqs.create_queue(QueueName=re.sub("[^a-z0-9_]", "-", request.node.name)[:80])["QueueUrl"]


@pytest.fixture
def fifo(sqs, request):
    name = f"{request.node.name[:60]}.fifo"
    return sqs.create_queue(QueueName=name, Attributes={"FifoQueue": "true"})["QueueUrl"]


def arn(sqs, queue):
    return sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]


def receive(sqs, queue, **options):
    options = {"MaxNumberOfMessages": 10, SYSTEM_ATTRIBUTES: ["All"], "MessageAttributeNames": ["All"]} | options
    return sqs.receive_message(QueueUrl=queue, **options).get("Messages", [])


def bodies(messages):
    return [message["Body"] for message in messages]


def counts(sqs, queue):
    got = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    return tuple(int(got[f"ApproximateNumberOfMessages{what}"]) for what in ("", "NotVisible", "Delayed"))


class refused:
    """Expects an error with this code, and with these words in its text."""

    def __init__(self, code, *words, status=400):
        self.code, self.words, self.status = code, words, status

    def __enter__(self):
        return self

    def __exit__(self, kind, error, _):
        assert kind and issubclass(kind, ClientError), f"expected {self.code}, got {error!r}"
        got = error.response["Error"]
        assert got["Code"] == self.code, got
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == self.status
        assert all(word in got["Message"] for word in self.words), got["Message"]
        return True


def test_send_receive_delete(sqs, queue):
    sent = sqs.send_message(QueueUrl=queue, MessageBody="hello")
    assert sent["MD5OfMessageBody"] == "5d41402abc4b2a76b9719d911017c592"
    [message] = receive(sqs, queue)
    assert (message["MessageId"], message["Body"]) == (sent["MessageId"], "hello")
    assert message["Attributes"]["ApproximateReceiveCount"] == "1"
    assert counts(sqs, queue) == (0, 1, 0)
    assert receive(sqs, queue) == [], "it is invisible"
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert counts(sqs, queue) == (0, 0, 0)


def test_queues(sqs, queue):
    name = queue.rsplit("/", 1)[1]
    assert sqs.get_queue_url(QueueName=name)["QueueUrl"] == queue
    assert sqs.list_queues(QueueNamePrefix=name)["QueueUrls"] == [queue]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="nothing-like-it")
    with refused("AWS.SimpleQueueService.NonExistentQueue", "does not exist"):
        sqs.get_queue_url(QueueName="missing")
    with refused("AWS.SimpleQueueService.NonExistentQueue"):
        sqs.send_message(QueueUrl=queue + "x", MessageBody="a")
    sqs.delete_queue(QueueUrl=queue)
    with refused("AWS.SimpleQueueService.NonExistentQueue"):
        receive(sqs, queue)
    with refused("AWS.SimpleQueueService.QueueDeletedRecently", "60 seconds"):
        sqs.create_queue(QueueName=name)


def test_pages_of_queues(sqs):
    urls = [sqs.create_queue(QueueName=f"page-{i}")["QueueUrl"] for i in range(5)]
    first = sqs.list_queues(QueueNamePrefix="page-", MaxResults=2)
    rest = sqs.list_queues(QueueNamePrefix="page-", MaxResults=1000, NextToken=first["NextToken"])
    assert first["QueueUrls"] + rest["QueueUrls"] == urls and "NextToken" not in rest


def test_attributes(sqs, queue):
    name = queue.rsplit("/", 1)[1]
    got = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]
    assert got["VisibilityTimeout"] == "30" and got["MaximumMessageSize"] == str(MIB)
    assert got["QueueArn"].endswith(f":{name}") and "FifoQueue" not in got
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "7"})
    got = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["VisibilityTimeout"])["Attributes"]
    assert got == {"VisibilityTimeout": "7"}
    assert sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "7"})["QueueUrl"] == queue
    with refused("QueueAlreadyExists", "different value for attribute VisibilityTimeout"):
        sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "8"})
    assert "Attributes" not in sqs.get_queue_attributes(QueueUrl=queue)


@pytest.mark.parametrize(
    "name, value",
    [
        ("DelaySeconds", "901"),
        ("MaximumMessageSize", "1023"),
        ("MaximumMessageSize", str(MIB + 1)),
        ("MessageRetentionPeriod", "59"),
        ("MessageRetentionPeriod", "1209601"),
        ("ReceiveMessageWaitTimeSeconds", "21"),
        ("VisibilityTimeout", "43201"),
        ("VisibilityTimeout", "+1"),
        ("VisibilityTimeout", "soon"),
    ],
)
def test_attribute_ranges(sqs, queue, name, value):
    with refused("InvalidAttributeValue", name):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={name: value})


def test_attribute_names(sqs, queue):
    with refused("InvalidAttributeName", "Unknown Attribute Colour."):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Colour": "red"})
    with refused("InvalidAttributeName", "Unknown Attribute QueueArn."):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"QueueArn": "x"})
    with refused("InvalidAttributeName"):
        sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["Colour"])


@pytest.mark.parametrize("name", ["", "a b", "a.fifo", "a" * 81, "ü"])
def test_queue_names(sqs, name):
    with refused("InvalidParameterValue", "1 to 80 in length"):
        sqs.create_queue(QueueName=name)


def test_tags(sqs, queue):
    assert "Tags" not in sqs.list_queue_tags(QueueUrl=queue)
    sqs.tag_queue(QueueUrl=queue, Tags={"a": "1", "b": ""})
    sqs.tag_queue(QueueUrl=queue, Tags={"a": "2"})
    sqs.untag_queue(QueueUrl=queue, TagKeys=["b", "absent"])
    assert sqs.list_queue_tags(QueueUrl=queue)["Tags"] == {"a": "2"}
    with refused("InvalidParameterValue", "Too many tags"):
        sqs.tag_queue(QueueUrl=queue, Tags={f"k{i}": "" for i in range(51)})


def test_batches(sqs, queue):
    entries = [{"Id": f"e{i}", "MessageBody": f"m{i}"} for i in range(10)]
    sent = sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert [entry["Id"] for entry in sent["Successful"]] == [f"e{i}" for i in range(10)] and "Failed" not in sent
    messages = receive(sqs, queue)
    assert bodies(messages) == [f"m{i}" for i in range(10)]
    handles = [message["ReceiptHandle"] for message in messages]
    visible = [{"Id": str(i), "ReceiptHandle": handle, "VisibilityTimeout": 0} for i, handle in enumerate(handles[:3])]
    visible.append({"Id": "bad", "ReceiptHandle": "garbage", "VisibilityTimeout": 0})
    changed = sqs.change_message_visibility_batch(QueueUrl=queue, Entries=visible)
    assert len(changed["Successful"]) == 3
    [failed] = changed["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == ("bad", "ReceiptHandleIsInvalid", True)
    assert counts(sqs, queue) == (3, 7, 0)
    deleted = sqs.delete_message_batch(
        QueueUrl=queue,
        Entries=[{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(handles[3:])]
        + [{"Id": "bad", "ReceiptHandle": "garbage"}],
    )
    assert len(deleted["Successful"]) == 7 and [entry["Id"] for entry in deleted["Failed"]] == ["bad"]
    assert counts(sqs, queue) == (3, 0, 0)


def test_a_bad_entry_does_not_keep_the_others_back(sqs, queue):
    sent = sqs.send_message_batch(
        QueueUrl=queue,
        Entries=[
            {"Id": "good", "MessageBody": "a"},
            {"Id": "late", "MessageBody": "a", "DelaySeconds": 901},
            {"Id": "empty", "MessageBody": ""},
            {"Id": "odd", "MessageBody": "\x01"},
        ],
    )
    assert [entry["Id"] for entry in sent["Successful"]] == ["good"]
    codes = {entry["Id"]: entry["Code"] for entry in sent["Failed"]}
    assert codes == {"late": "InvalidParameterValue", "empty": "MissingParameter", "odd": "InvalidMessageContents"}


def test_batches_that_are_refused_whole(sqs, queue):
    def send(*ids, body="a"):
        sqs.send_message_batch(QueueUrl=queue, Entries=[{"Id": i, "MessageBody": body} for i in ids])

    with refused("AWS.SimpleQueueService.EmptyBatchRequest"):
        send()
    with refused("AWS.SimpleQueueService.TooManyEntriesInBatchRequest", "You have sent 11."):
        send(*(str(i) for i in range(11)))
    with refused("AWS.SimpleQueueService.BatchEntryIdsNotDistinct", "Id a repeated."):
        send("a", "a")
    with refused("AWS.SimpleQueueService.InvalidBatchEntryId"):
        send("a.b")
    with refused("AWS.SimpleQueueService.BatchRequestTooLong", str(MIB)):
        send("a", "b", body="x" * (MIB // 2 + 1))
    assert counts(sqs, queue) == (0, 0, 0)


def test_sizes(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="x" * MIB)
    with refused("InvalidParameterValue", f"shorter than {MIB} bytes"):
        sqs.send_message(QueueUrl=queue, MessageBody="x" * (MIB + 1))
    with refused("InvalidParameterValue", f"shorter than {MIB} bytes"):
        attributes = {"a": {"DataType": "String", "StringValue": "b"}}
        sqs.send_message(QueueUrl=queue, MessageBody="x" * MIB, MessageAttributes=attributes)


def test_bodies(sqs, queue):
    text = "tab\t, line\n, ü, 😀, \ufffd"
    sqs.send_message(QueueUrl=queue, MessageBody=text)
    assert bodies(receive(sqs, queue)) == [text]
    with refused("InvalidMessageContents", "#x9"):
        sqs.send_message(QueueUrl=queue, MessageBody="\x00")
    with refused("MissingParameter", "MessageBody"):
        sqs.send_message(QueueUrl=queue, MessageBody="")


@pytest.mark.parametrize(
    "options, words",
    [
        ({"MaxNumberOfMessages": 11}, "MaxNumberOfMessages"),
        ({"MaxNumberOfMessages": 0}, "MaxNumberOfMessages"),
        ({"WaitTimeSeconds": 21}, "WaitTimeSeconds"),
        ({"VisibilityTimeout": 43201}, "VisibilityTimeout"),
    ],
)
def test_receive_ranges(sqs, queue, options, words):
    with refused("InvalidParameterValue", words):
        receive(sqs, queue, **options)


def test_message_attributes(sqs, queue):
    attributes = {
        "text": {"DataType": "String", "StringValue": "Bar"},
        "number": {"DataType": "Number.int", "StringValue": "7"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\0\1"},
    }
    # boto3 itself compares the digests, of the send and of each receive.
    sqs.send_message(QueueUrl=queue, MessageBody="a", MessageAttributes=attributes)
    [message] = receive(sqs, queue, VisibilityTimeout=0)
    assert message["MessageAttributes"] == attributes
    [message] = receive(sqs, queue, MessageAttributeNames=["te.*"], VisibilityTimeout=0)
    assert list(message["MessageAttributes"]) == ["text"]
    [message] = receive(sqs, queue, MessageAttributeNames=[])
    assert "MessageAttributes" not in message


def test_digests_of_attributes(sqs, queue):
    """Digests that were recorded from AWS."""

    def digest(**attributes):
        return sqs.send_message(QueueUrl=queue, MessageBody="a", MessageAttributes=attributes)["MD5OfMessageAttributes"]

    assert digest(Hello={"DataType": "String", "StringValue": "There"}) == "a311262e065454b75da111d535b8dacd"
    big = {"DataType": "Number.bigint", "StringValue": "1234567890123456789012"}
    assert digest(UserId=big) == "797ab158d73dcb5242dedc4412c8e855"
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "some-trace-id"}}
    sent = sqs.send_message(QueueUrl=queue, MessageBody="a", MessageSystemAttributes=trace)
    assert sent["MD5OfMessageSystemAttributes"] == "fdce4f2818803f2f73becc09a54792c0"


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("a", {"DataType": "String", "StringValue": ""}, "non-empty value"),
        ("a", {"DataType": "Number", "StringValue": "x"}, "to a number"),
        ("a", {"DataType": "Colour", "StringValue": "x"}, "supported type prefixes"),
        ("aws.a", {"DataType": "String", "StringValue": "x"}, "reserved"),
        ("a..b", {"DataType": "String", "StringValue": "x"}, "can only contain"),
    ],
)
def test_bad_message_attributes(sqs, queue, name, value, words):
    with refused("InvalidParameterValue", words):
        sqs.send_message(QueueUrl=queue, MessageBody="a", MessageAttributes={name: value})


def test_eleven_attributes(sqs, queue):
    attributes = {f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(11)}
    with refused("InvalidParameterValue", "[11] exceeds the allowed maximum [10]"):
        sqs.send_message(QueueUrl=queue, MessageBody="a", MessageAttributes=attributes)


def test_visibility(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    [first] = receive(sqs, queue, VisibilityTimeout=1)
    # This receive returns when the lease ends, not when its own 10 s are over.
    [second] = receive(sqs, queue, WaitTimeSeconds=10)
    assert second["Attributes"]["ApproximateReceiveCount"] == "2"
    assert second["Attributes"]["ApproximateFirstReceiveTimestamp"] == first["Attributes"]["ApproximateFirstReceiveTimestamp"]
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0)
    assert len(receive(sqs, queue)) == 1


def test_visibility_limits(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    [message] = receive(sqs, queue)
    change = {"QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"]}
    with refused("InvalidParameterValue", "VisibilityTimeout"):
        sqs.change_message_visibility(**change, VisibilityTimeout=43201)
    time.sleep(0.05)
    with refused("InvalidParameterValue", "beyond the limit [43200 seconds]"):
        sqs.change_message_visibility(**change, VisibilityTimeout=43200)
    with refused("ReceiptHandleIsInvalid", status=404):
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle="garbage", VisibilityTimeout=1)


def test_receipts_belong_to_a_queue(sqs, queue):
    other = sqs.create_queue(QueueName="another")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    [message] = receive(sqs, queue)
    with refused("ReceiptHandleIsInvalid", status=404):
        sqs.delete_message(QueueUrl=other, ReceiptHandle=message["ReceiptHandle"])


def test_delay(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="late", DelaySeconds=1)
    assert counts(sqs, queue) == (0, 0, 1) and receive(sqs, queue) == []
    assert bodies(receive(sqs, queue, WaitTimeSeconds=10)) == ["late"]
    with refused("InvalidParameterValue", "DelaySeconds must be >= 0 and <= 900"):
        sqs.send_message(QueueUrl=queue, MessageBody="a", DelaySeconds=901)


def test_a_long_poll_wakes_at_once(sqs, queue):
    got = []

    def wait():
        start = time.monotonic()
        got.append((bodies(receive(sqs, queue, WaitTimeSeconds=20)), time.monotonic() - start))

    waiting = threading.Thread(target=wait)
    waiting.start()
    time.sleep(0.3)
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    waiting.join(10)
    [(received, seconds)] = got
    # The bounds are far from both ends of the wait: a slow machine passes, and a poll that sleeps does not.
    assert received == ["a"] and 0.2 < seconds < 10


def test_dead_letters(sqs, queue):
    dead = sqs.create_queue(QueueName="dead-letters")["QueueUrl"]
    policy = {"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 2}
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": json.dumps(policy)})
    assert sqs.list_dead_letter_source_queues(QueueUrl=dead)["queueUrls"] == [queue]
    none = sqs.list_dead_letter_source_queues(QueueUrl=queue)
    # XML has no empty list.
    assert (none.get("queueUrls", []) if OLDER else none["queueUrls"]) == []
    sent = sqs.send_message(QueueUrl=queue, MessageBody="a")["MessageId"]
    for count in "12":
        [message] = receive(sqs, queue, VisibilityTimeout=0)
        assert message["Attributes"]["ApproximateReceiveCount"] == count
    assert counts(sqs, dead) == (0, 0, 0), "it moves with the next receive"
    assert receive(sqs, queue) == []
    [letter] = receive(sqs, dead, VisibilityTimeout=0)
    assert letter["MessageId"] == sent
    assert letter["Attributes"]["DeadLetterQueueSourceArn"] == arn(sqs, queue)
    assert letter["Attributes"]["SentTimestamp"] == message["Attributes"]["SentTimestamp"]

    # And back again, as a new message.
    handle = sqs.start_message_move_task(SourceArn=arn(sqs, dead))["TaskHandle"]
    assert handle
    [moved] = receive(sqs, queue, WaitTimeSeconds=10)
    assert moved["Body"] == "a" and moved["MessageId"] != sent
    assert moved["Attributes"]["ApproximateReceiveCount"] == "1"

    def task():
        return sqs.list_message_move_tasks(SourceArn=arn(sqs, dead))["Results"][0]

    wait_for(lambda: task()["Status"] == "COMPLETED", "end of the move")
    assert task()["ApproximateNumberOfMessagesMoved"] == 1 and "TaskHandle" not in task()
    with refused("ResourceNotFoundException", status=404):
        sqs.cancel_message_move_task(TaskHandle=handle)


def test_redrive_policies_that_are_refused(sqs, queue, fifo):
    def set_policy(policy):
        policy = policy if isinstance(policy, str) else json.dumps(policy)
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"RedrivePolicy": policy})

    own = arn(sqs, queue)
    with refused("InvalidParameterValue", "maxReceiveCount"):
        set_policy({"deadLetterTargetArn": own})
    with refused("InvalidParameterValue", "1 to 1000"):
        set_policy({"deadLetterTargetArn": own, "maxReceiveCount": 1001})
    with refused("InvalidParameterValue", "does not exist"):
        set_policy({"deadLetterTargetArn": own + "x", "maxReceiveCount": 1})
    with refused("InvalidParameterValue", "same type"):
        set_policy({"deadLetterTargetArn": arn(sqs, fifo), "maxReceiveCount": 1})
    with refused("InvalidAttributeValue", "not a valid JSON map"):
        set_policy("x")


def test_move_tasks_that_are_refused(sqs, queue):
    with refused("InvalidParameterValue", "configured as a Dead Letter Queue"):
        sqs.start_message_move_task(SourceArn=arn(sqs, queue))
    with refused("ResourceNotFoundException", "SourceArn", status=404):
        sqs.start_message_move_task(SourceArn=arn(sqs, queue) + "x")
    with refused("InvalidParameterValue", "format"):
        sqs.list_message_move_tasks(SourceArn="x")


def test_purge(sqs, queue):
    for delay in (0, 5):
        sqs.send_message(QueueUrl=queue, MessageBody="a", DelaySeconds=delay)
    sqs.purge_queue(QueueUrl=queue)
    assert counts(sqs, queue) == (0, 0, 0)
    with refused("AWS.SimpleQueueService.PurgeQueueInProgress", "60 seconds", status=403):
        sqs.purge_queue(QueueUrl=queue)


def test_fifo_groups(sqs, fifo):
    for group, body in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3")]:
        sqs.send_message(QueueUrl=fifo, MessageBody=body, MessageGroupId=group, MessageDeduplicationId=body)
    [first] = receive(sqs, fifo, MaxNumberOfMessages=1)
    assert first["Body"] == "a1" and len(first["Attributes"]["SequenceNumber"]) == 20
    assert bodies(receive(sqs, fifo)) == ["b1"], "a message in flight blocks its group, and no other"
    sqs.delete_message(QueueUrl=fifo, ReceiptHandle=first["ReceiptHandle"])
    assert bodies(receive(sqs, fifo)) == ["a2", "a3"]
    sqs.send_message(QueueUrl=fifo, MessageBody="a4", MessageGroupId="a", MessageDeduplicationId="a4")
    assert receive(sqs, fifo) == []


def test_fifo_deduplication(sqs, fifo):
    def send(body, deduplication="d"):
        return sqs.send_message(QueueUrl=fifo, MessageBody=body, MessageGroupId="g", MessageDeduplicationId=deduplication)

    first, again = send("one"), send("two")
    assert (first["MessageId"], first["SequenceNumber"]) == (again["MessageId"], again["SequenceNumber"])
    [message] = receive(sqs, fifo)
    assert message["Body"] == "one"
    sqs.delete_message(QueueUrl=fifo, ReceiptHandle=message["ReceiptHandle"])
    assert send("three")["MessageId"] == first["MessageId"], "deleting does not make it forget"
    assert send("four", "e")["SequenceNumber"] > first["SequenceNumber"]


def test_fifo_deduplication_by_content(sqs, fifo):
    with refused("InvalidParameterValue", "ContentBasedDeduplication"):
        sqs.send_message(QueueUrl=fifo, MessageBody="a", MessageGroupId="g")
    sqs.set_queue_attributes(QueueUrl=fifo, Attributes={"ContentBasedDeduplication": "true"})
    ids = [sqs.send_message(QueueUrl=fifo, MessageBody=body, MessageGroupId="g")["MessageId"] for body in "aab"]
    assert ids[0] == ids[1] != ids[2]


def test_fifo_rules(sqs, fifo, queue):
    with refused("MissingParameter", "MessageGroupId"):
        sqs.send_message(QueueUrl=fifo, MessageBody="a")
    with refused("InvalidParameterValue", "MessageGroupId"):
        sqs.send_message_batch(QueueUrl=fifo, Entries=[{"Id": "a", "MessageBody": "a"}])
    with refused("InvalidParameterValue", "DelaySeconds"):
        sqs.send_message(QueueUrl=fifo, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="d", DelaySeconds=1)
    with refused("InvalidParameterValue", "MessageDeduplicationId"):
        sqs.send_message(QueueUrl=queue, MessageBody="a", MessageDeduplicationId="d")
    with refused("InvalidParameterValue", "must end with .fifo suffix"):
        sqs.create_queue(QueueName="plain", Attributes={"FifoQueue": "true"})
    with refused("InvalidAttributeName", "ContentBasedDeduplication"):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"ContentBasedDeduplication": "true"})
    sqs.send_message(QueueUrl=fifo, MessageBody="a", MessageGroupId="g", MessageDeduplicationId="d")
    [message] = receive(sqs, fifo, VisibilityTimeout=0)
    with refused("InvalidParameterValue", "The receipt handle has expired"):
        sqs.delete_message(QueueUrl=fifo, ReceiptHandle=message["ReceiptHandle"])


def test_many_clients_at_once(sqs, queue):
    """Each message is received once while its lease lasts, even if many clients receive at the same time."""
    for i in range(20):
        entries = [{"Id": str(j), "MessageBody": f"{i}-{j}"} for j in range(10)]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    got, lock = [], threading.Lock()

    def work():
        while messages := receive(sqs, queue):
            with lock:
                got.extend(bodies(messages))
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            assert "Failed" not in sqs.delete_message_batch(QueueUrl=queue, Entries=entries)

    threads = [threading.Thread(target=work) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(got) == len(set(got)) == 200 and counts(sqs, queue) == (0, 0, 0)


def test_requests_that_are_none(sqs, queue):
    import urllib.error
    import urllib.request

    url = sqs.meta.endpoint_url

    def post(target, body):
        request = urllib.request.Request(url, data=body, headers={"X-Amz-Target": target})
        try:
            return urllib.request.urlopen(request).status, ""
        except urllib.error.HTTPError as error:
            return error.code, error.headers["x-amzn-query-error"]

    assert post("AmazonSQS.Frobnicate", b"{}") == (400, "InvalidAction;Sender")
    assert post("AmazonSQS.SendMessage", b"{") == (400, "MalformedInput;Sender")
    assert post("AmazonSQS.SendMessage", b"[]") == (400, "MalformedInput;Sender")
    assert post("AmazonSQS.SendMessage", b'{"QueueUrl": 5, "MessageBody": "a"}') == (400, "MalformedInput;Sender")
    assert post("AmazonSQS.SendMessage", b"{}") == (400, "MissingParameter;Sender")
    assert post("DynamoDB.GetItem", b"{}") == (400, "InvalidAction;Sender")


def raw(dev, headers, body=b"", method="POST", path="/"):
    """Sends a request as it is, and returns its status and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", int(dev.url.rsplit(":", 1)[1]), timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


def test_pages_in_a_browser_are_not_answered(dev):
    message_id = dev.send({"task": "none"})
    list_queues = {"x-amz-target": "AmazonSQS.ListQueues"}
    host = dev.url.removeprefix("http://")
    for headers, status in [
        ({"host": host}, 200),
        ({"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}, 200),
        # A name that was pointed here, and pages of other sites.
        ({"host": "evil.test:9324"}, 403),
        ({}, 403),
        ({"host": host, "origin": "http://evil.test"}, 403),
        ({"host": host, "origin": "null"}, 403),
        ({"host": host, "sec-fetch-site": "cross-site"}, 403),
    ]:
        answer = raw(dev, headers | list_queues, b"{}")
        assert answer[0] == status, (headers, answer)
        result = raw(dev, headers, method="GET", path=f"/wasq/results?message_id={message_id}")
        assert (result[0] == 403) == (status == 403), (headers, result)
    # A picture in any page is a GET.
    sent = raw(dev, {"host": host}, method="GET", path="/000000000000/wasq?Action=SendMessage&MessageBody=x")
    assert sent[0] == 404 and dev.counts()[0] + dev.counts()[1] == 1, sent
    assert "--allow-host evil.test" in raw(dev, {"host": "evil.test:9324"} | list_queues, b"{}")[1]


def test_a_form_of_too_many_parts(dev):
    headers = {"host": dev.url.removeprefix("http://"), "content-type": "application/x-www-form-urlencoded"}
    form = "&".join(f"{i}.1.1.1=" for i in range(2001)).encode()
    status, said = raw(dev, headers, form)
    assert status == 400 and "the form has more than 2000 parameters" in said


def test_a_name_that_is_allowed(new_dev):
    dev = new_dev.start("--allow-host", "queue.internal")
    assert raw(dev, {"host": "queue.internal:9324", "x-amz-target": "AmazonSQS.ListQueues"}, b"{}")[0] == 200


def test_bodies_that_never_end(dev):
    """Their memory is bounded, and others are served meanwhile."""
    address = ("127.0.0.1", int(dev.url.rsplit(":", 1)[1]))
    head = f"POST / HTTP/1.1\r\nhost: {address[0]}\r\nx-amz-target: AmazonSQS.SendMessage\r\ncontent-length: 8000000\r\n\r\n"
    unfinished = []
    for _ in range(60):
        connection = socket.create_connection(address, timeout=30)
        with contextlib.suppress(ConnectionError):
            connection.sendall(head.encode() + b"x" * 7_900_000)
        unfinished.append(connection)
        dev.send({"task": "none"})
    [line] = [line for line in open(f"/proc/{dev.process.pid}/status") if line.startswith("VmHWM")]
    assert int(line.split()[1]) < 400_000, line
    for connection in unfinished:
        connection.close()


def attributes(sqs, queue):
    return sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["All"])["Attributes"]


def test_attributes_read_back_in_one_form(sqs, queue):
    dead = sqs.create_queue(QueueName="forms-dead.fifo", Attributes={"FifoQueue": "True"})["QueueUrl"]
    given = {
        "FifoQueue": "TRUE",
        "ContentBasedDeduplication": "True",
        "VisibilityTimeout": "030",
        "RedrivePolicy": json.dumps({"maxReceiveCount": "3", "deadLetterTargetArn": arn(sqs, dead)}, indent=2),
        "RedriveAllowPolicy": '{ "redrivePermission" : "denyAll" }',
    }
    expected = {
        "FifoQueue": "true",
        "ContentBasedDeduplication": "true",
        "VisibilityTimeout": "30",
        "RedrivePolicy": f'{{"deadLetterTargetArn":"{arn(sqs, dead)}","maxReceiveCount":3}}',
        "RedriveAllowPolicy": '{"redrivePermission":"denyAll"}',
    }
    made = sqs.create_queue(QueueName="forms.fifo", Attributes=given)["QueueUrl"]
    assert expected.items() <= attributes(sqs, made).items()
    # The same in another form is no other value.
    assert sqs.create_queue(QueueName="forms.fifo", Attributes=expected)["QueueUrl"] == made


def test_one_kind_of_encryption(sqs, queue):
    assert attributes(sqs, queue)["SqsManagedSseEnabled"] == "true"
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"KmsMasterKeyId": "alias/aws/sqs"})
    assert attributes(sqs, queue)["SqsManagedSseEnabled"] == "false"
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"SqsManagedSseEnabled": "True"})
    assert "KmsMasterKeyId" not in attributes(sqs, queue)
    with refused("InvalidAttributeName", "one type of server-side encryption"):
        both = {"KmsMasterKeyId": "alias/aws/sqs", "SqsManagedSseEnabled": "true"}
        sqs.set_queue_attributes(QueueUrl=queue, Attributes=both)


@pytest.mark.parametrize(
    "name, value",
    [
        ("Policy", "not JSON"),
        ("Policy", "[]"),
        ("SqsManagedSseEnabled", "maybe"),
        ("KmsDataKeyReusePeriodSeconds", "59"),
        ("KmsDataKeyReusePeriodSeconds", "86401"),
        ("KmsDataKeyReusePeriodSeconds", "long"),
        ("VisibilityTimeout", "-1"),
        ("VisibilityTimeout", "1.5"),
    ],
)
def test_attributes_that_are_no_values(sqs, queue, name, value):
    with refused("InvalidAttributeValue", name):
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={name: value})


def test_lists_that_are_not_ours_or_empty(sqs, queue):
    with refused("InvalidParameterValue", "token"):
        sqs.list_queues(MaxResults=1, NextToken="never given")
    with refused("MissingParameter", "TagKey"):
        sqs.untag_queue(QueueUrl=queue, TagKeys=[])


def test_an_address_without_a_queue(sqs, queue):
    with refused("AWS.SimpleQueueService.NonExistentQueue"):
        sqs.send_message(QueueUrl=queue.rsplit("/", 2)[0], MessageBody="a")


def test_a_fifo_message_has_no_delay_of_its_own(sqs):
    delayed = {"FifoQueue": "true", "DelaySeconds": "2", "ContentBasedDeduplication": "true"}
    queue = sqs.create_queue(QueueName="delayed.fifo", Attributes=delayed)["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody="a", MessageGroupId="g", DelaySeconds=0)
    assert receive(sqs, queue) == [] and counts(sqs, queue) == (0, 0, 1)
    assert bodies(receive(sqs, queue, WaitTimeSeconds=5)) == ["a"]


def test_a_purge_forgets_deduplication(sqs, fifo):
    message = {"MessageBody": "a", "MessageGroupId": "g", "MessageDeduplicationId": "same"}
    sqs.send_message(QueueUrl=fifo, **message)
    sqs.purge_queue(QueueUrl=fifo)
    sqs.send_message(QueueUrl=fifo, **message)
    assert bodies(receive(sqs, fifo)) == ["a"]


def test_visibility_by_an_older_handle(sqs, queue):
    sqs.send_message(QueueUrl=queue, MessageBody="a")
    [first] = receive(sqs, queue, VisibilityTimeout=0)
    [second] = receive(sqs, queue, VisibilityTimeout=60)
    sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0)
    [third] = receive(sqs, queue, VisibilityTimeout=0)
    # It is in nobody's hands now.
    for message in (first, second, third):
        with refused("AWS.SimpleQueueService.MessageNotInflight"):
            sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=9)
    sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    with refused("InvalidParameterValue", "does not exist or is not available"):
        sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=third["ReceiptHandle"], VisibilityTimeout=9)


def test_a_long_poll_on_a_dead_letter_queue_is_woken(sqs, queue):
    dead = sqs.create_queue(QueueName="woken-dead")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": arn(sqs, dead), "maxReceiveCount": 1})
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"VisibilityTimeout": "0", "RedrivePolicy": policy})
    sqs.send_message(QueueUrl=queue, MessageBody="poison")
    assert bodies(receive(sqs, queue)) == ["poison"]
    # The next receive moves it.
    threading.Timer(1, lambda: receive(sqs, queue)).start()
    started = time.monotonic()
    assert bodies(receive(sqs, dead, WaitTimeSeconds=20)) == ["poison"]
    assert time.monotonic() - started < 15


@pytest.mark.parametrize("number, valid", [("1e126", True), ("-0.5", True), ("1e127", False), ("NaN", False), ("inf", False)])
def test_numbers_in_attributes(sqs, queue, number, valid):
    send = lambda: sqs.send_message(
        QueueUrl=queue, MessageBody="a", MessageAttributes={"n": {"DataType": "Number", "StringValue": number}}
    )
    if valid:
        send()
    else:
        with refused("InvalidParameterValue", "Can't cast the value of message (user) attribute 'n' to a number."):
            send()


def test_permissions(sqs, queue):
    permission = {"QueueUrl": queue, "AWSAccountIds": ["111122223333"], "Actions": ["SendMessage"]}
    sqs.add_permission(Label="mine", **permission)
    policy = json.loads(attributes(sqs, queue)["Policy"])
    assert policy["Statement"] == [
        {
            "Sid": "mine",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::111122223333:root"},
            "Action": "SQS:SendMessage",
            "Resource": arn(sqs, queue),
        }
    ]
    with refused("InvalidParameterValue", "Already exists"):
        sqs.add_permission(Label="mine", **permission)
    with refused("InvalidParameterValue", "Only the following actions are allowed"):
        sqs.add_permission(Label="other", **(permission | {"Actions": ["Fly"]}))
    sqs.remove_permission(QueueUrl=queue, Label="mine")
    assert "Policy" not in attributes(sqs, queue)
    with refused("InvalidParameterValue", "can't find label"):
        sqs.remove_permission(QueueUrl=queue, Label="mine")


@pytest.mark.skipif(OLDER, reason="a form has only texts")
@pytest.mark.parametrize("wrong", [5, {"DataType": 5}, {"DataType": "String", "StringValue": 5}, {"DataType": "Binary", "BinaryValue": {}}])
def test_members_of_another_type(dev, wrong):
    body = json.dumps({"QueueUrl": dev.queue_url, "MessageBody": "a", "MessageAttributes": {"n": wrong}}).encode()
    headers = {"host": dev.url.removeprefix("http://"), "x-amz-target": "AmazonSQS.SendMessage"}
    status, said = raw(dev, headers, body)
    assert status == 400 and "SerializationException" in said and "MessageAttributes.n" in said
