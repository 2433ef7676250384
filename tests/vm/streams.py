"""Numbered lines: what a container of a walk prints, and the proof that its log has every byte of it."""

WIDTH = 9  # bytes of a line


def line(n: int) -> bytes:
    return b"%08d\n" % n


def endless() -> str:
    """A shell's script that prints lines until /dev/shm/stop is there, and exits with 7."""
    return 'i=0; while [ ! -e /dev/shm/stop ]; do printf "%08d\\n" $i; i=$((i+1)); sleep 0.05; done; exit 7'


def finite(count: int) -> str:
    """One that prints `count` lines in three bursts, and exits with 5."""
    burst = f'n=0; while [ $n -lt {count // 3} ]; do printf "%08d\\n" $i; i=$((i+1)); n=$((n+1)); done'
    return f"i=0; {burst}; sleep 0.2; {burst}; sleep 0.2; {burst}; exit 5"


def whole(count: int) -> bytes:
    return b"".join(line(n) for n in range(count // 3 * 3))


def complaint(log: bytes, runs: int, *, copied: bool = False, torn: bool = False) -> str:
    """What is wrong with the log of an `endless` that was started `runs` times; "" if nothing is.

    Each run's lines follow one another without a gap from 0 on. The first one of a container that was `copied` begins
    anywhere. `torn`: machines were killed, so a run's last line may have been cut."""
    position, starts, expected = 0, 1, -1 if copied else 0
    while position < len(log):
        row = log[position : position + WIDTH]
        if expected < 0 and row.strip().isdigit():
            expected = int(row)
        if row == line(expected):
            position, expected = position + WIDTH, expected + 1
            continue
        if len(row) < WIDTH and line(expected).startswith(row):
            return ""  # it is being written
        begin = next((k for k in range(WIDTH if torn else 1) if _begins(log, position + k)), None)
        if begin is None or log[position : position + begin] != line(expected)[:begin] or starts >= runs:
            return f"after {expected} lines of run {starts} of {runs}: {log[position : position + 40]!r}"
        position, starts, expected = position + begin, starts + 1, 0
    return ""


def _begins(log: bytes, position: int) -> bool:
    row = log[position : position + WIDTH]
    return bool(row) and line(0).startswith(row)
