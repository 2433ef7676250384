"""The user's terminal: raw mode, size, detach keys."""

from __future__ import annotations

import os
import termios

DEFAULT_KEYS = "ctrl-p,ctrl-q"
NAMED_KEYS = {"@": 0, "[": 27, "\\": 28, "]": 29, "^": 30, "_": 31}


class Raw:
    """The terminal `fd` passes every byte through for the block; left by any road, it is as it was."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._saved = termios.tcgetattr(fd)

    def __enter__(self) -> Raw:
        self.again()
        return self

    def __exit__(self, *_: object) -> None:
        try:
            termios.tcsetattr(self.fd, termios.TCSANOW, self._saved)
        except termios.error:
            pass  # it hung up

    def again(self) -> None:
        """Also after a shell has stopped and continued us: it sets the terminal back."""
        mode = termios.tcgetattr(self.fd)
        mode[0] &= ~(
            termios.IGNBRK
            | termios.BRKINT
            | termios.PARMRK
            | termios.ISTRIP
            | termios.INLCR
            | termios.IGNCR
            | termios.ICRNL
            | termios.IXON
        )
        mode[1] &= ~termios.OPOST
        mode[2] = mode[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        mode[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        mode[6] = [*mode[6]]
        mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.fd, termios.TCSANOW, mode)


def size(fd: int) -> tuple[int, int] | None:
    """(rows, columns); None if `fd` is no terminal or does not know."""
    try:
        columns, rows = os.get_terminal_size(fd)
    except OSError:
        return None
    return (rows, columns) if rows and columns else None


def parse_keys(text: str) -> bytes:
    """The bytes of "ctrl-p,ctrl-q": single characters, or ctrl- and one of a-z @ [ \\ ] ^ _. "" = none."""
    keys = bytearray()
    for word in text.split(",") if text else ():
        letter = word.removeprefix("ctrl-")
        if len(word) == 1 and word.isascii():
            keys.append(ord(word))
        elif word.startswith("ctrl-") and len(letter) == 1 and "a" <= letter <= "z":
            keys.append(ord(letter) - ord("a") + 1)
        elif word.startswith("ctrl-") and letter in NAMED_KEYS:
            keys.append(NAMED_KEYS[letter])
        else:
            raise ValueError(f"{word!r} is no key: use a character, or ctrl- and a letter or one of @[\\]^_")
    return bytes(keys)


class Detacher:
    """Looks for the detach keys in what is typed; a beginning of them is held back until it is sure."""

    def __init__(self, keys: bytes) -> None:
        self.keys = keys
        self._matched = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What of `data` is to be sent, and whether the keys have been typed."""
        if not self.keys or (not self._matched and self.keys[0] not in data):
            return data, False
        sent = bytearray()
        for byte in data:
            if byte != self.keys[self._matched]:
                sent += self.keys[: self._matched]
                self._matched = 0
            if byte == self.keys[self._matched]:
                self._matched += 1
                if self._matched == len(self.keys):
                    return bytes(sent), True
            else:
                sent.append(byte)
        return bytes(sent), False
