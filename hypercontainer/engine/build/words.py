"""Quotes, escapes and variables in a Dockerfile, by docker's rules. Pure.

An instruction whose words are expanded has each `$NAME`, `${NAME}`, `${NAME:-WORD}`, `${NAME:+WORD}` and
`${NAME:?WORD}` replaced by what is in the environment, in double quotes too; single quotes keep what is in them.
"""

import re
from collections.abc import Iterator, Mapping

MAX_DEPTH = 20  # words within words
MAX_EXPANDED = 1 << 20  # characters of one word: a few variables, each of them named by the next, would be gigabytes
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?\-$!]")
LONG = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?\-$!]")


class _Lexer:
    def __init__(self, text: str, env: Mapping[str, str], escape: str, depth: int = 0) -> None:
        if depth > MAX_DEPTH:
            raise ValueError(f"variables are nested more than {MAX_DEPTH} times")
        self._text, self._env, self._escape, self._depth = text, env, escape, depth
        self._at = 0
        self._size = 0

    def run(self) -> Iterator[tuple[str, bool]]:
        """Pieces of the text, and of each whether blanks in it part words."""
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == "'":
                yield self._counted(self._single()), False
            elif char == '"':
                yield self._counted(self._double()), False
            elif char == "$":
                yield self._counted(self._variable()), True
            elif char == self._escape:
                self._at += 1
                if self._at < len(self._text):  # of a last one nothing is left
                    yield self._next(), False
            else:
                yield self._next(), True

    def _next(self) -> str:
        self._at += 1
        return self._text[self._at - 1]

    def _counted(self, piece: str) -> str:
        self._size += len(piece)
        if self._size > MAX_EXPANDED:
            raise ValueError(f"its variables make more than {MAX_EXPANDED} characters")
        return piece

    def _single(self) -> str:
        end = self._text.find("'", self._at + 1)
        if end < 0:
            raise ValueError("unexpected end of statement while looking for matching single-quote")
        piece, self._at = self._text[self._at + 1 : end], end + 1
        return piece

    def _double(self) -> str:
        self._at += 1
        out: list[str] = []
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == '"':
                self._at += 1
                return "".join(out)
            if char == "$":
                out.append(self._counted(self._variable()))
                continue
            if char == self._escape and self._text[self._at + 1 : self._at + 2] in ('"', "$", self._escape):
                self._at += 1
            out.append(self._next())
        raise ValueError("unexpected end of statement while looking for matching double-quote")

    def _variable(self) -> str:
        self._at += 1
        if self._text[self._at : self._at + 1] == "{":
            return self._braced()
        match = NAME.match(self._text, self._at)
        if not match:
            return "$"
        self._at = match.end()
        return self._env.get(match[0], "")

    def _braced(self) -> str:
        match = LONG.match(self._text, self._at + 1)
        if not match:
            raise ValueError("bad substitution" if "}" in self._text[self._at :] else "syntax error: missing '}'")
        name, self._at = match[0], match.end()
        if self._text[self._at : self._at + 1] == "}":
            self._at += 1
            return self._env.get(name, "")
        operator = self._text[self._at : self._at + 2]
        if operator not in (":-", ":+", ":?"):
            raise ValueError(f"unsupported modifier ({operator[-1:]}) in substitution")
        self._at += 2
        word = self._word()
        value = self._env.get(name, "")
        if operator == ":+":
            return word if value else ""
        if operator == ":?" and not value:
            raise ValueError(f"{name}: {word or 'is not allowed to be empty'}")
        return value or word

    def _word(self) -> str:
        """What stands before the brace that closes this substitution, expanded."""
        begin, depth = self._at, 1
        while self._at < len(self._text):
            char = self._text[self._at]
            if char == self._escape:
                self._at += 1
            elif char == "}":
                depth -= 1
                if not depth:
                    break
            elif self._text.startswith("${", self._at):
                depth += 1
            self._at += 1
        else:
            raise ValueError("syntax error: missing '}'")
        inner = _Lexer(self._text[begin : self._at], self._env, self._escape, self._depth + 1)
        self._at += 1
        return "".join(piece for piece, _ in inner.run())


def expand(text: str, env: Mapping[str, str], escape: str = "\\") -> str:
    """`text` as one word. ValueError says what is wrong with it."""
    return "".join(piece for piece, _ in _Lexer(text, env, escape).run())


def expand_words(text: str, env: Mapping[str, str], escape: str = "\\") -> list[str]:
    """`text` as words, which what a variable has may make several of."""
    words: list[str] = []
    word: str | None = None
    for piece, parts in _Lexer(text, env, escape).run():
        if not parts:
            word = (word or "") + piece
            continue
        for char in piece:
            if char.isspace():
                words += [] if word is None else [word]
                word = None
            else:
                word = (word or "") + char
    return words if word is None else [*words, word]


def split(text: str, escape: str = "\\") -> list[str]:
    """Words that blanks part, with the quotes and escapes that they are written with."""
    words: list[str] = []
    word, quote = "", ""
    chars = iter(text)
    for char in chars:
        if char == escape and quote != "'":
            word += char + next(chars, "")
        elif quote:
            word += char
            quote = "" if char == quote else quote
        elif char in "\"'":
            word, quote = word + char, char
        elif char.isspace():
            words += [word] if word else []
            word = ""
        else:
            word += char
    return [*words, word] if word else words
