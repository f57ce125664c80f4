"""Params of many types. The same as the other sources of this folder."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Literal, TypedDict

from wasq_task import task


@dataclass
class Home:
    street: str
    zip: int | None = None


class Output(TypedDict):
    user: str


@task
def typed(
    user: Annotated[str, "Who it is."],
    count: int = 0,
    ratio: float = 0.0,
    note: str | None = None,
    kind: Literal["new", "old"] | None = None,
    home: Home | None = None,
    tags: list[str] = [],
    scores: dict[str, int] = {},
    pair: tuple[str, bool] | None = None,
    since: datetime | None = None,
) -> Output:
    return {"user": user}
