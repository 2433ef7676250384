"""hyperctl logs"""

from __future__ import annotations

import binascii
import os

from hypercontainer.hyperctl import flags, times
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hypercontainer.hyperctl.context import Context


def parse_tail(word: str) -> int | None:
    return None if word == "all" else flags.count(word)


def logs(context: Context, args: Args) -> int:
    entries = context.client.stream(
        "GET",
        path(args.operands[0], "logs"),
        follow=args.follow,
        since=times.seconds(args.since) if args.since else None,
        until=times.seconds(args.until) if args.until else None,
        tail=args.tail if "tail" in args.given else None,
        stdout=True,
        stderr=True,
    )
    prefix = details(context.client.get(path(args.operands[0], ""))["LogAttributes"]) if args.details else b""
    fresh = {1: True, 2: True}  # at the beginning of a line
    for entry in entries:
        fd, data = entry["stream"], binascii.a2b_base64(entry["data"])
        if args.timestamps or args.details:
            begins, fresh[fd] = fresh[fd], data.endswith(b"\n")
            stamp = times.rfc3339(entry["time_ns"]).encode() + b" " if args.timestamps else b""
            data = stamped(data, stamp + prefix, begins)
        _write(1 if fd == 1 else 2, data)
    return 0


def details(attributes: dict[str, str]) -> bytes:
    """What is said of the container before each line, as docker has it."""
    from urllib.parse import quote_plus  # here, so that others do not pay for it

    pairs = sorted(attributes.items())
    return ",".join(f"{quote_plus(key)}={quote_plus(value)}" for key, value in pairs).encode() + b" "


def stamped(data: bytes, stamp: bytes, begins: bool) -> bytes:
    """Put `stamp` before each line; `begins`: the first byte begins one."""
    lines = data.split(b"\n")
    tail = lines.pop() if lines[-1] == b"" else None
    out = (stamp if begins else b"") + (b"\n" + stamp).join(lines)
    return out + b"\n" if tail is not None else out


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while len(view):
        view = view[os.write(fd, view) :]


COMMANDS = {
    "logs": Command(
        logs,
        "[OPTIONS] CONTAINER",
        "hyperctl logs -f --tail 20 web",
        flags.switch("follow", "Go on with what is written from now on", "f"),
        flags.Flag("since", "From this time on: 10m, 2024-05-01T10:00:00Z, seconds since 1970", parse=times.parse_ns),
        flags.Flag("until", "Up to this time", parse=times.parse_ns),
        flags.Flag("tail", "The last lines: a number, or all", short="n", default="all", parse=parse_tail),
        flags.switch("timestamps", "Show the time of each line", "t"),
        flags.switch("details", "Show what --log-opt labels, env and tag say of it before each line"),
        least=1,
        most=1,
        objects="containers",
    )
}
