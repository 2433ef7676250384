"""/v1/networks."""

from collections.abc import Sequence

import msgspec

from hypercontainer.hyperd.http.call import Call
from hypercontainer.hyperd.rest.call import Body, FilterQuery, Name, Nothing, filters
from hypercontainer.model import documents as doc
from hypercontainer.model.spec import EndpointSpec, NetworkSpec


class ConnectBody(Body, frozen=True, kw_only=True):
    container: Name
    address: str = ""  # these five as in the EndpointSpec of a pod
    address6: str = ""
    mac: str = ""
    aliases: list[str] = msgspec.field(default_factory=list)
    links: list[str] = msgspec.field(default_factory=list)


class DisconnectBody(Body, frozen=True, kw_only=True):
    container: Name
    force: bool = False


async def entries(call: Call[FilterQuery, None]) -> Sequence[doc.Network]:
    return await call.engine.networks.list(filters(call.query.filter))


async def create(call: Call[Nothing, NetworkSpec]) -> doc.Network:
    return await call.engine.networks.create(call.body, by=call.principal)


async def inspect(call: Call[Nothing, None]) -> doc.Network:
    return await call.engine.networks.inspect(call.name("n"))


async def connect(call: Call[Nothing, ConnectBody]) -> None:
    body = call.body
    endpoint = EndpointSpec(
        address=body.address, address6=body.address6, mac=body.mac, aliases=body.aliases, links=body.links
    )
    await call.engine.networks.connect(call.name("n"), body.container, endpoint, by=call.principal)


async def disconnect(call: Call[Nothing, DisconnectBody]) -> None:
    await call.engine.networks.disconnect(call.name("n"), call.body.container, force=call.body.force)


async def remove(call: Call[Nothing, None]) -> None:
    await call.engine.networks.remove(call.name("n"))


async def prune(call: Call[FilterQuery, None]) -> doc.Pruned:
    return await call.engine.networks.prune(wanted=filters(call.query.filter))
