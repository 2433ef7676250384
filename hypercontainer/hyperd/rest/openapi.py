"""The API described by OpenAPI 3.1, out of the route table."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from hypercontainer.hyperd.http.call import Lines, Raw, Route

PARAMETER = re.compile(r"{(\w+)}")
REF = "#/components/schemas/{name}"
ERROR = {
    "type": "object",
    "required": ["message", "kind"],
    "properties": {
        "message": {"type": "string"},
        "kind": {"type": "string"},
        **{fact: {"type": "string"} for fact in ("what", "verb", "name", "state", "hint", "feature")},
        "errno": {"type": "integer"},
        "exec": {"type": "boolean"},
    },
}


def document(routes: Sequence[Route[Any, Any]]) -> dict[str, Any]:
    """The whole document, as plain data."""
    types = [kind for route in routes for kind in _types(route)]
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    schema_of = dict(zip(map(repr, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {"title": "HyperContainer", "version": "1"},
        "servers": [{"url": "http://hyper"}],
        "paths": paths,
        "components": {"schemas": {**components, "Error": ERROR}},
    }


def _types(route: Route[Any, Any]) -> list[Any]:
    """What in `route` has a JSON schema."""
    found = [route.body, *(route.answer.kinds if isinstance(route.answer, Lines) else [route.answer])]
    return [kind for kind in found if kind is not None and not isinstance(kind, Raw)]


def _operation(route: Route[Any, Any], schema_of: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "summary": route.summary,
        "x-access": route.access.name.lower(),
        "operationId": f"{route.handler.__module__.rpartition('.')[2]}.{route.handler.__name__}".replace("_", ""),
        "parameters": _parameters(route),
        "responses": {
            **_answer(route, schema_of),
            "default": {
                "description": "an error",
                "content": {"application/json": {"schema": {"$ref": REF.format(name="Error")}}},
            },
        },
    }
    if route.body is Raw.TAR:
        operation["requestBody"] = {"required": True, "content": {Raw.TAR.value: {}}}
    elif route.body is not None:
        content = {"application/json": {"schema": schema_of[repr(route.body)]}}
        operation["requestBody"] = {"required": not route.body_optional, "content": content}
    return operation


def _one_of(schemas: list[Any]) -> Any:
    return schemas[0] if len(schemas) == 1 else {"oneOf": schemas}


def _parameters(route: Route[Any, Any]) -> list[dict[str, Any]]:
    found = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in PARAMETER.findall(route.path)
    ]
    schema = msgspec.json.schema(route.query)["$defs"][route.query.__name__]
    required = schema.get("required", [])
    for name, of in schema["properties"].items():
        found.append({"name": name, "in": "query", "required": name in required, "schema": of})
    return found


def _answer(route: Route[Any, Any], schema_of: dict[str, Any]) -> dict[str, Any]:
    if route.answer is None:
        return {"204": {"description": "done"}}
    if route.answer is Raw.STREAM:
        return {"101": {"description": "the connection carries frames from here on: docs/api.md"}}
    if route.answer is Raw.TAR:
        return {"200": {"description": "a tar", "content": {Raw.TAR.value: {}}}}
    if route.answer is Raw.FIGURES:
        return {"200": {"description": "figures as Prometheus reads them", "content": {Raw.FIGURES.value: {}}}}
    if isinstance(route.answer, Lines):
        lines = {"application/x-ndjson": {"schema": _one_of([schema_of[repr(kind)] for kind in route.answer.kinds])}}
        return {"200": {"description": "one document a line", "content": lines}}
    return {
        "200": {"description": "the answer", "content": {"application/json": {"schema": schema_of[repr(route.answer)]}}}
    }
