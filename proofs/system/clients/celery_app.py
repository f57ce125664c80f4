"""A Celery application on the queue at ENDPOINT. As a program it sends 20 tasks; a worker writes their results to DONE."""

import os

from celery import Celery

app = Celery("app", broker=os.environ["ENDPOINT"].replace("http://", "sqs://x:x@") + "//")
app.conf.update(
    task_default_queue="celery",
    broker_connection_retry_on_startup=True,
    broker_transport_options={
        "region": "us-east-1",
        "is_secure": False,
        "polling_interval": 0.1,
        "wait_time_seconds": 1,
    },
)


@app.task
def square(number):
    with open(os.environ["DONE"], "a") as done:
        done.write(f"{number * number}\n")


if __name__ == "__main__":
    for number in range(20):
        square.delay(number)
