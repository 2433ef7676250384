"""JSON as one of our types: the one place that decodes strictly what is kept on disk or comes with a request.

What Go's tools wrote is read as they read it instead: lib/foreign.py.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from hypercontainer.errors import HyperError
from hypercontainer.lib import files

NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)  # what msgspec raises for hostile input
MAX_FILE = 64 << 20  # bytes of a record on disk

T = TypeVar("T")

Step = Callable[[Mapping[str, Any]], Mapping[str, Any]]  # a document of one version -> of the next
Steps = Sequence[Step]


class _Versioned(msgspec.Struct):
    version: Annotated[int, Meta(ge=1)]


def decode(data: bytes, kind: type[T], what: str, *, error: type[HyperError] = HyperError) -> T:
    """`data` as a `kind`; `error`, with `what` in it, when it is none. Costs in proportion to `data`."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError as e:
        raise error(f"cannot read {what}: it is nested too deep") from e
    except NOT_JSON as e:
        raise error(f"cannot read {what}: {str(e)[:300]}") from e


def read(path: Path, kind: type[T], *, error: type[HyperError] = HyperError) -> T:
    """The file at `path` as a `kind`. OSError when it cannot be opened, `error` when it is none such, or absurd."""
    return decode(_content(path, error), kind, str(path), error=error)


def _content(path: Path, error: type[HyperError]) -> bytes:
    data = files.beginning(path, MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise error(f"cannot read {path}: it has more than {MAX_FILE} bytes")
    return data


def version(steps: Steps) -> int:
    """Of what is written now: one more than there are steps from one version to the next."""
    return 1 + len(steps)


def upgraded(document: Mapping[str, Any], steps: Steps) -> Mapping[str, Any]:
    """An older `document` as the newest version has it; a newer one as it is. Raises what a step does."""
    for number in range(document["version"], version(steps)):
        document = {**steps[number - 1](document), "version": number + 1}
    return document


def read_versioned(path: Path, kind: type[T], steps: Steps, *, error: type[HyperError] = HyperError) -> T:
    """The same of a file that says its version. One of an older version goes through the `steps` from there on; the
    file stays as it is. `error` for one of a newer version."""
    data = _content(path, error)
    found, newest = decode(data, _Versioned, str(path), error=error).version, version(steps)
    if found == newest:
        return decode(data, kind, str(path), error=error)
    if found > newest:
        raise error(
            f"cannot read {path}: it is of version {found}, which a newer program wrote; this one knows {newest}"
        )
    try:
        return msgspec.convert(upgraded(msgspec.json.decode(data), steps), kind)
    except (*NOT_JSON, LookupError, TypeError, AttributeError) as e:
        raise error(f"cannot read {path}: it is not as version {found} had it: {str(e)[:300]}") from e
