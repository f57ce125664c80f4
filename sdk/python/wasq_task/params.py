"""From a message's params to a function's arguments, by the function's signature and annotations."""

import collections.abc as abc
import dataclasses
import datetime
import enum
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from .failures import Reject

# Reads a value from JSON as a type: takes the value and its path, for messages.
Reader = Callable[[Any, str], Any]


class Unsupported(TypeError):
    """An annotation that no JSON value fits."""


def named(function: Callable) -> str:
    """The name of a function; an object that can be called need not have one."""
    return getattr(function, "__name__", repr(function))


def caller(function: Callable) -> Callable[[Any], Any]:
    """A function that calls a task with a message's params. What cannot work is a `TypeError` here, at build time."""
    parameters = list(inspect.signature(function).parameters.values())
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except NameError as error:
        raise TypeError(f"{named(function)}: an annotation names what is not there: {error}") from None
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            raise TypeError(f"{named(function)}: params have names, so a task has no *{parameter.name}")

    def read_as(parameter):
        try:
            return reader(hints.get(parameter.name, Any))
        except Unsupported as error:
            raise TypeError(f"{named(function)}: the parameter {parameter.name}: {error}") from None

    match parameters:
        case []:
            return lambda params: function()
        case [only] if only.name == "params" and only.kind is not only.VAR_KEYWORD:
            read = read_as(only)
            if only.kind is only.KEYWORD_ONLY:
                return lambda params: function(params=read(params, "params"))
            return lambda params: function(read(params, "params"))
    readers = {parameter.name: read_as(parameter) for parameter in parameters}

    def call(params):
        if not isinstance(params, dict):
            raise Reject(f"params: expected an object, found {_json_name(params)}")
        positional, named = [], {}
        for parameter in parameters:
            name = parameter.name
            read = readers[name]
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = params.keys() - {each.name for each in parameters if each.kind is not each.VAR_KEYWORD}
                named |= {key: read(value, f"params.{key}") for key, value in params.items() if key in rest}
            elif name not in params:
                if parameter.default is parameter.empty:
                    raise Reject(f"params.{name}: missing")
                if parameter.kind is parameter.POSITIONAL_ONLY:
                    positional.append(parameter.default)
            elif parameter.kind is parameter.POSITIONAL_ONLY:
                positional.append(read(params[name], f"params.{name}"))
            else:
                named[name] = read(params[name], f"params.{name}")
        return function(*positional, **named)

    return call


def reader(hint: Any, _known: dict | None = None) -> Reader:
    """Returns a reader of values of a type. Raises `Unsupported` for a type that no JSON value becomes."""
    known = {} if _known is None else _known
    if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, typing.TypeVar):
        return lambda value, path: value
    if isinstance(hint, typing.TypeAliasType):
        # An alias may name itself.
        if hint not in known:
            known[hint] = None
            known[hint] = reader(hint.__value__, known)
        return lambda value, path: known[hint](value, path)
    if isinstance(hint, typing.NewType):
        return reader(hint.__supertype__, known)
    origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired, typing.ReadOnly, typing.Final):
        return reader(arguments[0] if arguments else Any, known)
    if isinstance(origin, typing.TypeAliasType):
        raise Unsupported(f"the alias {hint} has arguments; write the type itself")
    if origin in (typing.Union, types.UnionType):
        # A whole number is an int first.
        ordered = sorted(arguments, key=lambda each: each is float)
        return _union(hint, [reader(each, known) for each in ordered])
    if origin is typing.Literal:
        return _literal(hint, arguments)
    if hint is None or hint is type(None):
        return _checked("None", lambda value: value is None)
    if origin in _PLAIN:
        return _PLAIN[origin]
    if origin in ARRAYS:
        element = reader(arguments[0] if arguments else Any, known)
        return _array(hint, ARRAYS[origin], element)
    if origin is tuple:
        return _tuple(hint, arguments, known)
    if origin in OBJECTS:
        key = _key(arguments[0] if arguments else str)
        element = reader(arguments[1] if len(arguments) > 1 else Any, known)
        return lambda value, path: {
            key(name, path): element(each, f"{path}.{name}") for name, each in _of(dict, hint, value, path).items()
        }
    if isinstance(origin, type):
        if origin in known:
            return lambda value, path: known[origin](value, path)
        known[origin] = None
        known[origin] = _class(origin, known)
        return known[origin]
    raise Unsupported(f"a param cannot be of the type {inspect.formatannotation(hint)}")


