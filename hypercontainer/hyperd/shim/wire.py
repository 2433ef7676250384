"""Frames of ttrpc on a connection."""

import asyncio

from hypercontainer.lib import ttrpc


async def read_frame(reader: asyncio.StreamReader) -> ttrpc.Frame | None:
    """The next one; None at the end. InvalidInput for one that is too long."""
    try:
        header = await reader.readexactly(ttrpc.HEADER.size)
        return ttrpc.frame(header, await reader.readexactly(ttrpc.length(header)))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
