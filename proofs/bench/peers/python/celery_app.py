"""The task for Celery, with Redis for its messages. A message without an acknowledgement is delivered again. Nobody asks for results."""

import os
import urllib.request

from celery import Celery

app = Celery("bench", broker=os.environ["REDIS_URL"])
# Without these settings, a task is lost with its worker. This is as near as Celery comes to what wasq
# promises.
app.conf.task_acks_late = True
app.conf.task_reject_on_worker_lost = True


@app.task
def visit(url):
    urllib.request.urlopen(url, timeout=10).read()
