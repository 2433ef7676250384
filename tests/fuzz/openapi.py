"""What schemathesis makes of a table of calls: requests that its OpenAPI document allows, and such that it forbids."""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode

from hypercontainer.hyperd.http.call import Raw, Route
from hypercontainer.hyperd.rest.openapi import document
from tests.fuzz import raw
from tests.fuzz.door import Request

PATTERN = re.compile(r"{(\w+):[^/]*?}(?=/|$)")  # aiohttp's: a parameter and what it may be
CONTAINERS = ("box", "made", "/box")
IMAGES = ("busybox", "busybox:latest", "127.0.0.1:1/none")  # nobody listens at the last one
# What is there, by the names that the tables have for it: beside these, strings of all kinds.
THERE: dict[str, Sequence[str]] = {
    **dict.fromkeys(("c", "Container", "container"), CONTAINERS),
    **dict.fromkeys(("i", "Image", "image", "fromImage", "repo"), IMAGES),
    **dict.fromkeys(("e", "id"), ("an-exec",)),
    **dict.fromkeys(("name", "Name"), ("box", "busybox", "data", "net", "other")),
    **dict.fromkeys(("path", "WorkingDir", "working_dir"), ("/tmp", "/etc/passwd", "/nothing")),
    "p": ["box", "made"],
    "n": ["net", "bridge", "none"],
    "v": ["data"],
    "k": ["kept"],
    "NetworkMode": ["none", "net", "host", "container:box"],
    "filters": ['{"name":["box"]}', '{"label":{"a=b":true}}', '{"until":["1h"]}'],
    "tail": ["all", "3"],
    "signal": ["TERM", "9"],
    "condition": ["removed", "next-exit"],
    "stream": ["1", "0"],
}
FEW = {"count": [1, 2, 101]}  # of what boots a guest each
# Calls that go on until their caller leaves, and such as end when a registry answers or a guest has been tried.
LASTING = (
    "/events",
    "/stats",
    "/logs",
    "/wait",
    "/doctor",
    "/pull",
    "/push",
    "/login",
    "/auth",
    "/images/create",
    "/distribution/{i}/json",
)
UPGRADES = {Raw.STREAM: raw.TCP, Raw.WEBSOCKET: raw.WEBSOCKET}


def as_it_is(_: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else repr(value).encode()


TAR = st.binary(max_size=64) | st.sampled_from([b"\x1f\x8b\x08\0", bytes(1024), b"Dockerfile" + bytes(502), b"x" * 512])
schemathesis.serializer(Raw.TAR.value)(as_it_is)
schemathesis.openapi.media_type(Raw.TAR.value, TAR)


@dataclass(frozen=True)
class Operation:
    """A call, and what schemathesis knows of it."""

    route: Route[Any, Any]
    made: Any

    @property
    def modes(self) -> list[GenerationMode]:
        """Nothing is forbidden where nothing is asked for."""
        asks = self.made.query or self.made.body
        return [GenerationMode.POSITIVE, GenerationMode.NEGATIVE] if asks else [GenerationMode.POSITIVE]


def operations(routes: Sequence[Route[Any, Any]]) -> list[Operation]:
    """All calls of a table but those of whatever method."""
    called = {(path(route), str(route.method)): route for route in routes if route.method not in ("*", "OPTIONS")}
    described = document([_described(route) for route in called.values()])
    _furnish(described)
    schema = schemathesis.openapi.from_dict(described)
    found = [result.ok() for result in schema.get_all_operations()]
    return [Operation(called[made.path, made.method.upper()], made) for made in found]


def path(route: Route[Any, Any]) -> str:
    return PATTERN.sub(r"{\1}", route.path)


def _described(route: Route[Any, Any]) -> Route[Any, Any]:
    """`route` as far as OpenAPI has words for it."""
    body = None if route.body is Raw.BYTES else route.body
    return replace(route, path=path(route), body=body, answer=None)


def _furnish(node: Any) -> None:
    """Have parameters and properties of `node`, a document, name what is there."""
    if isinstance(node, list):
        for child in node:
            _furnish(child)
    elif isinstance(node, dict):
        if "in" in node and "schema" in node:
            node["schema"] = _there(node["name"], node["schema"])
        for name, schema in node.get("properties", {}).items():
            if isinstance(schema, dict):
                node["properties"][name] = _there(name, schema)
        for child in node.values():
            _furnish(child)


def _there(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    if name in FEW:
        return {"enum": FEW[name]}
    return (
        {"anyOf": [{"enum": list(THERE[name])}, schema]} if name in THERE and schema.get("type") == "string" else schema
    )


def requests(operation: Operation, seed: int, most: int) -> Iterator[Request]:
    """As many as `most` of each mode, always the same ones for a seed."""
    for mode in operation.modes:
        for case in _cases(operation, mode, seed, most):
            yield _request(operation.route, case)


def _cases(operation: Operation, mode: GenerationMode, seed: int, most: int) -> list[Any]:
    cases: list[Any] = []

    @seeded(seed)
    @settings(
        max_examples=most,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.made.as_strategy(generation_mode=mode))
    def collect(case: Any) -> None:
        cases.append(case)

    with suppress(Unsatisfiable):  # of some nothing is forbidden
        collect()
    return cases


def _request(route: Route[Any, Any], case: Any) -> Request:
    named = case.as_transport_kwargs(base_url="http://hyper")
    body = named.get("data") or b""
    if "json" in named:
        body = json.dumps(named["json"])
    query = urlencode(named["params"], doseq=True, errors="surrogatepass")
    headers = {key: value for key, value in named["headers"].items() if key.lower() == "content-type"}
    upgrade = UPGRADES.get(route.answer, {}) if isinstance(route.answer, Raw) else {}
    return Request(
        method=route.method,
        target=urlsplit(named["url"]).path + (f"?{query}" if query else ""),
        headers=headers | upgrade,
        body=body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body,
        lasting=bool(upgrade) or path(route).endswith(LASTING),
        after=b"\0\0\0\0\0\0\0\x03abc\x09\0\0\0\xff\xff\xff\xff",
    )
