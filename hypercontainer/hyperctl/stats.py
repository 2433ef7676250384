"""hyperctl stats"""

from __future__ import annotations

import os
import sys
import time

from hypercontainer.hyperctl import flags, table, text
from hypercontainer.hyperctl.context import complain
from hypercontainer.hyperctl.flags import Args, Command
from hypercontainer.hyperctl.lifecycle import path

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


def names(client: Client, args: Args) -> list[str]:
    return args.operands or [entry["Id"] for entry in client.get("/v1/containers", filter=["status=running"])]


def sample(client: Client, names: list[str], *, named: bool) -> dict[str, dict[str, Any]]:
    """One sample of each. One that ended is left out, unless the user named it and it was never there."""
    from hypercontainer.errors import NotFound, WrongState

    found = {}
    for name in names:
        try:
            found[name] = next(client.stream("GET", path(name, "stats")))
        except (NotFound, WrongState) as e:
            if named:
                complain(e)
    return found


def stats(context: Context, args: Args) -> int:
    client = context.client
    live = not args.no_stream
    before: dict[str, dict[str, Any]] = sample(client, names(client, args), named=bool(args.operands))
    if args.operands and not before:
        return 1
    while True:
        time.sleep(EVERY_S)  # a percentage needs two samples
        now = sample(client, list(before) if args.operands else names(client, args), named=False)
        if live and os.isatty(1) and not args.format:
            sys.stdout.write(HOME_AND_CLEAR)
        table.show(args, COLUMNS, [row(before.get(name), doc, full=args.no_trunc) for name, doc in now.items()])
        sys.stdout.flush()
        if not live or (args.operands and not now):
            return 0
        before = now


COMMANDS = {
    "stats": Command(
        stats,
        "[OPTIONS] [CONTAINER...]",
        "hyperctl stats --no-stream --format '{{.Name}} {{.MemUsage}}'",
        flags.switch("no-stream", "Once, then end"),
        *table.list_flags()[1:3],
        most=None,
        objects="running",
    )
}
