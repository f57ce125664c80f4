"""Every way to write a task's parameters: the function, the message's params, and the expected answer.

The answer is the function's result, or the reason of a rejection.
"""

import dataclasses
import datetime
import decimal
import enum
import functools
import typing
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Dict, List, Literal, NamedTuple, NewType, NotRequired, Optional, Tuple, TypedDict, Union

Number = NewType("Number", int)
type Names = list[str]
type Json = dict[str, Json] | list[Json] | str | int | float | bool | None
User = NewType("User", str)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass
class Address:
    street: str
    zip: str = "?"


@dataclasses.dataclass
class Person:
    name: str
    addresses: list[Address] = dataclasses.field(default_factory=list)
    boss: "Person | None" = None


class Movie(TypedDict):
    name: str
    year: NotRequired[int]


class Point(NamedTuple):
    x: int
    y: int = 0


def given(**params):
    return params


def nothing(): return "called"
def any_param(a): return a
def text(a: str): return a
def number(a: int): return a
def real(a: float): return [a, type(a).__name__]
def yes(a: bool): return a
def null(a: None): return a
def anything(a: Any): return a
def thing(a: object): return a
def as_is(params): return params
def as_dict(params: dict): return params["a"]
def as_typed_dict(params: dict[str, int]): return sum(params.values())
def as_any(params: Any): return params
def as_mapping(params: Mapping[str, Any]): return dict(params)
def as_movie(params: Movie): return params
def as_person(params: Person): return params.addresses[0].zip
def with_default(a: int, b: int = 2): return a + b
def keyword_only(*, a: int): return a
def positional_only(a: int, b: int = 5, /): return [a, b]
def rest(a: int, **others): return [a, others]
def typed_rest(**others: int): return others
def bare_list(items: List): return sum(items)
def bare_dict(d: Dict): return d
def list_of(a: list[int]): return a
def old_list(a: List[int]): return a
def old_dict(a: Dict[str, int]): return a
def dict_of_ints(a: dict[int, str]): return sorted(a)
def sequence(a: Sequence[str]): return a
def iterable(a: Iterable[int]): return list(a)
def pair(a: tuple[int, str]): return list(a)
def many(a: tuple[int, ...]): return list(a)
def old_tuple(a: Tuple[int, int]): return list(a)
def a_set(a: set[int]): return sorted(a)
def bare_set(a: set): return a
def optional(a: Optional[int] = None): return a
def union(a: int | str): return a
def old_union(a: Union[int, List[str]]): return a
def choice(a: Literal["x", 2]): return a
def colour(a: Colour): return a.name
def level(a: Level): return a + 1
def of_enum(a: dict[Colour, int]): return {key.name: value for key, value in a.items()}
def day(a: datetime.date): return a.isoformat()
def moment(a: datetime.datetime): return a.isoformat()
def hour(a: datetime.time): return a.isoformat()
def identifier(a: uuid.UUID): return str(a)
def price(a: decimal.Decimal): return str(a * 2)
def person(a: Person): return dataclasses.asdict(a)
def people(a: list[Person]): return [each.name for each in a]
def movie(a: Movie): return a
def point(a: Point): return [a.x, a.y]
def annotated(a: Annotated[int, "positive"]): return a
def new_type(a: Number): return a
def alias(a: Names): return a
def json_value(a: Json): return a
def users(a: dict[User, int]): return a
def member(a: Literal[Colour.RED, 1]): return getattr(a, "name", a)
def int_or_float(a: float | int): return [a, type(a).__name__]
def own_name(**others): return others
def in_text(a: "list[Colour]"): return [each.name for each in a]


@functools.wraps(number)
def wrapped(*args, **kwargs): return number(*args, **kwargs)


