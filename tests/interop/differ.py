"""Two engines' answers, compared as documents: what is another one on every run is a placeholder, the rest is equal."""

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

# What is another one on every run, in texts. What is asked for by the commands themselves stays as it is.
TEXTS: tuple[tuple[str, str], ...] = (
    ("time", r"\b(?!0001)\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d| [+-]\d{4} [A-Z]+)"),
    ("time", r"\b(?:About an? |Less than a |\d+ )(?:second|minute|hour|day|week|month|year)s?\b"),
    ("mac", r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b"),
    ("address", r"\b(?:10|172|192)(?:\.\d{1,3}){3}\b"),
    ("address6", r"\bf[cde][0-9a-f]{2}:[0-9a-f:]+"),
    ("port", r"(?<=:)(?:3[2-9]\d{3}|[4-6]\d{4})\b"),
    ("size", r"\b(?!0B)\d+(?:\.\d+)?[kMG]?i?B\b"),
    ("id", r"\b(?:[0-9a-f]{64}|[0-9a-f]{12})\b"),
)
PATTERN = re.compile("|".join(f"(?P<_{n}>{pattern})" for n, (_, pattern) in enumerate(TEXTS)))
# Numbers that are another one on every run, by the key in a document.
NUMBERS = {
    "time": ("Created", "time", "timeNano"),
    "size": ("Size", "VirtualSize", "SizeRw", "SizeRootFs", "LayersSize", "size"),
    "pid": ("Pid",),
    "port": ("PublicPort",),
}
KINDS = {key: kind for kind, keys in NUMBERS.items() for key in keys}
FREE_PORT = re.compile(r"3[2-9]\d{3}|[4-6]\d{4}")
NOISE = re.compile(r"^time=.*\n", re.MULTILINE)  # what docker's 20.10 logs beside its answer, or does not
LONE_ID = re.compile(r"[0-9a-f]{64}\n")


class Answer(NamedTuple):
    """Of a command: its exit status, and what it wrote."""

    status: int
    out: str
    err: str


class Normaliser:
    """What one engine says, without what is another one on every run. It keeps whatever `same` has, and knows by its
    `label` an id that was the whole of an answer before: that of a new container."""

    def __init__(self, same: str, replace: dict[str, str] | None = None) -> None:
        """`replace`: paths of this engine, and their placeholders."""
        self._same, self._replace, self._ids = same, replace or {}, dict[str, str]()

    def answer(self, given: Answer, label: str) -> Answer:
        if LONE_ID.fullmatch(given.out):
            id = given.out.strip()
            self._ids |= {id: f"<id of {label}>", id[:12]: f"<short id of {label}>"}
        return Answer(given.status, self._out(given.out), self.text(NOISE.sub("", given.err)))

    def _out(self, text: str) -> str:
        """A document as canonical JSON, several of them a line each; anything else is a text."""
        documents = list(read(text))
        if not documents:
            return self.text(text)
        return "".join(json.dumps(self.document(each), sort_keys=True) + "\n" for each in documents)

    def text(self, text: str) -> str:
        for path, placeholder in self._replace.items():
            text = text.replace(path, placeholder)
        return re.sub(r" +\n", "\n", re.sub(r" {3,}", "  ", PATTERN.sub(self._placeholder, text)))

    def _placeholder(self, found: "re.Match[str]") -> str:
        kind = TEXTS[int(str(found.lastgroup)[1:])][0]
        return found[0] if found[0] in self._same else self._ids.get(found[0], f"<{kind}>")

    def document(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {self.text(name): self.document(each, name) for name, each in value.items()}
        if isinstance(value, list):
            return [self.document(each, key) for each in value]
        if isinstance(value, str):
            return "<port>" if key == "HostPort" and FREE_PORT.fullmatch(value) else self.text(value)
        if isinstance(value, int) and value and key in KINDS and not isinstance(value, bool):
            return f"<{KINDS[key]}>"
        return value


def read(text: str) -> Iterator[Any]:
    """The JSON objects and arrays that a text is made of; none where there is anything else in it."""
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            return
        if not isinstance(value, dict | list):
            return
        found.append(value)
    yield from found


def differences(theirs: Answer, ours: Answer) -> dict[str, tuple[object, object]]:
    """Both values, by their place: "status", "stderr", "stdout", or of documents the path of keys."""
    found: dict[str, tuple[object, object]] = {}
    for place, a, b in (("status", theirs.status, ours.status), ("stderr", theirs.err, ours.err)):
        if a != b:
            found[place] = (a, b)
    one, other = list(read(theirs.out)), list(read(ours.out))
    if one and other:
        return found | dict(between(_unwrapped(one), _unwrapped(other)))
    return found | ({"stdout": (theirs.out, ours.out)} if theirs.out != ours.out else {})


def _unwrapped(value: Any) -> Any:
    """The one thing that a list of one, of one, is about."""
    while isinstance(value, list) and len(value) == 1:
        [value] = value
    return value


def between(a: Any, b: Any, place: str = "") -> Iterator[tuple[str, tuple[object, object]]]:
    """The places at which two documents are not equal, the innermost ones."""
    if isinstance(a, dict) and isinstance(b, dict):
        for key in {**a, **b}:
            yield from between(a.get(key, ABSENT), b.get(key, ABSENT), f"{place}.{key}" if place else key)
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for n, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from between(one, other, f"{place}.{n}" if place else str(n))
    elif type(a) is not type(b) or a != b:  # 1 is not true
        yield place or "stdout", (a, b)


class Absent:
    """No such key."""

    def __repr__(self) -> str:
        return "nothing"


ABSENT = Absent()
