"""Kills processes again and again, and counts the messages that are lost: `cargo xtask chaos`.

The processes, the queues and the guest are real. A server that is never killed counts every run of the guest:

  one process     all of `wasq dev`: queue, consumer, worker and publisher die together
  own queue       the Lambda binaries as separate processes, on the SQS endpoint of `wasq dev`
  MiniStack       the same on the SQS of MiniStack

Each run has an effect: a request with an idempotency key, which a ledger carries out once for each key. In one process, and on
MiniStack, a table of runs remembers every run, and the task says `once`.

A message is accepted when SendMessageBatch has answered for it. At the end, an accepted message must have a
finished run or be in the dead-letter queue, as intended. The task queue must be empty.
"""

import argparse
import collections
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from conftest import BINARIES, CREDENTIALS, GUESTS, aws_client, free_port, mini_stack_environment
from lambda_stand_in import StandIn

LEASE_SECONDS = 6
SETTINGS = """max_attempts = 20
once = {once}
timeout = "5s"
backoff = {{ base = "100ms", cap = "1s" }}
allow_hosts = ["http://127.0.0.1:{port}"]
"""
FUNCTIONS = {"wasq-consumer": 20, "wasq-worker": 30}
WORKERS = 4
# The longest time that a scenario may take to end after the last kill.
PATIENCE_SECONDS = 300


class Process:
    """A process that is started again after each kill."""

    def __init__(self, kind, command, log, environment):
        self.kind, self.command, self.log, self.environment = kind, command, log, environment
        self.kills = 0
        self.start()

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self):
        """Kills the process; returns True if it was alive."""
        alive = self.process.poll() is None
        if alive:
            os.kill(self.process.pid, signal.SIGKILL)
            self.kills += 1
        self.process.wait()
        return alive

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def answers(url, process, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).read()
            return
        except urllib.error.HTTPError:
            # An HTTP error is an answer as well.
            return
        except OSError:
            pass
        assert process.process.poll() is None, f"{process.kind} ended; see {process.log}"
        assert time.monotonic() < deadline, f"no answer from {url}"
        time.sleep(0.02)


class Sender(threading.Thread):
    """Sends each message until the queue confirms it; spreads the messages over the time of the kills."""

    def __init__(self, sqs, queue_url, visits, count, progress):
        super().__init__(daemon=True)
        self.sqs, self.queue_url, self.visits, self.count, self.progress = sqs, queue_url, visits, count, progress
        self.visiting, self.children, self.dying = set(), set(), set()

    def message(self, number):
        name = f"m{number}"
        kind = number % 50
        if kind == 0:
            self.dying.add(name)
            return {"verb": "reject", "reason": "as sent"}
        if kind == 1:
            self.dying.add(name)
            return {"verb": "raw", "text": "no JSON"}
        self.visiting.add(name)
        params = {"verb": "visit", "url": f"{self.visits}/{name}"}
        if kind == 2:
            params["children"] = 3
            self.children |= {f"{name}.{i}" for i in range(3)}
        return params

    def run(self):
        for first in range(0, self.count, 10):
            entries = {
                str(number): json.dumps({"task": "verbs", "id": f"m{number}", "params": self.message(number)})
                for number in range(first, min(first + 10, self.count))
            }
            while entries:
                batch = [{"Id": number, "MessageBody": body} for number, body in entries.items()]
                with contextlib.suppress(Exception):
                    for done in self.sqs.send_message_batch(QueueUrl=self.queue_url, Entries=batch).get("Successful", []):
                        del entries[done["Id"]]
                if entries:
                    time.sleep(0.05)
            # The sender is not faster than the kills, so that each kill hits messages that are running.
            while first / self.count > self.progress():
                time.sleep(0.02)


def counts(sqs, queue_url):
    names = [f"ApproximateNumberOfMessages{name}" for name in ("", "NotVisible", "Delayed")]
    got = sqs.get_queue_attributes(QueueUrl=queue_url, AttributeNames=["All"])["Attributes"]
    return [int(got.get(name, 0)) for name in names]


def dead_letters(sqs, queue_url):
    """The kind of each dead letter, by id."""
    kinds = {}
    while got := sqs.receive_message(
        QueueUrl=queue_url, MaxNumberOfMessages=10, WaitTimeSeconds=1, MessageAttributeNames=["All"]
    ).get("Messages"):
        for message in got:
            attributes = message.get("MessageAttributes", {})
            text = lambda name: attributes.get(name, {}).get("StringValue")
            kinds[text("wasq.id") or json.loads(message["Body"])["id"]] = text("wasq.kind") or "redrive policy"
            sqs.delete_message(QueueUrl=queue_url, ReceiptHandle=message["ReceiptHandle"])
    return kinds


