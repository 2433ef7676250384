"""Exit statuses that are not the container's: 125 ours, 126 it cannot be executed, 127 it is not there."""

from __future__ import annotations

import errno

from hypercontainer.hyperctl.context import complain

CANNOT_EXECUTE, NOT_FOUND = 126, 127
BY_ERRNO = {
    errno.ENOENT: NOT_FOUND,
    errno.ENOTDIR: NOT_FOUND,
    errno.EACCES: CANNOT_EXECUTE,
    errno.EISDIR: CANNOT_EXECUTE,
    errno.ENOEXEC: CANNOT_EXECUTE,
    errno.EPERM: CANNOT_EXECUTE,
}
BY_WORDS = {
    "no such file or directory": NOT_FOUND,
    "not found": NOT_FOUND,
    "permission denied": CANNOT_EXECUTE,
    "is a directory": CANNOT_EXECUTE,
    "exec format error": CANNOT_EXECUTE,
}


def start_failure(error: Exception, *, otherwise: int) -> int:
    """Say why a process did not start; docker's status for it. What is no error of ours is raised again."""
    from hypercontainer.errors import GuestError, HyperError

    if not isinstance(error, HyperError):
        raise error
    complain(error)
    if not isinstance(error, GuestError):
        return otherwise
    if error.errno:
        return BY_ERRNO.get(error.errno, otherwise)
    text = str(error).lower()
    return next((status for words, status in BY_WORDS.items() if words in text), otherwise)
