"""docs/operating.md, command by command, as a reader types it."""

import fnmatch
import json
import os
import re
import shutil
import tarfile

import pytest

from conftest import ARCHITECTURE, BINARIES, GUESTS, ROOT, Cloud, wait_for

GUIDE = ROOT / "docs" / "operating.md"
VERSION = "0.1.0"
# Commands that end only by ctrl-c or that ask a question, with the text that the test types for each.
AS_TYPED = [
    # The whole of it is in test_verify.py.
    (r"^wasq verify --stack wasq$", "wasq verify --stack wasq --only uploads --yes"),
    (r"^wasq logs --follow$", "timeout 5 wasq logs --follow || test $? = 124"),
    (r"^(wasq destroy[^#]*?) *(#.*)?$", r"\1 --yes"),
]


def blocks():
    """The commands of the guide, in blocks, unchanged."""
    return re.findall(r"^```sh\n(.*?)^```$", GUIDE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def reader(stand_in, functions, tmp_path):
    """A reader of the guide, with the release's archive, a task and nothing else."""
    cloud = Cloud(stand_in, tmp_path)
    release = tmp_path / f"wasq-{VERSION}-linux-x86_64"
    release.mkdir()
    shutil.copy(BINARIES / "wasq", release)
    for policy in ("deployer-policy.json", "boundary-policy.json"):
        shutil.copy(ROOT / "deploy" / policy, release)
    # The stand-in runs every binary that it gets; it ignores the architecture of the function.
    for architecture in ("arm64", "x86_64"):
        shutil.copytree(functions / ARCHITECTURE, release / "functions" / architecture)
    with tarfile.open(f"{release}.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(release, release.name)
    shutil.rmtree(release)
    shutil.copy(GUESTS / "hello.wasm", tmp_path)
    (tmp_path / "hello.toml").write_text('timeout = "5s"\n')
    paths = [str(tmp_path), *os.environ["PATH"].split(":")]
    del cloud.environment["AWS_REGION"], cloud.environment["AWS_DEFAULT_REGION"]
    cloud.environment |= {"PATH": ":".join(paths), "HOME": str(tmp_path)}
    return cloud


def test_the_guide_word_for_word(reader):
    state = reader.folder / "state"
    state.write_text("")
    ran = ""
    for block in blocks():
        for pattern, typed in AS_TYPED:
            block = re.sub(pattern, typed, block, flags=re.MULTILINE)
        script = f"set -eu\nsource {state}\n{block}\nexport -p > {state}"
        printed = reader.shell(script)
        ran += block
        check(reader, block, printed)
    # The test did not skip any command of the page.
    commands = re.findall(r"^(?:wasq|aws|tar|~/\S+) \S+", ran, re.MULTILINE)
    assert len(commands) > 20, commands
    left = reader.shell(f"source {state}; aws s3 ls; aws sqs list-queues")
    assert "//wasq" not in left and " wasq-" not in left, left


def check(reader, block, printed):
    """Checks the promises of the page for a block."""
    if "export AWS_DEFAULT_REGION" in block:
        assert "wasq is deployed." in printed and "Try it:" in printed
        # The template allows recursion by a property that MiniStack's CloudFormation does not know.
        allow = "aws lambda put-function-recursion-config --function-name wasq-worker --recursive-loop Allow"
        reader.shell(f"source {reader.folder}/state; {allow}")
        reader.complete("wasq", region_name="eu-west-1")
    elif "wasq verify" in block:
        assert re.search(r"^uploads +held +An earlier version comes back +\d+\.\d s +version 1 came back as version 3$", printed, re.MULTILINE)
        assert printed.endswith(" promises held, 0 broken\n")
    elif "aws s3 cp hello.wasm" in block:
        assert re.search(r"^hello +version [12] ", printed, re.MULTILINE) or "no task is live" in reader.said

        def done():
            shown = reader.shell(f"source {reader.folder}/state; wasq logs --json")
            records = [json.loads(line) for line in shown.splitlines() if '"outcome"' in line]
            return {record["id"] for record in records if record["then"] == "done"} >= {"order-7"} and len(records) >= 2

        wait_for(done, "two runs", 180)
    elif "wasq status" in block:
        assert "0 waiting" in printed and re.search(r"hello order-7 #1  done", printed)
        assert "greeting" in printed, "the log line of the task"
    elif block.startswith("wasq doctor"):
        assert printed == "wasq in eu-west-1: no problem found\n"
    elif "wasq pause" in block:
        assert "wasq is paused" in printed and "wasq goes on" in printed
    elif "wasq push" in block:
        assert re.search(r"^hello is live, version [12], after ", printed)
    elif "wasq rollback" in block:
        assert re.search(r"^hello is live, version [34], after ", printed, re.MULTILINE)
    elif "wasq destroy" in block:
        assert "Kept, with everything in them" in printed and "wasq is gone. SQS accepts" in printed


def many(value):
    return value if isinstance(value, list) else [value]


def test_the_deployers_policy_covers_what_cloudformation_calls():
    """The schemas of the resource types name the permissions that CloudFormation needs from the deployer."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    # Permissions for features that the template does not use.
    elsewhere = re.compile(
        "(ec2|elasticfilesystem|firehose|kinesis|kms|s3files|s3tables):|s3:(REST|ListTagsForResource)|iam:(.*PermissionsBoundary|CreateServiceLinkedRole)"
        "|lambda:(GetLayerVersion|.*CodeSigningConfig|PassCapacityProvider)|logs:(CreateLogDelivery|.*ResourcePolic)"
    )
    template = (ROOT / "deploy" / "template.yaml").read_text()
    policy = json.loads((ROOT / "deploy" / "deployer-policy.json").read_text())
    # Resources for the permissions of each service. An event source mapping has no name of its own.
    about = {
        "cloudwatch": ["arn:aws:cloudwatch:eu-west-1:1:alarm:wasq-x", "arn:aws:cloudwatch::1:dashboard/wasq"],
        "dynamodb": ["arn:aws:dynamodb:eu-west-1:1:table/wasq-x"],
        "iam": ["arn:aws:iam::1:role/wasq-x"],
        "lambda": ["arn:aws:lambda:eu-west-1:1:function:wasq-x"],
        "logs": ["arn:aws:logs:eu-west-1:1:log-group:/aws/lambda/wasq-x"],
        "s3": ["arn:aws:s3:::wasq-x"],
        "scheduler": ["arn:aws:scheduler:eu-west-1:1:schedule/default/wasq-x"],
        "sqs": ["arn:aws:sqs:eu-west-1:1:wasq-x"],
    }
    mapping = "arn:aws:lambda:eu-west-1:1:event-source-mapping:5e1f"

    def allowed(action, resource):
        return any(
            any(fnmatch.fnmatchcase(action, pattern) for pattern in many(statement["Action"]))
            and any(fnmatch.fnmatchcase(resource, pattern) for pattern in many(statement["Resource"]))
            for statement in policy["Statement"]
        )

    for kind in set(re.findall(r"^    Type: (AWS::\S+)$", template, re.MULTILINE)):
        handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema["handlers"]
        for handler in ("create", "read", "update", "delete"):
            for permission in handlers.get(handler, {}).get("permissions", []):
                if elsewhere.match(permission):
                    continue
                service = permission.split(":")[0]
                resources = about[service]
                if kind == "AWS::Lambda::EventSourceMapping" and service == "lambda":
                    resources = [mapping]
                covered = any(allowed(permission, resource) for resource in resources)
                assert covered, f"{kind}, {handler}: {permission}"