def strike(scenario, options, victims, recover, sqs, queue_url, dead_letter_url, stand_in, idle, seed):
    """Sends, kills, waits for the end, and returns the counts. `recover` starts a victim again."""
    chance = random.Random(seed)
    started = time.monotonic()
    kills = 0
    sender = Sender(
        sqs, queue_url, f"http://127.0.0.1:{stand_in.port}/visit", options.messages, lambda: kills / options.kills
    )
    sender.start()
    while kills < options.kills or sender.is_alive():
        time.sleep(chance.uniform(0.05, 0.5))
        victim = chance.choice(victims)
        if kills < options.kills and victim.kill():
            kills += 1
            recover(victim)
            if sys.stderr.isatty():
                print(f"\r{scenario}: {kills} of {options.kills} kills", end="", file=sys.stderr, flush=True)
    struck = time.monotonic()
    quiet = 0
    while quiet < 3:
        time.sleep(0.5)
        quiet = quiet + 1 if idle() and counts(sqs, queue_url) == [0, 0, 0] else 0
        if time.monotonic() > struck + PATIENCE_SECONDS:
            print(f"{scenario}: not empty after {PATIENCE_SECONDS} s: {counts(sqs, queue_url)}")
            break
    dead = dead_letters(sqs, dead_letter_url)
    wanted = sender.visiting | sender.children
    visits = stand_in.visits
    lost = sorted(name for name in wanted if not stand_in.done[name] and name not in dead)
    lost += sorted(name for name in sender.dying if name not in dead)
    return {
        "scenario": scenario,
        "seed": seed,
        "messages": options.messages,
        "children": len(sender.children),
        "kills": dict(collections.Counter({v.kind: sum(w.kills for w in victims if w.kind == v.kind) for v in victims})),
        "runs begun": sum(visits[name] for name in wanted),
        "runs cut off": sum(visits[name] - stand_in.done[name] for name in wanted),
        "requests repeated": sum(max(0, stand_in.done[name] - 1) for name in wanted),
        "messages with more than one effect": sum(len(stand_in.effects[name]) > 1 for name in wanted),
        "dead letters": dict(collections.Counter(dead.values())),
        # A message that three kills have hit is given up, and that is right.
        "healthy among them": len([name for name, kind in dead.items() if name in wanted and kind != "killed-worker"]),
        "waiting": sum(counts(sqs, queue_url)),
        "lost": len(lost),
        "which": lost[:10],
        "seconds": round(time.monotonic() - started, 1),
    }


def dev_process(folder, port, binaries=BINARIES):
    command = [binaries / "wasq", "dev", "--listen", f"127.0.0.1:{port}", "--concurrency", "32"]
    command += ["--lease", f"{LEASE_SECONDS}s", "--tasks", folder / "tasks", "--data", folder / "data", "--log", "warn"]
    command += ["--allow-address", "127.0.0.1"]
    return Process("wasq dev", command, folder / "dev.log", {"PATH": os.environ["PATH"], "HOME": str(folder)})


def publish(folder, port, stand_in, once="true"):
    tasks = folder / "tasks"
    tasks.mkdir(parents=True)
    (tasks / "verbs.toml").write_text(SETTINGS.format(port=stand_in.port, once=once))
    shutil.copy(GUESTS / "verbs.wasm", tasks / "verbs.wasm")


def one_process(folder, options):
    """All of `wasq dev` as one process."""
    stand_in, port = StandIn({}, folder / "data" / "registry"), free_port()
    publish(folder, port, stand_in)
    dev = dev_process(folder, port)
    try:
        answers(f"http://127.0.0.1:{port}/", dev)
        sqs = aws_client("sqs", f"http://127.0.0.1:{port}")

        def recover(victim):
            victim.start()
            answers(f"http://127.0.0.1:{port}/", victim)

        queue, dead = (f"http://127.0.0.1:{port}/000000000000/{name}" for name in ("wasq", "wasq-dead-letters"))
        return strike("one process", options, [dev], recover, sqs, queue, dead, stand_in, lambda: True, options.seed)
    finally:
        dev.end()
        stand_in.close()


