"""From a task's annotations to the JSON Schema of its params and its result. What `params.py` takes, the schema takes."""

import collections.abc as abc
import dataclasses
import enum
import inspect
import json
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from .params import ARRAYS, DECIMAL, INTEGER, OBJECTS, Unsupported, kind_name, required_keys
from .results import to_json

_MISSING = object()


def schemas(function: Callable) -> dict:
    """The schemas of a task: an object with the keys `params` and `result`, as far as the annotations say something."""
    hints = typing.get_type_hints(function, include_extras=True)
    found = {}
    params = _whole(lambda schema: _params(function, hints, schema))
    if params:
        found["params"] = params
    if "return" in hints:
        try:
            result = _whole(lambda schema: schema.of(hints["return"]))
        except Exception:
            # A result may be anything that can be written as JSON, and its types may be there for a type checker only.
            result = {}
        if result:
            found["result"] = result
    return found


def _whole(make) -> dict:
    schema = _Schema()
    whole = make(schema)
    # A type that stands at the top alone needs no definition of its own.
    if whole.keys() == {"$ref"} and json.dumps(schema.definitions, ensure_ascii=False).count(whole["$ref"]) == 0:
        whole = schema.definitions.pop(whole["$ref"].removeprefix("#/$defs/"))
    return whole | ({"$defs": schema.definitions} if schema.definitions else {})


def _params(function, hints, schema):
    parameters = list(inspect.signature(function).parameters.values())
    text, about = _described(inspect.getdoc(function))
    match parameters:
        case []:
            return {}
        case [only] if only.name == "params" and only.kind is not only.VAR_KEYWORD:
            return schema.of(hints.get("params", Any))
    rest = next((each for each in parameters if each.kind is each.VAR_KEYWORD), None)
    named = [each for each in parameters if each is not rest]
    properties = {}
    for parameter in named:
        described = {"description": about[parameter.name]} if parameter.name in about else {}
        default = _default(parameter.default) if parameter.default is not parameter.empty else {}
        properties[parameter.name] = schema.of(hints.get(parameter.name, Any)) | default | described
    whole = {"type": "object"} | ({"description": text} if text else {}) | {"properties": properties}
    needed = [each.name for each in named if each.default is each.empty]
    if needed:
        whole["required"] = needed
    others = schema.of(hints.get(rest.name, Any)) if rest else {}
    return whole | ({"additionalProperties": others} if others else {})


class _Schema:
    """One schema, with the definitions that its parts refer to."""

    def __init__(self):
        self.definitions = {}
        self.names = {}

    def of(self, hint: Any) -> dict:
        """The schema of the values of a type. `Unsupported` if no JSON value becomes one."""
        if hint in (Any, object, inspect.Parameter.empty) or isinstance(hint, typing.TypeVar):
            return {}
        if isinstance(hint, typing.TypeAliasType):
            return self.defined(hint, hint.__name__, lambda: self.of(hint.__value__))
        if isinstance(hint, typing.NewType):
            return self.of(hint.__supertype__)
        origin, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
        if origin is typing.Annotated:
            return self.of(arguments[0]) | _annotated(arguments[1:])
        if origin in (typing.Required, typing.NotRequired, typing.ReadOnly, typing.Final):
            return self.of(arguments[0]) if arguments else {}
        if origin in (typing.Union, types.UnionType):
            return _any_of([self.of(each) for each in arguments])
        if origin is typing.Literal:
            return {"enum": [each.value if isinstance(each, enum.Enum) else each for each in arguments]}
        if hint is None or hint is type(None):
            return {"type": "null"}
        if (name := kind_name(origin)) in _PLAIN:
            return dict(_PLAIN[name])
        if origin in ARRAYS:
            items = self.of(arguments[0]) if arguments else {}
            return {"type": "array"} | ({"items": items} if items else {})
        if origin is tuple:
            return self.tuple(arguments)
        if origin in OBJECTS:
            return self.object(arguments)
        if isinstance(origin, type):
            return self.record(origin)
        raise Unsupported(f"no schema for the type {inspect.formatannotation(hint)}")

    def defined(self, key, name, make):
        """A reference to a definition, which is made if it is not there."""
        if key not in self.names:
            free = name
            while free in self.definitions:
                free += "_"
            self.names[key] = free
            # It may refer to itself.
            self.definitions[free] = {}
            self.definitions[free] = make()
        return {"$ref": f"#/$defs/{self.names[key]}"}

    def tuple(self, arguments):
        if not arguments:
            return {"type": "array"}
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            items = self.of(arguments[0])
            return {"type": "array"} | ({"items": items} if items else {})
        items = [self.of(each) for each in arguments if each != ()]
        count = {"minItems": len(items), "maxItems": len(items)}
        return {"type": "array"} | ({"prefixItems": items} if items else {}) | count

    def object(self, arguments):
        schema = {"type": "object"}
        key = arguments[0] if arguments else str
        while isinstance(key, typing.NewType) or typing.get_origin(key) is typing.Annotated:
            key = key.__supertype__ if isinstance(key, typing.NewType) else typing.get_args(key)[0]
        if key is int:
            schema["propertyNames"] = {"pattern": INTEGER}
        elif typing.get_origin(key) is typing.Literal or isinstance(key, type) and issubclass(key, enum.Enum):
            schema["propertyNames"] = self.of(key)
        values = self.of(arguments[1]) if len(arguments) > 1 else {}
        return schema | ({"additionalProperties": values} if values else {})

    def record(self, kind):
        if issubclass(kind, enum.Enum):
            return self.defined(kind, kind.__name__, lambda: _enum(kind))
        if typing.is_typeddict(kind):
            fields = dict.fromkeys(typing.get_type_hints(kind), _MISSING)
            needed = required_keys(kind)
            return self.defined(kind, kind.__name__, lambda: self.fields(kind, fields, needed))
        if dataclasses.is_dataclass(kind):
            missing = dataclasses.MISSING
            fields = {
                field.name: _MISSING if field.default is missing else field.default
                for field in dataclasses.fields(kind)
                if field.init
            }
            factories = {field.name for field in dataclasses.fields(kind) if field.default_factory is not missing}
            needed = {name for name, default in fields.items() if default is _MISSING} - factories
            return self.defined(kind, kind.__name__, lambda: self.fields(kind, fields, needed))
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            fields = dict.fromkeys(kind._fields, _MISSING) | kind._field_defaults
            needed = set(fields) - kind._field_defaults.keys()

            def either():
                record = self.fields(kind, fields, needed)
                items = list(record["properties"].values())
                count = {"minItems": len(needed), "maxItems": len(items)}
                places = {"prefixItems": items} if items else {}
                return {"anyOf": [record, {"type": "array"} | places | count]}

            return self.defined(kind, kind.__name__, either)
        if hasattr(kind, "__attrs_attrs__"):
            own = [field for field in kind.__attrs_attrs__ if field.init]
            needed = {field.name for field in own if type(field.default).__name__ == "_Nothing"}
            fields = {field.name: field.default for field in own}
            return self.defined(kind, kind.__name__, lambda: self.fields(kind, fields, needed))
        if hasattr(kind, "model_validate"):
            # Its model converts values as it sees fit.
            return {}
        raise Unsupported(f"no schema for the type {kind.__qualname__}")

    def fields(self, kind, fields, needed):
        hints = typing.get_type_hints(kind, include_extras=True)
        text, about = _described(_own_doc(kind))
        properties = {}
        for name, default in fields.items():
            described = {"description": about[name]} if name in about else {}
            shown = {} if name in needed or default is _MISSING else _default(default)
            properties[name] = self.of(hints.get(name, Any)) | shown | described
        described = {"description": text} if text else {}
        required = [name for name in fields if name in needed]
        return {"type": "object"} | described | {"properties": properties} | ({"required": required} if required else {})


