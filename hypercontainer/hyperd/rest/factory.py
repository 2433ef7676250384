"""/v1/factory: what guests are cloned from."""

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Nothing
from hypercontainer.model import documents as doc


async def show(call: Call[Nothing, None]) -> doc.Factory:
    return await call.engine.factory.status()


async def init(call: Call[Nothing, None]) -> None:
    await call.engine.factory.init()


async def clear(call: Call[Nothing, None]) -> None:
    await call.engine.factory.clear()