def lambda_binaries(scenario, folder, options, sqs_url, stand_in, also=(), **variables):
    """The consumer and four workers on the SQS at `sqs_url`."""
    sqs = aws_client("sqs", sqs_url)
    dead = sqs.create_queue(QueueName="chaos-dead", Attributes={"MessageRetentionPeriod": "1209600"})["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 1000})
    attributes = {"VisibilityTimeout": str(LEASE_SECONDS), "RedrivePolicy": redrive}
    queue = sqs.create_queue(QueueName="chaos", Attributes=attributes)["QueueUrl"]
    services = f"http://127.0.0.1:{stand_in.port}"
    environment = {
        **CREDENTIALS,
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "AWS_REGION": CREDENTIALS["AWS_DEFAULT_REGION"],
        "AWS_ENDPOINT_URL": services,
        "AWS_ENDPOINT_URL_SQS": sqs_url,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "AWS_LAMBDA_LOG_GROUP_NAME": "chaos",
        "AWS_LAMBDA_LOG_STREAM_NAME": "chaos",
        "WASQ_LOG": "error",
        "WASQ_QUEUE_URL": queue,
        "WASQ_DEAD_LETTER_URL": dead,
        "WASQ_LEASE": f"{LEASE_SECONDS}s",
        "WASQ_WORKER_FUNCTION": "wasq-worker",
        "WASQ_REGISTRY_BUCKET": "registry",
        "WASQ_ALLOW_ADDRESSES": "127.0.0.1",
        "WASQ_MODE": "window",
    } | variables
    victims = []
    for number, name in enumerate(["wasq-consumer"] + ["wasq-worker"] * WORKERS):
        api = {"AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{stand_in.runtime_ports[name]}", "AWS_LAMBDA_FUNCTION_NAME": name}
        cache = {"WASQ_CACHE_DIR": str(folder / f"cache-{number}")}
        log = folder / f"{name}-{number}.log"
        victims.append(Process(name, [BINARIES / name], log, environment | api | cache))
    ended = threading.Event()

    def schedule():
        # One consumer runs at a time. The next one is invoked when the last one has answered or was killed.
        while not ended.wait(0.2):
            begun = stand_in.accepted["wasq-consumer"] - len([a for a in stand_in.answers if a[0] == "wasq-consumer"])
            if begun <= victims[0].kills:
                stand_in.invoke("wasq-consumer")

    threading.Thread(target=schedule, daemon=True).start()
    try:
        idle = lambda: not stand_in.busy()
        return strike(
            scenario, options, victims, lambda victim: victim.start(), sqs, queue, dead, stand_in, idle, options.seed
        )
    finally:
        ended.set()
        for process in [*victims, *also]:
            process.end()


def registry(folder, dev, stand_in):
    """Waits until the publisher of `wasq dev` has made the registry that the workers read."""
    live = folder / "data" / "registry" / "live" / "verbs.json"
    deadline = time.monotonic() + 60
    while not live.exists():
        assert dev.process.poll() is None and time.monotonic() < deadline, f"nothing is live; see {dev.log}"
        time.sleep(0.05)


def own_queue(folder, options):
    """The Lambda binaries on the SQS endpoint of `wasq dev`."""
    stand_in, port = StandIn(FUNCTIONS, folder / "data" / "registry"), free_port()
    # There is no table of runs.
    publish(folder, port, stand_in, once="false")
    dev = dev_process(folder, port)
    try:
        answers(f"http://127.0.0.1:{port}/", dev)
        registry(folder, dev, stand_in)
        return lambda_binaries("own queue", folder, options, f"http://127.0.0.1:{port}", stand_in)
    finally:
        dev.end()
        stand_in.close()


def queue_of_mini_stack(folder, port):
    """A MiniStack with nothing but SQS and DynamoDB."""
    environment = mini_stack_environment(folder, port) | {"SERVICES": "sqs,dynamodb"}
    return Process("MiniStack", [Path(sys.executable).with_name("ministack")], folder / "ministack.log", environment)


def mini_stack(folder, options):
    """The Lambda binaries on MiniStack's SQS."""
    stand_in, dev_port, port = StandIn(FUNCTIONS, folder / "data" / "registry"), free_port(), free_port()
    publish(folder, dev_port, stand_in)
    dev = dev_process(folder, dev_port)
    url = f"http://127.0.0.1:{port}"
    cloud = queue_of_mini_stack(folder, port)
    try:
        registry(folder, dev, stand_in)
        dev.end()
        answers(f"{url}/_ministack/health", cloud)
        aws_client("dynamodb", url).create_table(
            TableName="runs",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        )
        variables = {"WASQ_RUNS_TABLE": "runs", "AWS_ENDPOINT_URL_DYNAMODB": url}
        return lambda_binaries("MiniStack", folder, options, url, stand_in, **variables)
    finally:
        dev.end()
        cloud.end()
        stand_in.close()


SCENARIOS = {"one-process": one_process, "own-queue": own_queue, "ministack": mini_stack}


def main():
    parser = argparse.ArgumentParser(prog="cargo xtask chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--messages", type=int, default=20_000, help="messages of each scenario (default 20000)")
    parser.add_argument("--kills", type=int, default=100, help="kills of each scenario (default 100)")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32), help="the seed of the victims and pauses")
    parser.add_argument("--only", choices=SCENARIOS, action="append", help="only this scenario; may be repeated")
    options = parser.parse_args()
    well = True
    for name in options.only or SCENARIOS:
        folder = Path(tempfile.mkdtemp(prefix=f"wasq-chaos-{name}-"))
        result = SCENARIOS[name](folder, options)
        print("\n" + "\n".join(f"{key:<20} {value}" for key, value in result.items()), flush=True)
        if result["lost"] or result["waiting"] or result["healthy among them"] or result["messages with more than one effect"]:
            well = False
            print(f"logs are in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    faults = "MESSAGES WERE LOST, are dead letters without a fault, still wait, or had more than one effect"
    print("\nnothing was lost" if well else f"\n{faults}")
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
