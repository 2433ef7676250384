"""How a pull, a push, a load or a download goes: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from hypercontainer.hyperctl import text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TextIO


def follow(lines: Iterable[dict[str, Any]], out: TextIO, *, quiet: bool = False) -> list[dict[str, Any]]:
    """Show the Progress documents among `lines`; what the last line says was made: images, or a kernel; or sent."""
    if not quiet and out.isatty():
        return _bars(lines, out)
    said: set[tuple[str, str]] = set()
    done: list[dict[str, Any]] = []
    for line in lines:
        if "action" not in line:
            done = made(line)
        elif not quiet and (line["id"], line["action"]) not in said:
            said.add((line["id"], line["action"]))
            total = f" ({text.size(line['total'])})" if line.get("total") else ""
            print(text.printable(f"{label(line)}{line['action']}{total}"), file=out, flush=True)
    return done


def made(line: dict[str, Any]) -> list[dict[str, Any]]:
    kernel = line.get("kernel")
    return [kernel] if kernel else line.get("images") or line.get("pushed") or []


def label(line: dict[str, Any]) -> str:
    """What the part is called: a layer by the beginning of its digest, anything else by its name."""
    name = line["id"]
    return f"{text.short_id(name) if name.startswith('sha256:') else name}: " if name else ""


def _bars(lines: Iterable[dict[str, Any]], out: TextIO) -> list[dict[str, Any]]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    tasks: dict[str, Any] = {}
    done: list[dict[str, Any]] = []
    with Progress(*columns, console=Console(file=out)) as bars:
        for line in lines:
            if "action" not in line:
                done = made(line)
                continue
            words = text.printable(f"{label(line)}{line['action']}")
            if line["id"] not in tasks:
                tasks[line["id"]] = bars.add_task(words, total=line.get("total") or None)
            bars.update(
                tasks[line["id"]], description=words, completed=line.get("current", 0), total=line.get("total") or None
            )
    return done
