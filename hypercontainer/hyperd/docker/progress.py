"""How far a pull or a load is, in the lines that docker prints."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.model.documents import ImagesDone, Progress, PushDone

BAR = 50
Source = AsyncGenerator[Progress | ImagesDone, None]


def line(progress: Progress) -> Document:
    """{"status": "Downloading", "progressDetail": {…}, "progress": "[==>   ]", "id": "a1b2"}."""
    if not progress.id:
        return {"status": progress.action}
    if not progress.total or progress.action not in ("Downloading", "Extracting", "Pushing"):
        return {"status": progress.action, "progressDetail": {}, "id": progress.id}
    detail = {"current": progress.current, "total": progress.total}
    return {"status": progress.action, "progressDetail": detail, "progress": bar(progress), "id": progress.id}


def bar(progress: Progress) -> str:
    part = min(1.0, progress.current / progress.total)
    done = int(part * BAR)
    arrow = "=" * done + (">" if done < BAR else "")
    return f"[{arrow:<{BAR}}]  {size(progress.current)}/{size(progress.total)}"


def size(number: float) -> str:
    """ "1.234MB", as docker's tools round it."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while number >= 1000 and len(units) > 1:
        number /= 1000
        del units[0]
    return f"{number:.4g}{units[0]}"


async def pulled(source: Source, name: str) -> AsyncGenerator[Document, None]:
    """The last lines say what has come, and which image that is."""
    new = False
    async with aclosing(source):
        async for item in source:
            if isinstance(item, Progress):
                new = new or item.action == "Download complete"
                yield line(item)
    said = "Downloaded newer image for" if new else "Image is up to date for"
    yield {"status": f"Status: {said} {name}"}


async def pushed(source: AsyncGenerator[Progress | PushDone, None]) -> AsyncGenerator[Document, None]:
    """For programs, `aux` says what the registry has."""
    async with aclosing(source):
        async for item in source:
            if isinstance(item, Progress):
                yield line(item)
                continue
            for one in item.pushed:
                yield {"progressDetail": {}, "aux": {"Tag": one.tag, "Digest": one.digest, "Size": one.size}}


async def loaded(source: Source) -> AsyncGenerator[Document, None]:
    """What was loaded; clients take names and ids out of these words. Nothing is said before: a client sends its tar
    first, and reads then."""
    async with aclosing(source):
        async for item in source:
            if isinstance(item, ImagesDone):
                for image in item.images:
                    words = f"Loaded image: {image.name}" if image.name else f"Loaded image ID: {image.id}"
                    yield {"stream": f"{words}\n"}


async def begun(source: AsyncGenerator[Document, None]) -> AsyncGenerator[Document, None]:
    """`source`, of which the first line has come: what goes wrong before that has a status."""
    first = await anext(source, None)

    async def whole() -> AsyncGenerator[Document, None]:
        async with aclosing(source):
            if first is not None:
                yield first
            async for each in source:
                yield each

    return whole()


async def lines(*documents: Document) -> AsyncGenerator[Document, None]:
    for each in documents:
        yield each
