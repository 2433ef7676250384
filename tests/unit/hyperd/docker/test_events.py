"""What happens."""

import json

from tests.unit.hyperd.docker.conftest import Server


async def test_events_of_docker_s_kinds(server: Server) -> None:
    async with server.http.get("http://docker/events?since=1&until=2") as response:
        lines = (await response.read()).splitlines()
    assert json.loads(lines[0])["Type"] == "container"
    assert server.engine.calls[-1][1] == (
        1_000_000_000,
        2_000_000_000,
        {"type": ["container", "image", "volume", "network"]},
    )


async def test_since_0_is_since_the_beginning(server: Server) -> None:
    """`docker events --since 0`."""
    async with server.http.get("http://docker/events?since=0&until=0") as response:
        await response.read()
    assert server.engine.calls[-1][1][:2] == (0, 0)
