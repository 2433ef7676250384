"""/networks."""

import ipaddress
from typing import Any

import msgspec

from hypercontainer.errors import AlreadyExists, Denied, InUse, InvalidInput, NotFound
from hypercontainer.hyperd.docker import config, filters, spec
from hypercontainer.hyperd.docker.call import Body, Nothing
from hypercontainer.hyperd.docker.inspect import Document
from hypercontainer.hyperd.http.call import Answer, Call
from hypercontainer.model import documents as doc
from hypercontainer.model.ids import NAME
from hypercontainer.model.spec import ALWAYS, NetworkSpec, SubnetSpec

PREDEFINED = ("host", "default", *ALWAYS)


class Subnet(Body, frozen=True, kw_only=True):
    subnet: str = ""
    ip_range: str = msgspec.field(name="IPRange", default="")
    gateway: str = ""
    auxiliary_addresses: dict[str, str] = {}


class Ipam(Body, frozen=True, kw_only=True):
    driver: str = ""
    options: dict[str, str] = {}
    config: list[Subnet] = []


class From(Body, frozen=True, kw_only=True):
    network: str = ""


class NetworkConfig(Body, frozen=True, kw_only=True):
    """Attachable, which is about a swarm, and CheckDuplicate, which always holds, are passed over."""

    name: str = ""
    driver: str = ""
    scope: str = ""
    internal: bool = False
    enable_ipv4: bool = msgspec.field(name="EnableIPv4", default=True)
    enable_ipv6: bool = msgspec.field(name="EnableIPv6", default=False)
    ipam: Ipam = msgspec.field(name="IPAM", default=Ipam())
    ingress: bool = False
    config_only: bool = False
    config_from: From = From()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}


class Connection(Body, frozen=True, kw_only=True):
    container: str = ""
    endpoint_config: config.Endpoint = config.Endpoint()


class Disconnection(Body, frozen=True, kw_only=True):
    container: str = ""
    force: bool = False


def wanted(body: NetworkConfig) -> NetworkSpec:
    """What is to be made. InvalidInput, NotFound: what cannot be had, by its name."""
    if body.driver not in ("", "default", "bridge"):
        raise NotFound("plugin", body.driver[:60], f'plugin "{body.driver[:60]}" not found: there is the driver bridge')
    for field, value in (
        ("Scope", body.scope not in ("", "local")),
        ("EnableIPv4", not body.enable_ipv4),
        ("IPAM's Driver", body.ipam.driver not in ("", "default")),
        ("IPAM's Options", body.ipam.options),
        ("Ingress", body.ingress),
        ("ConfigOnly", body.config_only),
        ("ConfigFrom", body.config_from.network),
    ):
        if value:
            raise InvalidInput(f"cannot set {field} of network {body.name[:60]}: it is not supported by hyperd")
    return NetworkSpec(
        name=body.name,
        subnets=[
            SubnetSpec(
                subnet=_masked(each.subnet),
                gateway=each.gateway,
                ip_range=_masked(each.ip_range),
                reserved=each.auxiliary_addresses,
            )
            for each in body.ipam.config
        ],
        ipv6=body.enable_ipv6,
        internal=body.internal,
        labels=body.labels,
        options=body.options,
    )


def _masked(subnet: str) -> str:
    """Without the bits behind the prefix, as docker reads it; what is none is the engine's to refuse."""
    try:
        return str(ipaddress.ip_network(subnet, strict=False)) if subnet else ""
    except ValueError:
        return subnet


def network(found: doc.Network) -> Document:
    document: Document = msgspec.to_builtins(found)
    document["IPAM"]["Config"] = [
        {key: said for key, said in each.items() if said} for each in document["IPAM"]["Config"]
    ]
    for member in document["Containers"].values():
        member["EndpointID"] = ""
    document["IPAM"]["Options"] = document["IPAM"]["Options"] or None
    return document | {"EnableIPv4": True, "ConfigFrom": {"Network": ""}, "ConfigOnly": False}


def name(call: Call[Any, Any]) -> str:
    if not NAME.fullmatch(name := call.names["n"]):
        raise NotFound("network", name[:140])
    return name


async def entries(call: Call[filters.Filtered, None]) -> list[Document]:
    return [network(each) for each in await call.engine.networks.list(filters.read(call.query.filters))]


async def ids(call: Call[Any, Any]) -> dict[str, str]:
    """Of all networks, by their names."""
    return {each.name: each.id for each in await call.engine.networks.list({})}


async def create(call: Call[Nothing, NetworkConfig]) -> dict[str, str]:
    asked = wanted(call.body)
    if asked.name in PREDEFINED:
        raise Denied(f"operation is not permitted on predefined {asked.name} network")
    made = await call.engine.networks.create(asked, by=call.principal)
    return {"Id": made.id, "Warning": ""}


async def show(call: Call[Nothing, None]) -> Document:
    return network(await call.engine.networks.inspect(name(call)))


async def connect(call: Call[Nothing, Connection]) -> Answer:
    c = call.body.container
    if not c:
        raise InvalidInput('invalid name or ID supplied: ""')
    found = await call.engine.networks.inspect(name(call))
    place = spec.endpoint(found.name, call.body.endpoint_config)
    try:
        await call.engine.networks.connect(found.id, c, place, by=call.principal)
    except AlreadyExists as e:
        raise Denied(f"endpoint with name {c[:140]} already exists in network {found.name}") from e
    return Answer(status=200)


async def disconnect(call: Call[Nothing, Disconnection]) -> Answer:
    """`force` takes a container out whose machine is not reached; one that is not there is refused all the same."""
    c = call.body.container
    network = await call.engine.networks.inspect(name(call))
    there = (await call.engine.containers.inspect(c)).network_settings.networks
    try:
        if network.name not in there:
            raise NotFound("endpoint", c[:140])
        await call.engine.networks.disconnect(network.id, c, force=call.body.force)
    except NotFound as e:
        if e.what != "endpoint":
            raise
        raise Denied(f"container {c[:140]} is not connected to network {name(call)}") from e
    return Answer(status=200)


async def remove(call: Call[Nothing, bytes]) -> None:
    found = await call.engine.networks.inspect(name(call))
    if found.name in PREDEFINED:
        raise Denied(f"{found.name} is a pre-defined network and cannot be removed")
    try:
        await call.engine.networks.remove(found.id)
    except InUse as e:
        words = f"error while removing network: network {found.name} id {found.id} has active endpoints"
        raise Denied(f"{words}: {', '.join(e.by)}" if e.by else words) from e


async def prune(call: Call[filters.Filtered, bytes]) -> Document:
    done = await call.engine.networks.prune(wanted=filters.read(call.query.filters))
    return {"NetworksDeleted": done.deleted or None}
