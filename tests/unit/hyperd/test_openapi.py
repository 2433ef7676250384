"""The OpenAPI document: sound in itself, and true to the table."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec.structs import fields

from hypercontainer.hyperd.rest.routes import ROUTES
from tests.unit.hyperd.conftest import Server


async def document(server: Server) -> dict[str, Any]:
    status, found = await server.ask("GET", "/v1/openapi.json")
    assert status == 200
    assert isinstance(found, dict)
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(ref := node.get("$ref"), str):
            yield ref
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


async def test_every_reference_leads_somewhere(server: Server) -> None:
    found = await document(server)
    assert found["openapi"].startswith("3.1")
    schemas = found["components"]["schemas"]
    used = set(references(found))
    assert {ref.removeprefix("#/components/schemas/") for ref in used} <= set(schemas)


async def test_every_route_is_there_and_has_what_openapi_asks_for(server: Server) -> None:
    paths = (await document(server))["paths"]
    operations = [(path, method, op) for path, methods in paths.items() for method, op in methods.items()]
    assert {(p, m) for p, m, _ in operations} == {(r.path, r.method.lower()) for r in ROUTES}
    ids = [op["operationId"] for _, _, op in operations]
    assert len(ids) == len(set(ids))
    access = {(r.path, r.method.lower()): r.access.name.lower() for r in ROUTES}
    for path, method, op in operations:
        assert op["x-access"] == access[path, method]
        assert op["summary"]
        assert op["responses"]
        named = [(p["name"], p["in"]) for p in op["parameters"]]
        assert len(named) == len(set(named))
        assert {n for n, where in named if where == "path"} == {w.partition("}")[0] for w in path.split("{")[1:]}
        for parameter in op["parameters"]:
            assert parameter["schema"]
            assert parameter["required"] or parameter["in"] == "query"
        for response in op["responses"].values():
            assert response["description"]


async def test_bounds_and_unknown_keys_are_described(server: Server) -> None:
    found = await document(server)
    stop = found["paths"]["/v1/containers/{c}/stop"]["post"]["parameters"]
    timeout = next(p for p in stop if p["name"] == "timeout")
    assert {"type": "number", "minimum": 0, "maximum": 86400} in timeout["schema"]["anyOf"]
    assert found["components"]["schemas"]["ContainerSpec"]["additionalProperties"] is False
    create = found["paths"]["/v1/containers"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert create["$ref"].endswith("/PodSpec")


def test_the_handbook_lists_every_route_and_parameter() -> None:
    text = (Path(__file__).parents[3] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `(\w+) (/v1/[^`]*)`(?: `\?([^`]*)`)?", text, re.MULTILINE)
    listed: dict[tuple[str, str], set[str]] = {}
    for method, path, parameters in rows:
        listed.setdefault((method, path), set()).update(re.findall(r"\w+", parameters))
    assert listed == {(r.method, r.path): {f.encode_name for f in fields(r.query)} for r in ROUTES}
