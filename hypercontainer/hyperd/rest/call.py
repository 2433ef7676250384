"""What the route table is made of: a route, and one call of it. No HTTP library here: handlers are plain functions."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Generic, Literal, TypeVar

import msgspec

from hypercontainer.errors import InvalidInput
from hypercontainer.model.api import Engine, Session


class Query(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters behind the question mark; the ground of those that a route has."""


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A JSON document that a route takes, where the model has none."""


class Raw(Enum):
    """Bodies and answers that are no JSON document."""

    TAR = "application/x-tar"
    STREAM = "application/vnd.hyper-stream"  # an upgraded connection


class Lines:
    """An answer of JSON documents, one a line, as they come: each is of one of `kinds`."""

    def __init__(self, *kinds: object) -> None:
        self.kinds = kinds


class Upgrade:
    """A handler's answer that turns the connection into `session`. Bytes for stdin are refused unless `stdin`."""

    def __init__(self, session: Session, *, stdin: bool) -> None:
        self.session, self.stdin = session, stdin


Q = TypeVar("Q")
B = TypeVar("B")
Method = Literal["GET", "POST", "PUT", "DELETE"]
PATH_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=255)]
Names = Annotated[list[Name], msgspec.Meta(min_length=1, max_length=64)]
FilterList = Annotated[list[Annotated[str, msgspec.Meta(max_length=4096)]], msgspec.Meta(max_length=64)]
Time = Annotated[str, msgspec.Meta(max_length=40)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=86400)]
Cells = Annotated[int, msgspec.Meta(ge=1, le=10000)]


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """One request, checked: `query` and `body` are what the route says; `names` are those in the path."""

    engine: Engine
    names: dict[str, str]
    query: Q
    body: B
    upgrade: bool = False  # the client asked for a stream

    def name(self, key: str) -> str:
        """The id or name at `{key}` of the path. InvalidInput for what cannot be one."""
        if not PATH_NAME.fullmatch(name := self.names[key]):
            raise InvalidInput(f"invalid name {name[:140]!r}: use [a-zA-Z0-9_.-], the first a letter or digit")
        return name

    def must_upgrade(self) -> None:
        if not self.upgrade:
            raise InvalidInput("this call answers with a stream: send Connection: Upgrade and Upgrade: hyper-stream")


@dataclass(frozen=True, kw_only=True)
class Route(Generic[Q, B]):
    """A line of the table. `query` and `body` are Structs; `body` None takes no body, Raw.TAR a stream of bytes.

    `body_with`: (key, type): another body when that query parameter is given. `answer`: a type, Lines(type), Raw, or
    None. `lasting`: a caller that vanishes ends it; else what was asked is done to the end.
    """

    method: Method
    path: str
    handler: Callable[[Call[Q, B]], Awaitable[object]]
    summary: str
    query: type[Q]
    body: object = None
    body_optional: bool = False
    body_with: tuple[str, object] | None = None
    answer: object = None
    lasting: bool = False
