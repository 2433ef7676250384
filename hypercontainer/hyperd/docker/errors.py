"""Errors in this dialect: docker's statuses, and its words where clients read them."""

import errno
import re
from collections.abc import Callable, Mapping

from hypercontainer.errors import AlreadyExists, BuildFailed, GuestError, HyperError, InUse, NoLog, NotFound, WrongState
from hypercontainer.hyperd.http.errors import STATUS

UNTAGGED = re.compile(r"(?!(?:sha256:)?[0-9a-f]{12,64}$)(?:[^@]*/)?[^:@/]+")  # the name of an image, and no id
RUN = re.compile(r"cannot run (.*): ([^:]*)", re.DOTALL)  # what the guest says of a command
ABSENT: Mapping[str, Callable[[str], str]] = {
    "container": lambda name: f"No such container: {name}",
    "image": lambda name: f"No such image: {name if UNTAGGED.fullmatch(name) is None else f'{name}:latest'}",
    "exec": lambda name: f"No such exec instance: {name}",
    "volume": lambda name: f"get {name}: no such volume",
    "network": lambda name: f"network {name} not found",
    "page": lambda name: "page not found",
}
HINTED = ("path", "plugin", "platform", "signalled")  # where the hint is what docker says
TAKEN: Mapping[str, str] = {
    "container": 'Conflict. The container name "/{name}" is already in use by container "{id}". You have to remove (or '
    "rename) that container to be able to reuse that name.",
    "network": "network with name {name} already exists",
}
USED: Mapping[str, str] = {
    "volume": "remove {name}: volume is in use - [{by}]",
    "image": "conflict: unable to delete {name} (must be forced) - {by} is using its referenced image",
}
MANY_NAMES = "conflict: unable to delete {name} (must be forced) - image is referenced in multiple repositories"
# By the verb, and the state where that matters. {name} is the container's.
FORBIDDEN: Mapping[tuple[str, str], str] = {
    ("exec in", ""): "Container {name} is not running",
    ("exec in", "paused"): "Container {name} is paused, unpause the container before exec",
    ("kill", ""): "Cannot kill container: {name}: Container {name} is not running",
    ("resize", ""): "Container {name} is not running",
    ("pause", ""): "Container {name} is not running",
    ("pause", "paused"): "Container {name} is already paused",
    ("unpause", ""): "Container {name} is not paused",
    ("attach to", "paused"): "Container {name} is paused, unpause the container before attach.",
    ("list the processes of", ""): "Container {name} is not running",
    ("remove", "paused"): "You cannot remove a paused container {name}. Unpause and then stop the container before "
    "attempting removal or force remove",
    ("remove", "removing"): "removal of container {name} is already in progress",
    ("start exec", "started"): "Error: Exec command {name} has already run",
    ("start", "paused"): "cannot start a paused container, try unpause instead",
}
REMOVE_FIRST = (
    "You cannot remove a {state} container {name}. Stop the container before attempting removal or force remove"
)


class Missing(HyperError):
    """Docker has it, hyperd has not: docs/docker.md lists all such."""

    kind = "unsupported"


class Taken(HyperError):
    """A name is, which was to be another's: in docker's words."""

    kind = "already-exists"


class NoSwarm(HyperError):
    """This daemon is no manager of a swarm, and never is."""

    kind = "unavailable"


def status(error: HyperError) -> int:
    if isinstance(error, WrongState) and error.verb == "unpause":
        return 500
    if isinstance(error, GuestError):  # what was to run there could not
        return 400
    return STATUS[error.kind]


def message(error: HyperError) -> str:
    """For clients that look for words of docker's."""
    if isinstance(error, NotFound) and error.what in HINTED:
        return error.hint
    if isinstance(error, NotFound) and error.what in ABSENT:
        return ABSENT[error.what](error.name) + (f": {error.hint}" if error.hint else "")
    if isinstance(error, AlreadyExists) and error.what in TAKEN:
        return TAKEN[error.what].format(name=error.name, id=error.id)
    if isinstance(error, InUse) and error.what in USED:
        words = USED[error.what] if error.by else MANY_NAMES
        return words.format(name=error.name, by=", ".join(error.by))
    if isinstance(error, WrongState):
        return _forbidden(error)
    if isinstance(error, NoLog):
        return "configured logging driver does not support reading"
    if isinstance(error, GuestError) and error.exec:
        return not_run(error, "create")
    return str(error)


def _forbidden(error: WrongState) -> str:
    words = FORBIDDEN.get((error.verb, error.state)) or FORBIDDEN.get((error.verb, ""))
    if not words and error.verb == "remove":
        words = REMOVE_FIRST
    return words.format(name=error.name, state=error.state) if words else str(error)


def not_run(error: GuestError, what: str = "exec") -> str:
    """Of a command that could not be executed; clients make statuses of these words. Of an exec, also what came before
    its command."""
    said = RUN.fullmatch(str(error)) if error.exec else None
    if said is None:
        return f"OCI runtime {what} failed: {error}"
    command, why = said.groups()
    absent = f"stat {command}: no such file or directory" if "/" in command else "executable file not found in $PATH"
    why = absent if error.errno in (errno.ENOENT, errno.ENOTDIR) else why.lower()
    return f'OCI runtime {what} failed: exec: "{command}": {why}'


def document(error: HyperError) -> dict[str, object]:
    return {"message": message(error)}


def last_line(error: HyperError) -> dict[str, object]:
    """Of a stream whose status was sent long ago. Of a build, clients end with the code of what failed in it."""
    code = {"code": error.code} if isinstance(error, BuildFailed) else {}
    return {"errorDetail": {**code, "message": message(error)}, "error": message(error)}


def absent(what: str, docs: str = "docs/docker.md lists what is not there yet") -> Missing:
    return Missing(f"{what} is not supported by hyperd yet: {docs}")