COLOURS = "'red', 'blue'"
CASES = [
    (nothing, {"a": 1}, "called"),
    (any_param, {"a": [1]}, [1]),
    (text, {"a": "x"}, "x"),
    (text, {"a": 1}, "reject: params.a: expected str, found a number"),
    (text, {}, "reject: params.a: missing"),
    (text, [], "reject: params: expected an object, found an array"),
    (text, {"a": "x", "b": 1}, "x"),
    (number, {"a": 2**70}, 2**70),
    (number, {"a": 3.0}, 3),
    (number, {"a": 3.5}, "reject: params.a: expected int, found 3.5"),
    (number, {"a": True}, "reject: params.a: expected int, found a boolean"),
    (real, {"a": 1}, [1.0, "float"]),
    (real, {"a": "1"}, "reject: params.a: expected float, found a string"),
    (yes, {"a": True}, True),
    (yes, {"a": 1}, "reject: params.a: expected bool, found a number"),
    (null, {"a": None}, None),
    (null, {"a": 0}, "reject: params.a: expected None, found a number"),
    (anything, {"a": {"b": None}}, {"b": None}),
    (thing, {"a": 1}, 1),
    (as_is, [1], [1]),
    (as_is, {"params": 1}, {"params": 1}),
    (as_dict, {"a": 1}, 1),
    (as_dict, 3, "reject: params: expected dict, found a number"),
    (as_typed_dict, {"a": 1, "b": 2}, 3),
    (as_typed_dict, {"a": "x"}, "reject: params.a: expected int, found a string"),
    (as_any, None, None),
    (as_mapping, {"a": 1}, {"a": 1}),
    (as_movie, {"name": "x", "other": 1}, {"name": "x", "other": 1}),
    (as_movie, {}, "reject: params.name: missing"),
    (as_person, {"name": "a", "addresses": [{"street": "s"}]}, "?"),
    (with_default, {"a": 1}, 3),
    (with_default, {"a": 1, "b": 1}, 2),
    (keyword_only, {"a": 1}, 1),
    (positional_only, {"a": 1}, [1, 5]),
    (positional_only, {"b": 1}, "reject: params.a: missing"),
    (rest, {"a": 1, "b": 2}, [1, {"b": 2}]),
    (typed_rest, {"b": "x"}, "reject: params.b: expected int, found a string"),
    (bare_list, {"items": [1, 2]}, 3),
    (bare_dict, {"d": {"a": 1}}, {"a": 1}),
    (list_of, {"a": [1, "x"]}, "reject: params.a[1]: expected int, found a string"),
    (old_list, {"a": [1]}, [1]),
    (old_dict, {"a": {"b": None}}, "reject: params.a.b: expected int, found null"),
    (dict_of_ints, {"a": {"2": "x", "1": "y"}}, [1, 2]),
    (dict_of_ints, {"a": {"x": "x"}}, "reject: params.a.x: the key is no int"),
    (sequence, {"a": ["x"]}, ["x"]),
    (iterable, {"a": [1]}, [1]),
    (pair, {"a": [1, "x"]}, [1, "x"]),
    (pair, {"a": [1]}, "reject: params.a: expected 2 elements, found 1"),
    (many, {"a": [1, 2, 3]}, [1, 2, 3]),
    (old_tuple, {"a": [1, 2]}, [1, 2]),
    (a_set, {"a": [2, 1, 2]}, [1, 2]),
    (optional, {}, None),
    (optional, {"a": None}, None),
    (optional, {"a": "x"}, "reject: params.a: expected int | None, found a string"),
    (union, {"a": "x"}, "x"),
    (union, {"a": []}, "reject: params.a: expected int | str, found an array"),
    (old_union, {"a": ["x", 1]}, "reject: params.a[1]: expected str, found a number"),
    (choice, {"a": 2}, 2),
    (choice, {"a": "y"}, "reject: params.a: expected Literal['x', 2], found 'y'"),
    (colour, {"a": "red"}, "RED"),
    (colour, {"a": "green"}, f"reject: params.a: expected one of {COLOURS}, found 'green'"),
    (level, {"a": 1}, 2),
    (of_enum, {"a": {"blue": 1}}, {"BLUE": 1}),
    (day, {"a": "2024-02-29"}, "2024-02-29"),
    (day, {"a": "2023-02-29"}, "reject: params.a: expected a date as text (2026-11-27): "),
    (moment, {"a": "2024-02-29T12:00:00Z"}, "2024-02-29T12:00:00+00:00"),
    (moment, {"a": 5}, "reject: params.a: expected datetime"),
    (hour, {"a": "12:30:00"}, "12:30:00"),
    (identifier, {"a": "00000000-0000-0000-0000-000000000005"}, "00000000-0000-0000-0000-000000000005"),
    (identifier, {"a": "5"}, "reject: params.a: expected a UUID as text, found "),
    (price, {"a": "0.1"}, "0.2"),
    (price, {"a": 0.1}, "0.2"),
    (price, {"a": "x"}, "reject: params.a: expected a number as text, found "),
    (person, {"a": {"name": "a", "boss": {"name": "b"}}}, {"name": "a", "addresses": [], "boss": {"name": "b", "addresses": [], "boss": None}}),
    (person, {"a": {"name": "a", "boss": {"name": 3}}}, "reject: params.a.boss.name: expected str, found a number"),
    (people, {"a": [{"name": "a"}, {}]}, "reject: params.a[1].name: missing"),
    (movie, {"a": {"name": "x", "year": "y"}}, "reject: params.a.year: expected int, found a string"),
    (point, {"a": {"x": 1}}, [1, 0]),
    (annotated, {"a": 1}, 1),
    (new_type, {"a": "x"}, "reject: params.a: expected int, found a string"),
    (alias, {"a": [1]}, "reject: params.a[0]: expected str, found a number"),
    (in_text, {"a": ["blue"]}, ["BLUE"]),
    (wrapped, {"a": 1}, 1),
    (json_value, {"a": {"b": [1, "x", None, {"c": 2.5}]}}, {"b": [1, "x", None, {"c": 2.5}]}),
    (users, {"a": {"ada": 1}}, {"ada": 1}),
    (member, {"a": "red"}, "RED"),
    (member, {"a": 1}, 1),
    (int_or_float, {"a": 3}, [3, "int"]),
    (int_or_float, {"a": 3.5}, [3.5, "float"]),
    (level, {"a": True}, "reject: params.a: expected one of 1, found True"),
    (a_set, {"a": [[1]]}, "reject: params.a[0]: expected int, found an array"),
    (bare_set, {"a": [[1]]}, "reject: params.a: "),
    (point, {"a": [1, 2]}, [1, 2]),
    (own_name, {"others": 1, "b": 2}, {"others": 1, "b": 2}),
]


