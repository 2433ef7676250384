"""What one HTTP API says in its own way: its table of calls, and what all of them have in common."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from hypercontainer.errors import HyperError
from hypercontainer.hyperd.http.call import Route

T = TypeVar("T")


class Dialect(Protocol):
    """An API over HTTP. `Dispatcher` serves any: it knows no path, no key and no word of a particular one."""

    nothing: int  # the status of an answer without a body
    headers: Mapping[str, str]  # of every answer
    lines: str  # the media type of documents that come one a line

    @property
    def routes(self) -> Sequence[Route[Any, Any]]: ...

    def query(self, pairs: Iterable[tuple[str, str]], kind: type[T]) -> T:
        """The Struct `kind` from the parameters of a URL. InvalidInput names the one that is wrong."""

    def body(self, data: bytes, kind: type[T], media_type: str) -> T:
        """The Struct `kind` from a JSON document. InvalidInput names the place that is wrong."""

    def status(self, error: HyperError) -> int: ...

    def document(self, error: HyperError) -> object:
        """The body of an answer that refuses."""

    def last_line(self, error: HyperError) -> object:
        """What ends an answer in lines that failed: its status was sent long ago."""
