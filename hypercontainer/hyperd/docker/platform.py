"""Platforms as clients name them: in words, linux/arm64, or as a document of OCI's. Pure."""

from hypercontainer.errors import InvalidInput, NotFound, OtherPlatform
from hypercontainer.lib import foreign
from hypercontainer.model import documents as doc
from hypercontainer.model.api import Engine

MAX = 4096


def words(text: str) -> str:
    """OS/ARCHITECTURE[/VARIANT]; "" for none. InvalidInput for what is no platform."""
    if text.startswith("{"):
        said = foreign.read(text.encode(errors="replace"), doc.Platform, "platform", MAX)
        text = "/".join(part for part in (said.os, said.architecture, said.variant) if part)
    if text.count("/") > 2:
        raise InvalidInput(f'"{text[:60]}": cannot parse platform specifier: invalid argument')
    return text


async def look(engine: Engine, name: str, wanted: str) -> doc.Image:
    """The image of that name for a platform, in words; "": for any. NotFound."""
    there: list[str] = []
    try:
        found = await engine.images.inspect(name, *([wanted] if wanted else []))
    except OtherPlatform as e:
        found, there = await engine.images.inspect(name), e.there
    _check(wanted, name[:200], found, there)
    return found


def _check(wanted: str, name: str, image: doc.Image, there: list[str]) -> None:
    """NotFound when an image is for another one. docker takes any variant of an architecture, and an os alone."""
    os, _, rest = wanted.partition("/")
    arch = rest.partition("/")[0]
    if wanted and (os, arch or image.architecture) != (image.os, image.architecture):
        raise NotFound(
            "platform",
            wanted[:60],
            f"image with reference {name} was found but does not match the specified platform: wanted {wanted[:60]}, "
            f"actual: {', '.join(there) or f'{image.os}/{image.architecture}'}",
        )


def of(image: doc.Image) -> str:
    """In words, which choose it among those of its name."""
    return "/".join(part for part in (image.os, image.architecture, image.variant) if part)
