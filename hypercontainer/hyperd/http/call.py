"""What a table of calls is made of: a route, and one call of it. No HTTP library here: handlers are plain functions."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Generic, Literal, TypeVar

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.framing import Framing
from hypercontainer.model.api import Engine, Session
from hypercontainer.model.ids import NAME
from hypercontainer.model.principal import Principal, Role


class Raw(Enum):
    """Bodies and answers that are no JSON document."""

    TAR = "application/x-tar"
    FIGURES = "text/plain; version=0.0.4; charset=utf-8"  # as Prometheus has them
    STREAM = "stream"  # a connection that is taken over
    WEBSOCKET = "websocket"  # one that goes on as a websocket
    BYTES = "bytes"  # a small body, as it came


class Lines:
    """An answer of JSON documents, one a line, as they come: each is of one of `kinds`, and `end` follows it."""

    def __init__(self, *kinds: object, end: bytes = b"\n") -> None:
        self.kinds, self.end = kinds, end


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a handler answers where a document does not say all: a status, headers; bytes are sent as they are."""

    content: object = None  # None: no body
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str = "application/json"


@dataclass(frozen=True, kw_only=True)
class Bytes:
    """An answer of bytes as they come. `early`: its head goes before there are any."""

    source: AsyncGenerator[bytes, None]
    media_type: str
    headers: Mapping[str, str] = field(default_factory=dict)
    early: bool = False


class Upgrade:
    """A handler's answer that turns the connection into `session`. Bytes for stdin are refused unless `stdin`."""

    def __init__(self, session: Session, framing: Framing, *, stdin: bool) -> None:
        self.session, self.framing, self.stdin = session, framing, stdin


Q = TypeVar("Q")
B = TypeVar("B")
Method = Literal["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "*"]


@dataclass(frozen=True)
class Call(Generic[Q, B]):
    """One request, checked: `query` and `body` are what the route says; `names` are those in the path."""

    engine: Engine
    principal: Principal
    names: dict[str, str]
    query: Q
    body: B
    upgrade: str = ""  # the protocol that the client wants to go on with, in small letters
    headers: Mapping[str, str] = field(default_factory=dict)  # found whatever the case of their letters

    def name(self, key: str) -> str:
        """The id or name at `{key}` of the path. InvalidInput for what cannot be one."""
        if not NAME.fullmatch(name := self.names[key]):
            raise InvalidInput(f"invalid name {name[:140]!r}: use [a-zA-Z0-9_.-], the first a letter or digit")
        return name


@dataclass(frozen=True, kw_only=True)
class Route(Generic[Q, B]):
    """A line of the table.

    `access`: the least role that may call it. `query` and `body` are Structs; `body` None takes no body, Raw.TAR a
    stream of bytes. `answer`: a type, Lines(type), Raw, or None; an Answer or Bytes may come instead of it. `status`:
    of an answer that does not say its own. `lasting`: a caller that vanishes ends it; else what was asked is done to
    the end.
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
    status: int | None = None  # None: 200, and of no body what the dialect says
    lasting: bool = False
