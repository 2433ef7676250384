"""A container as docker's clients see it."""

from msgspec.structs import replace

from tests.unit.hyperd.docker.conftest import Server
from tests.unit.hyperd.docker.documents import CONTAINER


async def test_a_suspended_container_is_a_paused_one(server: Server) -> None:
    suspended = replace(CONTAINER, state=replace(CONTAINER.state, status="suspended", running=False))
    server.engine.answers["containers.inspect"] = suspended
    _, document = await server.ask("GET", "/containers/web/json")
    assert isinstance(document, dict)
    assert (document["State"]["Status"], document["State"]["Paused"]) == ("paused", True)
    assert document["HostConfig"]["LogConfig"] == {"Type": "json-file", "Config": {}}
    assert document["HostConfig"]["NetworkMode"] == "bridge"
    assert "Health" not in document["State"]
