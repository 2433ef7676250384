"""The words of the command line, as runc has them. Each verb's flags are listed: one that is not is refused."""

from __future__ import annotations


class UsageError(Exception):
    """The words make no sense."""


class Verb:
    """`values`: flags that take a value, by each spelling, with the name that code asks for; `switches`: those without.
    What is behind the arguments of one that has `rest` is not looked at."""

    def __init__(
        self, values: dict[str, str], switches: dict[str, str], arguments: tuple[str, ...], *, rest: bool = False
    ) -> None:
        self.values, self.switches, self.arguments, self.rest = values, switches, arguments, rest


GLOBAL = Verb(
    {
        "root": "root",
        "log": "log",
        "log-format": "log-format",
        "host": "host",
        "config": "config",
        "rootless": "rootless",
    },
    {"debug": "debug", "systemd-cgroup": "systemd-cgroup", "version": "version", "v": "version", "help": "help"},
    (),
    rest=True,
)
_CREATE = {
    "bundle": "bundle",
    "b": "bundle",
    "console-socket": "console-socket",
    "pid-file": "pid-file",
    "preserve-fds": "preserve-fds",
}
_LIMITS = (
    "blkio-weight",
    "cpu-burst",
    "cpu-idle",
    "cpu-period",
    "cpu-quota",
    "cpu-rt-period",
    "cpu-rt-runtime",
    "cpu-share",
    "cpuset-cpus",
    "cpuset-mems",
    "kernel-memory",
    "kernel-memory-tcp",
    "l3-cache-schema",
    "mem-bw-schema",
    "memory",
    "memory-reservation",
    "memory-swap",
    "pids-limit",
)
_INTERFACE = ("host-device", "name", "ip", "mac", "mtu", "add-ip", "delete-ip")
_PLACE = {"no-pivot": "no-pivot", "no-new-keyring": "no-new-keyring", "no-subreaper": "no-subreaper", "keep": "keep"}
_VALUES = ("image-path", "work-path", "parent-path", "page-server", "status-fd", "manage-cgroups-mode", "empty-ns")
_IMAGES = {name: name for name in _VALUES}
_SWITCHES = ("tcp-established", "ext-unix-sk", "shell-job", "lazy-pages", "file-locks", "auto-dedup")
_CRIU = {name: name for name in _SWITCHES}
VERBS = {
    "create": Verb(_CREATE, _PLACE, ("id",)),
    "run": Verb(_CREATE, {**_PLACE, "detach": "detach", "d": "detach"}, ("id",)),
    "start": Verb({}, {}, ("id",)),
    "state": Verb({}, {}, ("id",)),
    "kill": Verb({}, {"all": "all", "a": "all"}, ("id", "signal?")),
    "delete": Verb({}, {"force": "force", "f": "force"}, ("id",)),
    "list": Verb({"format": "format", "f": "format"}, {"quiet": "quiet", "q": "quiet"}, ()),
    "ps": Verb({"format": "format", "f": "format"}, {}, ("id",), rest=True),
    "pause": Verb({}, {}, ("id",)),
    "resume": Verb({}, {}, ("id",)),
    "update": Verb({**{name: name for name in _LIMITS}, "resources": "resources", "r": "resources"}, {}, ("id",)),
    "events": Verb({"interval": "interval"}, {"stats": "stats"}, ("id",)),
    "interface": Verb({name: name for name in _INTERFACE}, {}, ("command", "id", "name?")),
    "manage": Verb({}, {}, (), rest=True),
    "checkpoint": Verb(_IMAGES, {**_CRIU, "leave-running": "leave-running", "pre-dump": "pre-dump"}, ("id",)),
    "restore": Verb({**_CREATE, **_IMAGES}, {**_PLACE, **_CRIU, "detach": "detach", "d": "detach"}, ("id",)),
    "spec": Verb({"bundle": "bundle", "b": "bundle"}, {"rootless": "rootless"}, ()),
    "features": Verb({}, {}, ()),
    "exec": Verb(
        {
            "process": "process",
            "p": "process",
            "console-socket": "console-socket",
            "pid-file": "pid-file",
            "cwd": "cwd",
            "env": "env",
            "e": "env",
            "user": "user",
            "u": "user",
            "additional-gids": "additional-gids",
            "g": "additional-gids",
            "preserve-fds": "preserve-fds",
            "cap": "cap",
            "c": "cap",
            "process-label": "process-label",
            "apparmor": "apparmor",
            "cgroup": "cgroup",
        },
        {
            "no-new-privs": "no-new-privs",
            "detach": "detach",
            "d": "detach",
            "tty": "tty",
            "t": "tty",
            "no-subreaper": "no-subreaper",
        },
        ("id",),
        rest=True,
    ),
}
LISTS = ("env", "additional-gids", "cap")


class Words:
    """`values` of flags by name, those of LISTS as lists; `switches` that are on; `arguments`, `rest`."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.lists: dict[str, list[str]] = {}
        self.switches: set[str] = set()
        self.arguments: list[str] = []
        self.rest: list[str] = []


def parse(verb: Verb, words: list[str]) -> Words:
    found = Words()
    most = len(verb.arguments)
    left = list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            found.rest.extend(left)
            break
        if word.startswith("-") and word != "-":
            _flag(verb, word, left, found)
        elif len(found.arguments) < most:
            found.arguments.append(word)
            if len(found.arguments) == most and verb.rest:
                found.rest.extend(left[1:] if left[:1] == ["--"] else left)
                break
        elif verb.rest:
            found.rest.extend([word, *left])
            break
        else:
            raise UsageError(f"unexpected argument {word!r}")
    needed = [name for name in verb.arguments if not name.endswith("?")]
    if len(found.arguments) < len(needed):
        raise UsageError(f"{needed[len(found.arguments)]} is missing")
    return found


def _flag(verb: Verb, word: str, left: list[str], found: Words) -> None:
    name, equals, value = word.lstrip("-").partition("=")
    if name in verb.switches:
        if not equals or value in ("true", "1"):
            found.switches.add(verb.switches[name])
        return
    if name not in verb.values:
        raise UsageError(f"flag provided but not defined: -{name}")
    if not equals:
        if not left:
            raise UsageError(f"flag needs an argument: -{name}")
        value = left.pop(0)
    key = verb.values[name]
    if key in LISTS:
        found.lists.setdefault(key, []).append(value)
    else:
        found.values[key] = value
