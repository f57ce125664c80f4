"""What SQS answers, as a table: an operation, a case, AWS's answer, and where that is known from.

The sources: `api` is the API reference, `guide` the developer guide, `seen` an answer of AWS itself that LocalStack's suite has recorded
(tests/aws/services/sqs). Every row runs over both protocols: test_sqs_clients.py runs this file with an older client.
"""

import json
import time
import uuid

import pytest

from test_sqs_endpoint import MIB, OLDER, SYSTEM_ATTRIBUTES, arn, counts, receive, refused, sqs  # noqa: F401

INVALID, MISSING = "InvalidParameterValue", "MissingParameter"
SQS = "AWS.SimpleQueueService"
NO_QUEUE = f"{SQS}.NonExistentQueue"
# In the older protocol the text goes on.
GONE = "The specified queue does not exist" + (" for this wsdl version." if OLDER else ".")
SAME_NAME = "A queue already exists with the same name and a different value for attribute "
RECEIVED_MAX = "Must be between 1 and 10, if provided."
WAIT_MAX = "Must be >= 0 and <= 20, if provided."
VISIBLE_MAX = "Must be >= 0 and <= 43200, if provided."
TOKEN = "can only include alphanumeric and punctuation characters. 1 to 128 in length."
NO_DEDUPLICATION = "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
NOT_FOR_TYPE = "The request include parameter that is not valid for this queue type."
ENTRY_ID = (
    "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 letters long."
)
FIFO_ONLY = "You can specify the {} only when FifoQueue is set to true."
UNKNOWN_RECEIPT = 'The input receipt handle "garbage" is not a valid receipt handle.'


class Case:
    """The queues of one row, made when they are first used."""

    def __init__(self, client):
        self.sqs, self.made = client, {}

    def make(self, kind, **attributes):
        if kind not in self.made:
            name = f"row-{uuid.uuid4()}" + (".fifo" if kind == "fifo" else "")
            attributes |= {"FifoQueue": "true"} if kind == "fifo" else {}
            self.made[kind] = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return self.made[kind]

    @property
    def queue(self):
        return self.make("standard")

    @property
    def fifo(self):
        return self.make("fifo")

    @property
    def dead(self):
        return self.make("dead")

    def name(self, url):
        return url.rsplit("/", 1)[1]

    def send(self, body="a", **options):
        return self.sqs.send_message(QueueUrl=self.queue, MessageBody=body, **options)

    def send_fifo(self, body="a", group="g", **options):
        options = {"MessageDeduplicationId": str(uuid.uuid4())} | options
        return self.sqs.send_message(QueueUrl=self.fifo, MessageBody=body, MessageGroupId=group, **options)

    def send_batch(self, *entries, url=None, **common):
        entries = [{"Id": str(i), "MessageBody": "a"} | common | entry for i, entry in enumerate(entries)]
        return self.sqs.send_message_batch(QueueUrl=url or self.queue, Entries=entries)

    def receive(self, url=None, **options):
        return receive(self.sqs, url or self.queue, **options)

    def receipt(self, url=None):
        if not url:
            self.send()
        return self.receive(url)[0]["ReceiptHandle"]

    def hide(self, receipt, seconds, url=None):
        self.sqs.change_message_visibility(QueueUrl=url or self.queue, ReceiptHandle=receipt, VisibilityTimeout=seconds)

    def set(self, url=None, **attributes):
        self.sqs.set_queue_attributes(QueueUrl=url or self.queue, Attributes=attributes)

    def get(self, *names, url=None):
        names = list(names or ["All"])
        answer = self.sqs.get_queue_attributes(QueueUrl=url or self.queue, AttributeNames=names)
        return answer.get("Attributes", {})

    def redrive(self, **policy):
        policy = {"deadLetterTargetArn": arn(self.sqs, self.dead), "maxReceiveCount": 1} | policy
        self.set(RedrivePolicy=json.dumps({key: value for key, value in policy.items() if value is not None}))


def create(c, name=None, **attributes):
    return c.sqs.create_queue(QueueName=name or f"row-{uuid.uuid4()}", Attributes=attributes)["QueueUrl"]


def attribute(value="v", kind="String", name="n"):
    return {"MessageAttributes": {name: {"DataType": kind, "StringValue": value}}}


def error(code, *words, status=400):
    return lambda c, call: expect_error(c, call, code, words, status)


def expect_error(c, call, code, words, status):
    with refused(code, *words, status=status):
        call(c)


def is_(expected):
    def check(c, call):
        got = call(c)
        assert got == expected, got

    return check


def holds(predicate):
    def check(c, call):
        got = call(c)
        assert predicate(got), got

    return check


fine = holds(lambda got: True)
ROWS = []


def rows(source, operation, *cases):
    ROWS.extend((f"{operation}: {case}", source, call, check) for case, call, check in cases)


