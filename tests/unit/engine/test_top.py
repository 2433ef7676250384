"""The layouts of ps, as docker's `top` prints them; whatever else is asked for is refused by name."""

import pytest

from hypercontainer.agent.messages import ProcessRow
from hypercontainer.engine.top import Host, top
from hypercontainer.errors import InvalidInput

NOW = 1_700_000_000
HOST = Host(now_s=NOW, memory_kib=262_144)
SH = ProcessRow(
    pid=7, ppid=1, user="root", vsize_kib=2268, rss_kib=2621, state="S", start_s=NOW - 100, cpu_ms=12_500, tty="",
    command="/bin/sh -c x",
)  # fmt: skip
KTHREAD = ProcessRow(
    pid=9, ppid=7, user="nobody", vsize_kib=0, rss_kib=0, state="D", start_s=NOW - 100_000, cpu_ms=0, tty="pts/0",
    command="[jbd2]",
)  # fmt: skip
LAYOUTS = {
    "": "UID PID PPID C STIME TTY TIME CMD",
    "-ef": "UID PID PPID C STIME TTY TIME CMD",
    "-f": "UID PID PPID C STIME TTY TIME CMD",
    "aux": "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
    "u": "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND",
    "ax": "PID TTY STAT TIME COMMAND",
    "x": "PID TTY STAT TIME COMMAND",
    "-A": "PID TTY TIME CMD",
    "-o pid,comm": "PID COMMAND",
    "-eo user,pid,args": "USER PID COMMAND",
    "axo pid,comm": "PID COMMAND",
    "-o pid:10,args": "PID COMMAND",
    "-opid,ppid -o cmd=WHAT": "PID PPID WHAT",
    "-e -o stat,etime,time,tty,vsz,rss,pcpu,pmem,%cpu": "STAT ELAPSED TIME TT VSZ RSS %CPU %MEM %CPU",
}


@pytest.mark.parametrize("options", LAYOUTS)
def test_titles(options: str) -> None:
    assert " ".join(top([SH], options, HOST).titles) == LAYOUTS[options]


def test_cells() -> None:
    def cells(options: str) -> list[str]:
        return ["|".join(row) for row in top([SH, KTHREAD], options, HOST).processes]

    assert cells("-o user,pid,ppid,c,tty,time,cmd") == [
        "root|7|1|12|?|00:00:12|/bin/sh -c x", "nobody|9|7|0|pts/0|00:00:00|[jbd2]",
    ]  # fmt: skip
    assert cells("-o pcpu,pmem,vsz,rss,stat,comm") == ["12.5|1.0|2268|2621|S|sh", "0.0|0.0|0|0|D|jbd2"]
    assert cells("-o etime,etimes") == ["01:40|100", "1-03:46:40|100000"]
    assert top([SH], "aux", HOST).processes[0][9] == "0:12"


@pytest.mark.parametrize("options", ["-o pid,nosuch", "-o", "--sort=pid", "-l", "-p 7", "aux --sort=-pid", "-", "web"])
def test_what_the_guest_cannot_tell_is_refused(options: str) -> None:
    with pytest.raises(InvalidInput, match="cannot list processes"):
        top([SH], options, HOST)
