"""Networks, and who is in them."""

from typing import Any

import pytest

from hypercontainer.errors import AlreadyExists, InUse, NotFound
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, NetworkSpec, SubnetSpec
from tests.unit.hyperd.docker.conftest import Server, message
from tests.unit.hyperd.docker.documents import made
from tests.unit.hyperd.fake import NETWORK


async def test_networks(server: Server) -> None:
    body = {
        "Name": "net",
        "Driver": "",
        "CheckDuplicate": True,
        "EnableIPv6": False,
        "IPAM": {
            "Driver": "default",
            "Config": [{"Subnet": "10.1.0.0/24", "IPRange": "10.1.0.130/25", "AuxiliaryAddresses": {"a": "10.1.0.9"}}],
        },
        "Labels": {"a": "b"},
        "Options": None,
    }
    assert await server.ask("POST", "/networks/create", json=body) == (201, {"Id": NETWORK.id, "Warning": ""})
    [asked], _ = next((args, named) for call, args, named in server.engine.calls if call == "networks.create")
    subnet = SubnetSpec(subnet="10.1.0.0/24", ip_range="10.1.0.128/25", reserved={"a": "10.1.0.9"})
    assert asked == NetworkSpec(name="net", subnets=[subnet], labels={"a": "b"})
    _, found = await server.ask("GET", "/networks")
    assert isinstance(found, list) and found[0]["ConfigFrom"] == {"Network": ""}
    assert found[0]["IPAM"]["Config"] == [{"Subnet": "10.1.2.0/24", "Gateway": "10.1.2.1"}]
    server.engine.answers["networks.create"] = AlreadyExists("taken", "network", "net")
    assert message(await server.ask("POST", "/networks/create", json=body)) == (
        409,
        "network with name net already exists",
    )
    server.engine.answers["networks.inspect"] = NotFound("network", "x")
    assert message(await server.ask("GET", "/networks/x")) == (404, "network x not found")


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"Name": "bridge"}, 403, "predefined"),
        ({"Name": "x", "Driver": "overlay"}, 404, 'plugin "overlay" not found'),
        ({"Name": "x", "Scope": "swarm"}, 400, "cannot set Scope"),
        ({"Name": "x", "Ingress": True}, 400, "cannot set Ingress"),
        ({"Name": "x", "EnableIPv4": False}, 400, "cannot set EnableIPv4"),
        ({"Name": "x", "ConfigFrom": {"Network": "y"}}, 400, "cannot set ConfigFrom"),
        ({"Name": "x", "IPAM": {"Driver": "dhcp"}}, 400, "cannot set IPAM's Driver"),
    ],
)
async def test_networks_that_are_none(server: Server, body: dict[str, Any], status: int, words: str) -> None:
    found, text = message(await server.ask("POST", "/networks/create", json=body))
    assert (found, words in text) == (status, True), text


async def test_joining_and_leaving_a_network(server: Server) -> None:
    body = {"Container": "web", "EndpointConfig": {"Aliases": ["a"], "IPAMConfig": {"IPv4Address": "10.0.0.9"}}}
    assert await server.ask("POST", "/networks/net/connect", json=body) == (200, None)
    _, args, _ = server.engine.calls[-1]
    assert args == (NETWORK.id, "web", EndpointSpec(network=NETWORK.name, address="10.0.0.9", aliases=["a"]))
    server.engine.answers["networks.connect"] = AlreadyExists("it is in it", "endpoint", "net")
    status, text = message(await server.ask("POST", "/networks/net/connect", json={"Container": "web"}))
    assert (status, text) == (403, f"endpoint with name web already exists in network {NETWORK.name}")
    for force in False, True:
        leaving: dict[str, object] = {"Container": "web", "Force": force}
        status, text = message(await server.ask("POST", "/networks/net/disconnect", json=leaving))
        assert (status, text) == (403, "container web is not connected to network net")
    server.engine.answers["containers.inspect"] = made(ContainerSpec(image="x"), EndpointSpec(network=NETWORK.name))
    assert await server.ask("POST", "/networks/net/disconnect", json={"Container": "web"}) == (200, None)
    assert server.engine.calls[-1] == ("networks.disconnect", (NETWORK.id, "web"), {"force": False})
    server.engine.answers["networks.remove"] = InUse("in use", "network", "net", ["container web"])
    status, text = message(await server.ask("DELETE", "/networks/net"))
    assert (status, text.endswith("has active endpoints: container web")) == (403, True)


async def test_a_connection_of_nothing(server: Server) -> None:
    said = message(await server.ask("POST", "/networks/net/connect", json={}))
    assert said == (400, 'invalid name or ID supplied: ""')
