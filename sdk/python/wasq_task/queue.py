"""Child tasks, sent when this run has succeeded."""

from typing import Any

from .failures import Outside, whole_seconds
from .results import to_json

try:
    from componentize_py_types import Err as _Err
    from wasq_world.imports import queue as _host
except ImportError:  # Not in a component.
    _Err = ()
    _host = Outside("wasq_task.enqueue")


class EnqueueError(Exception):
    """A child was not accepted; the text says why."""


def enqueue(task: str, params: Any = None, *, delay: float | None = None, id: str | None = None) -> str:
    """Enqueues a message for a task, and returns its id. Children are dropped if this run does not succeed.

    The child runs no sooner than `delay` seconds from now (up to 366 days). Without an `id`, one is derived
    from the parent's id, so that a parent that runs twice sends the same id.
    """
    text = to_json({} if params is None else params)
    for what, value in (("task", task), ("id", id)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{what}: expected a str, found {value!r}")
    delay = None if delay is None else whole_seconds(delay)
    # JSON can contain half a surrogate pair, which is not valid text and so not a valid task name.
    task, id = (value and value.encode(errors="replace").decode() for value in (task, id))
    try:
        return _host.enqueue(task, text, _host.EnqueueOptions(delay, id))
    except _Err as error:
        raise EnqueueError(f"enqueue a child: {_reason(error.value)}") from None


def _reason(error):
    if isinstance(error, _host.EnqueueError_Invalid):
        return error.value
    if isinstance(error, _host.EnqueueError_TooMany):
        return f"this run has sent {error.value}, and may send no more"
    return f"it would have more than {error.value} parents above it"
