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
    fresh = {1: True, 2: True}  # at the beginning of a line
    for entry in entries:
        fd, data = entry["stream"], binascii.a2b_base64(entry["data"])
        if args.timestamps:
            begins, fresh[fd] = fresh[fd], data.endswith(b"\n")
            data = stamped(data, entry["time_ns"], begins)
        _write(1 if fd == 1 else 2, data)
    return 0


def stamped(data: bytes, time_ns: int, begins: bool) -> bytes:
    """Put the time before each line; `begins`: the first byte begins one."""
    stamp = times.rfc3339(time_ns).encode() + b" "
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
        least=1,
        most=1,
        objects="containers",
        refused={"details": "there are no log drivers with details"},
    )
}