def _enum(kind):
    if issubclass(kind, enum.Flag):
        return {"type": "integer"}
    if any("_missing_" in vars(each) for each in kind.__mro__ if each not in (enum.Enum, enum.Flag)):
        # It may take more values than its own.
        return {}
    text = _own_doc(kind)
    values = [member.value for member in kind if isinstance(member.value, (str, int, float, bool, type(None)))]
    return {"enum": values} | ({"description": text} if text else {})


def _any_of(parts):
    plain = [part.get("type") for part in parts if part.keys() == {"type"} and isinstance(part["type"], str)]
    if len(plain) == len(parts):
        return {"type": list(dict.fromkeys(plain))}
    return {} if {} in parts else {"anyOf": parts}


def _annotated(notes):
    for note in notes:
        text = note if isinstance(note, str) else getattr(note, "documentation", None)
        if isinstance(text, str):
            return {"description": text}
    return {}


def _default(value):
    try:
        return {"default": json.loads(to_json(value))}
    except (TypeError, ValueError):
        return {}


def _own_doc(kind):
    text = kind.__doc__ if "__doc__" in vars(kind) else None
    # dataclasses and named tuples write a signature.
    if not isinstance(text, str) or text.startswith(f"{kind.__name__}("):
        return None
    return inspect.cleandoc(text)


def _described(text: str | None) -> tuple[str, dict[str, str]]:
    """The description of a docstring, and those of its arguments: `:param NAME: ...`, or a block `Args:`."""
    about, kept, block = {}, [], None
    for line in (text or "").splitlines():
        if found := re.match(r":param (?:[^:]* )?(\w+):\s*(.*)", line):
            about[found[1]] = found[2]
            block = (0, found[1])
        elif re.match(r"(Args|Arguments|Attributes|Parameters):\s*$", line):
            block = (1, None)
        elif block and block[0] and (found := re.match(r"\s+(\w+)(?: \([^)]*\))?:\s*(.*)", line)):
            about[found[1]] = found[2]
            block = (1, found[1])
        elif block and line.startswith(" ") and line.strip() and block[1]:
            about[block[1]] = f"{about[block[1]]} {line.strip()}".strip()
        elif re.match(r"(Returns|Raises|Yields|Examples?|Notes?):|:(returns?|rtype|raises?)", line):
            break
        else:
            block = None if line.strip() else block
            if block is None:
                kept.append(line)
    return "\n".join(kept).strip(), about


def _text(**more):
    return {"type": "string"} | more


_PLAIN = {
    "builtins.str": _text(),
    "builtins.bool": {"type": "boolean"},
    "builtins.int": {"type": "integer"},
    "builtins.float": {"type": "number"},
    "datetime.datetime": _text(anyOf=[{"format": "date-time"}, {"format": "partial-date-time"}]),
    "datetime.date": _text(format="date"),
    "datetime.time": _text(anyOf=[{"format": "time"}, {"format": "partial-time"}]),
    "uuid.UUID": _text(format="uuid"),
    "decimal.Decimal": {"type": ["number", "string"], "pattern": DECIMAL},
}
