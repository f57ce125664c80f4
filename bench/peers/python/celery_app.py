"""The same two tasks for Celery, with Redis for its messages and its results; what is not acknowledged comes again."""

import os
import urllib.request

from celery import Celery

redis = os.environ["REDIS_URL"]
app = Celery("bench", broker=redis, backend=redis)
# A task is lost with its worker otherwise: this is as near as Celery comes to what wasq promises.
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True


@app.task
def noop(**params):
    return None


@app.task
def visit(url):
    urllib.request.urlopen(url, timeout=10).read()
