"""Names of images, by Docker Hub's rules: "busybox" is docker.io/library/busybox:latest."""

import re
from typing import NamedTuple

from hypercontainer.errors import InvalidInput

DEFAULT_DOMAIN, OFFICIAL, DEFAULT_TAG = "docker.io", "library", "latest"
HUB = "registry-1.docker.io"  # the host that serves DEFAULT_DOMAIN
MAX_NAME = 255  # characters of domain and path together, as docker's
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9a-fA-F:]{{2,39}}\])(?::([0-9]{{1,5}}))?")
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*")
TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{4,64}")


class Reference(NamedTuple):
    """A name, whole. One of `tag` and `digest` may be ""; with both, `digest` decides and `tag` is decoration."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        """As docker shows it: docker.io and its library are left out."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        return self.path.removeprefix(OFFICIAL + "/") if self.path.count("/") == 1 else self.path

    @property
    def canonical(self) -> str:
        return f"{self.domain}/{self.path}{self._suffix}"

    @property
    def whole(self) -> str:
        """What it decides by, with all that may be left out: two names of the same say the same."""
        return (self._replace(tag="") if self.digest else self).canonical

    @property
    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __str__(self) -> str:
        return self.repository + self._suffix


def parse(text: str) -> Reference:
    """Read a name as a person types it. InvalidInput says what is wrong: an option, a path and an id are no names."""
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise _invalid(text, "what follows @ is not sha256: and 64 hexadecimal digits in lower case")
    head, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        head, colon, tag = rest, "", ""
    if colon and not TAG.fullmatch(tag):
        raise _invalid(text, "its tag is not up to 128 of [A-Za-z0-9_.-]")
    domain, path = _split(head)
    _check(text, domain, path)
    if path == f"{OFFICIAL}/sha256" and re.fullmatch(r"[0-9a-f]{64}", tag):
        raise _invalid(text, "it is an id, not a name")
    return Reference(domain, path, tag or ("" if digest else DEFAULT_TAG), digest)


def bare(text: str) -> Reference | None:
    """The repository that `text` names without a tag or digest; None when it has one, or is no name."""
    if "@" in text or ":" in text.rpartition("/")[2]:
        return None
    try:
        return parse(text)
    except InvalidInput:
        return None


def _split(name: str) -> tuple[str, str]:
    """(domain, path). The first part is a host when it looks like one: a dot, a port, or "localhost"."""
    first, slash, rest = name.partition("/")
    if not slash or not (set(".:") & set(first) or first == "localhost" or first.lower() != first):
        domain, path = DEFAULT_DOMAIN, name
    else:
        domain, path = first, rest
    if domain in (DEFAULT_DOMAIN, "index.docker.io"):
        return DEFAULT_DOMAIN, path if "/" in path else f"{OFFICIAL}/{path}"
    return domain, path


def _check(text: str, domain: str, path: str) -> None:
    if len(domain) + 1 + len(path) > MAX_NAME:
        raise _invalid(text, f"it has more than {MAX_NAME} characters")
    host = _DOMAIN.fullmatch(domain)
    if not host or not 0 <= int(host[1] or 443) <= 65535:
        raise _invalid(text, "its first part is not a host that can be")
    if not _PATH.fullmatch(path):
        hint = ": a name is in lower case" if _PATH.fullmatch(path.lower()) else ""
        raise _invalid(text, f"use [a-z0-9] with single . _ - between, parts joined by /{hint}")
    if re.fullmatch(r"[0-9a-f]{64}", path.removeprefix(OFFICIAL + "/")):
        raise _invalid(text, "64 hexadecimal digits are an id, not a name")


def _invalid(text: str, why: str) -> InvalidInput:
    shown = text if len(text) <= 100 else text[:100] + "…"
    return InvalidInput(f"invalid image name {shown!r}: {why}")


def is_id(text: str) -> bool:
    """Whether `text` may be an image's id, or the beginning of one: it may be a name as well."""
    return bool(_ID.fullmatch(text))
