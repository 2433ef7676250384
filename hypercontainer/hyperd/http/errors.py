"""Errors as a caller may hear of them, and the statuses that HTTP has for their kinds."""

import asyncio
import logging

from hypercontainer.errors import Exhausted, HyperError, Kind, Unavailable
from hypercontainer.lib import files

log = logging.getLogger("hyperd.http")

STATUS: dict[Kind, int] = {
    "invalid": 400,
    "permission": 403,
    "not-found": 404,
    "already-exists": 409,
    "in-use": 409,
    "failed-precondition": 409,
    "internal": 500,
    "unsupported": 501,
    "guest": 502,
    "unavailable": 503,
    "timeout": 504,
    "exhausted": 507,
}


def ours(error: BaseException) -> HyperError:
    """`error` for a caller. What is no HyperError is a bug of ours: logged here, its innards kept to the log."""
    if isinstance(error, HyperError):
        return error
    if isinstance(error, asyncio.CancelledError):  # of what would have gone on
        return Unavailable("hyperd is shutting down; what runs goes on")
    if isinstance(error, OSError) and error.errno in files.FULL:
        return Exhausted(f"cannot write {error.filename or 'a file'}: {error.strerror}: make room on its disk")
    log.error("internal error", exc_info=error)
    return HyperError(f"internal error: {type(error).__name__}; hyperd's log has the details")
