"""A container as docker's clients see it."""

from typing import Any

from msgspec.structs import replace

from hypercontainer.model.record import NicRecord, RouteRecord
from hypercontainer.model.spec import ContainerSpec, EndpointSpec, Mount
from tests.unit.hyperd.docker.conftest import Server
from tests.unit.hyperd.docker.documents import CONTAINER, listed, made, running


async def test_a_suspended_container_is_a_paused_one(server: Server) -> None:
    suspended = replace(CONTAINER, state=replace(CONTAINER.state, status="suspended", running=False))
    server.engine.answers["containers.inspect"] = suspended
    _, document = await server.ask("GET", "/containers/web/json")
    assert isinstance(document, dict)
    assert (document["State"]["Status"], document["State"]["Paused"]) == ("paused", True)
    assert document["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert document["HostConfig"]["NetworkMode"] == "bridge"
    assert "Health" not in document["State"]
    assert "Architecture" not in document  # docker has no such word there


async def test_the_profile_of_apparmor_that_confines_it(server: Server) -> None:
    document = await inspected(server, ContainerSpec(image="busybox", apparmor="mine"), EndpointSpec())
    assert document["AppArmorProfile"] == "mine" and document["HostConfig"]["SecurityOpt"] == ["apparmor=mine"]
    for usual in ("", "docker-default"):
        document = await inspected(server, ContainerSpec(image="busybox", apparmor=usual), EndpointSpec())
        assert document["AppArmorProfile"] == "" and document["HostConfig"]["SecurityOpt"] == []


async def inspected(server: Server, spec: ContainerSpec, endpoint: EndpointSpec) -> dict[str, Any]:
    server.engine.answers["containers.inspect"] = made(spec, endpoint)
    status, document = await server.ask("GET", "/containers/web/json")
    assert status == 200 and isinstance(document, dict)
    return document


async def test_what_was_asked_for_is_told_again(server: Server) -> None:
    """A client that makes a container anew, as compose and watchtower do, sends back what it was told."""
    mount = Mount(type="volume", source="v", target="/v")
    asked = {"CpusetCpus": "0,1", "Mounts": [{"Type": "volume", "Source": "v", "Target": "/v"}]}
    endpoint = EndpointSpec(address="10.0.0.9", options={"a": "b"})
    document = await inspected(server, ContainerSpec(image="busybox", mounts=[mount], as_asked=asked), endpoint)
    host = document["HostConfig"]
    assert (host["CpusetCpus"], host["Mounts"], host["Binds"]) == ("0,1", asked["Mounts"], None)
    assert "AsAsked" not in document
    there = document["NetworkSettings"]["Networks"]["bridge"]
    assert (there["IPAMConfig"], there["DriverOpts"]) == ({"IPv4Address": "10.0.0.9"}, {"a": "b"})


async def test_what_another_client_asked_for_is_told_in_docker_s_words(server: Server) -> None:
    mounts = [Mount(type="volume", source="v", target="/v"), Mount(type="volume", target="/anonymous")]
    document = await inspected(server, ContainerSpec(image="busybox", mounts=mounts), EndpointSpec())
    assert document["HostConfig"]["Binds"] == ["v:/v"]
    assert document["NetworkSettings"]["Networks"]["bridge"]["IPAMConfig"] is None


async def test_a_list_tells_where_containers_are_in_their_networks(server: Server) -> None:
    """testcontainers connects to the addresses that it finds there."""
    route = RouteRecord(dst="default", gateway="10.0.0.1")
    nic = NicRecord(tap="hy0", mac="02:00:00:00:00:07", network="front", addresses=["10.0.0.7/24"], routes=[route])
    server.engine.answers |= {"containers.list": [listed(nic)], "networks.list": []}
    status, lines = await server.ask("GET", "/containers/json")
    assert status == 200 and isinstance(lines, list)
    there = lines[0]["NetworkSettings"]["Networks"]["front"]
    assert (there["IPAddress"], there["IPPrefixLen"], there["Gateway"]) == ("10.0.0.7", 24, "10.0.0.1")
    assert (there["MacAddress"], there["Aliases"]) == ("02:00:00:00:00:07", ["site"])
    assert (lines[0]["HostConfig"]["NetworkMode"], "Networks" in lines[0]) == ("front", False)


async def test_its_short_id_was_an_alias_once(server: Server) -> None:
    found = running(made(ContainerSpec(image="busybox"), EndpointSpec(network="net", aliases=["web"])))
    server.engine.answers["containers.inspect"] = found
    for version, aliases in ("1.44", ["web", found.id[:12]]), ("1.45", ["web"]):
        _, document = await server.ask("GET", f"/v{version}/containers/web/json")
        assert isinstance(document, dict)
        assert document["NetworkSettings"]["Networks"]["net"]["Aliases"] == aliases


async def test_the_flat_addresses_are_addresses_alone(server: Server) -> None:
    document = await inspected(server, ContainerSpec(image="busybox"), EndpointSpec())
    assert not document["NetworkSettings"].keys() & {"Aliases", "DriverOpts", "IPAMConfig"}


async def test_without_ports_none_are_named(server: Server) -> None:
    found = made(ContainerSpec(image="busybox"), EndpointSpec())
    server.engine.answers["containers.inspect"] = replace(found, config=replace(found.config, exposed_ports={}))
    _, document = await server.ask("GET", "/containers/web/json")
    assert isinstance(document, dict) and "ExposedPorts" not in document["Config"]


async def test_a_tmpfs_is_told_once(server: Server) -> None:
    """Where it was asked for: what `--tmpfs` makes is no mount to docker, what `--mount` does is."""
    mounts = [Mount(type="tmpfs", target="/t"), Mount(type="tmpfs", target="/m")]
    asked = {"Tmpfs": {"/t": ""}, "Mounts": [{"Type": "tmpfs", "Target": "/m"}]}
    document = await inspected(server, ContainerSpec(image="busybox", mounts=mounts, as_asked=asked), EndpointSpec())
    assert document["HostConfig"]["Tmpfs"] == {"/t": ""}
    assert [mount["Destination"] for mount in document["Mounts"]] == ["/m"]
