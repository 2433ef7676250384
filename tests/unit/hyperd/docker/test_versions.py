"""Paths with a version, and without one."""

import pytest

from tests.unit.hyperd.docker.conftest import Server, message


async def test_every_answer_has_the_version(server: Server) -> None:
    async with server.http.get("http://docker/v1.24/nowhere") as response:
        assert (response.status, response.headers["Api-Version"]) == (404, "1.51")


@pytest.mark.parametrize("prefix", ["", "/v1.24", "/v1.41", "/v1.51"])
async def test_paths_with_and_without_a_version(server: Server, prefix: str) -> None:
    assert await server.ask("GET", f"{prefix}/containers/json") == (200, [])


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ("1.52", "client version 1.52 is too new. Maximum supported API version is 1.51"),
        ("1.23", "client version 1.23 is too old. Minimum supported API version is 1.24"),
        ("2.0", "client version 2.0 is too new"),
    ],
)
async def test_others_are_refused(server: Server, version: str, words: str) -> None:
    status, text = message(await server.ask("GET", f"/v{version}/containers/json"))
    assert status == 400 and text.startswith(words)
