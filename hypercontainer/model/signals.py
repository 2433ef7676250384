"""Signals as callers write them."""

import signal

from hypercontainer.errors import InvalidInput

HIGHEST = 64


def number(text: str) -> int:
    """Of "TERM", "SIGTERM", "sigterm", "15", "RTMIN+3". InvalidInput for anything else."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdigit() and len(name) <= 2 and 1 <= int(name) <= HIGHEST:
        return int(name)
    base, plus, offset = name.partition("+")
    if base == "RTMIN" and plus and offset.isascii() and offset.isdigit() and int(offset[:3]) <= 30:
        return signal.SIGRTMIN + int(offset)
    try:
        return signal.Signals[f"SIG{name}"].value
    except KeyError:
        raise InvalidInput(
            f"invalid signal {text[:40]!r}: give a name like TERM or a number from 1 to {HIGHEST}"
        ) from None
