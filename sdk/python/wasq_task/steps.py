"""Steps: parts of a run that a later attempt does not execute again."""

import inspect
import json
from collections.abc import Callable
from typing import Any

from .failures import Outside, Reject, Retry
from .results import to_json

try:
    from componentize_py_types import Err as _Err
    from wasq_world.imports import steps as _host
except ImportError:  # Not in a component.
    _Err = ()
    _host = Outside("wasq_task.step")


def step(name: str, execute: Callable[[], Any]) -> Any:
    """Executes a step, unless an earlier attempt of this message has saved it: then it returns the saved value.

        receipt = step("charge", lambda: http.post(url, json=charge).success().json())

    With an async function, `await step("charge", charge)`. The value is what `json` makes of it, in every attempt,
    and it is stored before this returns. After an exception the step is not saved, and may be executed again. Steps
    run one after the other, and a name is used once in a run. The run can end between the effect of a step and the
    moment in which its value is stored. So let a step do one thing that is safe to repeat: the header
    `idempotency-key` of its requests is the same in every attempt.

    A step that breaks a limit is a `Reject`.
    """
    if not isinstance(name, str):
        raise TypeError(f"name: expected a str, found {name!r}")
    # JSON can contain half a surrogate pair, which is not valid text.
    name = name.encode(errors="replace").decode()
    if inspect.iscoroutinefunction(execute):
        return _awaited(name, execute)
    saved = _call(name, _host.load, name)
    if saved is not None:
        return json.loads(saved)
    try:
        value = execute()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise Reject(f"step {_shown(name)}: pass an async function, not a function that returns an awaitable")
        return _save(name, value)
    except BaseException:
        _host.abandon(name)
        raise


async def _awaited(name, execute):
    saved = _call(name, _host.load, name)
    if saved is not None:
        return json.loads(saved)
    try:
        return _save(name, await execute())
    except BaseException:
        _host.abandon(name)
        raise


def _save(name, value):
    try:
        text = to_json(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise Reject(f"step {_shown(name)}: its value is no JSON: {error}") from error
    _call(name, _host.save, name, text)
    return json.loads(text)


def _call(name, function, *arguments):
    try:
        return function(*arguments)
    except _Err as error:
        why = error.value
        if isinstance(why, _host.StepError_Unavailable):
            raise Retry(why.value) from None
        if isinstance(why, _host.StepError_TooMany):
            raise Reject(f"step {_shown(name)}: this message has saved {why.value} steps, and may save no more") from None
        raise Reject(why.value) from None


def _shown(name):
    return json.dumps(name, ensure_ascii=False)
