"""What all calls have in common: names in paths, bodies, filters, words of queries."""

import pytest

from tests.unit.hyperd.docker.conftest import Server, message


@pytest.mark.parametrize("target", ["/containers/a/b:1/json", "/containers/..%2fx/json", "/containers/a:1/json"])
async def test_what_can_be_no_container_is_not_there(server: Server, target: str) -> None:
    status, text = message(await server.ask("GET", target))
    assert status == 404 and text.startswith("No such container")


async def test_names_may_begin_with_a_slash(server: Server) -> None:
    server.engine.answers["containers.restart"] = None
    assert await server.ask("POST", "/containers//web/restart") == (204, None)
    assert server.engine.calls[-1][1] == ("web", None, None)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"Image":1}', b"[" * 100_000, b'{"Image":"x","Env":"y"}', b"\xff"]
)
async def test_a_body_that_is_none(server: Server, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    status, _ = message(await server.ask("POST", "/containers/create", data=body, headers=headers))
    assert status == 400


@pytest.mark.parametrize(
    "filters", ['{"label":{"a=b":true,"c":false}}', '{"label":["a=b"]}', '{"label":["a=b"],"name":[]}']
)
async def test_filters_of_go_and_of_python(server: Server, filters: str) -> None:
    await server.ask("GET", "/containers/json", params={"filters": filters, "all": "True", "limit": "-1", "wat": "1"})
    assert server.engine.calls[-1][2] == {"all": True, "filters": {"label": ["a=b"]}, "size": False}


@pytest.mark.parametrize("filters", ["{", "[]", '{"label":1}', '{"label":{"a":1}}', "[" * 10_000, '{"label":[[]]}'])
async def test_filters_that_are_none(server: Server, filters: str) -> None:
    status, _ = message(await server.ask("GET", "/containers/json", params={"filters": filters}))
    assert status == 400


@pytest.mark.parametrize(("word", "value"), [("1", True), ("True", True), ("0", False), ("", False), ("false", False)])
async def test_booleans(server: Server, word: str, value: bool) -> None:
    await server.ask("DELETE", f"/containers/web?force={word}")
    assert server.engine.calls[-1][2] == {"force": value, "volumes": False}
