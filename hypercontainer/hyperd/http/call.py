"""What a table of calls is made of: a route, and one call of it. No HTTP library here: handlers are plain functions."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Literal, TypeVar

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.framing import Framing
from hypercontainer.model.api import Engine, Session
from hypercontainer.model.principal import Principal, Role


class Raw(Enum):
    """Bodies and answers that are no JSON document."""

    TAR = "application/x-tar"
    STREAM = "stream"  # a connection that is taken over


class Lines:
    """An answer of JSON documents, one a line, as they come: each is of one of `kinds`."""

    def __init__(self, *kinds: object) -> None:
        self.kinds = kinds


class Upgrade:
    """A handler's answer that turns the connection into `session`. Bytes for stdin are refused unless `stdin`."""

    def __init__(self, session: Session, framing: Framing, *, stdin: bool) -> None:
        self.session, self.framing, self.stdin = session, framing, stdin


Q = TypeVar("Q")
B = TypeVar("B")
Method = Literal["GET", "POST", "PUT", "DELETE"]
PATH_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """One request, checked: `query` and `body` are what the route says; `names` are those in the path."""

    engine: Engine
    principal: Principal
    names: dict[str, str]
    query: Q
    body: B
    upgrade: str = ""  # the protocol that the client wants to go on with, in small letters

    def name(self, key: str) -> str:
        """The id or name at `{key}` of the path. InvalidInput for what cannot be one."""
        if not PATH_NAME.fullmatch(name := self.names[key]):
            raise InvalidInput(f"invalid name {name[:140]!r}: use [a-zA-Z0-9_.-], the first a letter or digit")
        return name


@dataclass(frozen=True, kw_only=True)
class Route(Generic[Q, B]):
    """A line of the table.

    `access`: the least role that may call it. `query` and `body` are Structs; `body` None takes no body, Raw.TAR a
    stream of bytes. `answer`: a type, Lines(type), Raw, or None. `lasting`: a caller that vanishes ends it; else what
    was asked is done to the end.
    """

    method: Method
    path: str
    handler: Callable[[Call[Q, B]], Awaitable[object]]
    summary: str
    access: Role
    query: type[Q]
    body: object = None
    body_optional: bool = False
    answer: object = None
    lasting: bool = False
