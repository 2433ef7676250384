"""Errors as the API tells them: one table from kinds to statuses."""

import logging

from hypercontainer.errors import Exhausted, GuestError, HyperError, Kind
from hypercontainer.lib import files

log = logging.getLogger("hyperd.rest")

STATUS: dict[Kind, int] = {
    "invalid": 400,
    "permission": 403,
    "not-found": 404,
    "already-exists": 409,
    "in-use": 409,
    "failed-precondition": 409,
    "internal": 500,
    "guest": 502,
    "unavailable": 503,
    "timeout": 504,
    "exhausted": 507,
}


def told(error: BaseException) -> tuple[int, dict[str, object]]:
    """Status and document for `error`. What is no HyperError is our bug: logged here, its innards kept to the log."""
    if isinstance(error, HyperError):
        document: dict[str, object] = {"message": str(error), "kind": error.kind}
        if isinstance(error, GuestError) and error.errno:
            document["errno"] = error.errno
        if isinstance(error, GuestError) and error.exec:
            document["exec"] = True
        return STATUS[error.kind], document
    if isinstance(error, OSError) and error.errno in files.FULL:
        return told(Exhausted(f"cannot write {error.filename or 'a file'}: {error.strerror}: make room on its disk"))
    log.error("internal error", exc_info=error)
    return 500, {"message": f"internal error: {type(error).__name__}; hyperd's log has the details", "kind": "internal"}
