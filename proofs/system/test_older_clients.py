"""Clients from before November 2023 speak SQS's older protocol: a form in, XML out."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import ROOT

OLDER = ROOT / "target" / "python-older"


@pytest.fixture(scope="module")
def older_python():
    """A Python with boto3 1.26, which knows nothing of the JSON protocol."""
    wanted = "boto3==1.26.165 pytest==9.2.0"
    stamp = OLDER / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", OLDER], check=True)
        install = [OLDER / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *wanted.split()]
        subprocess.run(install, check=True, timeout=300)
        stamp.write_text(wanted)
    return OLDER / "bin" / "python"


def test_everything_about_the_endpoint_with_an_older_boto3(older_python):
    """The same table of tests, over the older protocol."""
    done = subprocess.run(
        [older_python, "-m", "pytest", "-q", "--rootdir", ".", "test_sqs_endpoint.py"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-8000:]


JAVASCRIPT = """
import { createHash } from "node:crypto";
import { SQS } from "@aws-sdk/client-sqs";

const [endpoint] = process.argv.slice(2);
const sqs = new SQS({ endpoint, region: "us-east-1", credentials: { accessKeyId: "x", secretAccessKey: "x" } });
const { QueueUrl } = await sqs.createQueue({ QueueName: "older", Attributes: { VisibilityTimeout: "7" }, tags: { a: "b & c" } });
const body = "<&> \\r\\n é 😀";
const attributes = { text: { DataType: "String", StringValue: "v<" }, bytes: { DataType: "Binary", BinaryValue: new Uint8Array([0, 255]) } };
const sent = await sqs.sendMessage({ QueueUrl, MessageBody: body, MessageAttributes: attributes });
const { Messages: [got] } = await sqs.receiveMessage({ QueueUrl, AttributeNames: ["All"], MessageAttributeNames: ["All"], WaitTimeSeconds: 5 });
const batch = await sqs.sendMessageBatch({ QueueUrl, Entries: [{ Id: "a", MessageBody: "1" }, { Id: "b", MessageBody: "2", DelaySeconds: 901 }] });
let error;
try {
  await sqs.getQueueUrl({ QueueName: "missing" });
} catch (e) {
  error = e.name;
}
await sqs.deleteMessage({ QueueUrl, ReceiptHandle: got.ReceiptHandle });
console.log(JSON.stringify({
  digest: sent.MD5OfMessageBody === createHash("md5").update(body).digest("hex"),
  body: got.Body === body,
  attributes: [got.MessageAttributes.text.StringValue, [...got.MessageAttributes.bytes.BinaryValue]],
  receives: got.Attributes.ApproximateReceiveCount,
  batch: [batch.Successful.map(({ Id }) => Id), batch.Failed.map(({ Id, Code, SenderFault }) => [Id, Code, SenderFault])],
  error,
  visibility: (await sqs.getQueueAttributes({ QueueUrl, AttributeNames: ["VisibilityTimeout"] })).Attributes.VisibilityTimeout,
  tags: (await sqs.listQueueTags({ QueueUrl })).Tags,
  queues: (await sqs.listQueues({ QueueNamePrefix: "old" })).QueueUrls.length,
}));
"""


def test_an_older_sdk_of_javascript(dev, tmp_path):
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "@aws-sdk/client-sqs@3.438.0"]
    (tmp_path / "package.json").write_text('{ "private": true, "type": "module" }')
    subprocess.run(install, cwd=tmp_path, check=True, timeout=300)
    (tmp_path / "send.js").write_text(JAVASCRIPT)
    done = subprocess.run(["node", "send.js", dev.url], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "digest": True,
        "body": True,
        "attributes": ["v<", [0, 255]],
        "receives": "1",
        "batch": [["a"], [["b", "InvalidParameterValue", True]]],
        "error": "QueueDoesNotExist",
        "visibility": "7",
        "tags": {"a": "b & c"},
        "queues": 1,
    }
