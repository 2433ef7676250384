"""/v1/containers/{c}/exec and /v1/exec."""

from hypercontainer.errors import InvalidInput
from hypercontainer.hyperd.http.call import Call, Upgrade
from hypercontainer.hyperd.rest.call import Nothing
from hypercontainer.hyperd.rest.containers import ResizeQuery
from hypercontainer.hyperd.rest.frames import HyperStream
from hypercontainer.hyperd.rest.streams import must_upgrade
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import ExecSpec


async def run(call: Call[Nothing, ExecSpec]) -> Upgrade | doc.Created:
    """Create and start. Detached: its id as JSON. Otherwise a stream."""
    if not call.body.command:
        raise InvalidInput("cannot exec: the command is empty")
    if not call.body.detach:
        must_upgrade(call)
    id = await call.engine.execs.create(call.name("c"), call.body)
    session = await call.engine.execs.start(id)
    return Upgrade(session, HyperStream(), stdin=call.body.open_stdin) if session else doc.Created(id=id)


async def inspect(call: Call[Nothing, None]) -> doc.Exec:
    return await call.engine.execs.inspect(call.name("id"))


async def resize(call: Call[ResizeQuery, None]) -> None:
    await call.engine.execs.resize(call.name("id"), call.query.rows, call.query.columns)
