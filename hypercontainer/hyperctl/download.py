"""A tar that hyperd sends: into a file, which is there whole or not at all, or to stdout."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def check(path: str) -> None:
    """Before anything is asked for: "" is stdout, and a person does not read a tar."""
    if not path and os.isatty(1):
        from hypercontainer.errors import InvalidInput

        raise InvalidInput("cowardly refusing to save to a terminal. Use the -o flag or redirect")


def to(path: str, chunks: Iterator[bytes]) -> None:
    """Write `chunks` to the file `path`, or to stdout ("")."""
    if not path:
        for data in chunks:
            _write(1, data)
        return
    temporary = f"{path}.{os.getpid()}.part"
    fd = _create(temporary)
    try:
        for data in chunks:
            _write(fd, data)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    finally:
        os.close(fd)


def _create(path: str) -> int:
    from hypercontainer.errors import InvalidInput

    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise InvalidInput(f"cannot write {path}: {e.strerror}") from e


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]
