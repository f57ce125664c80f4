"""The task TASK_NAME: {"name": "Ada"} -> {"greeting": "Hello, Ada!"}."""

import logging

from wasq_task import Reject, task


@task
def greet(name: str):
    if not name:
        raise Reject("params.name is empty")
    logging.info("greeting %s", name)
    return {"greeting": f"Hello, {name}!"}