class Custom:
    pass


def star(*args): pass
def custom(a: Custom): pass
def raw(a: bytes): pass
def function(a: typing.Callable[[], int]): pass
def keys(a: dict[float, int]): pass
def nested(a: list[Custom]): pass


# Functions that the build refuses, each with a text in the message.
REFUSED = [
    (star, "params have names, so a task has no *args"),
    (custom, "the parameter a: a param cannot be of the type Custom"),
    (raw, "the parameter a: a param cannot be of the type bytes"),
    (function, "the parameter a: a param cannot be of the type"),
    (keys, "the keys of a JSON object are texts, not float"),
    (nested, "a param cannot be of the type Custom"),
]


def problems():
    from wasq_task import Reject
    from wasq_task.params import caller

    found = []
    for case, params, expected in CASES:
        try:
            got = caller(case)(params)
        except Reject as error:
            got = f"reject: {error}"
        same = got == expected or isinstance(expected, str) and expected.startswith("reject") and str(got).startswith(expected)
        if not same:
            found.append(f"{case.__name__}({params}): {got!r}, expected {expected!r}")
    for case, expected in REFUSED:
        try:
            caller(case)
            found.append(f"{case.__name__}: not refused")
        except TypeError as error:
            if expected not in str(error):
                found.append(f"{case.__name__}: {error}")
    return found


@dataclasses.dataclass
class Result:
    when: datetime.datetime
    colour: Colour
    address: Address
    tags: frozenset
    price: decimal.Decimal
    id: uuid.UUID
    point: Point
    counts: dict


def result():
    """A result of every type that becomes JSON."""
    moment = datetime.datetime(2024, 7, 1, 12, tzinfo=datetime.timezone.utc)
    return Result(moment, Colour.RED, Address("s"), frozenset([1]), decimal.Decimal("1.50"), uuid.UUID(int=5), Point(1), {Colour.BLUE: 1})
