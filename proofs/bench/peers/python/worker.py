"""A worker like that of the Python example that wasq replaces. Tasks are functions of this file; a failed message is sent again."""

import json
import os

import boto3


def noop(**params):
    return None


TASKS = {"noop": noop}


def handler(event, context):
    try:
        TASKS[event["task"]](**event["params"])
    except Exception:
        queue = boto3.resource("sqs").Queue(os.environ["QUEUE_URL"])
        queue.send_message(MessageBody=json.dumps(event))
