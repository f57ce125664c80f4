"""Information about the run in progress."""

from datetime import datetime, timezone

from .failures import Outside

try:
    from wasq_world.imports import context as _host
except ImportError:  # Not in a component.
    _host = Outside("wasq_task.context")


def id() -> str:
    """The message's id, the same in every attempt: the key for work that must not be done twice."""
    return _host.id()


def task() -> str:
    """The name under which this task was called."""
    return _host.task()


def attempt() -> int:
    """The number of this attempt; the first is 1."""
    return _host.attempt()


def max_attempts() -> int:
    """The number of attempts that the task's settings allow."""
    return _host.max_attempts()


def deadline() -> datetime:
    """The time at which wasq ends this run, in UTC."""
    return datetime.fromtimestamp(_host.deadline() / 1000, timezone.utc)


def parent() -> str | None:
    """The id of the message whose task enqueued this one, if one did."""
    return _host.parent()


def root() -> str:
    """The id of the message at the top of the chain of parents."""
    return _host.root()


def depth() -> int:
    """The number of parents above this message."""
    return _host.depth()


def traceparent() -> str | None:
    """The W3C trace context that came with the message, if one did."""
    return _host.traceparent()