rows(
    "api",
    "CreateQueue",
    *[(f"the name {name!r}", lambda c, name=name: create(c, name), error(INVALID)) for name in ("a b", "a/b", "a.b", "ü", "x" * 81)],
    *[(f"a name of {len(name)} characters", lambda c, name=name: create(c, name), fine) for name in ("a", "Z" * 80, "a-_9")],
    *[
        (f"{name} {value}", lambda c, name=name, value=value: create(c, **{name: value}), check)
        for name, low, high in (
            ("DelaySeconds", 0, 900),
            ("MaximumMessageSize", 1024, MIB),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("VisibilityTimeout", 0, 43_200),
        )
        for value, check in (
            (str(low - 1), error("InvalidAttributeValue", name)),
            (str(low), fine),
            (str(high), fine),
            (str(high + 1), error("InvalidAttributeValue", name)),
            ("many", error("InvalidAttributeValue", name)),
            ("", error("InvalidAttributeValue", name)),
        )
    ],
    *[
        (f"KmsDataKeyReusePeriodSeconds {value}", lambda c, value=value: create(c, KmsDataKeyReusePeriodSeconds=value), check)
        for value, check in (("59", error("InvalidAttributeValue")), ("60", fine), ("86400", fine), ("86401", error("InvalidAttributeValue")))
    ],
    ("an unknown attribute", lambda c: create(c, Colour="red"), error("InvalidAttributeName", "Unknown Attribute Colour.")),
    ("a computed attribute", lambda c: create(c, QueueArn="x"), error("InvalidAttributeName", "QueueArn")),
)
rows(
    "seen",
    "CreateQueue",
    ("a FIFO queue without the suffix", lambda c: create(c, FifoQueue="true"), error(INVALID, ".fifo suffix")),
    ("the suffix without FIFO", lambda c: create(c, "row.fifo"), error(INVALID)),
    ("FifoQueue false", lambda c: create(c, FifoQueue="false"), error("InvalidAttributeName", "Unknown Attribute FifoQueue.")),
    (
        "content-based deduplication without FIFO",
        lambda c: create(c, ContentBasedDeduplication="false"),
        error("InvalidAttributeName", "Unknown Attribute ContentBasedDeduplication."),
    ),
    *[
        (f"{name} without FIFO", lambda c, name=name, value=value: create(c, **{name: value}), error("InvalidAttributeName", FIFO_ONLY.format(name)))
        for name, value in (("DeduplicationScope", "queue"), ("FifoThroughputLimit", "perQueue"))
    ],
    ("again, with no attributes", lambda c: create(c, c.name(c.queue)) == c.queue, is_(True)),
    ("again, with a default", lambda c: create(c, c.name(c.queue), VisibilityTimeout="30") == c.queue, is_(True)),
    ("again, with another value", lambda c: create(c, c.name(c.queue), DelaySeconds="1"), error("QueueAlreadyExists", SAME_NAME + "DelaySeconds")),
    (
        "again, with the value from before a change",
        lambda c: (c.make("standard", DelaySeconds="1"), c.set(DelaySeconds="2"), create(c, c.name(c.queue), DelaySeconds="1")),
        error("QueueAlreadyExists", SAME_NAME + "DelaySeconds"),
    ),
    (
        "again, as another type",
        lambda c: create(c, c.name(c.fifo), FifoQueue="true", ContentBasedDeduplication="true"),
        error("QueueAlreadyExists", SAME_NAME + "ContentBasedDeduplication"),
    ),
    (
        "right after it was deleted",
        lambda c: (c.sqs.delete_queue(QueueUrl=c.queue), create(c, c.name(c.queue))),
        error(f"{SQS}.QueueDeletedRecently", "You must wait 60 seconds after deleting a queue before you can create another with the same name."),
    ),
    ("the attributes of a new one", lambda c: len(c.get()), is_(12)),
    ("a key ends SQS's own encryption", lambda c: (c.make("standard", KmsMasterKeyId="k"), c.get("SqsManagedSseEnabled"))[1], is_({"SqsManagedSseEnabled": "false"})),
    (
        "the attributes that FIFO adds",
        lambda c: {name: value for name, value in c.get(url=c.fifo).items() if "Fifo" in name or "Dedup" in name},
        is_({"ContentBasedDeduplication": "false", "DeduplicationScope": "queue", "FifoQueue": "true", "FifoThroughputLimit": "perQueue"}),
    ),
)
rows(
    "seen",
    "GetQueueUrl",
    ("a queue", lambda c: c.sqs.get_queue_url(QueueName=c.name(c.queue))["QueueUrl"] == c.queue, is_(True)),
    ("no such queue", lambda c: c.sqs.get_queue_url(QueueName="missing"), error(NO_QUEUE, GONE)),
)
rows(
    "seen",
    "ListQueues",
    ("none", lambda c: c.sqs.list_queues(QueueNamePrefix="nothing-like-it").get("QueueUrls"), is_(None)),
    ("a prefix", lambda c: c.sqs.list_queues(QueueNamePrefix=c.name(c.queue))["QueueUrls"] == [c.queue], is_(True)),
    ("no token without pages", lambda c: (c.queue, c.sqs.list_queues().get("NextToken"))[1], is_(None)),
    *[(f"MaxResults {n}", lambda c, n=n: c.sqs.list_queues(MaxResults=n), error(INVALID, "MaxResults")) for n in (0, 1001)],
    ("a token of nobody", lambda c: c.sqs.list_queues(MaxResults=5, NextToken="abc"), error(INVALID, "Invalid or expired next token.")),
)
rows(
    "seen",
    "GetQueueAttributes",
    ("no names", lambda c: c.sqs.get_queue_attributes(QueueUrl=c.queue).get("Attributes"), is_(None)),
    ("two names", lambda c: sorted(c.get("QueueArn", "DelaySeconds")), is_(["DelaySeconds", "QueueArn"])),
    ("an unknown name", lambda c: c.get("Foobar"), error("InvalidAttributeName", "Unknown Attribute Foobar.")),
    ("no such queue", lambda c: c.get(url=c.queue + "x"), error(NO_QUEUE, GONE)),
    ("a deleted queue", lambda c: (c.sqs.delete_queue(QueueUrl=c.queue), c.get()), error(NO_QUEUE, GONE)),
    ("counts", lambda c: (c.send_batch({}, {}, {"DelaySeconds": 900}), c.receive(MaxNumberOfMessages=1), counts(c.sqs, c.queue))[2], is_((1, 1, 1))),
)
rows(
    "seen",
    "SetQueueAttributes",
    ("a value", lambda c: (c.set(DelaySeconds="5"), c.get("DelaySeconds"))[1], is_({"DelaySeconds": "5"})),
    *[
        (f"FifoQueue {value} on a standard queue", lambda c, value=value: c.set(FifoQueue=value), error("InvalidAttributeName", "Unknown Attribute FifoQueue."))
        for value in ("true", "false")
    ],
    ("FifoQueue true on a FIFO queue", lambda c: c.set(c.fifo, FifoQueue="true"), fine),
    (
        "FifoQueue false on a FIFO queue",
        lambda c: c.set(c.fifo, FifoQueue="false"),
        error("InvalidAttributeValue", "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."),
    ),
    ("an empty policy", lambda c: (c.set(Policy='{"Version": "2012-10-17"}'), c.set(Policy=""), "Policy" in c.get())[2], is_(False)),
    ("a policy that is no JSON", lambda c: c.set(Policy="everybody"), error("InvalidAttributeValue", "Policy")),
    ("an empty redrive policy", lambda c: (c.redrive(), c.set(RedrivePolicy=""), "RedrivePolicy" in c.get())[2], is_(False)),
    (
        "both kinds of encryption",
        lambda c: c.set(KmsMasterKeyId="k", SqsManagedSseEnabled="true"),
        error("InvalidAttributeName", "You can use one type of server-side encryption (SSE) at one time. You can either enable KMS SSE or SQS SSE."),
    ),
    ("a key and not SQS's own", lambda c: (c.set(KmsMasterKeyId="k", SqsManagedSseEnabled="false"), c.get("KmsMasterKeyId"))[1], is_({"KmsMasterKeyId": "k"})),
    (
        "SQS's own after a key",
        lambda c: (c.set(KmsMasterKeyId="k"), c.set(SqsManagedSseEnabled="true"), [name for name in c.get() if "Kms" in name])[2],
        is_([]),
    ),
    (
        "no key after a key",
        lambda c: (c.set(KmsMasterKeyId="k", KmsDataKeyReusePeriodSeconds="6000"), c.set(KmsMasterKeyId="", KmsDataKeyReusePeriodSeconds="300"), [name for name in c.get() if "Kms" in name])[2],
        is_([]),
    ),
    ("a boolean of Python", lambda c: (c.set(c.fifo, ContentBasedDeduplication="True"), c.get("ContentBasedDeduplication", url=c.fifo))[1], is_({"ContentBasedDeduplication": "true"})),
    ("SqsManagedSseEnabled maybe", lambda c: c.set(SqsManagedSseEnabled="maybe"), error("InvalidAttributeValue", "SqsManagedSseEnabled")),
    ("a number with zeros in front", lambda c: (c.set(DelaySeconds="007"), c.get("DelaySeconds"))[1], is_({"DelaySeconds": "7"})),
    (
        "a limit for each group without that scope",
        lambda c: c.set(c.fifo, FifoThroughputLimit="perMessageGroupId"),
        error("InvalidAttributeValue", "perMessageGroupId value is allowed only when the value for DeduplicationScope is messageGroup"),
    ),
    (
        "high throughput",
        lambda c: (c.set(c.fifo, FifoThroughputLimit="perMessageGroupId", DeduplicationScope="messageGroup"), c.get("FifoThroughputLimit", url=c.fifo))[1],
        is_({"FifoThroughputLimit": "perMessageGroupId"}),
    ),
    ("that scope with a limit for the queue", lambda c: c.set(c.fifo, DeduplicationScope="messageGroup"), fine),
    ("no such scope", lambda c: c.set(c.fifo, DeduplicationScope="all"), error("InvalidAttributeValue", "DeduplicationScope")),
)
rows(
    "seen",
    "RedrivePolicy",
    ("no maximum", lambda c: c.redrive(maxReceiveCount=None), error(INVALID, "mandatory attribute: maxReceiveCount")),
    ("no target", lambda c: c.redrive(deadLetterTargetArn=None), error(INVALID, "mandatory attribute: deadLetterTargetArn")),
    *[(f"a maximum of {n!r}", lambda c, n=n: c.redrive(maxReceiveCount=n), error(INVALID, "maxReceiveCount")) for n in ("invalid", 0, 1001, -1)],
    *[(f"a maximum of {n!r}", lambda c, n=n: c.redrive(maxReceiveCount=n), fine) for n in ("42", 1, 1000)],
    ("another key", lambda c: c.redrive(colour="red"), error(INVALID, "Only following attributes are supported: [deadLetterTargetArn, maxReceiveCount].")),
    (
        "a target that is no ARN",
        lambda c: c.redrive(deadLetterTargetArn="dummy", maxReceiveCount=42),
        error(INVALID, 'Value {"deadLetterTargetArn": "dummy", "maxReceiveCount": 42} for parameter RedrivePolicy is invalid. Reason: Invalid value for deadLetterTargetArn.'),
    ),
    ("no such target", lambda c: c.redrive(deadLetterTargetArn="arn:aws:sqs:us-east-1:000000000000:missing"), error(INVALID, "Dead letter target does not exist.")),
    ("a target of another type", lambda c: c.redrive(deadLetterTargetArn=arn(c.sqs, c.fifo)), error(INVALID, "must be same type of queue as the source")),
    ("no JSON", lambda c: c.set(RedrivePolicy="x"), error("InvalidAttributeValue", "Redrive policy is not a valid JSON map.")),
    (
        "the second receive",
        lambda c: (c.redrive(), sent := c.send()["MessageId"], c.receive(VisibilityTimeout=0), c.receive(), c.receive(c.dead)[0]["MessageId"] == sent)[3:],
        is_(([], True)),
    ),
    (
        "the attributes of a dead letter",
        lambda c: (c.redrive(), c.send(**attribute()), c.receive(VisibilityTimeout=0), c.receive(), message := c.receive(c.dead)[0], [
            message["Attributes"]["ApproximateReceiveCount"], message["Attributes"]["DeadLetterQueueSourceArn"] == arn(c.sqs, c.queue),
            message["MessageAttributes"]["n"]["StringValue"],
        ])[-1],
        is_(["2", True, "v"]),
    ),
    ("the sources of a target", lambda c: (c.redrive(), c.sqs.list_dead_letter_source_queues(QueueUrl=c.dead)["queueUrls"] == [c.queue])[1], is_(True)),
    ("no sources", lambda c: c.sqs.list_dead_letter_source_queues(QueueUrl=c.queue).get("queueUrls", []), is_([])),
)
allow = {"redrivePermission": "byQueue", "sourceQueueArns": ["arn:aws:sqs:us-east-1:000000000000:a"]}
rows(
    "api",
    "RedriveAllowPolicy",
    ("allowAll", lambda c: (c.set(RedriveAllowPolicy='{"redrivePermission":"allowAll"}'), c.get("RedriveAllowPolicy"))[1], is_({"RedriveAllowPolicy": '{"redrivePermission":"allowAll"}'})),
    ("denyAll refuses a source", lambda c: (c.set(c.dead, RedriveAllowPolicy='{"redrivePermission":"denyAll"}'), c.redrive()), error(INVALID, "does not allow")),
    ("byQueue refuses another source", lambda c: (c.set(c.dead, RedriveAllowPolicy=json.dumps(allow)), c.redrive()), error(INVALID, "does not allow")),
    ("byQueue without queues", lambda c: c.set(RedriveAllowPolicy='{"redrivePermission":"byQueue"}'), error(INVALID, "sourceQueueArns")),
    ("byQueue with 11 queues", lambda c: c.set(RedriveAllowPolicy=json.dumps(allow | {"sourceQueueArns": allow["sourceQueueArns"] * 11})), error(INVALID, "10")),
    ("allowAll with queues", lambda c: c.set(RedriveAllowPolicy=json.dumps(allow | {"redrivePermission": "allowAll"})), error(INVALID, "byQueue")),
    ("no permission", lambda c: c.set(RedriveAllowPolicy="{}"), error("InvalidAttributeValue", "unsupported format")),
)
rows(
    "seen",
    "SendMessage",
    ("the digest of a body", lambda c: c.send("hello")["MD5OfMessageBody"], is_("5d41402abc4b2a76b9719d911017c592")),
    ("no sequence number on a standard queue", lambda c: c.send().get("SequenceNumber"), is_(None)),
    ("an empty body", lambda c: c.send(""), error(MISSING, "The request must contain the parameter MessageBody.")),
    ("the largest body", lambda c: c.send("x" * MIB), fine),
    ("a larger body", lambda c: c.send("x" * (MIB + 1)), error(INVALID, f"One or more parameters are invalid. Reason: Message must be shorter than {MIB} bytes.")),
    ("attributes count", lambda c: c.send("x" * (MIB - 7), **attribute()), error(INVALID, f"Message must be shorter than {MIB} bytes.")),
    ("a smaller maximum", lambda c: (c.set(MaximumMessageSize="1024"), c.send("x" * 1024)), fine),
    ("beyond a smaller maximum", lambda c: (c.set(MaximumMessageSize="1024"), c.send("x" * 1025)), error(INVALID, "shorter than 1024 bytes.")),
    ("a line of every kind", lambda c: (c.send('"&quot;"\r\n\t'), c.receive()[0]["Body"])[1], is_('"&quot;"\r\n\t')),
    ("characters beyond XML", lambda c: c.send("a\x01"), error("InvalidMessageContents", "#x10000 to #x10FFFF")),
    ("a character at the end of XML's range", lambda c: (c.send("\ufffd😀"), c.receive()[0]["Body"])[1], is_("\ufffd😀")),
    *[(f"DelaySeconds {n}", lambda c, n=n: c.send(DelaySeconds=n), error(INVALID, "DelaySeconds")) for n in (-1, 901)],
    *[(f"DelaySeconds {n}", lambda c, n=n: c.send(DelaySeconds=n), fine) for n in (0, 900)],
    ("a delay of 0 overrules the queue's", lambda c: (c.set(DelaySeconds="900"), c.send(DelaySeconds=0), len(c.receive()))[2], is_(1)),
    ("the queue's delay", lambda c: (c.set(DelaySeconds="900"), c.send(), counts(c.sqs, c.queue))[2], is_((0, 0, 1))),
    ("a group on a standard queue", lambda c: (c.send(MessageGroupId="g"), c.receive()[0]["Attributes"]["MessageGroupId"])[1], is_("g")),
    *[
        (f"the group {group[:9]!r}", lambda c, group=group: c.send(MessageGroupId=group), error(INVALID, f"MessageGroupId {TOKEN}"))
        for group in ("", "group 123", "a" * 129, "ü")
    ],
    ("a group of 128", lambda c: c.send(MessageGroupId="a" * 128), fine),
    ("every punctuation in a group", lambda c: c.send(MessageGroupId="!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"), fine),
    ("a deduplication id on a standard queue", lambda c: c.send(MessageDeduplicationId="d"), error(INVALID, "MessageDeduplicationId")),
    ("no such queue", lambda c: c.sqs.send_message(QueueUrl=c.queue + "x", MessageBody="a"), error(NO_QUEUE, GONE)),
    ("a queue's bare name", lambda c: c.sqs.send_message(QueueUrl=c.name(c.queue), MessageBody="a")["MD5OfMessageBody"], is_("0cc175b9c0f1b6a831c399e269772661")),
    ("another system attribute", lambda c: c.send(MessageSystemAttributes={"Other": {"DataType": "String", "StringValue": "x"}}), error(INVALID, "Other")),
    (
        "a trace header",
        lambda c: (c.send(MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-a"}}), c.receive()[0]["Attributes"]["AWSTraceHeader"])[1],
        is_("Root=1-a"),
    ),
)
rows(
    "seen",
    "SendMessage to a FIFO queue",
    ("no group", lambda c: c.sqs.send_message(QueueUrl=c.fifo, MessageBody="a", MessageDeduplicationId="d"), error(MISSING, "The request must contain the parameter MessageGroupId.")),
    ("no deduplication id", lambda c: c.sqs.send_message(QueueUrl=c.fifo, MessageBody="a", MessageGroupId="g"), error(INVALID, NO_DEDUPLICATION)),
    *[
        (f"the deduplication id {id_[:9]!r}", lambda c, id_=id_: c.send_fifo(MessageDeduplicationId=id_), error(INVALID, f"MessageDeduplicationId {TOKEN}"))
        for id_ in ("", "group 123", "a" * 129)
    ],
    ("a deduplication id of 128", lambda c: c.send_fifo(MessageDeduplicationId="a" * 128), fine),
    ("DelaySeconds 2", lambda c: c.send_fifo(DelaySeconds=2), error(INVALID, f"Value 2 for parameter DelaySeconds is invalid. Reason: {NOT_FOR_TYPE}")),
    ("DelaySeconds 0", lambda c: c.send_fifo(DelaySeconds=0), fine),
    ("DelaySeconds 0 and the queue's delay", lambda c: (c.set(c.fifo, DelaySeconds="900"), c.send_fifo(DelaySeconds=0), counts(c.sqs, c.fifo))[2], is_((0, 0, 1))),
    ("sequence numbers increase", lambda c: c.send_fifo()["SequenceNumber"] < c.send_fifo()["SequenceNumber"], is_(True)),
    ("the same id again", lambda c: [c.send_fifo(MessageDeduplicationId="d")["MessageId"] for _ in "ab"], holds(lambda ids: ids[0] == ids[1])),
    ("the same id in another group", lambda c: [c.send_fifo(group=g, MessageDeduplicationId="d")["MessageId"] for g in "ab"], holds(lambda ids: ids[0] == ids[1])),
    (
        "the same id in another group, high throughput",
        lambda c: (c.set(c.fifo, DeduplicationScope="messageGroup"), [c.send_fifo(group=g, MessageDeduplicationId="d")["MessageId"] for g in "ab"])[1],
        holds(lambda ids: ids[0] != ids[1]),
    ),
    (
        "the same body, by content",
        lambda c: (c.set(c.fifo, ContentBasedDeduplication="true"), [c.sqs.send_message(QueueUrl=c.fifo, MessageBody=b, MessageGroupId="g")["MessageId"] for b in "aab"])[1],
        holds(lambda ids: ids[0] == ids[1] != ids[2]),
    ),
)
BAD_NAMES = [("", "non-empty"), ("AWS.x", "reserved"), ("aWs.x", "reserved"), ("Amazon.x", "reserved"), (".x", "'.'"), ("x.", "'.'"), ("a..b", "periods"), ("x" * 257, "256")]
rows(
    "seen",
    "message attributes",
    *[(f"the name {name[:12]!r}", lambda c, name=name: c.send(**attribute(name=name)), error(INVALID, word)) for name, word in BAD_NAMES],
    *[(f"the name {name!r}", lambda c, name=name: c.send(**attribute(name=name)), error(INVALID, "periods")) for name in ('a"', "a§", "a(", "a?", "a b", "a/b", "a:b")],
    *[(f"the name {name[:12]!r}", lambda c, name=name: c.send(**attribute(name=name)), fine) for name in ("attr.1øßä", "a-b_c.D9", "AWSx", "y" * 256)],
    *[(f"the type {kind[:12]!r}", lambda c, kind=kind: c.send(**attribute(kind=kind, value="1")), error(INVALID)) for kind in ("", "Invalid", "string", "Number." + "x" * 256)],
    *[(f"the type {kind!r}", lambda c, kind=kind: c.send(**attribute(kind=kind, value="1")), fine) for kind in ("String", "Number", "String.custom", "Number.java.lang.Long")],
    ("an empty text", lambda c: c.send(**attribute("", name="ErrorDetails")), error(INVALID, "Message (user) attribute 'ErrorDetails' must contain a non-empty value of type 'String'.")),
    ("a text beyond XML", lambda c: c.send(**attribute("a\x08")), error(INVALID, "Invalid characters")),
    *[(f"the number {n!r}", lambda c, n=n: c.send(**attribute(n, "Number")), error(INVALID, "Can't cast")) for n in ("x", "1e127", "NaN", "1,5", "0x1")],
    *[(f"the number {n!r}", lambda c, n=n: c.send(**attribute(n, "Number")), fine) for n in ("-0.5", "1e126", "9" * 38)],
    ("11 of them", lambda c: c.send(MessageAttributes={f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(11)}), error(INVALID, "exceeds the allowed maximum [10]")),
    ("10 of them", lambda c: c.send(MessageAttributes={f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(10)}), fine),
    *[
        (f"asked for {asked}", lambda c, asked=asked: (c.send(MessageAttributes={n: {"DataType": "String", "StringValue": "x"} for n in ("Hello", "General", "Help.Me")}), sorted(c.receive(MessageAttributeNames=asked)[0].get("MessageAttributes", {})))[1], is_(expected))
        for asked, expected in (
            ([], []),
            (["All"], ["General", "Hello", "Help.Me"]),
            ([".*"], ["General", "Hello", "Help.Me"]),
            (["Foo", "Help"], []),
            (["Foo", "Hello"], ["Hello"]),
            (["Hello", "General"], ["General", "Hello"]),
            (["Hel.*"], ["Hello", "Help.Me"]),
            (["Help.*"], ["Help.Me"]),
            (["AWS.", "..foo"], []),
        )
    ],
)
rows(
    "seen",
    "SendMessageBatch",
    ("nothing", lambda c: c.send_batch(), error(f"{SQS}.EmptyBatchRequest")),
    ("20 entries", lambda c: c.send_batch(*[{}] * 20), error(f"{SQS}.TooManyEntriesInBatchRequest", "Maximum number of entries per request are 10. You have sent 20.")),
    ("10 entries", lambda c: len(c.send_batch(*[{}] * 10)["Successful"]), is_(10)),
    ("an id twice", lambda c: c.send_batch({"Id": "a"}, {"Id": "a"}), error(f"{SQS}.BatchEntryIdsNotDistinct", "Id a repeated.")),
    *[(f"the id {id_[:9]!r}", lambda c, id_=id_: c.send_batch({"Id": id_}), error(f"{SQS}.InvalidBatchEntryId", ENTRY_ID)) for id_ in ("", "message:x", "a" * 81, "a b")],
    ("an id of 80", lambda c: c.send_batch({"Id": "a-_" + "b" * 77})["Successful"][0]["Id"], is_("a-_" + "b" * 77)),
    (
        "one byte too many together",
        lambda c: c.send_batch({"MessageBody": "x" * (MIB // 2)}, {"MessageBody": "x" * (MIB // 2 + 1)}),
        error(f"{SQS}.BatchRequestTooLong", f"Batch requests cannot be longer than {MIB} bytes. You have sent {MIB + 1} bytes."),
    ),
    ("as many bytes as fit", lambda c: len(c.send_batch({"MessageBody": "x" * (MIB // 2)}, {"MessageBody": "y" * (MIB // 2)})["Successful"]), is_(2)),
    (
        "one entry beyond the queue's maximum",
        lambda c: (c.set(MaximumMessageSize="1024"), c.send_batch({"MessageBody": "x" * 1025}, {})["Failed"])[1],
        is_([{"Id": "0", "Code": INVALID, "SenderFault": True, "Message": "One or more parameters cannot be validated. Reason: Message must be shorter than 1024 bytes."}]),
    ),
    ("one entry beyond XML", lambda c: (lambda answer: (len(answer["Successful"]), answer["Failed"][0]["Code"]))(c.send_batch({}, {"MessageBody": "a\x01"}, {})), is_((2, "InvalidMessageContents"))),
    ("one entry with a delay of 901", lambda c: (lambda answer: (len(answer["Successful"]), answer["Failed"][0]["Code"]))(c.send_batch({}, {"DelaySeconds": 901})), is_((1, INVALID))),
    ("FIFO, one entry without a deduplication id", lambda c: c.send_batch({"MessageDeduplicationId": "d"}, {}, url=c.fifo, MessageGroupId="g"), error(INVALID, NO_DEDUPLICATION)),
    ("FIFO, one entry without a group", lambda c: c.send_batch({"MessageDeduplicationId": "d"}, url=c.fifo), error(INVALID, "The request must contain the parameter MessageGroupId.")),
    ("FIFO, in order", lambda c: (c.send_batch(*[{"MessageBody": b, "MessageDeduplicationId": b} for b in "abcd"], url=c.fifo, MessageGroupId="g"), "".join(m["Body"] for m in c.receive(c.fifo)))[1], is_("abcd")),
)
rows(
    "seen",
    "ReceiveMessage",
    ("nothing there", lambda c: c.sqs.receive_message(QueueUrl=c.queue).get("Messages"), is_(None)),
    *[(f"MaxNumberOfMessages {n}", lambda c, n=n: c.receive(MaxNumberOfMessages=n), error(INVALID, f"Value {n} for parameter MaxNumberOfMessages is invalid. Reason: {RECEIVED_MAX}")) for n in (0, 11, -1)],
    *[(f"WaitTimeSeconds {n}", lambda c, n=n: c.receive(WaitTimeSeconds=n), error(INVALID, f"Value {n} for parameter WaitTimeSeconds is invalid. Reason: {WAIT_MAX}")) for n in (-1, 21)],
    *[(f"VisibilityTimeout {n}", lambda c, n=n: c.receive(VisibilityTimeout=n), error(INVALID, f"Value {n} for parameter VisibilityTimeout is invalid. Reason: {VISIBLE_MAX}")) for n in (-1, 43_201)],
    ("VisibilityTimeout 43200", lambda c: c.receive(VisibilityTimeout=43_200), fine),
    ("one by default", lambda c: (c.send_batch({}, {}), len(c.sqs.receive_message(QueueUrl=c.queue)["Messages"]))[1], is_(1)),
    (
        "the members of a plain message",
        lambda c: (c.send(), sorted(c.sqs.receive_message(QueueUrl=c.queue)["Messages"][0]))[1],
        is_(["Body", "MD5OfBody", "MessageId", "ReceiptHandle"]),
    ),
    (
        "all system attributes",
        lambda c: (c.send(), sorted(c.receive()[0]["Attributes"]))[1],
        is_(["ApproximateFirstReceiveTimestamp", "ApproximateReceiveCount", "SenderId", "SentTimestamp"]),
    ),
    (
        "a system attribute that a standard queue does not have",
        lambda c: (c.send(), list(c.receive(**{SYSTEM_ATTRIBUTES: ["SenderId", "SequenceNumber"]})[0]["Attributes"]))[1],
        is_(["SenderId"]),
    ),
    ("an unknown system attribute", lambda c: c.receive(**{SYSTEM_ATTRIBUTES: ["Foobar"]}), error("InvalidAttributeName", "Unknown Attribute Foobar.")),
    ("all system attributes on FIFO", lambda c: (c.send_fifo(), len(c.receive(c.fifo)[0]["Attributes"]))[1], is_(7)),
    ("the second receive counts", lambda c: (c.send(), c.receive(VisibilityTimeout=0), c.receive()[0]["Attributes"]["ApproximateReceiveCount"])[2], is_("2")),
    ("no such queue", lambda c: c.receive(c.queue + "x"), error(NO_QUEUE, GONE)),
)


def groups(c, *names):
    """Sends a message of each name, such as `g1-m1`, to its group."""
    for name in names:
        c.send_fifo(name, group=name.split("-")[0])


def names(messages):
    return " ".join(message["Body"] for message in messages)


def take(c, most, **options):
    return c.receive(c.fifo, MaxNumberOfMessages=most, **options)


def delete_all(c, messages, url=None):
    for message in messages:
        c.sqs.delete_message(QueueUrl=url or c.queue, ReceiptHandle=message["ReceiptHandle"])


def after_delete(c, deleted):
    groups(c, "g1-m1", "g2-m1", "g1-m2", "g2-m2", "g1-m3", "g1-m4", "g3-m1")
    first = take(c, 2)
    delete_all(c, first[:deleted], c.fifo)
    return names(first), names(take(c, 10))


def ended_lease(c, seconds):
    groups(c, "g1-m1", "g1-m2", "g2-m1")
    first = take(c, 2)
    c.hide(first[0]["ReceiptHandle"], seconds, c.fifo)
    time.sleep(seconds * 2)
    return names(take(c, 3))


def shared_lease(c):
    groups(c, "g1-m1", "g1-m2", "g1-m3", "g1-m4", "g2-m1", "g3-m1")
    first = names(take(c, 2, VisibilityTimeout=1)), names(take(c, 1, VisibilityTimeout=1))
    time.sleep(2)
    return *first, names(take(c, 10, VisibilityTimeout=0))


def behind_a_blocked_group(c):
    for first in range(0, 500, 10):
        entries = [{"MessageGroupId": "blocked", "MessageDeduplicationId": str(first + i)} for i in range(10)]
        c.send_batch(*entries, url=c.fifo)
    take(c, 1)
    groups(c, "g-m1")
    return names(take(c, 10))


rows(
    "seen",
    "ReceiveMessage from a FIFO queue",
    ("a group at a time", lambda c: (groups(c, "g1-m1", "g2-m1", "g1-m2", "g1-m3"), names(take(c, 10)))[1], is_("g1-m1 g1-m2 g1-m3 g2-m1")),
    (
        "with a visibility of 0",
        lambda c: (groups(c, "g1-m1", "g2-m1", "g2-m2", "g3-m1", "g1-m2"), names(take(c, 3, VisibilityTimeout=0)), names(take(c, 10, VisibilityTimeout=0)))[1:],
        is_(("g1-m1 g1-m2 g2-m1", "g3-m1 g1-m1 g1-m2 g2-m1 g2-m2")),
    ),
    ("a lease is over", shared_lease, is_(("g1-m1 g1-m2", "g2-m1", "g3-m1 g1-m1 g1-m2 g1-m3 g1-m4 g2-m1"))),
    ("a lease was ended", lambda c: ended_lease(c, 0), is_("g2-m1 g1-m1")),
    ("a lease was shortened", lambda c: ended_lease(c, 1), is_("g2-m1 g1-m1")),
    ("the first two were deleted", lambda c: after_delete(c, 2), is_(("g1-m1 g1-m2", "g2-m1 g2-m2 g1-m3 g1-m4 g3-m1"))),
    ("one of two was deleted", lambda c: after_delete(c, 1), is_(("g1-m1 g1-m2", "g2-m1 g2-m2 g3-m1"))),
    ("a message in flight blocks its group", lambda c: (groups(c, "a-1", "a-2", "b-1"), names(take(c, 1)), names(take(c, 10)))[1:], is_(("a-1", "b-1"))),
    ("behind a blocked group of 500", behind_a_blocked_group, is_("g-m1")),
    (
        "a dead letter frees its group",
        lambda c: (
            c.made.update(dead=c.sqs.create_queue(QueueName=f"row-{uuid.uuid4()}.fifo", Attributes={"FifoQueue": "true"})["QueueUrl"]),
            c.set(c.fifo, RedrivePolicy=json.dumps({"deadLetterTargetArn": arn(c.sqs, c.dead), "maxReceiveCount": 1})),
            groups(c, "a-1", "a-2"), take(c, 1, VisibilityTimeout=0), names(take(c, 10)), names(c.receive(c.dead)),
        )[-2:],
        is_(("a-2", "a-1")),
    ),
)


def again(c, attempt="attempt", change=None, **options):
    groups(c, "a-1", "a-2", "b-1")
    first = take(c, 2, ReceiveRequestAttemptId="attempt", VisibilityTimeout=30)
    if change:
        change(c, first[0]["ReceiptHandle"])
    second = take(c, 2, ReceiveRequestAttemptId=attempt, **options)
    return [m["ReceiptHandle"] for m in first] == [m["ReceiptHandle"] for m in second], names(second)


rows(
    "api",
    "ReceiveRequestAttemptId",
    ("the same again", again, is_((True, "a-1 a-2"))),
    ("another one", lambda c: again(c, "other"), is_((False, "b-1"))),
    ("the receive does not count twice", lambda c: (again(c), take(c, 2, ReceiveRequestAttemptId="attempt")[0]["Attributes"]["ApproximateReceiveCount"])[1], is_("1")),
    ("a message was deleted meanwhile", lambda c: again(c, change=lambda c, r: c.sqs.delete_message(QueueUrl=c.fifo, ReceiptHandle=r)), error(INVALID, "ReceiveRequestAttemptId is invalid. Reason: The receiveRequestAttemptId is not valid anymore since the receive call is not retryable.")),
    ("a lease was changed meanwhile", lambda c: again(c, change=lambda c, r: c.hide(r, 90, c.fifo)), error(INVALID, "ReceiveRequestAttemptId")),
    ("on a standard queue", lambda c: c.receive(ReceiveRequestAttemptId="a"), error(INVALID, NOT_FOR_TYPE)),
    *[(f"the id {id_[:9]!r}", lambda c, id_=id_: take(c, 1, ReceiveRequestAttemptId=id_), error(INVALID, f"ReceiveRequestAttemptId {TOKEN}")) for id_ in ("", "a b", "a" * 129)],
)


def expired(c, url, seconds=1):
    [message] = c.receive(url, VisibilityTimeout=seconds)
    time.sleep(seconds + 0.5)
    return message["ReceiptHandle"]


rows(
    "seen",
    "DeleteMessage",
    ("garbage", lambda c: c.sqs.delete_message(QueueUrl=c.queue, ReceiptHandle="garbage"), error("ReceiptHandleIsInvalid", UNKNOWN_RECEIPT, status=404)),
    ("three times", lambda c: [c.sqs.delete_message(QueueUrl=c.queue, ReceiptHandle=r) for r in [c.receipt()] * 3], fine),
    ("a handle of another queue", lambda c: c.sqs.delete_message(QueueUrl=c.dead, ReceiptHandle=c.receipt()), error("ReceiptHandleIsInvalid", status=404)),
    ("after its lease", lambda c: (c.send(), c.sqs.delete_message(QueueUrl=c.queue, ReceiptHandle=expired(c, c.queue)), counts(c.sqs, c.queue))[2], is_((0, 0, 0))),
    ("after its lease, FIFO", lambda c: (c.send_fifo(), c.sqs.delete_message(QueueUrl=c.fifo, ReceiptHandle=expired(c, c.fifo))), error(INVALID, "Reason: The receipt handle has expired.")),
)
rows(
    "seen",
    "DeleteMessageBatch",
    ("20 entries", lambda c: c.sqs.delete_message_batch(QueueUrl=c.queue, Entries=[{"Id": str(i), "ReceiptHandle": "x"} for i in range(20)]), error(f"{SQS}.TooManyEntriesInBatchRequest")),
    ("nothing", lambda c: c.sqs.delete_message_batch(QueueUrl=c.queue, Entries=[]), error(f"{SQS}.EmptyBatchRequest")),
    *[(f"the id {id_[:9]!r}", lambda c, id_=id_: c.sqs.delete_message_batch(QueueUrl=c.queue, Entries=[{"Id": id_, "ReceiptHandle": "x"}]), error(f"{SQS}.InvalidBatchEntryId", ENTRY_ID)) for id_ in ("", "a" * 100, "invalid:id")],
    (
        "one of two",
        lambda c: (lambda answer: ([e["Id"] for e in answer["Successful"]], [e["Code"] for e in answer["Failed"]]))(
            c.sqs.delete_message_batch(QueueUrl=c.queue, Entries=[{"Id": "a", "ReceiptHandle": c.receipt()}, {"Id": "b", "ReceiptHandle": "garbage"}])
        ),
        is_((["a"], ["ReceiptHandleIsInvalid"])),
    ),
)


def older_handle(c):
    c.send()
    [first] = c.receive(VisibilityTimeout=0)
    c.receive()
    c.hide(first["ReceiptHandle"], 0)
    return counts(c.sqs, c.queue)


rows(
    "seen",
    "ChangeMessageVisibility",
    ("garbage", lambda c: c.hide("garbage", 1), error("ReceiptHandleIsInvalid", UNKNOWN_RECEIPT, status=404)),
    *[(f"{n} s", lambda c, n=n: c.hide(c.receipt(), n), error(INVALID, "VisibilityTimeout")) for n in (-1, 43_201)],
    ("12 h from now is beyond 12 h from the receive", lambda c: (receipt := c.receipt(), time.sleep(0.01), c.hide(receipt, 43_200)), error(INVALID, "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]")),
    ("0 s", lambda c: (c.hide(c.receipt(), 0), counts(c.sqs, c.queue))[1], is_((1, 0, 0))),
    ("longer", lambda c: (c.hide(c.receipt(), 43_000), counts(c.sqs, c.queue))[1], is_((0, 1, 0))),
    ("by an older handle", older_handle, is_((1, 0, 0))),
    ("a lease that is over", lambda c: (c.send(), c.hide(expired(c, c.queue), 30), counts(c.sqs, c.queue))[2], is_((1, 0, 0))),
    ("a lease that was ended", lambda c: (receipt := c.receipt(), c.hide(receipt, 0), c.hide(receipt, 5)), error(f"{SQS}.MessageNotInflight")),
    (
        "a deleted message",
        lambda c: (receipt := c.receipt(), c.sqs.delete_message(QueueUrl=c.queue, ReceiptHandle=receipt), c.hide(receipt, 5)),
        error(INVALID, "Message does not exist or is not available for visibility timeout change."),
    ),
    ("a batch of 20", lambda c: c.sqs.change_message_visibility_batch(QueueUrl=c.queue, Entries=[{"Id": str(i), "ReceiptHandle": "x", "VisibilityTimeout": 1} for i in range(20)]), error(f"{SQS}.TooManyEntriesInBatchRequest")),
    (
        "a batch, one of two",
        lambda c: (lambda answer: ([e["Id"] for e in answer["Successful"]], [e["Code"] for e in answer["Failed"]]))(
            c.sqs.change_message_visibility_batch(
                QueueUrl=c.queue,
                Entries=[{"Id": "a", "ReceiptHandle": c.receipt(), "VisibilityTimeout": 1}, {"Id": "b", "ReceiptHandle": "garbage", "VisibilityTimeout": 1}],
            )
        ),
        is_((["a"], ["ReceiptHandleIsInvalid"])),
    ),
)
rows(
    "seen",
    "PurgeQueue",
    ("all kinds of messages", lambda c: (c.send_batch({}, {}, {"DelaySeconds": 900}), c.receive(MaxNumberOfMessages=1), c.sqs.purge_queue(QueueUrl=c.queue), counts(c.sqs, c.queue))[3], is_((0, 0, 0))),
    ("twice", lambda c: (c.sqs.purge_queue(QueueUrl=c.queue), c.sqs.purge_queue(QueueUrl=c.queue)), error(f"{SQS}.PurgeQueueInProgress", "is allowed every 60 seconds.", status=403)),
    (
        "forgets deduplication ids",
        lambda c: (first := c.send_fifo(MessageDeduplicationId="d"), c.sqs.purge_queue(QueueUrl=c.fifo), c.send_fifo(MessageDeduplicationId="d")["MessageId"] != first["MessageId"])[2],
        is_(True),
    ),
    ("no such queue", lambda c: c.sqs.purge_queue(QueueUrl=c.queue + "x"), error(NO_QUEUE, GONE)),
)


def tags(c, /, **new):
    c.sqs.tag_queue(QueueUrl=c.queue, Tags=new)
    return c.sqs.list_queue_tags(QueueUrl=c.queue).get("Tags")


def policy(c):
    return json.loads(c.get("Policy")["Policy"])


def permit(c, label="p", actions=("ReceiveMessage",), accounts=("111111111111",)):
    c.sqs.add_permission(QueueUrl=c.queue, Label=label, AWSAccountIds=list(accounts), Actions=list(actions))


rows(
    "seen",
    "tags",
    ("none", lambda c: c.sqs.list_queue_tags(QueueUrl=c.queue).get("Tags"), is_(None)),
    ("an empty value", lambda c: tags(c, a=""), is_({"a": ""})),
    ("case counts", lambda c: tags(c, a="1", A="2"), is_({"a": "1", "A": "2"})),
    ("a new value", lambda c: (tags(c, a="1"), tags(c, a="2"))[1], is_({"a": "2"})),
    ("51 of them", lambda c: tags(c, **{f"t{i}": "" for i in range(51)}), error(INVALID, "Too many tags")),
    ("a key of 129", lambda c: tags(c, **{"k" * 129: ""}), error(INVALID, "1 and 128")),
    ("a value of 257", lambda c: tags(c, k="v" * 257), error(INVALID, "0 and 256")),
    ("one is taken away", lambda c: (tags(c, a="1", b="2"), c.sqs.untag_queue(QueueUrl=c.queue, TagKeys=["a", "x"]), tags(c, c="3"))[2], is_({"b": "2", "c": "3"})),
    ("none is taken away", lambda c: c.sqs.untag_queue(QueueUrl=c.queue, TagKeys=[]), error(MISSING)),
)
rows(
    "seen",
    "AddPermission, RemovePermission",
    ("the policy's version", lambda c: (permit(c), policy(c)["Version"])[1], is_("2008-10-17")),
    ("the policy's id", lambda c: (permit(c), policy(c)["Id"] == f"{arn(c.sqs, c.queue)}/SQSDefaultPolicy")[1], is_(True)),
    ("one action is a text", lambda c: (permit(c), policy(c)["Statement"][0]["Action"])[1], is_("SQS:ReceiveMessage")),
    ("two actions are a list", lambda c: (permit(c, actions=("ReceiveMessage", "SendMessage")), policy(c)["Statement"][0]["Action"])[1], is_(["SQS:ReceiveMessage", "SQS:SendMessage"])),
    ("the same label", lambda c: (permit(c), permit(c)), error(INVALID, "Value p for parameter Label is invalid. Reason: Already exists.")),
    ("no such label", lambda c: (permit(c), c.sqs.remove_permission(QueueUrl=c.queue, Label="q")), error(INVALID, "Value q for parameter Label is invalid. Reason: can't find label.")),
    ("the last one", lambda c: (permit(c), c.sqs.remove_permission(QueueUrl=c.queue, Label="p"), "Policy" in c.get())[2], is_(False)),
)


def move(c, **options):
    c.redrive()
    return c.sqs.start_message_move_task(SourceArn=arn(c.sqs, c.dead), **options)["TaskHandle"]


def moved(c, **options):
    c.redrive()
    c.send_batch({}, {})
    c.receive(VisibilityTimeout=0)
    c.receive()
    move(c, **options)
    deadline = time.monotonic() + 20
    while (task := c.sqs.list_message_move_tasks(SourceArn=arn(c.sqs, c.dead))["Results"][0])["Status"] == "RUNNING":
        assert time.monotonic() < deadline, task
        time.sleep(0.05)
    return task["Status"], task["ApproximateNumberOfMessagesMoved"], "TaskHandle" in task, "DestinationArn" in task


def handle(task="b5b0b5b0-0000-0000-0000-000000000000", source="missing"):
    import base64

    source = f"arn:aws:sqs:us-east-1:000000000000:{source}"
    return base64.b64encode(json.dumps({"taskId": task, "sourceArn": source}).encode()).decode()


NO_SUCH = "The resource that you specified for the {} parameter doesn't exist."
rows(
    "seen",
    "message move tasks",
    ("to the source", moved, is_(("COMPLETED", 2, False, False))),
    ("a queue that is no dead-letter queue", lambda c: c.sqs.start_message_move_task(SourceArn=arn(c.sqs, c.queue)), error(INVALID, "Source queue must be configured as a Dead Letter Queue.")),
    ("no such source", lambda c: c.sqs.start_message_move_task(SourceArn="arn:aws:sqs:us-east-1:000000000000:missing"), error("ResourceNotFoundException", NO_SUCH.format("SourceArn"), status=404)),
    ("no such destination", lambda c: move(c, DestinationArn="arn:aws:sqs:us-east-1:000000000000:missing"), error("ResourceNotFoundException", NO_SUCH.format("DestinationArn"), status=404)),
    ("a source that is no ARN", lambda c: c.sqs.start_message_move_task(SourceArn="dead"), error(INVALID, "SourceArn")),
    *[(f"{n} a second", lambda c, n=n: move(c, MaxNumberOfMessagesPerSecond=n), error(INVALID, "between 1 and 500")) for n in (0, 501)],
    (
        "a second one",
        lambda c: (c.send_batch({}, {}), c.redrive(), c.receive(VisibilityTimeout=0), c.receive(), move(c, MaxNumberOfMessagesPerSecond=1), move(c)),
        error(INVALID, "There is already a task running. Only one active task is allowed for a source queue arn at a given time."),
    ),
    ("cancel garbage", lambda c: c.sqs.cancel_message_move_task(TaskHandle="foobared"), error(INVALID, "Value for parameter TaskHandle is invalid.")),
    ("cancel one of a queue that is gone", lambda c: c.sqs.cancel_message_move_task(TaskHandle=handle()), error("ResourceNotFoundException", NO_SUCH.format("SourceArn"), status=404)),
    ("cancel one that is unknown", lambda c: c.sqs.cancel_message_move_task(TaskHandle=handle(source=c.name(c.queue))), error("ResourceNotFoundException", "Task does not exist.", status=404)),
    *[(f"list {n}", lambda c, n=n: c.sqs.list_message_move_tasks(SourceArn=arn(c.sqs, c.queue), MaxResults=n), error(INVALID, "MaxResults")) for n in (0, 11)],
)


@pytest.mark.parametrize("source, call, check", [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_row(sqs, source, call, check):  # noqa: F811
    assert source in ("api", "guide", "seen")
    check(Case(sqs), call)


def test_the_table_is_as_long_as_it_says():
    assert len(ROWS) >= 200 and len({row[0] for row in ROWS}) == len(ROWS)
