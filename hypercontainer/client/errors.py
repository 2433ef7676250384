"""What hyperd's API answers when it refuses, as the errors that the engine raised."""

from hypercontainer.errors import (
    AlreadyExists,
    Exhausted,
    GuestError,
    HyperError,
    InUse,
    InvalidInput,
    NotFound,
    TimedOut,
    Unavailable,
    WrongState,
)


class PermissionRefused(HyperError):
    """hyperd, or the system below it, does not let this caller do that."""

    kind = "permission"


CLASSES: dict[str, type[HyperError]] = {
    e.kind: e
    for e in (
        AlreadyExists,
        Exhausted,
        GuestError,
        HyperError,
        InUse,
        InvalidInput,
        NotFound,
        PermissionRefused,
        TimedOut,
        Unavailable,
        WrongState,
    )
}

KINDS = {
    400: "invalid",
    403: "permission",
    404: "not-found",
    405: "invalid",
    409: "failed-precondition",
    502: "guest",
    503: "unavailable",
    504: "timeout",
    507: "exhausted",
}


def error(document: object, status: int = 500) -> HyperError:
    """The error that `document` (message, kind, errno, exec) describes; `status` tells the kind if it does not.

    The facts that the engine's class has as attributes did not travel: only message, class, errno and exec did.
    """
    fields = document if isinstance(document, dict) else {}
    kind = fields.get("kind") or KINDS.get(status, "internal")
    made = CLASSES.get(str(kind), HyperError).__new__(CLASSES.get(str(kind), HyperError))
    message = fields.get("message") or f"hyperd answered with status {status} and no reason"
    made.args = (str(message),)
    if isinstance(made, GuestError):
        made.errno = fields["errno"] if isinstance(fields.get("errno"), int) else 0
        made.exec = fields.get("exec") is True
    return made
