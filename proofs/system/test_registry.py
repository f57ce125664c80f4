"""`wasq push`, `tasks`, `rollback` and `rm`, on one machine and on a deployment."""

import json
import os
import resource
import shutil
import time
from datetime import datetime

import pytest

from conftest import CORE_MODULE, GUESTS, Cloud, wait_for


class Here:
    """A user with a folder of components and a running `wasq dev`."""

    def __init__(self, dev):
        self.dev, self.folder = dev, dev.folder

    def wasq(self, *args, code=0):
        return self.dev.wasq(*args, "--json", code=code)

    def run(self, task, params):
        return self.wasq("enqueue", task, "--params", json.dumps(params), "--wait", code=None)["result"]

    def is_unknown(self, task):
        self.dev.send({"task": task})
        return wait_for(lambda: self.dev.logged(f"no task named {task} is live"), "a message without a task")


class There:
    """The same, with a deployment."""

    def __init__(self, cloud, outputs, stack):
        self.cloud, self.folder, self.outputs, self.stack = cloud, cloud.folder, outputs, stack

    def wasq(self, *args, code=0):
        return json.loads(self.cloud.shell(f"wasq {' '.join(args)} --json --stack {self.stack}", code=code))

    def run(self, task, params):
        """Runs the task by a direct invoke, which is answered. The worker caches a live record for 1 s."""
        time.sleep(1.1)
        payload = json.dumps({"task": task, "params": params})
        invoke = self.cloud.client("lambda").invoke
        return json.loads(invoke(FunctionName=self.outputs["WorkerFunction"], Payload=payload)["Payload"].read())

    def is_unknown(self, task):
        return wait_for(lambda: self.run(task, {}).get("kind") == "unknown-task", "a task that is unknown")


@pytest.fixture(scope="module")
def deployed(functions, stand_in, tmp_path_factory):
    cloud = Cloud(stand_in, tmp_path_factory.mktemp("registry"))
    return There(cloud, cloud.deploy(functions, "registry", "--longest-task 1m --mode until-empty"), "registry")


@pytest.fixture(params=["here", "there"])
def user(request):
    if request.param == "here":
        return Here(request.getfixturevalue("dev"))
    return request.getfixturevalue("deployed")


def put(user, guest, name="task", settings=None):
    shutil.copy(GUESTS / f"{guest}.wasm", user.folder / f"{name}.wasm")
    path = user.folder / f"{name}.toml"
    path.unlink(missing_ok=True)
    if settings is not None:
        path.write_text(settings)
    return str(user.folder / f"{name}.wasm")


def put_settings(user, task, text):
    """Puts settings alone into the tasks bucket or folder, as a user may do."""
    if isinstance(user, Here):
        (user.dev.tasks / f"{task}.toml").write_text(text)
    else:
        bucket = user.outputs["TasksBucketName"]
        user.cloud.client("s3").put_object(Bucket=bucket, Key=f"{task}.toml", Body=text.encode())


def test_versions_come_and_go(user):
    file = put(user, "hello")
    first = user.wasq("push", file, "--wait")["live"]
    assert first["version"] == 1 and user.run("task", {"a": 1})["output"] == {"hello": {"a": 1}}
    # The same upload again changes nothing.
    assert user.wasq("push", file, "--wait")["live"]["version"] == 1
    second = user.wasq("push", put(user, "verbs", settings='timeout = "7s"'), "--wait")["live"]
    assert second["settings"]["timeout"] == "7s" and second["digest"] != first["digest"]
    assert user.run("task", {"verb": "echo", "value": 2})["output"] == 2
    # Without settings, those of the last upload stay.
    assert user.wasq("push", put(user, "verbs"), "--wait")["live"]["settings"]["timeout"] == "7s"

    back = user.wasq("rollback", "task", "1", "--wait")["live"]
    assert (back["digest"], back["settings"]) == (first["digest"], first["settings"])
    assert back["artifacts"] == first["artifacts"], "it was not compiled again"
    assert user.run("task", {"a": 1})["output"] == {"hello": {"a": 1}}
    told = user.wasq("tasks", "task")["live"]
    known = [told["version"], *(version["version"] for version in told["history"])]
    assert known == sorted(known, reverse=True) and known[-1] == 1 and len(known) >= 3

    user.wasq("rm", "task", "--wait")
    listed = user.wasq("tasks", "task")
    assert listed["live"] is None and listed["removed"]["version"] == back["version"]
    assert user.is_unknown("task")
    again = user.wasq("rollback", "task", "--wait")["live"]
    assert again["digest"] == first["digest"] and again["version"] == back["version"] + 1
    assert user.run("task", {"a": 1})["output"] == {"hello": {"a": 1}}
    user.wasq("rm", "task", "--wait")


