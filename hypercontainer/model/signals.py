"""Signals as callers write them. Linux's numbers for x86, arm, ppc and s390, whatever the host is."""

from hypercontainer.errors import InvalidInput

HIGHEST = 64
RTMIN = 34  # as C libraries count: the kernel's 32 and 33 are their own
NUMBERS = {
    name: number
    for number, name in enumerate(
        (
            "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM",
            "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF",
            "WINCH", "IO", "PWR", "SYS",
        ),
        start=1,
    )
}  # fmt: skip
NAMES = {number: name for name, number in NUMBERS.items()}
ALIASES = {"IOT": 6, "CLD": 17, "POLL": 29, "RTMIN": RTMIN, "RTMAX": HIGHEST}


def number(text: str) -> int:
    """Of "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3", "RTMAX-2". InvalidInput for anything else."""
    word = text.upper()
    value = _decimal(word)
    if value is None:
        value = _named(word.removeprefix("SIG"))
    if value is None or not 1 <= value <= HIGHEST:
        raise InvalidInput(f"invalid signal {text[:40]!r}: give a name like TERM or a number from 1 to {HIGHEST}")
    return value


def _decimal(word: str) -> int | None:
    return int(word) if len(word) <= 2 and word.isascii() and word.isdigit() else None


def _named(word: str) -> int | None:
    if word in NUMBERS or word in ALIASES:
        return NUMBERS.get(word) or ALIASES[word]
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        offset = _decimal(word.removeprefix(base)) if word.startswith(base) else None
        if offset is not None and offset <= HIGHEST - RTMIN:
            return ALIASES[base[:-1]] + sign * offset
    return None


def name(value: int) -> str:
    """ "SIGTERM"; a real-time one as "SIGRTMIN+3", one that has no name as its number."""
    if value in NAMES:
        return f"SIG{NAMES[value]}"
    if RTMIN <= value <= HIGHEST:
        return f"SIGRTMIN+{value - RTMIN}" if value > RTMIN else "SIGRTMIN"
    return str(value)
