"""What a .dockerignore leaves out of a build's context, by docker's rules. Pure.

Each line is a pattern of Go's filepath.Match, with ** for any number of folders; the last one that matches a path, or a
folder that it is in, decides, and one that begins with ! takes back what others left out.
"""

from __future__ import annotations

import posixpath
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PATTERNS = 10_000


def patterns(text: str) -> list[str]:
    """The lines that mean something, cleaned as docker cleans them."""
    found = []
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines()):
        if line.startswith("#"):
            continue
        pattern = line.strip()
        if not pattern:
            continue
        negated = pattern.startswith("!")
        pattern = pattern[1:].strip() if negated else pattern
        if pattern:
            pattern = posixpath.normpath(pattern)
            pattern = pattern.lstrip("/") if len(pattern) > 1 else pattern
        found.append("!" + pattern if negated else pattern)
        if number >= MAX_PATTERNS:
            raise ValueError(f"it has more than {MAX_PATTERNS} lines")
    return found


class Pattern:
    """One of Go's filepath.Match, with **. Matching takes steps in proportion to pattern times path, whatever they are:
    it is by the set of places in the pattern that what was read can be at."""

    def __init__(self, text: str) -> None:
        """ValueError: it is none."""
        self._tokens = list(_tokens(text))

    def __call__(self, path: str) -> bool:
        """All of `path`."""
        here = self._entered({(0, False)})
        for char in path:
            here = self._entered(self._read(here, char))
            if not here:
                return False
        return (len(self._tokens), False) in here

    def _read(self, here: set[tuple[int, bool]], char: str) -> set[tuple[int, bool]]:
        """Places after one more character; True: within what ** is."""
        after: set[tuple[int, bool]] = set()
        for at, within in here:
            if at == len(self._tokens):
                continue
            token = self._tokens[at]
            if token == DEEP or (token == STAR and char != "/"):
                after.add((at, False))
            elif token == FOLDERS:
                after.add((at, True))
                if char == "/":
                    after.add((at + 1, False))
            elif not within and token != STAR and token.fullmatch(char):  # type: ignore[union-attr]
                after.add((at + 1, False))
        return after

    def _entered(self, here: set[tuple[int, bool]]) -> set[tuple[int, bool]]:
        """With the places behind what may be nothing."""
        todo = list(here)
        while todo:
            at, within = todo.pop()
            if at < len(self._tokens) and not within and self._tokens[at] in (STAR, DEEP, FOLDERS):
                behind = (at + 1, False)
                if behind not in here:
                    here.add(behind)
                    todo.append(behind)
        return here


STAR, DEEP, FOLDERS = "*", "**", "**/"  # anything of a name; anything at all; any number of folders


def _tokens(text: str) -> Iterator[str | re.Pattern[str]]:
    at = 0
    while at < len(text):
        char = text[at]
        at += 1
        if char == "*":
            if not text.startswith("*", at):
                yield STAR
                continue
            at += 2 if text.startswith("/", at + 1) else 1
            yield DEEP if at == len(text) else FOLDERS
        elif char == "?":
            yield re.compile("[^/]")
        elif char == "[":
            end = text.find("]", at + 1)
            if end < 0:
                raise ValueError(f"syntax error in pattern {text[:100]!r}")
            try:
                yield re.compile("[" + text[at:end].replace("[", "\\[") + "]")
            except re.error as e:
                raise ValueError(f"syntax error in pattern {text[:100]!r}: {e}") from e
            at = end + 1
        else:
            if char == "\\":
                if at == len(text):
                    raise ValueError(f"syntax error in pattern {text[:100]!r}")
                char = text[at]
                at += 1
            yield re.compile(re.escape(char), re.DOTALL)


class Ignored:
    """Says of paths whether they are left out."""

    def __init__(self, lines: list[str]) -> None:
        """`lines`: of `patterns`. ValueError names one that is none."""
        self._rules: list[tuple[bool, Pattern]] = []
        for line in lines:
            if line == "!":
                raise ValueError('illegal exclusion pattern: "!"')
            negated = line.startswith("!")
            self._rules.append((not negated, Pattern(line[1:] if negated else line)))

    def __call__(self, path: str) -> bool:
        """`path` is relative, without a slash at either end."""
        parts = path.split("/")
        above = ["/".join(parts[: n + 1]) for n in range(len(parts))]
        out = False
        for leaves_out, rule in self._rules:
            if leaves_out != out and any(rule(each) for each in above):
                out = leaves_out
        return out
