"""What a container uses."""

from hypercontainer.errors import WrongState
from tests.unit.hyperd.docker.conftest import Server


async def test_stats_of_one_that_does_not_run_are_zeros(server: Server) -> None:
    server.engine.answers["containers.stats"] = WrongState("measure", "web", "exited")
    status, document = await server.ask("GET", "/containers/web/stats?stream=0&one-shot=1")
    assert isinstance(document, dict)
    assert (status, document["read"], document["memory_stats"]) == (200, "0001-01-01T00:00:00Z", {})