def moment(rejection):
    """Its time. As texts, times do not have their order: zeros at the end are left out."""
    return datetime.fromisoformat(rejection["at"])


def test_what_is_refused(user):
    shutil.copy(GUESTS / "hello.wasm", user.folder / "odd.wasm")
    (user.folder / "odd.toml").write_text('[secrets]\nTOKEN = "ssm:/registry/nothing"')
    refused = user.wasq("push", str(user.folder / "odd.wasm"), "--name", "refused", "--wait", code=1)["rejected"]
    assert "the secret TOKEN (ssm:/registry/nothing)" in refused["reason"]
    # On AWS, the settings and the module are two events: the same upload may be refused twice.
    shown = user.wasq("tasks", "refused")["rejected"]
    assert moment(shown) >= moment(refused) and {**shown, "at": refused["at"]} == refused
    # The same upload again is refused again, with a new time.
    again = user.wasq("push", str(user.folder / "odd.wasm"), "--name", "refused", "--wait", code=1)["rejected"]
    assert moment(again) > moment(refused)
    user.wasq("rm", "refused", "--wait")
    assert "no task named refused" in user.wasq("tasks", "refused", code=2)["error"]
    # Settings that stay from the last upload are checked as well.
    user.wasq("push", put(user, "hello", "stays"), "--wait")
    put_settings(user, "stays", '[secrets]\nTOKEN = "ssm:/registry/nothing"')
    wait_for(lambda: user.wasq("tasks", "stays")["rejected"], "refusal of the settings")
    assert "TOKEN" in user.wasq("push", put(user, "hello", "stays"), "--wait", code=1)["rejected"]["reason"]
    put_settings(user, "stays", "timeout = 5")
    assert "stays.toml, which was uploaded before" in user.wasq("push", put(user, "hello", "stays"), code=2)["error"]
    (user.folder / "core.wasm").write_bytes(CORE_MODULE)
    assert "does not fit" in user.wasq("push", str(user.folder / "core.wasm"), code=2)["error"]
    for command in (["rollback", "nobody"], ["rm", "nobody"], ["tasks", "nobody"]):
        assert "no task named nobody" in user.wasq(*command, code=2)["error"]
    user.wasq("push", put(user, "hello", "once"), "--wait")
    assert "has only one version" in user.wasq("rollback", "once", code=2)["error"]
    assert "has no version 5; there are 1" in user.wasq("rollback", "once", "5", code=2)["error"]


def test_nobody_publishes(new_dev):
    new_dev.start()
    user = Here(new_dev)
    file = put(user, "hello")
    new_dev.stop()
    assert "`wasq dev` does not run" in user.wasq("push", file, "--wait", code=2)["error"]
    new_dev.start()
    wait_for(lambda: user.wasq("tasks", "task")["live"], "live task after the restart")
    new_dev.stop()
    user.wasq("rm", "task")
    new_dev.start()
    wait_for(lambda: user.wasq("tasks", "task")["removed"], "removed task after the restart")


def test_a_file_that_is_deleted_takes_its_task_along(dev):
    dev.publish("hello")
    (dev.tasks / "hello.wasm").unlink()
    wait_for(lambda: dev.listed("hello")["live"] is None, "removal")
    dev.publish("hello")
    assert dev.listed("hello")["live"]["version"] == 2


