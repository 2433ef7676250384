"""Detach keys: which bytes of a terminal's input mean that its client goes. Pure."""

from hypercontainer.errors import InvalidInput

USUAL = "ctrl-p,ctrl-q"
SPECIAL = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}
MAX_KEYS = 32


def keys(words: str) -> bytes:
    """Of "ctrl-p,ctrl-q" or "a,b"; "" is docker's usual. InvalidInput for what is no key."""
    names = (words or USUAL).split(",")
    if len(names) > MAX_KEYS:
        raise InvalidInput(f"invalid detach keys: {MAX_KEYS} at most")
    return bytes(_key(name) for name in names)


def _key(name: str) -> int:
    control = name.lower().removeprefix("ctrl-")
    if len(name) == 1 and name.isascii():
        return ord(name)
    if control != name.lower() and len(control) == 1:
        if "a" <= control <= "z":
            return ord(control) - 96
        if control in SPECIAL:
            return SPECIAL[control]
    raise InvalidInput(
        f"invalid detach keys: {name[:40]!r} is no key: use one character, or ctrl- and one of a-z@[\\]^_"
    )


class Watch:
    """Looks for the keys in what comes piece by piece. Their beginning is held back until it is known to be none."""

    def __init__(self, sequence: bytes) -> None:
        self._sequence = sequence
        self._held = 0  # how many of them have come

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What is input, and whether the keys have come: then the rest of `data` is nothing."""
        out, sequence = bytearray(), self._sequence
        if not self._held and sequence[0] not in data:
            return data, False
        for byte in data:
            if byte != sequence[self._held]:
                out += sequence[: self._held]
                self._held = 0
            if byte == sequence[self._held]:
                self._held += 1
                if self._held == len(sequence):
                    return bytes(out), True
            else:
                out.append(byte)
        return bytes(out), False