def _class(kind: type, known: dict) -> Reader:
    if issubclass(kind, enum.Enum):
        return _enum(kind)
    if typing.is_typeddict(kind):
        return _record(kind, known, required_keys(kind), lambda **fields: fields, others=True)
    if dataclasses.is_dataclass(kind):
        fields = [field for field in dataclasses.fields(kind) if field.init]
        missing = dataclasses.MISSING
        needed = {field.name for field in fields if field.default is missing and field.default_factory is missing}
        return _record(kind, known, needed, kind, names={field.name for field in fields})
    if issubclass(kind, tuple) and hasattr(kind, "_fields"):
        needed = set(kind._fields) - kind._field_defaults.keys()
        read = _record(kind, known, needed, kind, names=set(kind._fields))
        # A result writes it as an array.
        return lambda value, path: read(
            dict(zip(kind._fields, value)) if isinstance(value, list) and len(value) <= len(kind._fields) else value, path
        )
    if hasattr(kind, "__attrs_attrs__"):
        fields = [field for field in kind.__attrs_attrs__ if field.init]
        needed = {field.name for field in fields if type(field.default).__name__ == "_Nothing"}
        return _record(kind, known, needed, kind, names={field.name for field in fields})
    if hasattr(kind, "model_validate"):
        return _converted(kind, kind.model_validate)
    raise Unsupported(
        f"a param cannot be of the type {kind.__qualname__}; use JSON's types, dataclasses, TypedDict, Enum, "
        "datetime, UUID, Decimal or Any"
    )


def required_keys(kind: type) -> set[str]:
    """The keys that a TypedDict needs. Where annotations are texts, the class itself does not see `NotRequired` in them."""
    keys = set(kind.__required_keys__)
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        if typing.get_origin(hint) is typing.NotRequired:
            keys.discard(name)
        elif typing.get_origin(hint) is typing.Required:
            keys.add(name)
    return keys


def _record(kind, known, needed, make, names=None, others=False):
    hints = typing.get_type_hints(kind, include_extras=True)
    names = hints.keys() if names is None else names
    readers = {name: reader(hints.get(name, Any), known) for name in names}

    def read(value, path):
        fields = dict(_of(dict, kind, value, path)) if others else {}
        for name, read_field in readers.items():
            if name in _of(dict, kind, value, path):
                fields[name] = read_field(value[name], f"{path}.{name}")
            elif name in needed:
                raise Reject(f"{path}.{name}: missing")
        try:
            return make(**fields)
        except (TypeError, ValueError) as error:
            raise Reject(f"{path}: {error}") from error

    return read


def _array(hint, make, element):
    def read(value, path):
        elements = [element(each, f"{path}[{at}]") for at, each in enumerate(_of(list, hint, value, path))]
        try:
            return make(elements)
        except TypeError as error:
            # A set of what cannot be in a set.
            raise Reject(f"{path}: {error}") from None

    return read


def _literal(hint, arguments):
    def read(value, path):
        for each in arguments:
            plain = each.value if isinstance(each, enum.Enum) else each
            # JSON has one kind of number: 1.0 is 1.
            if value == plain and (type(value) is type(plain) or _is_number(value) and _is_number(plain)):
                return each
        raise Reject(_mismatch(hint, value, path))

    return read


def _union(hint, readers):
    def read(value, path):
        refused = []
        for each in readers:
            try:
                return each(value, path)
            except Reject as error:
                refused.append(str(error))
        # The one that came furthest says best what is wrong.
        deepest = max(refused, key=lambda text: len(text.partition(": ")[0]))
        raise Reject(deepest if not deepest.startswith(f"{path}: ") else _mismatch(hint, value, path))

    return read


def _tuple(hint, arguments, known):
    if not arguments:
        return lambda value, path: tuple(_of(list, hint, value, path))
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        element = reader(arguments[0], known)
        return lambda value, path: tuple(
            element(each, f"{path}[{at}]") for at, each in enumerate(_of(list, hint, value, path))
        )
    elements = [reader(each, known) for each in arguments if each != ()]

    def read(value, path):
        if len(_of(list, hint, value, path)) != len(elements):
            raise Reject(f"{path}: expected {len(elements)} elements, found {len(value)}")
        return tuple(each(value[at], f"{path}[{at}]") for at, each in enumerate(elements))

    return read


def _key(hint):
    while isinstance(hint, typing.NewType) or typing.get_origin(hint) is typing.Annotated:
        hint = hint.__supertype__ if isinstance(hint, typing.NewType) else typing.get_args(hint)[0]
    if hint in (str, Any, object) or isinstance(hint, typing.TypeVar):
        return lambda name, path: name
    if hint is int:
        return _key_by(int, INTEGER)
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return _key_by(hint)
    if typing.get_origin(hint) is typing.Literal:
        read = reader(hint)
        return lambda name, path: read(name, f"{path}.{name}")
    raise Unsupported(f"the keys of a JSON object are texts, not {inspect.formatannotation(hint)}")