def test_no_room_for_an_upload(new_dev):
    # A bound for the size of each file is as a full disk: the artifact is the largest one.
    dev = new_dev.start()
    limits = resource.prlimit(dev.process.pid, resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    shutil.copy(GUESTS / "verbs.wasm", dev.folder / "verbs.wasm")
    answer = dev.wasq("push", "verbs.wasm", "--wait", "--json", code=1)
    assert answer["rejected"]["fault"] and answer["rejected"]["reason"].startswith("write ")
    assert "File too large" in answer["rejected"]["reason"]
    assert dev.process.poll() is None
    # With room, it is published without another upload.
    resource.prlimit(dev.process.pid, resource.RLIMIT_FSIZE, limits)
    wait_for(lambda: dev.listed("verbs")["live"], "live verbs")
    assert dev.listed("verbs")["rejected"] is None


def costly(calls):
    """A component whose one function is so long that compiling it takes long: `calls` calls through a table."""

    def leb(number):
        encoded = bytearray()
        while True:
            number, low = number >> 7, number & 0x7F
            encoded.append(low | (0x80 if number else 0))
            if not number:
                return bytes(encoded)

    def section(kind, content):
        return bytes([kind]) + leb(len(content)) + content

    code = b"\0" + b"\x20\0\x11\0\0" * calls + b"\x0b"
    module = b"\0asm\1\0\0\0" + b"".join(
        [
            section(1, b"\2\x60\0\0\x60\1\x7f\0"),
            section(3, b"\1\1"),
            section(4, b"\1\x70\0\x0a"),
            section(10, b"\1" + leb(len(code)) + code),
        ]
    )
    return b"\0asm\x0d\0\1\0" + section(1, module)


def test_an_upload_that_takes_long_to_compile_holds_nothing_up(new_dev):
    (new_dev.tasks / "slow.wasm").write_bytes(costly(100_000))
    # Not at the start, not other uploads and their runs, and not at the end.
    dev = new_dev.start()
    dev.publish("hello")
    assert dev.wasq("enqueue", "hello", "--wait", "--json")["result"]["outcome"] == "success"
    assert dev.listed("slow") == {"live": None, "rejected": None}
    assert dev.stop() == 0


def test_what_is_no_upload(dev):
    """Files of the tasks folder that anybody may have put there."""
    secret = dev.folder / "secret.txt"
    secret.write_text("password = hunter2\n")
    os.mkfifo(dev.tasks / "fifo.wasm")
    (dev.tasks / "folder.wasm").mkdir()
    (dev.tasks / "link.wasm").symlink_to(GUESTS / "hello.wasm")
    (dev.tasks / "settings.toml").symlink_to(secret)
    shutil.copy(GUESTS / "hello.wasm", dev.tasks / "settings.wasm")
    (dev.tasks / "large.toml").write_bytes(b"#" * (256 << 10) + b"\n")
    shutil.copy(GUESTS / "hello.wasm", dev.tasks / "large.wasm")
    # A link inside of the folder is as good as a file.
    (dev.tasks / "inside.wasm").symlink_to("settings.wasm")
    expected = {
        "fifo": "fifo.wasm: it is no regular file",
        "folder": "folder.wasm: it is no regular file",
        "link": "link.wasm: it is a link that leads out of the tasks folder: copy the file",
        "settings": "settings.toml: it is a link that leads out of the tasks folder: copy the file",
        "large": "large.toml: it has more than 262144 bytes, the most that is read",
    }
    for task, reason in expected.items():
        rejected = wait_for(lambda: dev.listed(task)["rejected"], f"a refusal of {task}")
        assert rejected["reason"] == reason
    wait_for(lambda: dev.listed("inside")["live"], "live inside")
    assert "hunter2" not in dev.log.read_text()
    dev.publish("hello")
    assert dev.wasq("enqueue", "hello", "--wait", "--json")["result"]["outcome"] == "success"
