"""Which of an index's manifests is for which machine."""

import re
from collections.abc import Sequence

from hypercontainer.errors import InvalidInput, NotFound
from hypercontainer.images.manifest import Descriptor, Platform
from hypercontainer.model import arch

_PART = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
USUAL = {"arm64": "v8", "arm": "v7", "amd64": "v1"}  # what is meant where no variant is said
ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armhf": "arm", "i386": "386"}


def host() -> Platform:
    """What this machine's guests run."""
    here = arch.host()
    return Platform("linux", here.docker, here.variant)


def parse(text: str) -> Platform:
    """Read OS/ARCHITECTURE[/VARIANT], or one of the first two alone; "" is this machine's."""
    if text.lower() in ("", "linux"):
        return host()
    parts = text.lower().split("/")
    if len(parts) == 1:
        parts.insert(0, "linux")
    if len(parts) > 3 or not all(map(_PART.fullmatch, parts)):
        raise InvalidInput(f"invalid platform {text[:80]!r}: use OS/ARCHITECTURE[/VARIANT], as linux/arm64/v8")
    architecture = ALIASES.get(parts[1], parts[1])
    return Platform(parts[0], architecture, parts[2] if len(parts) == 3 else "")


def _variant(platform: Platform) -> str:
    if platform.variant:
        return platform.variant
    return USUAL.get(platform.architecture, "")


def exact(platform: Platform) -> Platform:
    """In one way of the several in which it can be said, so that two can be compared: as containerd normalizes it."""
    architecture = ALIASES.get(platform.architecture, platform.architecture)
    variant = _variant(Platform("", architecture, platform.variant))
    usual = architecture in ("amd64", "arm64") and variant == USUAL[architecture]
    return Platform(platform.os or "linux", architecture, "" if usual else variant)


def best(there: Sequence[Platform], want: Platform) -> int | None:
    """Which of them runs best on `want`, the last one of equals; None if none does."""
    ranked = [(r, -n) for n, have in enumerate(there) if (r := rank(have, want)) is not None]
    return -min(ranked)[1] if ranked else None


def rank(have: Platform, want: Platform) -> int | None:
    """How well an image for `have` runs on `want`: 0 is exact, more is worse, None is not at all. One that does not say
    what it is for runs anywhere, as with docker."""
    have = Platform(have.os or want.os, have.architecture or want.architecture, have.variant)
    if have.os != want.os or ALIASES.get(have.architecture, have.architecture) != want.architecture:
        return None
    mine, other = _variant(want), _variant(have)
    if mine == other:
        return 0
    if mine[:1] == other[:1] == "v" and mine[1:].isdecimal() and other[1:].isdecimal():
        distance = int(mine[1:]) - int(other[1:])
        return distance if distance > 0 else None
    return None


def choose(manifests: Sequence[Descriptor], want: Platform, name: str) -> Descriptor:
    """The best of an index for `want`; the first of equals. NotFound says what there is instead."""
    ranked = [(r, n) for n, m in enumerate(manifests) if m.platform and (r := rank(m.platform, want)) is not None]
    if ranked:
        return manifests[min(ranked)[1]]
    if len(manifests) == 1 and manifests[0].platform is None:
        return manifests[0]
    there = sorted({str(m.platform) for m in manifests if m.platform and m.platform.os != "unknown"})
    raise NotFound(f"image for {want}", name, f"there is {', '.join(there)[:300] or 'nothing'}")
