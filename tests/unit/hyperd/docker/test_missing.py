"""What docker has, and is not here."""

import pytest

from tests.unit.hyperd.docker.conftest import Server, message


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/"), ("POST", "/grpc"), ("POST", "/session"), ("PUT", "/info"), ("GET", "/v9/info")]
)
async def test_what_there_is_not(server: Server, method: str, target: str) -> None:
    assert message(await server.ask(method, target)) == (404, "page not found")


@pytest.mark.parametrize("target", ["/containers/web/checkpoints", "/containers/web/start?checkpoint=x"])
async def test_checkpoints_are_ours(server: Server, target: str) -> None:
    status, text = message(await server.ask("POST", target))
    assert (status, "hyperctl" in text) == (501, True)
    assert server.engine.calls == []


@pytest.mark.parametrize(("method", "target"), [("POST", "/build/cancel"), ("POST", "/build/x")])
async def test_what_there_is_not_yet_says_so(server: Server, method: str, target: str) -> None:
    status, text = message(await server.ask(method, target, data=b"x" * 100))
    assert (status, "docs/docker.md" in text) == (501, True)
