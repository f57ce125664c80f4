"""Compares one run of the consumer with a plain receive-delete loop of the same client: `cargo xtask drain`.

It measures how fast each of them drains a queue. Both are separate processes. They run one after the other,
several times, on the same SQS endpoint: that of `wasq dev`, and then MiniStack's. A run of the consumer lasts
from its invoke until the last message is deleted. The worker that deletes the messages accepts at once, and
its tasks take no time. So a run makes every call that the plain loop makes, and the invokes as well.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from chaos import Process, answers, dev_process, queue_of_mini_stack
from conftest import CREDENTIALS, ROOT, aws_client, free_port
from lambda_stand_in import StandIn

MEASURE = ROOT / "target" / "measure"
RECEIVERS = 8


def fill(sqs, name, count):
    """Makes a queue with `count` messages."""
    queue = sqs.create_queue(QueueName=name, Attributes={"VisibilityTimeout": "3600"})["QueueUrl"]
    for first in range(0, count, 10):
        entries = [
            {"Id": str(i), "MessageBody": json.dumps({"task": "hello", "params": {"number": first + i}})} for i in range(10)
        ]
        assert not sqs.send_message_batch(QueueUrl=queue, Entries=entries).get("Failed")
    return queue


def environment(url, stand_in):
    services = f"http://127.0.0.1:{stand_in.port}"
    return {
        **CREDENTIALS,
        "PATH": os.environ["PATH"],
        "AWS_REGION": CREDENTIALS["AWS_DEFAULT_REGION"],
        "AWS_ENDPOINT_URL": services,
        "AWS_ENDPOINT_URL_SQS": url,
    }


def plain(url, queue, stand_in, loops):
    command = [MEASURE / "examples" / "plain_loop", queue, str(loops)]
    did = json.loads(subprocess.check_output(command, env=environment(url, stand_in)))
    return did["messages"] / did["seconds"], did["messages"]


def consumer(url, queue, stand_in, folder, workers=()):
    """One run of the real consumer, until the queue is empty. `workers`: how long their tasks take, and how many there are."""
    worker = subprocess.Popen(
        [MEASURE / "examples" / "instant_worker", queue, *map(str, workers)], env=environment(url, stand_in), stdout=subprocess.PIPE, text=True
    )
    port = int(worker.stdout.readline())
    function = {
        "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{port}",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{stand_in.runtime_ports['wasq-consumer']}",
        "AWS_LAMBDA_FUNCTION_NAME": "wasq-consumer",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
        "AWS_LAMBDA_FUNCTION_VERSION": "1",
        "WASQ_LOG": "info",
        "WASQ_QUEUE_URL": queue,
        "WASQ_WORKER_FUNCTION": "wasq-worker",
        "WASQ_LEASE": "1h",
        "WASQ_RECEIVERS": str(RECEIVERS),
        "WASQ_MODE": "until-empty",
    }
    answered = len(stand_in.answers)
    process = Process(
        "wasq-consumer", [MEASURE / "wasq-consumer"], folder / "consumer.log", environment(url, stand_in) | function
    )
    try:
        # The function is warm: it waits for its invoke.
        time.sleep(0.5)
        invoked = time.time()
        stand_in.invoke("wasq-consumer")
        while len(stand_in.answers) == answered:
            time.sleep(0.01)
        _, kind, answer = stand_in.answers[-1]
        assert kind == "response" and answer["received"] == answer["handed_over"], answer
        assert not answer["given_back"] and not answer["unknown"], answer
        deadline = time.monotonic() + 60
        while (did := json.loads(urllib.request.urlopen(f"http://127.0.0.1:{port}/").read()))["deleted"] < answer["received"]:
            assert time.monotonic() < deadline, f"the worker deleted {did['deleted']} of {answer['received']}"
            time.sleep(0.01)
    finally:
        process.end()
        worker.kill()
    return did["deleted"] / (did["last"] - invoked), did["deleted"]


def compare(name, url, stand_in, folder, options):
    sqs = aws_client("sqs", url)
    ways = {
        "plain loop": lambda queue: plain(url, queue, stand_in, 1),
        f"{RECEIVERS} plain loops": lambda queue: plain(url, queue, stand_in, RECEIVERS),
        "consumer": lambda queue: consumer(url, queue, stand_in, folder),
    }
    rates = {way: [] for way in ways}
    for round_ in range(options.rounds):
        for number, (way, measure) in enumerate(ways.items()):
            queue = fill(sqs, f"drain-{round_}-{number}", options.messages)
            rate, messages = measure(queue)
            assert messages == options.messages, (way, messages)
            rates[way].append(rate)
            sqs.delete_queue(QueueUrl=queue)
    print(f"\n{name}: {options.messages} messages, median of {options.rounds} rounds")
    ours = statistics.median(rates["consumer"])
    for way, measured in rates.items():
        rate = statistics.median(measured)
        spread = f"{min(measured):,.0f} - {max(measured):,.0f}"
        print(f"  {way:<16} {rate:>9,.0f} messages/s   ({spread})   consumer: {ours / rate:.2f} of it", flush=True)
    one, several = (statistics.median(rates[way]) for way in ("plain loop", f"{RECEIVERS} plain loops"))
    return {"plain": one, "several": several, "consumer": ours}


def busy_workers(url, stand_in, folder, options):
    """100 workers that run 10 tasks of a second at once: no drain can be faster than they are."""
    queue = fill(aws_client("sqs", url), "drain-busy", options.messages)
    rate, messages = consumer(url, queue, stand_in, folder, (1000, 100))
    limit = messages / 1000
    print(f"\n100 workers, 10 tasks of 1 s at once in each: {messages} messages in {messages / rate:.2f} s; the limit is {limit:.2f} s")


def main():
    parser = argparse.ArgumentParser(prog="cargo xtask drain", description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["own-queue", "ministack"])
    parser.add_argument("--write", type=Path, help="a file for the rates on the own queue")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="wasq-drain-"))
    stand_in = StandIn({"wasq-consumer": 600}, folder)
    port, cloud_port = free_port(), free_port()
    (folder / "tasks").mkdir()
    try:
        if options.only != "ministack":
            dev = dev_process(folder, port, MEASURE)
            try:
                answers(f"http://127.0.0.1:{port}/", dev)
                found = compare("SQS endpoint of wasq dev", f"http://127.0.0.1:{port}", stand_in, folder, options)
                busy_workers(f"http://127.0.0.1:{port}", stand_in, folder, options)
            finally:
                dev.end()
            if options.write:
                options.write.write_text(json.dumps(found))
        if options.only != "own-queue":
            cloud = queue_of_mini_stack(folder, cloud_port)
            try:
                answers(f"http://127.0.0.1:{cloud_port}/_ministack/health", cloud)
                compare("MiniStack", f"http://127.0.0.1:{cloud_port}", stand_in, folder, options)
            finally:
                cloud.end()
    finally:
        stand_in.close()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
