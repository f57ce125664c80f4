"""The task of a module."""

import inspect
from collections.abc import Callable

_registered: list[Callable] = []


def task(function: Callable | None = None) -> Callable:
    """Makes a function the task of its module. It stays the function that it was, for tests and for others to call."""
    if function is None:
        # Written as @task().
        return task
    if not callable(function):
        raise TypeError(f"@task stands above a function, not above {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__}: a task returns its result; it does not yield")
    _registered.append(function)
    return function


def registered() -> Callable:
    """The module's task."""
    if len(_registered) != 1:
        names = ", ".join(getattr(function, "__name__", repr(function)) for function in _registered) or "none"
        raise RuntimeError(f"task.py must have one function with the decorator @task; it has {names}")
    return _registered[0]
