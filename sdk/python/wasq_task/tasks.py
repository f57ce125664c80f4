"""From a message's params to a function's arguments."""

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

from .failures import Reject

_registered: list[Callable] = []


def task(function: Callable) -> Callable:
    """Makes a function the task of its module. It stays an ordinary function, for tests and for others to call."""
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__name__}: a task is an ordinary function, not an async one")
    _registered.append(function)
    return function


def registered() -> Callable:
    """The module's task."""
    if len(_registered) != 1:
        names = ", ".join(function.__name__ for function in _registered) or "none"
        raise RuntimeError(f"task.py must have one function with the decorator @task; it has {names}")
    return _registered[0]


def call(function: Callable, params: Any) -> Any:
    """Calls a task with a message's params."""
    expected = inspect.signature(function).parameters
    match list(expected.values()):
        case []:
            return function()
        case [only] if only.name == "params" and only.annotation is only.empty:
            return function(params)
    if not isinstance(params, dict):
        raise Reject(f"params: expected an object, found {_json_name(params)}")
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in expected.values())
    for name in params:
        if name not in expected and not takes_any:
            raise Reject(f"params.{name}: unknown; expected {', '.join(expected)}")
    hints = typing.get_type_hints(function)
    for name, parameter in expected.items():
        if name in params:
            if name in hints and not _is(params[name], hints[name]):
                wanted = inspect.formatannotation(hints[name])
                raise Reject(f"params.{name}: expected {wanted}, found {_json_name(params[name])}")
        elif parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise Reject(f"params.{name}: missing")
    return function(**params)


def _is(value: Any, hint: Any) -> bool:
    """Whether a value from JSON is of a type. Types that we do not know are left to the function."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return True
    if hint is None or hint is type(None):
        return value is None
    if origin in (typing.Union, types.UnionType):
        return any(_is(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is list:
        return isinstance(value, list) and all(_is(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is(each, arguments[1]) for each in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, bool, list, dict):
        return isinstance(value, hint)
    return True


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
