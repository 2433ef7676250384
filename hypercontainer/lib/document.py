"""JSON as one of our types: the one place that decodes strictly what is kept on disk or comes with a request.

What Go's tools wrote is read as they read it instead: images/foreign.py.
"""

from pathlib import Path
from typing import TypeVar

import msgspec

from hypercontainer.errors import HyperError
from hypercontainer.lib import files

NOT_JSON = (msgspec.MsgspecError, ValueError, RecursionError)  # what msgspec raises for hostile input
MAX_FILE = 64 << 20  # bytes of a record on disk

T = TypeVar("T")


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
    data = files.beginning(path, MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise error(f"cannot read {path}: it has more than {MAX_FILE} bytes")
    return decode(data, kind, str(path), error=error)