def _key_by(kind, pattern=""):
    def read(name, path):
        try:
            if pattern and not re.fullmatch(pattern.strip("^$"), name):
                raise ValueError
            return kind(name)
        except ValueError:
            raise Reject(f"{path}.{name}: the key is no {kind.__name__}") from None

    return read


def _enum(kind):
    def read(value, path):
        try:
            member = kind(value)
            if isinstance(value, bool) == isinstance(member.value, bool):
                return member
            raise ValueError
        except ValueError:
            values = ", ".join(repr(member.value) for member in kind)
            raise Reject(f"{path}: expected one of {values}, found {value!r}") from None

    return read


def _checked(hint, fits):
    def read(value, path):
        if not fits(value):
            raise Reject(_mismatch(hint, value, path))
        return value

    return read


def _converted(kind, convert, wanted=None):
    def read(value, path):
        try:
            return convert(value)
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise Reject(f"{path}: expected {wanted or kind.__name__}: {error}") from None

    return read


def _of(kind, hint, value, path):
    if not isinstance(value, kind):
        raise Reject(_mismatch(hint, value, path))
    return value


def _mismatch(hint, value, path):
    wanted = hint if isinstance(hint, str) else inspect.formatannotation(hint)
    found = repr(value) if typing.get_origin(hint) is typing.Literal else _json_name(value)
    return f"{path}: expected {wanted}, found {found}"


def _json_name(value: Any) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _int(value, path):
    # JSON has one kind of number: 3.0 is 3.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, float):
        raise Reject(f"{path}: expected int, found {value!r}")
    if not isinstance(value, int) or isinstance(value, bool):
        raise Reject(_mismatch(int, value, path))
    return value


def _float(value, path):
    if not _is_number(value):
        raise Reject(_mismatch(float, value, path))
    return _converted(float, float)(value, path)


def _from_text(kind, pattern, convert):
    """Reads a text that has the form which the schema of the type has as well."""
    wanted = _TEXTS.get(kind.__name__, f"a {kind.__name__} as text")
    read = _converted(kind, convert, wanted)

    def read_text(value, path):
        if not re.fullmatch(pattern, _of(str, kind, value, path), re.ASCII):
            raise Reject(f"{path}: expected {wanted}, found {value[:100]!r}")
        return read(value, path)

    return read_text


_TEXTS = {
    "datetime": "a date and time as text (2026-11-27T10:00:00Z)",
    "date": "a date as text (2026-11-27)",
    "time": "a time as text (10:00:00)",
}
# The texts of whole numbers, and of numbers.
INTEGER = r"^[+-]?[0-9]+$"
DECIMAL = r"^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?$"
_DATE = r"\d{4}-\d\d-\d\d"
_TIME = r"([01]\d|2[0-3]):\d\d:\d\d(\.\d{1,9})?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?"


def _uuid(value, path):
    from uuid import UUID

    return _from_text(UUID, r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", UUID)(value, path)


def _decimal(value, path):
    from decimal import Decimal

    if not _is_number(value) and not re.fullmatch(DECIMAL.strip("^$"), _of(str, Decimal, value, path)):
        raise Reject(f"{path}: expected a number as text, found {value[:100]!r}")
    return _converted(Decimal, lambda number: Decimal(str(number)))(value, path)


class _ByName(dict):
    """Types by their names, so that this module does not import theirs."""

    def __contains__(self, kind):
        return super().__contains__(kind_name(kind))

    def __getitem__(self, kind):
        return super().__getitem__(kind_name(kind))


def kind_name(kind):
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', '')}"


_PLAIN = _ByName(
    {
        "builtins.str": lambda value, path: _of(str, str, value, path),
        "builtins.bool": lambda value, path: _of(bool, bool, value, path),
        "builtins.int": _int,
        "builtins.float": _float,
        "datetime.datetime": _from_text(datetime.datetime, f"{_DATE}T{_TIME}", datetime.datetime.fromisoformat),
        "datetime.date": _from_text(datetime.date, _DATE, datetime.date.fromisoformat),
        "datetime.time": _from_text(datetime.time, _TIME, datetime.time.fromisoformat),
        "uuid.UUID": _uuid,
        "decimal.Decimal": _decimal,
    }
)
ARRAYS = {
    list: list,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    set: set,
    abc.Set: set,
    abc.MutableSet: set,
    frozenset: frozenset,
}
OBJECTS = (dict, abc.Mapping, abc.MutableMapping)
