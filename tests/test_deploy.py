"""The AWS template: by its linter, and deployed to a stand-in from nothing, in every mode, with the commands that people type."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import AWS_CLI, GUESTS, ROOT, aws_client, client_environment, function_zip, wait_for

TEMPLATE = ROOT / "deploy" / "template.yaml"
CODE = "wasq-code"


def test_the_template_is_what_cloudformation_takes():
    linted = subprocess.run([Path(sys.executable).with_name("cfn-lint"), TEMPLATE], capture_output=True, text=True)
    assert linted.returncode == 0, linted.stdout


@pytest.fixture(scope="module")
def account(stand_in):
    """An account with nothing in it but our zips."""
    s3 = aws_client("s3", stand_in)
    s3.create_bucket(Bucket=CODE)
    for name in ("consumer", "worker", "publisher"):
        s3.put_object(Bucket=CODE, Key=f"wasq-{name}.zip", Body=function_zip(name))
    return stand_in


def aws(url, *args):
    """An AWS CLI command."""
    done = subprocess.run(
        [AWS_CLI, *args, "--endpoint-url", url, "--output", "json"],
        env=client_environment(), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (args, done.stdout, done.stderr)
    return done.stdout


def deploy(url, stack, **parameters):
    parameters = {"CodeBucket": CODE, "Architecture": "x86_64"} | parameters
    overrides = [f"{name}={value}" for name, value in parameters.items()]
    aws(
        url, "cloudformation", "deploy", "--stack-name", stack, "--template-file", TEMPLATE,
        "--capabilities", "CAPABILITY_IAM", "--no-fail-on-empty-changeset", "--parameter-overrides", *overrides,
    )  # fmt: skip
    [described] = json.loads(aws(url, "cloudformation", "describe-stacks", "--stack-name", stack))["Stacks"]
    return {output["OutputKey"]: output["OutputValue"] for output in described["Outputs"]}


def done(url, function):
    """The ids of the messages that a worker says it has finished."""
    logs = aws_client("logs", url)
    try:
        events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
    except logs.exceptions.ResourceNotFoundException:
        return []
    lines = [json.loads(event["message"]) for event in events if event["message"].startswith("{")]
    return [line["id"] for line in lines if line.get("message") == "done"]


@pytest.mark.parametrize("mode", ["window", "until-empty", "event-source"])
def test_from_nothing_to_a_task_that_ran(account, mode):
    outputs = deploy(account, f"wasq-{mode}", Mode=mode, LongestTask="1m")
    aws(account, "s3", "cp", GUESTS / "hello.wasm", f"s3://{outputs['TasksBucketName']}/hello.wasm")
    body = '{"task": "hello", "params": {"to": "AWS"}}'
    sent = aws(account, "sqs", "send-message", "--queue-url", outputs["QueueUrl"], "--message-body", body)
    message_id = json.loads(sent)["MessageId"]
    wait_for(lambda: message_id in done(account, outputs["WorkerFunction"]), "run of the message", 120)
    sqs = aws_client("sqs", account)
    wait_for(lambda: counts(sqs, outputs["QueueUrl"]) == (0, 0), "empty queue", 60)
    assert counts(sqs, outputs["DeadLetterUrl"]) == (0, 0)
    # As it is checked for by people who keep accounts in order.
    attributes = sqs.get_queue_attributes(QueueUrl=outputs["QueueUrl"], AttributeNames=["All"])["Attributes"]
    assert json.loads(attributes["RedrivePolicy"])["maxReceiveCount"] in (1000, "1000")
    assert attributes["VisibilityTimeout"] == {"event-source": "420"}.get(mode, "120")
    functions = aws_client("lambda", account)
    worker = functions.get_function_configuration(FunctionName=outputs["WorkerFunction"])
    assert worker["Timeout"] == 70 and worker["Environment"]["Variables"]["WASQ_MAX_TIMEOUT"] == "1m"
    lease = worker["Environment"]["Variables"]["WASQ_LEASE"]
    assert lease == f"{attributes['VisibilityTimeout']}s", "lease and visibility are one number"
    invokes = functions.get_function_event_invoke_config(FunctionName=outputs["WorkerFunction"], Qualifier="$LATEST")
    assert (invokes["MaximumRetryAttempts"], invokes["MaximumEventAgeInSeconds"]) == (0, 60)
    # Not to be drained by two at once in the other tests' time.
    aws_client("cloudformation", account).delete_stack(StackName=f"wasq-{mode}")


def counts(sqs, queue_url):
    got = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    return tuple(int(got[f"ApproximateNumberOfMessages{name}"]) for name in ("", "NotVisible"))
