"""Exit statuses that are not the container's: 125 ours, 126 it cannot be executed, 127 it is not there."""

from __future__ import annotations

import errno

from hypercontainer.hyperctl.context import complain

FAILED, CANNOT_EXECUTE, NOT_FOUND = 125, 126, 127
ABSENT = (errno.ENOENT, errno.ENOTDIR)


def start_failure(error: Exception, *, otherwise: int, set_up: int) -> int:
    """Say why a process did not start; docker's status for it: `set_up` if the guest could not do what comes before
    its command. What is no error of ours is raised again."""
    from hypercontainer.errors import GuestError, HyperError

    if not isinstance(error, HyperError):
        raise error
    complain(error)
    if not isinstance(error, GuestError) or not error.errno:
        return otherwise
    if not error.exec:
        return set_up
    return NOT_FOUND if error.errno in ABSENT else CANNOT_EXECUTE
