"""Measures the views of the page over a store of many runs: `cargo xtask page`.

A `wasq dev` runs a few messages of each sort. Then their rows in its database are copied until there are as many runs as are asked for,
and each view is asked for, several times.
"""

import argparse
import http.client
import json
import sqlite3
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from conftest import GUESTS, ROOT, aws_client

WASQ = ROOT / "target" / "measure" / "wasq"
SETTINGS = 'max_attempts = 2\nbackoff = { base = "1ms", cap = "1ms" }\n'
VIEWS = {
    "overview": "/",
    "runs, newest": "/runs",
    "runs of a task": "/runs?task=verbs",
    "runs that are dead": "/runs?state=dead",
    "runs of a kind of failure": "/runs?kind=trap",
    "children of a run": "/runs?parent=parent",
    "a task's runs that are dead, of a kind that none has": "/runs?task=verbs&state=dead&kind=out-of-time",
    "runs of a task in a state that none of them has": "/runs?task=hello&state=dead",
    "runs of a task with a failure that none of them has": "/runs?task=hello&kind=trap",
    "one run": "/runs/run-500",
    "tasks": "/tasks",
    "dead letters": "/dead",
    "send": "/send",
}


class Dev:
    def __init__(self, folder):
        command = [WASQ, "dev", "--listen", "127.0.0.1:0", "--json"]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.ready = json.loads(self.process.stdout.readline())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()


def run_some(folder):
    """Runs of every sort, from which the others are copied."""
    tasks = folder / "tasks"
    tasks.mkdir()
    (tasks / "verbs.toml").write_text(SETTINGS)
    (tasks / "verbs.wasm").write_bytes((GUESTS / "verbs.wasm").read_bytes())
    (tasks / "hello.wasm").write_bytes((GUESTS / "hello.wasm").read_bytes())
    with Dev(folder) as dev:
        sqs = aws_client("sqs", dev.ready["endpoint"])
        bodies = [{"task": "hello", "id": f"hello-{number}", "params": {"number": number}} for number in range(90)]
        bodies += [{"task": "verbs", "id": f"trap-{number}", "params": {"verb": "panic", "message": "out of luck"}} for number in range(5)]
        bodies += [{"task": "verbs", "id": f"reject-{number}", "params": {"verb": "reject", "reason": "no"}} for number in range(4)]
        bodies += [{"task": "verbs", "id": "parent", "params": {"verb": "enqueue", "task": "hello", "count": 1, "fail": False}}]
        for body in bodies:
            sqs.send_message(QueueUrl=dev.ready["queue_url"], MessageBody=json.dumps(body))
        deadline = time.monotonic() + 60
        while ended(folder) < 101:
            assert time.monotonic() < deadline, ended(folder)
            time.sleep(0.1)


def ended(folder):
    with sqlite3.connect(f"file:{folder}/.wasq/queue.sqlite?mode=ro", uri=True) as db:
        return db.execute("SELECT count(*) FROM runs WHERE state IN ('done', 'dead')").fetchone()[0]


def copy(folder, runs):
    """Copies the rows until there are so many, each with an id of its own."""
    with sqlite3.connect(folder / ".wasq" / "queue.sqlite") as db:
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(runs)") if name not in ("number", "id", "item")]
        listed = ", ".join(columns)
        db.execute(
            f"""WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?)
                INSERT INTO runs (id, item, {listed})
                SELECT 'run-' || i, json_set(item, '$.id', 'run-' || i), {listed}
                FROM n JOIN (SELECT *, row_number() OVER (ORDER BY number) - 1 AS place FROM runs WHERE id != 'parent') ON place = i % 100""",
            (runs,),
        )
        return db.execute("SELECT count(*) FROM runs").fetchone()[0]


def times(dev, rounds):
    address, _, token = dev.ready["page"].removeprefix("http://").partition("/?token=")
    connection = http.client.HTTPConnection(address, timeout=60)
    headers = {"cookie": f"wasq-page-{address.split(':')[1]}={token}"}
    for name, path in VIEWS.items():
        taken = []
        for _ in range(rounds):
            began = time.perf_counter()
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            size = len(answer.read())
            taken.append((time.perf_counter() - began) * 1000)
            assert answer.status == 200, (name, answer.status)
        yield name, taken[0], statistics.median(taken), max(taken), size


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wasq-page-") as name:
        folder = Path(name)
        run_some(folder)
        count = copy(folder, options.runs)
        with Dev(folder) as dev:
            print(f"{count} runs in the store; {options.rounds} requests of each view, one after the other; in ms\n")
            print("| view | first | median | longest | bytes |\n|---|---|---|---|---|")
            for view, first, median, longest, size in times(dev, options.rounds):
                print(f"| {view} | {first:.1f} | {median:.1f} | {longest:.1f} | {size} |")


if __name__ == "__main__":
    main()
