"""From a task's result, or a child's params, to JSON."""

import dataclasses
import datetime
import enum
import json
from collections.abc import Mapping, Set
from typing import Any


def to_json(value: Any) -> str:
    """Writes a value as JSON.

    Beside what `json` can write: dataclasses, attrs classes and pydantic models as objects, enums as their
    values, sets as arrays, dates and times in ISO 8601, UUID, Decimal and paths as texts. NaN and the
    infinities are a `ValueError`.
    """
    try:
        return json.dumps(value, allow_nan=False, default=_plain)
    except TypeError as error:
        if not str(error).startswith("keys must be"):
            raise
        return json.dumps(_with_plain_keys(value), allow_nan=False, default=lambda each: _with_plain_keys(_plain(each)))


def _with_plain_keys(value):
    if isinstance(value, Mapping):
        return {_plain_key(key): _with_plain_keys(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_plain_keys(each) for each in value]
    return value


def _plain_key(key):
    return key if isinstance(key, (str, int, float, bool, type(None))) else _plain(key)


def _plain(value):
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, Set):
        return list(value)
    if hasattr(type(value), "__attrs_attrs__"):
        return {field.name: getattr(value, field.name) for field in type(value).__attrs_attrs__}
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    kind = type(value)
    if kind.__module__.partition(".")[0] in ("uuid", "decimal", "pathlib"):
        return str(value)
    raise TypeError(f"a value of the type {kind.__qualname__} is no JSON")
