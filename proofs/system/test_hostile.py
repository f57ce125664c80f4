"""Every hostile guest and every kind of costly component in one `wasq dev` that the system limits to 2 GiB, beside honest tasks."""

import json
import shutil
import subprocess

import pytest

from conftest import BINARIES, GUESTS, wait_for

# It compiles what costs most, and waits for honest runs beside that.
pytestmark = pytest.mark.alone

LIMIT = 2 << 30
# The limits of the guests, as in `proofs/hostile`: small, so that the guests reach them soon.
SETTINGS = """
timeout = "1s"
memory = "32MiB"
max_attempts = 1
allow_hosts = ["http://{server}", "http://169.254.169.254", "http://localhost:1", "http://[::ffff:10.0.0.1]"]
"""
COMPILES_AT_ONCE = 2


@pytest.fixture
def limited_dev(new_dev, monkeypatch):
    """A `wasq dev` in a process whose memory is limited, as the processes are that it starts."""
    program = new_dev.folder / "limited-wasq"
    program.write_text(f'#!/bin/sh\nulimit -d {LIMIT >> 10}\nexec "{BINARIES}/wasq" "$@"\n')
    program.chmod(0o755)
    (new_dev.folder / "bin").mkdir()
    program.rename(new_dev.folder / "bin" / "wasq")
    monkeypatch.setattr("conftest.BINARIES", new_dev.folder / "bin")
    return new_dev


@pytest.fixture
def guests(tmp_path):
    """The hostile guests as files, and the server that some of them call."""
    folder = tmp_path / "guests"
    folder.mkdir()
    process = subprocess.Popen([BINARIES / "wasq-hostile", "serve", folder], stdout=subprocess.PIPE, text=True)
    yield json.loads(process.stdout.readline()) | {"folder": folder}
    process.kill()
    process.wait()


def test_nothing_that_a_sender_or_an_uploader_does_ends_it(limited_dev, guests):
    dev = limited_dev.start("--concurrency", "4")
    with open(f"/proc/{dev.process.pid}/limits") as limits:
        assert any(line.startswith("Max data size") and str(LIMIT) in line for line in limits)
    dev.publish("verbs", "honest")
    settings = SETTINGS.format(server=guests["server"])
    listed = guests["guests"]
    assert len(listed) > 110
    for task in {guest["task"] for guest in listed}:
        (dev.tasks / f"{task}.toml").write_text(settings)
        module = GUESTS / "verbs.wasm" if task == "verbs" else guests["folder"] / f"{task}.wasm"
        shutil.copy(module, dev.tasks)

    def honest(name):
        dev.send({"task": "honest", "id": name, "params": {"verb": "alloc", "mib": 4}})

    # While all of them are compiled, an honest task runs.
    honest("while-it-compiles")
    wait_for(lambda: dev.logged("done", 'id="while-it-compiles"'), "honest run beside the compilations", 30)

    def state():
        tasks = {}
        for listed in dev.wasq("tasks", "--json")["tasks"]:
            name = (listed["live"] or listed["rejected"])["task"]
            tasks[name] = "refused" if listed["rejected"] else "live"
        return tasks

    wanted = {guest["task"]: "refused" if guest["end"] == "refused" else "live" for guest in listed}
    wait_for(lambda: len(state()) == len(wanted) + 1, "answer to each upload", 240)
    found = state()
    assert {task: found[task] for task in wanted if found[task] != wanted[task]} == {}

    runs = [guest for guest in listed if guest["end"] != "refused"]
    for number, guest in enumerate(runs):
        dev.send({"task": guest["task"], "id": f"run-{number}", "params": guest["params"]})
        honest(f"honest-{number}")
    wait_for(lambda: dev.counts() == (0, 0, 0), "end of all messages", 240)

    logged = subprocess.run([BINARIES / "wasq", "logs", "--json"], cwd=dev.folder, capture_output=True, text=True)
    ended = {}
    for record in map(json.loads, logged.stdout.splitlines()):
        if "outcome" in record:
            ended.setdefault(record["id"], []).append(record.get("kind", "success"))
    wrong = {
        guest["name"]: ended.get(f"run-{number}")
        for number, guest in enumerate(runs)
        if ended.get(f"run-{number}") != [guest["end"]]
    }
    assert wrong == {}
    assert all(ended[f"honest-{number}"] == ["success"] for number in range(len(runs)))
    assert dev.process.poll() is None
    with open(f"/proc/{dev.process.pid}/status") as status:
        held = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    print(f"{len(listed)} guests, {len(runs)} runs; the process held {held >> 10} MiB at most")
    assert dev.stop() == 0
