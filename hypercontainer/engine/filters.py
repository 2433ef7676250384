"""`--filter key=value`, as docker has it: values of one key are alternatives, labels and keys add up.

What can match nothing is refused in words: an empty list would look like an answer. Pure.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from hypercontainer.errors import InvalidInput
from hypercontainer.lib import clock

Filters = Mapping[str, Sequence[str]]

MAX_PATTERN = 256
MAX_CHOICES = 4  # repeats and groups of one expression, which multiply: it must not cost hyperd more than an instant
MAX_STARS = 16  # of a pattern, which do not
REPEATED_GROUP = re.compile(r"\)[*+?{]")
PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/(tcp|udp|sctp))?", re.ASCII)


def check(what: str, filters: Filters, known: Iterable[str]) -> None:
    """InvalidInput names the key that `what` has no filter for."""
    allowed = sorted(known)
    for key in filters:
        if key not in allowed:
            raise InvalidInput(f"invalid filter {key!r} for {what}: use one of {', '.join(allowed)}")


def has_label(labels: Mapping[str, str], wanted: Sequence[str]) -> bool:
    """Every `name` or `name=value` of `wanted` is there: labels alone add up, as docker's do."""
    for label in wanted:
        name, equals, value = label.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    return True


def labelled(labels: Mapping[str, str], filters: Filters) -> bool:
    """What `label` and `label!` say."""
    unwanted = filters.get("label!")
    return has_label(labels, filters.get("label", [])) and not (unwanted and has_label(labels, unwanted))


def one(filters: Filters, key: str) -> str | None:
    """The value of a filter that makes sense once only."""
    values = filters.get(key, [])
    if len(values) > 1:
        raise InvalidInput(f"invalid filter {key!r}: give it once")
    return values[0] if values else None


def choice(filters: Filters, key: str, allowed: Sequence[str]) -> None:
    for value in filters.get(key, []):
        if value not in allowed:
            raise InvalidInput(f"invalid filter {key}={value[:100]}: use one of {', '.join(allowed)}")


def boolean(filters: Filters, key: str) -> bool | None:
    """None when nobody asked."""
    choice(filters, key, ("true", "false", "1", "0"))
    value = one(filters, key)
    return None if value is None else value in ("true", "1")


def until(filters: Filters) -> int | None:
    """Nanoseconds since 1970 that what matches is older than."""
    value = one(filters, "until")
    if value == "":
        raise InvalidInput("invalid filter 'until': give a time")
    return clock.nanoseconds(value or "")


def expression(key: str, value: str) -> re.Pattern[str]:
    """A regular expression that is searched for, as docker does with names and ids."""
    choices = sum(value.count(sign) for sign in "*+?{(")
    if len(value) > MAX_PATTERN or choices > MAX_CHOICES or REPEATED_GROUP.search(value):
        raise InvalidInput(
            f"invalid filter {key}={value[:100]!r}: use at most {MAX_CHOICES} of *, +, ?, {{, ( and repeat no group"
        )
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as e:
        raise InvalidInput(f"invalid filter {key}={value!r}: no regular expression: {e}") from e


def ports(key: str, value: str) -> tuple[int, int, str]:
    """(80, 90, "tcp") of 80-90; docker's protocol is tcp unless it is named."""
    if not (found := PORTS.fullmatch(value)):
        raise InvalidInput(f"invalid filter {key}={value[:100]!r}: use a port such as 80, 80-90 or 53/udp")
    first, last = int(found[1]), int(found[2] or found[1])
    if not first <= last <= 65535:
        raise InvalidInput(f"invalid filter {key}={value!r}: ports are 1 to 65535, the smaller one first")
    return first, last, found[3] or "tcp"


def check_reference(pattern: str) -> str:
    """Return `pattern` if image names can be held against it."""
    if not pattern or len(pattern) > MAX_PATTERN or pattern.count("*") > MAX_STARS or "\\" in pattern:
        raise InvalidInput(f"invalid filter reference={pattern[:100]!r}: use a name, or a pattern such as 'team/*:1'")
    for part in pattern.split("/"):
        if part.count("[") != part.count("]") or "[]" in part or "[^]" in part:
            raise InvalidInput(f"invalid filter reference={pattern!r}: a [ without its ]")
    return pattern


def matches_reference(name: str, pattern: str) -> bool:
    """Whether `name` (with its tag or digest), or its repository alone, is like `pattern`: no * goes across a slash."""
    repository = name.partition("@")[0]
    head, colon, tag = repository.rpartition(":")
    if colon and "/" not in tag:
        repository = head
    parts = pattern.replace("[^", "[!").split("/")
    return any(
        len(parts) == len(words) and all(map(fnmatchcase, words, parts))
        for words in (name.split("/"), repository.split("/"))
    )
