"""The processes of a container as `ps` prints them: its usual layouts, and columns by name. Pure."""

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hypercontainer.agent.messages import ProcessRow
from hypercontainer.errors import InvalidInput
from hypercontainer.model import documents as doc

COMM_WIDTH = 15


class Host(NamedTuple):
    """What percentages are of."""

    now_s: float
    memory_kib: int


class Column(NamedTuple):
    title: str
    cell: Callable[[ProcessRow, Host], str]


def _elapsed(p: ProcessRow, host: Host) -> int:
    return max(0, int(host.now_s) - p.start_s)


def _cpu(p: ProcessRow, host: Host) -> float:
    return p.cpu_ms / 10 / max(1, _elapsed(p, host))


def _clock(seconds: int) -> str:
    """01:02:03, as TIME."""
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def _elapsed_words(p: ProcessRow, host: Host) -> str:
    """[[days-]hours:]minutes:seconds"""
    days, seconds = divmod(_elapsed(p, host), 86400)
    if days:
        return f"{days}-{_clock(seconds)}"
    return _clock(seconds) if seconds >= 3600 else f"{seconds // 60:02}:{seconds % 60:02}"


def _start(p: ProcessRow, host: Host) -> str:
    """The hour of one that is younger than a day, else the day."""
    return time.strftime("%H:%M" if _elapsed(p, host) < 86400 else "%b%d", time.localtime(p.start_s))


def _name(p: ProcessRow) -> str:
    first = p.command.split(" ", 1)[0]
    return (first.strip("[]") if first.startswith("[") else first.rpartition("/")[2])[:COMM_WIDTH]


def _minutes(p: ProcessRow) -> str:
    return f"{p.cpu_ms // 60_000}:{p.cpu_ms // 1000 % 60:02}"


COLUMNS: dict[str, Column] = {
    "pid": Column("PID", lambda p, _: str(p.pid)),
    "ppid": Column("PPID", lambda p, _: str(p.ppid)),
    "user": Column("USER", lambda p, _: p.user),
    "stat": Column("STAT", lambda p, _: p.state),
    "s": Column("S", lambda p, _: p.state[:1]),
    "start": Column("STARTED", lambda p, _: time.strftime("%H:%M:%S", time.localtime(p.start_s))),
    "stime": Column("STIME", _start),
    "lstart": Column("STARTED", lambda p, _: time.strftime("%a %b %e %H:%M:%S %Y", time.localtime(p.start_s))),
    "etime": Column("ELAPSED", _elapsed_words),
    "etimes": Column("ELAPSED", lambda p, host: str(_elapsed(p, host))),
    "time": Column("TIME", lambda p, _: _clock(p.cpu_ms // 1000)),
    "tty": Column("TT", lambda p, _: p.tty or "?"),
    "vsz": Column("VSZ", lambda p, _: str(p.vsize_kib)),
    "rss": Column("RSS", lambda p, _: str(p.rss_kib)),
    "pcpu": Column("%CPU", lambda p, host: f"{_cpu(p, host):.1f}"),
    "c": Column("C", lambda p, host: str(int(_cpu(p, host)))),
    "pmem": Column("%MEM", lambda p, host: f"{100 * p.rss_kib / max(1, host.memory_kib):.1f}"),
    "comm": Column("COMMAND", lambda p, _: _name(p)),
    "args": Column("COMMAND", lambda p, _: p.command),
    "cmd": Column("CMD", lambda p, _: p.command),
}
SAME = {  # other names of ps for the same thing
    "uname": "user", "euser": "user", "state": "s", "start_time": "stime", "cputime": "time", "tt": "tty",
    "tname": "tty", "vsize": "vsz", "rssize": "rss", "rsz": "rss", "%cpu": "pcpu", "%mem": "pmem", "ucmd": "comm",
    "ucomm": "comm", "command": "args",
}  # fmt: skip


def _layout(names: str, **titles: str) -> list[Column]:
    return [Column(titles.get(name, COLUMNS[name].title), COLUMNS[name].cell) for name in names.split()]


FULL = _layout("user pid ppid c stime tty time cmd", user="UID", tty="TTY")  # -f
SHORT = _layout("pid tty time comm", tty="TTY", comm="CMD")  # -e
BSD_TIME = Column("TIME", lambda p, _: _minutes(p))
USERS = [*_layout("user pid pcpu pmem vsz rss tty stat stime", tty="TTY", stime="START"), BSD_TIME, *_layout("args")]
BSD = [*_layout("pid tty stat", tty="TTY"), BSD_TIME, *_layout("args")]  # ax


def top(processes: Sequence[ProcessRow], options: str, host: Host) -> doc.Top:
    """The table that ps prints with `options`; all processes of the container are in it, whatever they choose."""
    columns = _columns(options.split()) or FULL
    return doc.Top(
        titles=[column.title for column in columns],
        processes=[[column.cell(p, host) for column in columns] for p in processes],
    )


def _columns(words: list[str]) -> list[Column]:
    chosen: list[Column] = []
    layout: list[Column] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        letters = word.removeprefix("-")
        flags, o, names = letters.partition("o")
        if word.startswith("--") or not letters or set(flags) - set("eAafdNTxuww" if word[0] == "-" else "axuwe"):
            raise _refused(word)
        if o:
            if not names and not rest:
                raise InvalidInput(f"cannot list processes by {word!r}: name columns behind it, such as pid,args")
            chosen += _named(names or rest.pop(0))
        elif word[0] != "-":
            layout = USERS if "u" in flags else BSD
        else:
            layout = FULL if "f" in flags else USERS if "u" in flags else layout or SHORT
    return chosen or layout


def _named(names: str) -> list[Column]:
    """Of pid,args:30,comm=NAME: the last one's title may be anything."""
    found = []
    names, equals, title = names.partition("=")
    for name in names.split(","):
        key = name.partition(":")[0].lower()
        column = COLUMNS.get(SAME.get(key, key))
        if column is None:
            raise InvalidInput(f"cannot list processes by {name[:40]!r}: use some of {', '.join(sorted(COLUMNS))}")
        found.append(column)
    if equals:
        found[-1] = Column(title, found[-1].cell)
    return found


def _refused(word: str) -> InvalidInput:
    return InvalidInput(
        f"cannot list processes with {word[:40]!r}: the guest lists them itself; use -ef, aux, -A or -o pid,args"
    )
