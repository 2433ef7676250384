"""hyperctl stats"""

from __future__ import annotations

import os
import sys
import time

from hypercontainer.hyperctl import flags, table, text
from hypercontainer.hyperctl.containers import path
from hypercontainer.hyperctl.flags import Args, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hypercontainer.client.http import Client
    from hypercontainer.hyperctl.context import Context

EVERY_S = 1.0
HOME_AND_CLEAR = "\x1b[H\x1b[J"
COLUMNS = (
    ("CONTAINER ID", "ID"),
    ("NAME", "Name"),
    ("CPU %", "CPUPerc"),
    ("MEM USAGE / LIMIT", "MemUsage"),
    ("MEM %", "MemPerc"),
    ("NET I/O", "NetIO"),
    ("BLOCK I/O", "BlockIO"),
    ("PIDS", "PIDs"),
)


def cpu_percent(before: dict[str, Any] | None, now: dict[str, Any]) -> float:
    """Of one processor, between two samples; 0 without an earlier one."""
    if before is None:
        return 0.0
    elapsed_s = text.since_epoch(now["read"]) - text.since_epoch(before["read"])
    used_ns = now["cpu_stats"]["cpu_usage"]["total_usage"] - before["cpu_stats"]["cpu_usage"]["total_usage"]
    return max(0.0, used_ns / 1e7 / elapsed_s) if elapsed_s > 0 else 0.0


def row(before: dict[str, Any] | None, now: dict[str, Any], *, full: bool) -> dict[str, object]:
    memory, blocks, nics = now["memory_stats"], now["blkio_stats"], now["networks"].values()
    received, sent = sum(nic["rx_bytes"] for nic in nics), sum(nic["tx_bytes"] for nic in nics)
    return {
        "ID": now["id"] if full else text.short_id(now["id"]),
        "Container": now["id"],
        "Name": now["name"].removeprefix("/"),
        "CPUPerc": f"{cpu_percent(before, now):.2f}%",
        "MemUsage": f"{text.memory(memory['usage'])} / {text.memory(memory['limit'])}",
        "MemPerc": f"{100 * memory['usage'] / memory['limit'] if memory['limit'] else 0:.2f}%",
        "NetIO": f"{text.size(received)} / {text.size(sent)}",
        "BlockIO": f"{text.size(blocks['read_bytes'])} / {text.size(blocks['write_bytes'])}",
        "PIDs": str(now["pids_stats"]["current"]),
    }


def idle(entry: dict[str, Any]) -> dict[str, Any]:
    """The sample of a container that does not run: all of it nothing, as docker's."""
    return {
        "id": entry["Id"],
        "name": entry["Names"][0] if "Names" in entry else entry["Name"],
        "read": "",
        "cpu_stats": {"cpu_usage": {"total_usage": 0}},
        "memory_stats": {"usage": 0, "limit": 0},
        "pids_stats": {"current": 0},
        "blkio_stats": {"read_bytes": 0, "write_bytes": 0},
        "networks": {},
    }


class Feed:
    """The samples of one container, one a second; hyperd sets the pace."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client.another()
        self._samples = self._client.stream("GET", path(name, "stats"), stream=True)
        self.before: dict[str, Any] | None = None
        self.now: dict[str, Any] | None = None

    def step(self) -> bool:
        """Take the next sample; False when there is none: the container ended."""
        from hypercontainer.errors import NotFound, WrongState

        try:
            self.before, self.now = self.now, next(self._samples, None)
        except (NotFound, WrongState):
            self.now = None
        return self.now is not None

    def close(self) -> None:
        self._client.close()


def follow(client: Client, names: list[str], feeds: dict[str, Feed]) -> None:
    """Open a feed for each of `names` that runs."""
    from hypercontainer.errors import NotFound, WrongState

    for name in names:
        if name not in feeds:
            try:
                feeds[name] = Feed(client, name)
            except (NotFound, WrongState):
                pass  # it has ended


def silent(client: Client, args: Args, feeds: dict[str, Feed]) -> list[dict[str, Any]]:
    """Samples of those that were asked for and do not run."""
    from hypercontainer.errors import NotFound

    if args.all and not args.operands:
        return [idle(entry) for entry in client.get("/v1/containers", all=True) if entry["Id"] not in feeds]
    found = []
    for name in args.operands:
        if name not in feeds:
            try:
                found.append(idle(client.get(path(name))))
            except NotFound:
                pass  # it was removed meanwhile
    return found


def stats(context: Context, args: Args) -> int:
    for name in args.operands:
        context.client.get(path(name))  # NotFound is said at once
    feeds: dict[str, Feed] = {}
    follow(context.client, args.operands, feeds)
    live, rounds = not args.no_stream, 0
    while live or rounds < 2:  # a percentage takes two samples
        if not args.operands:
            running = context.client.get("/v1/containers", filter=["status=running"])
            follow(context.client, [entry["Id"] for entry in running], feeds)
        for name in [name for name, feed in feeds.items() if not feed.step()]:
            feeds.pop(name).close()
        rounds += 1
        if rounds > 1 or (args.operands and not feeds):
            still = silent(context.client, args, feeds)
            show(args, [*feeds.values()], still, clear=live and os.isatty(1) and not args.format)
        if args.operands and not feeds:
            return 0
        if not feeds:
            time.sleep(EVERY_S)
    return 0


def show(args: Args, feeds: list[Feed], still: list[dict[str, Any]], *, clear: bool) -> None:
    if clear:
        sys.stdout.write(HOME_AND_CLEAR)
    rows = [row(feed.before, feed.now, full=args.no_trunc) for feed in feeds if feed.now]
    rows += [row(None, sample, full=args.no_trunc) for sample in still]
    table.show(args, COLUMNS, rows)
    sys.stdout.flush()


COMMANDS = {
    "stats": Command(
        stats,
        "[OPTIONS] [CONTAINER...]",
        "hyperctl stats --no-stream --format '{{.Name}} {{.MemUsage}}'",
        flags.switch("all", "Also those that do not run", "a"),
        flags.switch("no-stream", "Once, then end"),
        *table.list_flags()[1:3],
        most=None,
        objects="running",
    )
}
