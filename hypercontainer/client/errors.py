"""What hyperd's API answers when it refuses, as the errors that the engine raised."""

from hypercontainer.errors import (
    AlreadyExists,
    Denied,
    Exhausted,
    GuestError,
    GuestTooOld,
    HyperError,
    InUse,
    InvalidInput,
    NoLog,
    NotFound,
    TimedOut,
    Unavailable,
    Unsupported,
    WrongState,
)

# Those that have no facts beside their message.
PLAIN: dict[str, type[HyperError]] = {e.kind: e for e in (Denied, Exhausted, InvalidInput, TimedOut, Unavailable)}

WORDS = ("what", "name", "id", "verb", "state", "hint", "feature", "doing", "hypervisor")  # facts that are text
KINDS = {
    400: "invalid",
    403: "permission",
    405: "invalid",
    502: "guest",
    503: "unavailable",
    504: "timeout",
    507: "exhausted",
}


def error(document: object, status: int = 500) -> HyperError:
    """The error that `document` describes: docs/api.md. `status` tells the kind if it does not.

    HyperError for what is no document of ours: nothing is known of it but its words."""
    said = document if isinstance(document, dict) else {}
    message = str(said.get("message") or f"hyperd answered with status {status} and no reason")
    kind = str(said.get("kind") or KINDS.get(status, ""))
    what, name, id, verb, state, hint, feature, doing, hypervisor = (_word(said, key) for key in WORDS)
    if kind == NotFound.kind and what:
        return NotFound(what, name, hint)
    if kind == AlreadyExists.kind:
        return AlreadyExists(message, what, name, id)
    if kind == WrongState.kind and verb:
        return WrongState(verb, name, state, hint)
    if kind == GuestTooOld.kind and feature:
        return GuestTooOld(message, feature)
    if kind == Unsupported.kind and doing:
        return NoLog(doing, name) if name else Unsupported(doing, hypervisor)
    if kind == InUse.kind:
        by = said.get("by")
        return InUse(message, what, name, [str(each) for each in by] if isinstance(by, list) else ())
    if kind == GuestError.kind:
        errno = said.get("errno")
        return GuestError(message, errno if isinstance(errno, int) else 0, exec=said.get("exec") is True)
    return PLAIN.get(kind, HyperError)(message)


def _word(said: dict[str, object], key: str) -> str:
    value = said.get(key)
    return value if isinstance(value, str) else ""
