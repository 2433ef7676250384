"""The root of our errors, and the kinds that every frontend maps to statuses of its own."""

from collections.abc import Sequence
from typing import ClassVar, Literal

Kind = Literal[
    "invalid",  # the caller's words make no sense: change them
    "not-found",
    "already-exists",
    "in-use",  # something else holds it: release that first
    "failed-precondition",  # it exists, but its state does not allow the call
    "unsupported",  # this hyperd's hypervisor has no such feature, or the container was made without it
    "permission",
    "exhausted",  # disk, addresses, ports, memory
    "unavailable",  # a peer does not answer: a registry, hyperd
    "timeout",
    "guest",  # the virtual machine or what runs in it failed
    "internal",
]


class HyperError(Exception):
    """Something a caller can be told in one line: "cannot VERB WHAT: WHY"; what to do, where we know it.

    Programs read `kind` and the `facts`, never the words: a door passes both on, and a client makes the error again."""

    kind: ClassVar[Kind] = "internal"
    facts: ClassVar[tuple[str, ...]] = ()  # names of attributes, which are arguments of the constructor too


def reason(error: BaseException) -> str:
    """What `error` says, to stand behind another "cannot VERB WHAT: "; an OSError without number and path."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).removeprefix("cannot ")


class InvalidInput(HyperError):
    """A name, an option or a document that a caller gave is not acceptable."""

    kind = "invalid"


class NotFound(HyperError):
    """There is no such thing. `what` is its noun ("container", "image"), `name` what was asked for."""

    kind = "not-found"
    facts = ("what", "name", "hint")

    def __init__(self, what: str, name: str, hint: str = "") -> None:
        super().__init__(f"no such {what}: {name}" + (f" ({hint})" if hint else ""))
        self.what, self.name, self.hint = what, name, hint


class OtherPlatform(NotFound):
    """An image is here, but for other platforms than the one asked for: `there`, in words."""

    def __init__(self, name: str, wanted: str, there: list[str]) -> None:
        super().__init__("image", name, f"not for {wanted}: what is here is for {', '.join(there)}")
        self.there = there


class AlreadyExists(HyperError):
    """The name is taken. `what` is its noun, as of NotFound; `id` that of what has it, if that has one."""

    kind = "already-exists"
    facts = ("what", "name", "id")

    def __init__(self, message: str, what: str, name: str, id: str = "") -> None:
        super().__init__(message)
        self.what, self.name, self.id = what, name, id


class InUse(HyperError):
    """Something still uses it: a container its image, a process the port. `what` and `name` tell what is used, `by` in
    words all who do, where each can be named."""

    kind = "in-use"
    facts = ("what", "name", "by")

    def __init__(self, message: str, what: str, name: str, by: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.what, self.name, self.by = what, name, list(by)


class WrongState(HyperError):
    """The object exists, but its state does not allow the call.

    `state` is a container's ("running", model/state.py) or a short word beside those ("paused", "not reached yet");
    `hint` says what to do, or why it is so."""

    kind = "failed-precondition"
    facts = ("verb", "name", "state", "hint")

    def __init__(self, verb: str, name: str, state: str, hint: str = "") -> None:
        words = "being removed" if state == "removing" else state
        super().__init__(f"cannot {verb} {name}: it is {words}" + (f": {hint}" if hint else ""))
        self.verb, self.name, self.state, self.hint = verb, name, state, hint


class Unsupported(HyperError):
    """The hypervisor of this hyperd can never do that. `doing` is what was to be done: "fork web"."""

    kind = "unsupported"
    facts = ("doing", "hypervisor")

    def __init__(self, doing: str, hypervisor: str) -> None:
        super().__init__(f"cannot {doing}: not with {hypervisor}")
        self.doing, self.hypervisor = doing, hypervisor


class NoLog(HyperError):
    """The container `name` was made without a log that can be read. `doing` is what was to be done: "attach to"."""

    kind = "unsupported"
    facts = ("doing", "name")

    def __init__(self, doing: str, name: str) -> None:
        super().__init__(f"cannot {doing} {name}: it was made without a log")
        self.doing, self.name = doing, name


class Denied(HyperError):
    """This caller may not do that: there, other credentials are needed, or another user."""

    kind = "permission"


class Exhausted(HyperError):
    """No more of a bounded thing: disk space, addresses, ports."""

    kind = "exhausted"


class Unavailable(HyperError):
    """A peer does not answer, or answers that it cannot now."""

    kind = "unavailable"


class TimedOut(HyperError):
    """A bounded wait ended first."""

    kind = "timeout"


class GuestError(HyperError):
    """The guest's agent did what was asked and failed. `errno` is the guest's (0 where it has none).

    `exec`: a command itself could not be run, after all that was to be set up for it.
    """

    kind = "guest"
    facts = ("errno", "exec")

    def __init__(self, message: str, errno: int = 0, *, exec: bool = False) -> None:
        super().__init__(message)
        self.errno, self.exec = errno, exec


class BuildFailed(HyperError):
    """A command of a build ended with a status that is not 0: `code`."""

    kind = "invalid"
    facts = ("code",)

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class GuestTooOld(HyperError):
    """The virtual machine was started by an older hyperd, and its agent has not learnt `feature`. Nothing was done."""

    kind = "failed-precondition"
    facts = ("feature",)

    def __init__(self, message: str, feature: str) -> None:
        super().__init__(message)
        self.feature = feature


class GuestSilent(HyperError):
    """The guest did not answer in time; what was asked may or may not have happened."""

    kind = "guest"


class GuestDied(HyperError):
    """The virtual machine ended. The message names the cause; `console` is the tail of the guest's console."""

    kind = "guest"

    def __init__(self, message: str, console: str = "") -> None:
        super().__init__(message)
        self.console = console
